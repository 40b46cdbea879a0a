"""Analyses made by hand: trials by a formula, curves as their means, verdicts as given."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import polars as pl

from gapctl.analysis.results import AnalysisResults, Interval, Verdict

ATTRIBUTES = "data.captions.attributes"
METRICS = (
    "gap/rmg",
    "gap/l2m",
    "entropy/i2t_nats",
    "bias/moad_image",
    "bias/moad_text",
    "temperature/tau",
    "quality/object_accuracy",
    "quality/attribute_accuracy",
)
Levels = Mapping[str, Sequence[Any]]

SUPPORTED = Verdict(
    id="information-closes-the-gap",
    claim="Each further attribute in the captions makes the modality gap smaller.",
    test="trend",
    response="gap/rmg",
    factor=ATTRIBUTES,
    direction="decreasing",
    smallest_effect=0.02,
    verdict="supported",
    estimate=-0.0531,
    ci=Interval(-0.0612, -0.045),
    ci_bootstrap=Interval(-0.059, -0.047),
    standardised=-9.4,
    p=0.00048,
    p_direction=0.00048,
    p_claim=0.00012,
    seeds=3,
    trials=18,
    seeds_needed=None,
    exploratory=False,
    reason="The interval lies wholly below -0.02 and p after Holm is below 0.05.",
)
REFUTED = replace(
    SUPPORTED,
    id="information-removes-object-bias",
    claim="Captions that say everything give image embeddings with less object bias.",
    test="contrast",
    response="bias/moad_image",
    between=(0, 5),
    smallest_effect=0.05,
    verdict="refuted",
    estimate=0.012,
    ci=Interval(-0.021, 0.044),
    ci_bootstrap=Interval(-0.015, 0.039),
    standardised=0.9,
    p=0.61,
    p_direction=0.61,
    p_claim=0.61,
    trials=6,
    reason="The interval lies wholly inside the band of effects that are too small to count.",
)
INCONCLUSIVE = replace(
    REFUTED,
    id="text-bias-changes",
    claim="The object bias of text embeddings changes with caption information, in whichever direction.",
    response="bias/moad_text",
    direction="either",
    verdict="inconclusive",
    estimate=-0.093,
    ci=Interval(-0.241, 0.055),
    ci_bootstrap=Interval(-0.16, -0.02),
    standardised=-1.6,
    p=0.33,
    p_direction=0.33,
    p_claim=0.11,
    seeds_needed=8,
    reason="The interval reaches from beyond the smallest effect to the other side of zero.",
)
VERDICTS = (SUPPORTED, REFUTED, INCONCLUSIVE)
CONDITIONAL = replace(
    REFUTED,
    id="a-fixed-order-closes-the-gap-too",
    claim="Captions in a fixed order that say everything give a smaller gap than those that say nothing.",
    response="gap/rmg",
    where={"data.captions.order": "canonical", "model.tied": True},
    reason="Among trainings with order=canonical, tied=True, every effect is smaller than what counts.",
)
MEDIATED = replace(
    INCONCLUSIVE,
    id="temperature-carries-it",
    claim="Caption information closes the gap because the temperature follows it.",
    test="mediation",
    response="quality/object_accuracy",
    direction="decreasing",
    mediator="temperature.mode",
    mediator_levels=("learned", "fixed"),
    where={"data.captions.order": "canonical"},
    smallest_effect=2.0,
    estimate=-3.1,
    ci=Interval(-7.9, 1.7),
    ci_bootstrap=Interval(-6.1, -0.4),
    effect_free=12.5,
    effect_free_ci=Interval(9.0, 16.0),
    effect_fixed=15.6,
    effect_fixed_ci=Interval(12.0, 19.2),
)

THRESHOLD = replace(
    INCONCLUSIVE,
    id="a-gap-is-left",
    claim="Whatever the captions say, a gap is left.",
    test="threshold",
    response="gap/rmg",
    factor="",
    between=(),
    value=0.1,
    direction="increasing",
)


def analysis(
    levels: Levels | None = None,
    seeds: int = 3,
    metrics: Sequence[str] = METRICS,
    verdicts: Sequence[Verdict] = VERDICTS,
    **changes: Any,
) -> AnalysisResults:
    """An analysis of a full factorial; `changes` are fields to set otherwise."""
    levels = {ATTRIBUTES: [0, 1, 2, 3, 4, 5]} if levels is None else levels
    trials = _trials(levels, seeds, metrics)
    found = AnalysisResults(
        sweep="imbalance",
        question="Does more information in captions close the modality gap and remove object bias?",
        scale="laptop",
        alpha=0.05,
        spec_sha256="5bec" * 16,
        hypotheses_sha256="4a54" * 16,
        declared_sha256="4a54" * 16,
        factors=tuple(levels),
        verdicts=tuple(verdicts),
        trials=trials,
        curves=_curves(trials, levels, metrics),
        history=_history(trials),
        planned=len(trials),
    )
    return replace(found, **changes)


def _trials(levels: Levels, seeds: int, metrics: Sequence[str]) -> pl.DataFrame:
    rows = []
    for seed, indices in product(range(seeds), product(*(range(len(items)) for items in levels.values()))):
        arm = {path: levels[path][index] for path, index in zip(levels, indices, strict=True)}
        label = " ".join(f"{path.rsplit('.', 1)[-1]}={level}" for path, level in arm.items())
        shares = [index / max(1, len(items) - 1) for index, items in zip(indices, levels.values(), strict=True)]
        rows.append(
            {"trial": f"{len(rows):012x}", "label": f"{label} seed={seed}", "seed": seed}
            | arm
            | {metric: _value(metric, shares, seed) for metric in metrics}
            | {"samples_seen": 51_200, "seconds": 40.0 + len(rows)}
        )
    return pl.DataFrame(rows)


def _value(metric: str, shares: Sequence[float], seed: int) -> float:
    noise = 0.03 * math.sin(7.3 * seed + 31 * shares[0] + len(metric))
    dose = shares[0] + 0.3 * sum(shares[1:])
    scale = {"entropy/i2t_nats": 4.0, "temperature/tau": 0.1, "bias/moad_text": 0.9}.get(metric, 0.5)
    scale = 60.0 if metric.startswith("quality/") else scale
    return scale * (1 - 0.7 * dose + noise)


def _curves(trials: pl.DataFrame, levels: Levels, metrics: Sequence[str]) -> pl.DataFrame:
    rows = []
    for path, items in levels.items():
        for (position, level), metric in product(enumerate(items), metrics):
            values = (
                trials.filter(pl.col(path) == level)
                .group_by("seed", maintain_order=True)
                .agg(pl.col(metric).mean())[metric]
            )
            mean, seeds = float(values.mean()), len(values)
            half = 4.3 * float(values.std()) / math.sqrt(seeds) if seeds > 1 else None
            low, high = (None, None) if half is None else (mean - half, mean + half)
            rows.append((path, str(level), position, metric, mean, low, high, seeds))
    names = {"factor": pl.String, "level": pl.String, "position": pl.Int64, "metric": pl.String}
    numbers = {"mean": pl.Float64, "low": pl.Float64, "high": pl.Float64, "seeds": pl.Int64}
    return pl.DataFrame(rows, schema=names | numbers, orient="row")


def _history(trials: pl.DataFrame) -> pl.DataFrame:
    metrics = [name for name in trials.columns if "/" in name]
    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        grown = [pl.col(name) * (1.6 - 0.6 * share) for name in metrics]
        parts.append(trials.with_columns((pl.col("samples_seen") * share).cast(pl.Int64), *grown).drop("seconds"))
    return pl.concat(parts)
