"""A factor's levels as a column: one type for all of them, and their order."""

from collections.abc import Sequence

import polars as pl

from gapctl.spec.sweep import Level


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
