"""Paired resampling of held-out images and captions, and intervals that hold for all compared interventions at once.

Index letters: R resamples, B a block of them, N things of one kind, U units (images, then captions), J interventions.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np

from gapctl.interventions.statistic import Statistic
from gapctl.metrics.gap import Array

RESAMPLES: Final = 1000
LEVEL: Final = 0.95
BLOCK_NUMBERS: Final = 4_000_000
"""Weights held at a time: 32 MB of them."""


class Resampled(NamedTuple):
    """A measure of the held-out images as they are, and of each resample, (R,)."""

    value: float
    value_R: Array


class Interval(NamedTuple):
    """A change and where it lies with simultaneous confidence."""

    change: float
    low: float
    high: float


def resampled(
    judged: Sequence[Sequence[Statistic]], images: int, captions: int, seed: int, resamples: int = RESAMPLES
) -> list[dict[str, Resampled]]:
    """Every measure of every state of the same units; all states see the same resamples, so they are paired.

    Images are drawn as often as there are images, and shared captions as often as there are such.
    """
    whole = [_values(statistics, np.ones((1, images + captions))) for statistics in judged]
    blocks: list[list[dict[str, Array]]] = [[] for _ in judged]
    for weight_BN in _weights(images, captions, seed, resamples):
        for found, statistics in zip(blocks, judged, strict=True):
            found.append(_values(statistics, weight_BN))
    return [
        {key: Resampled(float(value[0]), np.concatenate([block[key] for block in found])) for key, value in one.items()}
        for one, found in zip(whole, blocks, strict=True)
    ]


def simultaneous(
    before: Resampled, after_J: Sequence[Resampled], least_J: Array, level: float = LEVEL
) -> list[Interval]:
    """Intervals of all changes that hold together with the given confidence, so the best of many is not overrated.

    Half an interval is the bootstrap's standard error times the quantile of the largest studentised deviation over
    the interventions (the maximum-t band). Where all resamples agree on a change, half of its interval is `least_J`.
    """
    if not after_J:
        return []
    change_J = np.array([after.value for after in after_J]) - before.value
    change_JR = np.stack([after.value_R - before.value_R for after in after_J])
    # A resampled norm is longer than the norm on average; deviations are taken from the resamples' own mean.
    deviation_JR = change_JR - change_JR.mean(axis=1, keepdims=True)
    error_J = deviation_JR.std(axis=1, ddof=1)
    studentised_JR = np.abs(deviation_JR) / np.where(error_J > 0, error_J, np.inf)[:, None]
    widest = float(np.quantile(studentised_JR.max(axis=0), level))
    half_J = np.where(error_J > 0, widest * error_J, least_J)
    return [
        Interval(float(change), float(change - half), float(change + half))
        for change, half in zip(change_J, half_J, strict=True)
    ]


def _weights(images: int, captions: int, seed: int, resamples: int) -> Iterator[Array]:
    """How often each unit is drawn, (B, U), in blocks of bounded size."""
    rng = np.random.Generator(np.random.Philox(seed))
    most = max(1, BLOCK_NUMBERS // (images + captions))
    for start in range(0, resamples, most):
        rows = min(most, resamples - start)
        yield np.hstack([_drawn(rng, rows, count) for count in (images, captions) if count])


def _drawn(rng: np.random.Generator, rows: int, count: int) -> Array:
    """How often each of `count` things is among as many draws, (rows, N)."""
    drawn_BN = rng.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
    return np.bincount(drawn_BN.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)


def _values(statistics: Sequence[Statistic], weight_BN: Array) -> dict[str, Array]:
    return {key: value_B for statistic in statistics for key, value_B in statistic.values(weight_BN).items()}
