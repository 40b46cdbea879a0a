"""The evaluations over training of many trials as one frame, read side by side."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import polars as pl

from gapctl.analysis.levels import identity
from gapctl.errors import WorkError
from gapctl.ledger import Ledger
from gapctl.ledger.trial_folder import HISTORY
from gapctl.plan.trials import Trial
from gapctl.spec.sweep import Level

AT_ONCE = 200
"""Histories whose files are in memory at a time; more of them together are not read faster."""
_NUMBERS = pl.exclude("trial", "samples_seen", "seconds").cast(pl.Float64)


class Histories(NamedTuple):
    """`frame` as `results.Analysis` describes it, and why what is damaged was left out."""

    frame: pl.DataFrame
    damaged: tuple[str, ...]


def read_histories(trials: Sequence[Trial], ledger: Ledger, vary: Mapping[str, Sequence[Level]]) -> Histories:
    """The evaluations of these trials, in their order; a trial without a history has no rows."""
    parts: list[pl.DataFrame] = []
    damaged: list[str] = []
    for some in _portions(trials):
        rows, wrong = _together(some, ledger)
        if rows:
            # Thousands of small frames take twice the memory of what is in them.
            parts.append(pl.concat(rows, how="diagonal", rechunk=True))
        damaged += wrong
    return Histories(_labelled(parts, trials, vary), tuple(damaged))


def _together(trials: Sequence[Trial], ledger: Ledger) -> tuple[list[pl.DataFrame], list[str]]:
    """Each trial's evaluations; where one file is damaged, all of them one by one, to find it."""
    files = zip(trials, ledger.contents([trial.id for trial in trials], HISTORY), strict=True)
    contents = {trial.id: content for trial, content in files if content}
    unread = [str(content) for content in contents.values() if isinstance(content, WorkError)]
    read = {trial_id: content for trial_id, content in contents.items() if isinstance(content, bytes)}
    try:
        return pl.collect_all([_rows(trial_id, content) for trial_id, content in read.items()]), unread
    except (pl.exceptions.PolarsError, OSError):
        found = [_alone(ledger, trial_id, content) for trial_id, content in read.items()]
        whole = [part for part in found if isinstance(part, pl.DataFrame)]
        return whole, [*unread, *(part for part in found if isinstance(part, str))]


def _portions(trials: Sequence[Trial]) -> Iterator[list[Trial]]:
    left = iter(trials)
    while some := list(islice(left, AT_ONCE)):
        yield some


def _rows(trial_id: str, content: bytes) -> pl.LazyFrame:
    return pl.scan_parquet(content).select(
        pl.lit(trial_id).alias("trial"), pl.col("samples_seen").cast(pl.Int64), _NUMBERS
    )


def _alone(ledger: Ledger, trial_id: str, content: bytes) -> pl.DataFrame | str:
    """One trial's evaluations, or what is wrong with its file."""
    try:
        return _rows(trial_id, content).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = (str(error).splitlines() or ["unreadable"])[0]
        problem: WorkError = ledger.trial(trial_id).damaged("history.parquet", reason)
        return str(problem)


def _labelled(
    parts: Sequence[pl.DataFrame], trials: Sequence[Trial], vary: Mapping[str, Sequence[Level]]
) -> pl.DataFrame:
    ids, *labels = identity(trials, vary)
    if not parts:
        return pl.DataFrame([*(column.clear() for column in (ids, *labels)), pl.Series("samples_seen", [], pl.Int64)])
    # Added columns leave the others where they are; a join would copy them, and they are most of a ledger.
    rows = pl.concat(parts, how="diagonal", rechunk=False)
    rows = rows.with_columns(label_of(pl.col("trial"), ids, column) for column in labels)
    names = ["trial", *(column.name for column in labels)]
    return rows.select(*names, pl.exclude(names))


def label_of(key: pl.Expr, ids: pl.Series, values: pl.Series) -> pl.Expr:
    """The value that belongs to each id, as a column of the values' name and type."""
    return key.replace_strict(ids, values, return_dtype=values.dtype).alias(values.name)
