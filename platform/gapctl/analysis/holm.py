"""Holm's correction over the hypotheses of a file."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from statsmodels.stats.multitest import multipletests


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
    corrected = multipletests(known, alpha=alpha, method="holm")[1]
    levels = [alpha / (len(known) - sum(other < p for other in known)) for p in known]
    return [
        Corrected(math.nan if math.isnan(p) else float(after), level)
        for p, after, level in zip(p_values, corrected, levels, strict=True)
    ]
