"""A plan's finished trials as polars frames: a row per trial, a row per evaluation."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import polars as pl

from gapctl.analysis.levels import level_column
from gapctl.errors import WorkError
from gapctl.ledger import Ledger, Result
from gapctl.plan.trials import Plan, Trial
from gapctl.spec.sweep import Level

NO_METRIC = ("trial", "label", "seed", "samples_seen", "seconds")


class Tables(NamedTuple):
    """`trials` and `history` as `results.Analysis` describes them, and why what is damaged was left out."""

    trials: pl.DataFrame
    history: pl.DataFrame
    damaged: tuple[str, ...]


def read_tables(plan: Plan, ledger: Ledger) -> Tables:
    """Reads every finished trial of the plan.

    A trial with a damaged result is left out of both frames, one with a damaged history only of `history`: its
    result is whole.
    """
    vary = plan.sweep.spec.vary
    finished: list[tuple[Trial, Result]] = []
    histories: list[pl.DataFrame] = []
    damaged: list[str] = []
    for trial in plan.trials:
        try:
            result = ledger.result(trial.id)
            if result is None:
                continue
            finished.append((trial, result))
            histories.append(_history(trial, ledger, vary))
        except WorkError as error:
            damaged.append(str(error))
    trials = _trials(finished, vary)
    return Tables(trials, _concatenated(histories, trials), tuple(damaged))


def metrics_of(trials: pl.DataFrame, factors: Sequence[str]) -> list[str]:
    """The metric columns of a frame."""
    return [name for name in trials.columns if name not in (*NO_METRIC, *factors)]


def _trials(finished: Sequence[tuple[Trial, Result]], vary: Mapping[str, Sequence[Level]]) -> pl.DataFrame:
    metrics = sorted({name for _, result in finished for name in result.metrics})
    trials = [trial for trial, _ in finished]
    columns = [
        *_identity(trials, vary),
        *(pl.Series(name, [result.metrics.get(name) for _, result in finished], pl.Float64) for name in metrics),
        pl.Series("samples_seen", [result.samples_seen for _, result in finished], pl.Int64),
        pl.Series("seconds", [result.seconds for _, result in finished], pl.Float64),
    ]
    return pl.DataFrame(columns)


def _identity(trials: Sequence[Trial], vary: Mapping[str, Sequence[Level]]) -> list[pl.Series]:
    return [
        pl.Series("trial", [trial.id for trial in trials], pl.String),
        pl.Series("label", [trial.label for trial in trials], pl.String),
        pl.Series("seed", [trial.seed for trial in trials], pl.Int64),
        *(level_column(path, [trial.factors[path] for trial in trials], levels) for path, levels in vary.items()),
    ]


def _history(trial: Trial, ledger: Ledger, vary: Mapping[str, Sequence[Level]]) -> pl.DataFrame:
    """One trial's evaluations; no rows where its history is gone, WorkError where it is damaged."""
    identity = pl.DataFrame(_identity([trial], vary))
    found = ledger.history(trial.id)
    if found is None:
        return identity.clear()
    try:
        metrics = pl.exclude("samples_seen", "seconds").cast(pl.Float64)
        return identity.join(found.select(pl.col("samples_seen").cast(pl.Int64), metrics), how="cross")
    except pl.exceptions.PolarsError as error:
        raise WorkError(
            f"{ledger.trial(trial.id).path('history.parquet')}: damaged: {str(error).splitlines()[0]}; expected "
            "samples_seen and metrics as numbers. Move the trial's folder away and run the sweep again: it trains "
            "this trial anew and no other"
        ) from error


def _concatenated(histories: Sequence[pl.DataFrame], trials: pl.DataFrame) -> pl.DataFrame:
    if histories:
        return pl.concat(histories, how="diagonal")
    return trials.clear().drop("seconds")
