"""A search for nuisance parameters: which values may be drawn, what is judged by, and when a training is stopped."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from gapctl.spec.frozen import Frozen, WrongValueError
from gapctl.spec.hypotheses import Level

Ends = Annotated[tuple[float, float], Field(strict=False)]
KINDS = ("log", "uniform", "choice")


class Domain(Frozen):
    """What may be drawn of one value: `uniform` between two numbers, `log` by equal factors, or one of a `choice`."""

    log: Ends | None = None
    uniform: Ends | None = None
    choice: Annotated[list[Level], Field(min_length=2)] | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> "Domain":
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            found = f"found {' and '.join(given)}" if given else "found none of its keys"
            raise ValueError(f"{found}; expected one of {', '.join(KINDS)}")
        kind = given[0]
        if kind != "choice":
            low, high = self.ends
            if low >= high:
                raise WrongValueError(kind, f"found {low:g} to {high:g}; expected the smaller number first")
            if kind == "log" and low <= 0:
                raise WrongValueError(kind, f"found {low:g}; expected numbers above 0, as equal factors need")
        return self

    @property
    def kind(self) -> str:
        """The key that is there."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def ends(self) -> tuple[float, float]:
        """The smallest and the largest number of a range."""
        ends = self.log or self.uniform
        assert ends is not None
        return ends

    @property
    def values(self) -> Sequence[Level]:
        """The choices, or the ends of the range."""
        return self.choice if self.choice is not None else self.ends


class StopEarly(Frozen):
    """Asynchronous successive halving (arXiv 1810.05934): at `after` training samples, and at `reduce` times as many
    again and again, a training goes on only if it is among the best 1/`reduce` of those that came so far."""

    after: Annotated[int, Field(ge=1)]
    reduce: Annotated[int, Field(ge=2, le=100)] = 3


class Search(Frozen):
    """`trials` points of `space` (dotted paths into base), each trained once, for the best `metric` at the end.

    `tpe` draws where earlier points were good, `random` without looking. What is drawn is a function of `seed`, of how
    many were drawn before, and of what was known of them then.
    """

    metric: str
    direction: Literal["minimize", "maximize"]
    trials: Annotated[int, Field(ge=1, le=1_000)]
    space: Annotated[dict[str, Domain], Field(min_length=1)]
    sampler: Literal["tpe", "random"] = "tpe"
    seed: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    stop_early: StopEarly | None = None
