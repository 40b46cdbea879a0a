"""What each finished trial was computed from and on: data, recipe, versions of packages, and hardware."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import polars as pl

from gapctl.ledger import Result
from gapctl.plan.trials import Trial


class Finished(NamedTuple):
    """A trial and its result."""

    trial: Trial
    result: Result


def provenance(finished: Sequence[Finished], recipe_version: int) -> pl.DataFrame:
    """A row per trial: `trial`, `data_source`, `data_fingerprint`, `recipe_version`, `hardware.*`, `versions.*`.

    What a result does not say is null. A column is whole numbers where all of its values are, else text.
    """
    columns = [
        pl.Series("trial", [trial.id for trial, _ in finished], pl.String),
        pl.Series("data_source", [trial.config.data.source for trial, _ in finished], pl.String),
        pl.Series("data_fingerprint", [trial.data_fingerprint for trial, _ in finished], pl.String),
        pl.Series("recipe_version", [recipe_version] * len(finished), pl.Int64),
        *_columns("hardware", [result.hardware for _, result in finished]),
        *_columns("versions", [result.versions for _, result in finished]),
    ]
    return pl.DataFrame(columns)


def _columns(group: str, facts: Sequence[dict[str, str | int]] | Sequence[dict[str, str]]) -> list[pl.Series]:
    names = dict.fromkeys(name for of_trial in facts for name in of_trial)
    return [_column(f"{group}.{name}", [of_trial.get(name) for of_trial in facts]) for name in names]


def _column(name: str, values: Sequence[str | int | None]) -> pl.Series:
    if _all_numbers(values):
        return pl.Series(name, values, pl.Int64)
    return pl.Series(name, [None if value is None else str(value) for value in values], pl.String)


def _all_numbers(values: Iterable[str | int | None]) -> bool:
    return all(isinstance(value, int) for value in values if value is not None)
