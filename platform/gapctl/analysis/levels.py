"""What a trial is and which treatment it had, as columns: one type for all levels of a factor."""

from collections.abc import Mapping, Sequence

import polars as pl

from gapctl.plan.trials import Trial
from gapctl.spec.sweep import Level


def identity(trials: Sequence[Trial], vary: Mapping[str, Sequence[Level]]) -> list[pl.Series]:
    """`trial`, `label`, `seed` and a column per factor, a row per trial."""
    return [
        pl.Series("trial", [trial.id for trial in trials], pl.String),
        pl.Series("label", [trial.label for trial in trials], pl.String),
        pl.Series("seed", [trial.seed for trial in trials], pl.Int64),
        *(level_column(path, [trial.factors[path] for trial in trials], levels) for path, levels in vary.items()),
    ]


def level_column(factor: str, values: Sequence[Level], levels: Sequence[Level]) -> pl.Series:
    """`values` under the factor's dotted path, in the narrowest type that holds all of the factor's `levels`."""
    dtype = level_type(levels)
    plain = [str(value) for value in values] if dtype == pl.String else values
    return pl.Series(factor, plain, dtype=dtype)


def level_type(levels: Sequence[Level]) -> type[pl.DataType]:
    """Truth values, whole numbers, numbers, or text where they are of different kinds."""
    kinds = {type(level) for level in levels}
    if kinds == {bool}:
        return pl.Boolean
    if kinds == {int}:
        return pl.Int64
    return pl.Float64 if kinds <= {int, float} else pl.String
