"""Which interventions are tried, and what each is called.

Index letters: N images, M texts, D embedding.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Literal, NamedTuple

from gapctl.errors import InputError
from gapctl.interventions.centring import fit_centring, fit_standardisation
from gapctl.interventions.fitted import Fitted
from gapctl.interventions.removal import fit_projection, fit_removal
from gapctl.interventions.shift import fit_shift
from gapctl.interventions.translation import fit_translation
from gapctl.metrics.gap import Array

Family = Literal["shift", "centre", "standardise", "remove", "orthogonal", "translate"]
Fit = Callable[[Array, Array], Fitted]

LAMBDAS: Final = (-0.5, 0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
"""From a wider gap to means that have changed places."""
REMOVED: Final = (1, 3, 10, 30)


class Candidate(NamedTuple):
    """An intervention that is still to be fitted; `amount` is its lambda, or how many dimensions it removes."""

    family: Family
    amount: float | None
    fit: Fit

    @property
    def name(self) -> str:
        """`shift 0.5`, `centre`."""
        return self.family if self.amount is None else f"{self.family} {self.amount:g}"


LARGEST_SHIFT: Final = 100.0
"""Beyond it nothing is left of the rows but the shift."""


def candidates(lambdas: Sequence[float], removed: Sequence[int]) -> tuple[Candidate, ...]:
    """Every intervention once, sweeps in rising order; raises InputError for a lambda that is no finite number."""
    for amount in lambdas:
        if not abs(amount) <= LARGEST_SHIFT:
            raise InputError(
                f"lambda {amount}: expected a finite number, at most {LARGEST_SHIFT:g} either way; 0 changes nothing "
                "and 1 closes the gap"
            )
    return (
        *(Candidate("shift", amount, partial(fit_shift, amount=amount)) for amount in sorted(set(lambdas))),
        Candidate("centre", None, fit_centring),
        Candidate("standardise", None, fit_standardisation),
        Candidate("orthogonal", None, fit_projection),
        *(Candidate("remove", count, partial(fit_removal, count=count)) for count in sorted(set(removed))),
    )


def named(name: str) -> Candidate:
    """The intervention that a sweep file calls by one word: `shift` (all the way), `centre`, `remove_3`."""
    kind, _, count = name.partition("_")
    whole = candidates([1.0], [int(count)] if count else [])
    # Of sweeps alone: intervals of `gapctl intervene` hold for all its interventions at once, and one more widens them.
    return next(each for each in (*whole, Candidate("translate", None, fit_translation)) if each.family == kind)


def usual_removals(width: int) -> tuple[int, ...]:
    """How many dimensions are removed where nobody says: at most half of them."""
    return tuple(count for count in REMOVED if count <= width // 2)
