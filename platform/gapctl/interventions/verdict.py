"""Whether a change of a measure helps, harms or does not count."""

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

Verdict = Literal["helps", "harms", "no difference that counts", "inconclusive"]

GAP: Final = "gap/l2m"
"""The gap that is meant where one is closed."""
GAPS: Final = "gap/"
"""How the names of gaps begin; all other measures that judge an intervention are qualities."""
FLIPS: Final = "quality/flip_rate"
"""The one quality of which less is better."""

SMALLEST_EFFECT: Final[Mapping[str, float]] = {"gap/l2m": 0.05, "gap/rmg": 0.02}
"""The change of a gap that counts."""
SMALLEST_PERCENT: Final = 1.0
SMALLEST_SHARE: Final = 0.01
"""The change of a quality that counts: one point in a hundred."""


class Change(NamedTuple):
    """A measure after an intervention, its change against no intervention, and the interval of the change."""

    value: float
    change: float
    low: float
    high: float
    verdict: Verdict


def verdict_of(key: str, low: float, high: float) -> Verdict:
    """What an interval says: it lies beyond the smallest effect on one side, within it, or across it."""
    smallest = smallest_effect(key)
    better = (-high, -low) if lower_is_better(key) else (low, high)
    if better[0] > smallest:
        return "helps"
    if better[1] < -smallest:
        return "harms"
    return "no difference that counts" if -smallest < better[0] and better[1] < smallest else "inconclusive"


def lower_is_better(key: str) -> bool:
    """Whether less of a measure helps: of a gap, which is to be closed, and of predictions that noise changes."""
    return key.startswith(GAPS) or key == FLIPS


def unseen(key: str, units: int) -> float:
    """How large a change of a quality may be of which not one of so many images or captions shows anything.

    The rule of three: what happens to 3 in `units` of them is seen at least once in 95 of 100 such galleries.
    """
    if key.startswith(GAPS):
        return 0.0
    return 3 / units * (100 if key.endswith("_accuracy") else 1)


def smallest_effect(key: str) -> float:
    """The smallest change that counts, in the measure's own unit."""
    return SMALLEST_EFFECT.get(key, SMALLEST_PERCENT if key.endswith("_accuracy") else SMALLEST_SHARE)
