"""Finished trials of one or more sweeps as one table for other programs, and their evaluations as another.

docs/analysis.md lists the columns.
"""

from collections.abc import Sequence

import polars as pl

from gapctl.analysis.histories import label_of
from gapctl.analysis.judged import Judged
from gapctl.analysis.levels import level_type
from gapctl.analysis.table import metrics_of
from gapctl.ledger.declaring import scale_name
from gapctl.spec.paths import leaf_values
from gapctl.spec.sweep import Level


def trials_table(sweeps: Sequence[Judged]) -> pl.DataFrame:
    """A row per sweep and finished trial; a trial that two sweeps share is in both.

    A treatment that one sweep varies has its fixed value in the others' rows.
    """
    treatments = _treatments(sweeps)
    parts = [_with_sweep(judged, _trials(judged), treatments) for judged in sweeps]
    found = pl.concat(parts, how="diagonal_relaxed")
    made = [name for name in found.columns if name.startswith(("data_", "recipe_", "hardware.", "versions."))]
    hashes = ["spec_sha256", "hypotheses_sha256"]
    last = ["samples_seen", "seconds", *hashes, *made]
    return found.select(pl.exclude(last), *last)


def history_table(sweeps: Sequence[Judged]) -> pl.DataFrame:
    """A row per sweep, trial and evaluation."""
    treatments = _treatments(sweeps)
    parts = [_with_sweep(judged, _history(judged), treatments) for judged in sweeps]
    return pl.concat(parts, how="diagonal_relaxed")


def _trials(judged: Judged) -> pl.DataFrame:
    analysis = judged.analysis
    metrics = metrics_of(analysis.trials, analysis.factors)
    hashes = [pl.lit(getattr(analysis, name)).alias(name) for name in ("spec_sha256", "hypotheses_sha256")]
    chosen = analysis.trials.select("trial", "label", "seed", *metrics, "samples_seen", "seconds", *hashes)
    return chosen.join(analysis.provenance, on="trial", how="left", maintain_order="left")


def _history(judged: Judged) -> pl.DataFrame:
    return judged.analysis.history.drop(judged.analysis.factors)


def _with_sweep(judged: Judged, rows: pl.DataFrame, treatments: Sequence[str]) -> pl.DataFrame:
    first = ["sweep", "scale", "trial", "label", "seed", *treatments]
    ids, *levels = _levels(judged, treatments)
    names = [pl.lit(judged.analysis.sweep).alias("sweep"), pl.lit(scale_name(judged.plan)).alias("scale")]
    added = rows.with_columns(*names, *(label_of(pl.col("trial"), ids, column) for column in levels))
    return added.select(*first, pl.exclude(first))


def _treatments(sweeps: Sequence[Judged]) -> list[str]:
    return list(dict.fromkeys(path for judged in sweeps for path in judged.analysis.factors))


def _levels(judged: Judged, treatments: Sequence[str]) -> list[pl.Series]:
    """The ids of the planned trials, then their values of each treatment, null where the configuration has none."""
    trials = judged.plan.trials
    configured = [{**trial.factors, **leaf_values(trial.config.model_dump(mode="json"))} for trial in trials]
    columns = [_column(path, [values.get(path) for values in configured]) for path in treatments]
    return [pl.Series("trial", [trial.id for trial in trials], pl.String), *columns]


def _column(path: str, values: Sequence[Level | None]) -> pl.Series:
    if all(value is None for value in values):
        return pl.Series(path, values, dtype=pl.Null)
    dtype = level_type([value for value in values if value is not None])
    plain = [None if value is None else str(value) for value in values] if dtype == pl.String else values
    return pl.Series(path, plain, dtype=dtype)
