"""Ledgers with responses by a formula, written through the ledger's own calls; plans of small sweep files."""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from command_line import gapctl
from gapctl.cli.options import load_plan
from gapctl.config.load import load_sweep
from gapctl.ledger import Ledger, Result
from gapctl.plan.plan import Plan, Trial, make_plan

ATTRIBUTES = "data.captions.attributes"
RMG = "gap/rmg"
Measure = Callable[[Trial], Mapping[str, float]]

TREND: Mapping[str, Any] = {
    "id": "slope",
    "claim": "Each further attribute makes the gap smaller.",
    "test": "trend",
    "response": RMG,
    "factor": ATTRIBUTES,
    "direction": "decreasing",
    "smallest_effect": 0.02,
}
CONTRAST: Mapping[str, Any] = {
    "id": "difference",
    "claim": "Five attributes give a smaller gap than none.",
    "test": "contrast",
    "response": RMG,
    "factor": ATTRIBUTES,
    "between": [0, 5],
    "direction": "decreasing",
    "smallest_effect": 0.05,
}


def sweep_file(
    folder: Path,
    *hypotheses: Mapping[str, Any],
    vary: Mapping[str, Sequence[Any]] | None = None,
    seeds: int = 3,
    first_seed: int = 0,
    alpha: float = 0.05,
    name: str = "made-up",
    question: str = "Does it?",
    train: Mapping[str, Any] | None = None,
) -> Path:
    """A sweep file (JSON, which is YAML) over caption attributes, or over `vary`; `train` changes its base."""
    document = {
        "name": name,
        "question": question,
        "base": {"train": {"samples": 256, "batch_size": 256, **(train or {})}},
        "vary": {path: list(levels) for path, levels in (vary or {ATTRIBUTES: range(6)}).items()},
        "seeds": seeds,
        **({"first_seed": first_seed} if first_seed else {}),
        "hypotheses": [dict(hypothesis) for hypothesis in hypotheses],
        "alpha": alpha,
    }
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(document, indent=1))
    return path


def plan_of(path: Path) -> Plan:
    """The file's plan on data that nobody has to make."""
    return make_plan(load_sweep(path), lambda data: "fingerprint")


def fill(ledger: Ledger, plan: Plan, measure: Measure, trials: Sequence[Trial] | None = None) -> None:
    """Declares the plan, then finishes its trials, or those given, with what `measure` says of each."""
    ledger.declare_plan(plan)
    for trial in plan.trials if trials is None else trials:
        finish(ledger, trial, measure(trial))


def finish(ledger: Ledger, trial: Trial, metrics: Mapping[str, float]) -> None:
    """Leaves behind what a training leaves behind: configuration, two evaluations, result."""
    folder = ledger.trial(trial.id)
    folder.begin(trial)
    halfway = {name: 2 * value for name, value in metrics.items()}
    folder.save_history(
        [{"samples_seen": 0, "seconds": 0.1, **halfway}, {"samples_seen": 256, "seconds": 2.0, **metrics}]
    )
    result = Result(trial.id, dict(metrics), 256, 2.0, {"python": "3.11"}, {"device": "cpu", "threads": 1})
    folder.finish(result, weights=b"")


def falling(per_level: float, noise: float = 0.0, start: float = 0.5) -> Measure:
    """RMG that falls with each attribute; noise is of the seed and level, the same each time."""

    def measure(trial: Trial) -> dict[str, float]:
        level = float(trial.factors[ATTRIBUTES])
        drawn = random.Random(f"{trial.seed} {level}").gauss(0.0, noise)
        return {RMG: start - per_level * level + drawn}

    return measure


def by_seed(**differences: Sequence[float]) -> Measure:
    """Metrics that rise from the first level, zero, to the last by each seed's own difference; `__` is a slash."""

    def measure(trial: Trial) -> dict[str, float]:
        share = float(trial.factors[ATTRIBUTES]) / 5
        return {name.replace("__", "/"): 0.5 + share * effects[trial.seed] for name, effects in differences.items()}

    return measure


def shown_everywhere(folder: Path) -> list[str]:
    """What the terminal and each kind of page say of the sweep `made-up` in a folder, without line ends."""
    sweep = ("analyze", str(folder / "made-up.yaml"), "--runs", str(folder / "runs"))
    pages = [folder / f"report.{ending}" for ending in ("html", "md", "tex")]
    for page in pages:
        assert gapctl(*sweep, "--out", str(page)).exit_code == 0
    return [" ".join(text.split()) for text in (gapctl(*sweep).out, *(page.read_text() for page in pages))]


def first_verdict(folder: Path) -> dict[str, Any]:
    """The first verdict of the sweep `made-up` in a folder, as JSON has it."""
    told = gapctl("analyze", str(folder / "made-up.yaml"), "--runs", str(folder / "runs"), "--json")
    verdict: dict[str, Any] = json.loads(told.out)["verdicts"][0]
    return verdict


def asked_and_answered(folder: Path, source: str | None = None, name: str = "made-up") -> Path:
    """A sweep whose hypotheses name `source`, finished in `folder/runs`; returns its file."""
    named = {"source": source} if source else {}
    path = sweep_file(folder, {**TREND, **named}, {**CONTRAST, **named}, name=name)
    fill(Ledger(str(folder / "runs")), load_plan(path, None, None), falling(0.05, noise=0.005))
    return path
