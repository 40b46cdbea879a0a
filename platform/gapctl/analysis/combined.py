"""Several sweeps beside each other: what each found, what they share, and where they were made differently."""

from collections.abc import Sequence
from dataclasses import dataclass

from gapctl.analysis.agreement import Difference, Shared, differences, shared_trials
from gapctl.analysis.comparison import Comparison, compare
from gapctl.analysis.judged import Judged


@dataclass(frozen=True)
class Combined:
    """All that a comparison shows; `not_judged` says of each sweep that was named why it is not among them."""

    sweeps: tuple[Judged, ...]
    comparisons: tuple[Comparison, ...]
    shared: tuple[Shared, ...]
    differences: tuple[Difference, ...]
    not_judged: tuple[str, ...]


def combine(sweeps: Sequence[Judged], not_judged: Sequence[str] = ()) -> Combined:
    """Compares sweeps that were each judged by themselves."""
    return Combined(tuple(sweeps), compare(sweeps), shared_trials(sweeps), differences(sweeps), tuple(not_judged))
