"""Hypotheses as a sweep file declares them: the fields that all share, and a model for each of the seven tests.

`HypothesisBase` is common to all; `Hypothesis` is the union that the key `test` selects from, and `TESTS` lists its
members by that key.
"""

from typing import Annotated, ClassVar, Final, Literal

from pydantic import BeforeValidator, Field, StringConstraints, WithJsonSchema

from gapctl.config.base import FrozenModel, HashAs, OmitFromHash

Level = bool | int | float | str
SLUG = r"^[a-z0-9][a-z0-9_-]*$"
Slug = Annotated[str, StringConstraints(pattern=SLUG, max_length=80)]
TwoLevels = Annotated[tuple[Level, Level], Field(strict=False)]
Scope = Literal["overall", "within_strata", "between_strata", "given_covariates"]
"""Which pairs of a cohort's models a correlation compares.

`overall` takes all, and so does `given_covariates`, after removing what is given. `within_strata` takes pairs of one
stratum, `between_strata` those of two.
"""
LOGARITHM: Final = "log "
"""Stands before a covariate whose logarithm is meant."""
FORMER_TESTS: Final = {"threshold": "level"}
"""Former names of tests: sweep files may use them, and hashes are made with them."""


class HypothesisBase(FrozenModel):
    """What every hypothesis states before any trial runs; `smallest_effect` is in the response's own unit.

    `where` keeps only the trainings at these levels; without it they are averaged over the factors not named.
    """

    id: Slug
    claim: Annotated[str, Field(min_length=1)]
    source: str | None = None
    response: str
    where: Annotated[dict[str, Level], OmitFromHash(before={})] = Field(default_factory=dict)
    smallest_effect: Annotated[float, Field(ge=0.0)]


class Trend(HypothesisBase):
    """The response moves one way with each step of an ordered factor; the effect is the slope per unit of it."""

    test: Literal["trend"]
    factor: str
    direction: Literal["increasing", "decreasing"]


class Contrast(HypothesisBase):
    """The response differs between two levels; the effect is the paired difference `between[1] - between[0]`."""

    test: Literal["contrast"]
    factor: str
    between: TwoLevels
    direction: Literal["increasing", "decreasing", "either"]


class Equivalence(HypothesisBase):
    """The response differs by less than `smallest_effect`, whichever way, between two levels."""

    test: Literal["equivalence"]
    factor: str
    between: TwoLevels
    smallest_effect: Annotated[float, Field(gt=0.0)]


class Correlation(HypothesisBase):
    """Two metrics go together over the sweep's arms; the effect is Kendall's tau within a seed.

    `given` are factors, whose levels are never compared with each other, and metrics, which are accounted for.

    Over a cohort of models, `scope` says which pairs of models are compared, and `against` may be a covariate. `given`
    are then covariates or metrics, whose linear part is removed: `log parameters` takes a logarithm first, and a
    covariate of names counts as groups. `sets` are evaluation sets: the effect is the mean of their taus. Direction
    `weak` claims that tau lies within `smallest_effect` on both sides.
    """

    test: Literal["correlation"]
    against: str
    given: list[str] = Field(default_factory=list)
    scope: Annotated[Scope | None, OmitFromHash(before=None)] = None
    sets: Annotated[list[Slug], OmitFromHash(before=[])] = Field(default_factory=list)
    direction: Literal["increasing", "decreasing", "either", "weak"]
    smallest_effect: Annotated[float, Field(ge=0.0, lt=1.0)]


class Mediation(HypothesisBase):
    """A treatment works through a mediator: its effect is another one where the mediator is held fixed.

    The effect is that of `between[1] - between[0]` where `mediator` is at `free`, less the same at `fixed`.
    """

    test: Literal["mediation"]
    factor: str
    between: TwoLevels
    mediator: str
    free: Level
    fixed: Level
    direction: Literal["increasing", "decreasing", "either"]


class Threshold(HypothesisBase):
    """The response itself lies above or below a value; the effect is the mean over all trainings less `value`.

    `level` is the test's former name.
    """

    test: Annotated[
        Literal["threshold"], HashAs(FORMER_TESTS), WithJsonSchema({"enum": ["threshold", *FORMER_TESTS.values()]})
    ]
    value: float
    direction: Literal["increasing", "decreasing", "either"]


class Prediction(HypothesisBase):
    """A response at levels left out in turn is forecast from other metrics; the effect is the skill of the forecasts.

    The skill is the share of their squared error that `predictors` take away: 1 less the error with `beyond` and
    `predictors` over that with `beyond` alone. Without `beyond`, a level is forecast by the mean of the others.
    """

    test: Literal["prediction"]
    factor: str
    predictors: Annotated[list[str], Field(min_length=1)]
    beyond: list[str] = Field(default_factory=list)
    smallest_effect: Annotated[float, Field(ge=0.0, lt=1.0)]
    direction: ClassVar[Literal["increasing"]] = "increasing"

    @property
    def fewest_levels(self) -> int:
        """The fewest levels to forecast: with one left out and another one deleted, the line still has an error."""
        return len(self.predictors) + len(self.beyond) + 4


def _use_present_name(found: object) -> object:
    """Return a hypothesis with its test's present name."""
    present = {former: test for test, former in FORMER_TESTS.items()}
    if isinstance(found, dict) and found.get("test") in tuple(present):
        return {**found, "test": present[found["test"]]}
    return found


Hypothesis = Annotated[
    Trend | Contrast | Equivalence | Correlation | Mediation | Threshold | Prediction,
    Field(discriminator="test"),
    BeforeValidator(_use_present_name),
]
TESTS: dict[str, type[HypothesisBase]] = {
    "trend": Trend,
    "contrast": Contrast,
    "equivalence": Equivalence,
    "correlation": Correlation,
    "mediation": Mediation,
    "threshold": Threshold,
    "prediction": Prediction,
}


def list_hypothesis_metrics(hypothesis: Hypothesis) -> tuple[str, ...]:
    """List the metrics that a hypothesis is judged by; a correlation's `given` factors are among them."""
    if isinstance(hypothesis, Correlation):
        return (hypothesis.response, hypothesis.against, *hypothesis.given)
    if isinstance(hypothesis, Prediction):
        return (hypothesis.response, *hypothesis.predictors, *hypothesis.beyond)
    return (hypothesis.response,)
