"""Finished trials whose true effects are known, as the table that an analysis of a ledger begins with.

A response is arm's mean + seed's own shift (shared by all its arms) + the training's own noise, whose standard
deviation is 1. Every function that draws takes its generator, so that the same seed gives the same trials.

Shapes are in the names: S seeds, A arms.
"""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from gapctl.analysis.analyze import judge_hypotheses
from gapctl.analysis.paired_responses import FloatArray
from gapctl.analysis.results import Verdict
from gapctl.analysis.tables import TrialTables
from gapctl.config.hypotheses import Level
from gapctl.config.load import load_sweep
from gapctl.plan.plan import Plan, make_plan

Grid = Mapping[str, Sequence[Level]]
"""The levels of each factor, by its path."""
ATTRIBUTES, MODE, ORDER = "data.captions.attributes", "temperature.mode", "data.captions.order"
SIX: Grid = {ATTRIBUTES: list(range(6))}
TWO_BY_TWO: Grid = {ATTRIBUTES: [0, 5], MODE: ["learned", "fixed"]}
TWENTY_FOUR: Grid = {**SIX, MODE: ["learned", "fixed"], ORDER: ["shuffled", "canonical"]}
ARM = "arm"
"""A factor of names, whose levels have no order."""
SEED_SHIFT = 1.0


def list_arm_names(count: int) -> list[str]:
    """List names of so many arms."""
    return [f"a{place}" for place in range(count)]


Noise = Callable[[np.random.Generator, tuple[int, int]], FloatArray]


def _growing(noise_SA: FloatArray) -> FloatArray:
    """The last arm's noise is four times as large as the first's."""
    return noise_SA * np.geomspace(1.0, 4.0, noise_SA.shape[1])


NOISES: Mapping[str, Noise] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "skewed": lambda rng, shape: rng.exponential(size=shape) - 1.0,
    "heavy-tailed": lambda rng, shape: rng.standard_t(3, size=shape) / np.sqrt(3.0),
    "unequal": lambda rng, shape: _growing(rng.standard_normal(shape)),
    "skewed and unequal": lambda rng, shape: _growing(rng.exponential(size=shape) - 1.0),
    "skewed down and unequal": lambda rng, shape: _growing(1.0 - rng.exponential(size=shape)),
}


@dataclass(frozen=True)
class World:
    """A sweep file's grid and hypotheses, with as many seeds as will be simulated."""

    vary: Grid
    hypotheses: tuple[Mapping[str, object], ...]
    seeds: int
    alpha: float = 0.05

    @cached_property
    def plan(self) -> Plan:
        """The plan of such a file, read by the same calls as any other."""
        document = {
            "name": "simulated",
            "question": "Does it?",
            "base": {"train": {"samples": 256, "batch_size": 256}},
            "treatments": {ARM: {name: {"train.lr": 1e-5 * (place + 1)} for place, name in enumerate(self.vary[ARM])}}
            if ARM in self.vary
            else {},
            "vary": {path: list(levels) for path, levels in self.vary.items()},
            "seeds": self.seeds,
            "hypotheses": [{"id": f"h{place}", "claim": "It.", **item} for place, item in enumerate(self.hypotheses)],
            "alpha": self.alpha,
        }
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "simulated.yaml"
            path.write_text(json.dumps(document), encoding="utf-8")
            return make_plan(load_sweep(path), lambda data: "simulated")

    @cached_property
    def _frame(self) -> pl.DataFrame:
        trials = self.plan.trials
        factors = {path: [trial.factors[path] for trial in trials] for path in self.vary}
        told = {"trial": [trial.id for trial in trials], "label": [trial.label for trial in trials]}
        return pl.DataFrame({**told, "seed": [trial.seed for trial in trials], **factors})

    def judged(self, responses: Mapping[str, FloatArray]) -> tuple[Verdict, ...]:
        """The verdicts on responses of shape (S, A), arms in the plan's order."""
        metrics = [pl.Series(name, values_SA.ravel()) for name, values_SA in responses.items()]
        trials = self._frame.with_columns(*metrics, samples_seen=pl.lit(256), seconds=pl.lit(1.0))
        return judge_hypotheses(self.plan, TrialTables(trials, trials.clear(), ()), exploratory=False)


def drawn(rng: np.random.Generator, means_A: FloatArray, seeds: int, noise: str) -> FloatArray:
    """One response of every training, of shape (S, A)."""
    own_SA = NOISES[noise](rng, (seeds, len(means_A)))
    return np.asarray(means_A + SEED_SHIFT * rng.standard_normal((seeds, 1)) + own_SA)
