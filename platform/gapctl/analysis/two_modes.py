"""Check whether the trainings of a sweep fall into two modes: most, and a few that end somewhere else.

A training that does not take off, one in ten of them, say, moves its arm's mean by far more than seeds do. Where a
comparison's own seeds hold none, its interval is narrow around the wrong mean, so the check looks at all arms:

1. `check_modes` collects a hypothesis's responses of all trainings that its `where` keeps.
2. `find_second_mode` removes arms' and replicates' medians, and asks for a gap between most residuals and a few.
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from gapctl.analysis.paired_responses import FloatArray, build_level_column, build_usable_response_filter
from gapctl.config.hypotheses import Hypothesis, list_hypothesis_metrics
from gapctl.config.metrics import is_cross_trial_metric
from gapctl.config.sweep import SweepFile

FEWEST_REPLICATES: Final = 3
FEWEST_TRAININGS: Final = 9
SPREADS: Final = 6.0
"""A second mode lies at least so many robust standard deviations from the first."""
GAP: Final = 2.0
"""Its nearest training lies at least so many times as far out as the farthest other one."""
MOST_SHARE: Final = 0.3
"""A second mode has at most this share of the trainings."""
NORMAL_MAD: Final = 0.6745
"""The median absolute deviation of a normal distribution of standard deviation 1."""


class SecondMode(NamedTuple):
    """The trainings of the smaller mode by one metric: the nearest is `distance` spreads out, all others `rest`."""

    metric: str
    trainings: tuple[str, ...]
    distance: float
    rest: float


def check_modes(hypothesis: Hypothesis, trials: pl.DataFrame, spec: SweepFile) -> tuple[SecondMode, ...]:
    """Return a second mode for each of a hypothesis's metrics that has one among the trainings that `where` keeps.

    Replicates without a usable value in every arm are left out. Models of a cohort differ by nature: they have none.
    """
    if spec.cohort is not None:
        return ()
    kept = trials
    for path, level in hypothesis.where.items():
        kept = kept.filter(pl.col(path) == build_level_column(path, [level], spec.vary[path])[0])
    names = [name for name in list_hypothesis_metrics(hypothesis) if name in kept.columns and name not in spec.vary]
    found = (_check_metric(name, kept, spec) for name in names if not is_cross_trial_metric(name))
    return tuple(mode for mode in found if mode is not None)


def _check_metric(metric: str, trials: pl.DataFrame, spec: SweepFile) -> SecondMode | None:
    usable = trials.filter(build_usable_response_filter(pl.col(metric))).sort("seed", *spec.vary)
    arms = usable.select(list(spec.vary)).unique().height
    whole = usable.filter(pl.len().over("seed") == arms)
    if not arms or whole.is_empty():
        return None
    values_SA = whole[metric].to_numpy().astype(float).reshape(-1, arms)
    distance_SA = compute_distances(values_SA)
    second_SA = find_second_mode(distance_SA)
    if not second_SA.any():
        return None
    labels = whole["label"].filter(pl.Series(second_SA.ravel())).to_list()
    return SecondMode(
        metric, tuple(labels), float(distance_SA[second_SA].min()), float(distance_SA[~second_SA].max(initial=0.0))
    )


def compute_distances(values_SA: FloatArray) -> FloatArray:
    """Return how far each training lies from its arm's and its replicate's median, in robust standard deviations."""
    left_SA = values_SA - np.median(values_SA, axis=0, keepdims=True)
    left_SA = left_SA - np.median(left_SA, axis=1, keepdims=True)
    size_SA = np.abs(left_SA - np.median(left_SA, axis=0, keepdims=True))
    moved = size_SA[size_SA > 1e-12 * np.abs(values_SA).max(initial=0.0)]
    return size_SA * NORMAL_MAD / np.median(moved) if moved.size else np.zeros_like(size_SA)


def find_second_mode(distance_SA: FloatArray) -> npt.NDArray[np.bool_]:
    """Return which trainings (S, A) form a second mode; none with too few replicates or trainings to tell."""
    ordered = np.sort(distance_SA, axis=None)[::-1]
    if len(distance_SA) < FEWEST_REPLICATES or ordered.size < FEWEST_TRAININGS:
        return np.zeros(distance_SA.shape, dtype=bool)
    few = ordered[: int(MOST_SHARE * ordered.size)]
    apart = np.flatnonzero((few >= SPREADS) & (few >= GAP * ordered[1 : len(few) + 1]))
    return distance_SA >= (few[apart[-1]] if apart.size else np.inf)
