"""Holm's correction over the hypotheses of a file."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Corrected(NamedTuple):
    """A p-value after Holm, and the level that the raw one must stay below at its step."""

    p: float
    level: float


def holm(p_values: Sequence[float], alpha: float) -> list[Corrected]:
    """Holm (1979) over all hypotheses of a file.

    One that could not be tested (NaN) still counts as one of them, so that trainings still to do cannot make the
    others easier; it stays NaN.
    """
    if not p_values:
        return []
    known = [1.0 if math.isnan(p) else p for p in p_values]
    levels = [alpha / (len(known) - sum(other < p for other in known)) for p in known]
    return [
        Corrected(math.nan if math.isnan(p) else after, level)
        for p, after, level in zip(p_values, _adjusted(known), levels, strict=True)
    ]


def _adjusted(p_values: Sequence[float]) -> list[float]:
    """The k-th smallest of n, times n - k + 1, never below a smaller one's and at most 1."""
    order = np.argsort(p_values, kind="stable")
    stepped = np.asarray(p_values)[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(stepped))
    return [float(p) for p in adjusted]
