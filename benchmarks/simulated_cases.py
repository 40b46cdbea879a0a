"""What is simulated: for each test, worlds where its claim is false by a hair, and worlds where it is true."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Literal

import numpy as np

from gapctl.analysis.correlation import compute_kendall_taus, rank_within_strata
from gapctl.analysis.paired_responses import FloatArray
from simulated_ledgers import (
    ARM,
    ATTRIBUTES,
    MODE,
    NOISES,
    ORDER,
    SIX,
    TWENTY_FOUR,
    TWO_BY_TWO,
    Grid,
    drawn,
    list_arm_names,
)

X, Y, Z = "gap/rmg", "quality/object_accuracy", "gap/l2m"
MORE_Z = (Z, "gap/l2i", "gap/centroid_share")
TWELVE: Grid = {**SIX, MODE: ["learned", "fixed"]}
SIX_NAMES, TWELVE_NAMES, TWENTY_FOUR_NAMES = (
    {ARM: list_arm_names(6), **{path: levels for path, levels in vary.items() if path != ATTRIBUTES}}
    for vary in (SIX, TWELVE, TWENTY_FOUR)
)
EIGHT: Grid = {**TWO_BY_TWO, ORDER: ["shuffled", "canonical"]}
MANY: Mapping[int, Grid] = {count: {ARM: list_arm_names(count)} for count in (13, 40, 150)}
BAND = 2.0
"""The band of the equivalence cases, in standard deviations of a training's noise."""
FEWER_NOISES = ("normal", "skewed", "skewed and unequal")
DOWN = "skewed down and unequal"
Draw = Callable[[np.random.Generator, int], Mapping[str, FloatArray]]


@dataclass(frozen=True)
class Case:
    """`truth` is the true effect where there is one for all rounds; `kind` says which table the case belongs to.

    In `level` the claim is false by a hair, so that every `supported` is an error: there is no effect, or, in `edge`,
    one that is exactly the smallest which counts. In `power` it is true.
    """

    kind: Literal["level", "edge", "coverage", "power", "family"]
    test: str
    world: str
    vary: Grid
    hypotheses: tuple[Mapping[str, object], ...]
    draw: Draw
    truth: float | None = None


def cases() -> list[Case]:
    """All of them, in the order of the tables."""
    levels = [*_levels(), *_correlation_levels(), *_many_arms(), *_shared_levels(), *_edges()]
    return [*levels, *_coverages(), *_powers(), *_correlation_powers(), *_families()]


def trend(smallest: float = 0.0) -> Mapping[str, object]:
    """A rise over six levels."""
    own = {"test": "trend", "response": X, "factor": ATTRIBUTES}
    return {**own, "direction": "increasing", "smallest_effect": smallest}


def contrast(smallest: float = 0.0, direction: str = "increasing") -> Mapping[str, object]:
    """A rise between the ends."""
    own = {"test": "contrast", "response": X, "factor": ATTRIBUTES, "between": [0, 5]}
    return {**own, "direction": direction, "smallest_effect": smallest}


def equivalence() -> Mapping[str, object]:
    """No difference between the ends that counts."""
    return {"test": "equivalence", "response": X, "factor": ATTRIBUTES, "between": [0, 5], "smallest_effect": BAND}


def mediation(smallest: float = 0.0) -> Mapping[str, object]:
    """A treatment that does more where the mediator is free."""
    own = {"test": "mediation", "response": X, "factor": ATTRIBUTES, "between": [0, 5]}
    arms = {"mediator": MODE, "free": "learned", "fixed": "fixed"}
    return {**own, **arms, "direction": "increasing", "smallest_effect": smallest}


def correlation(*given: str, smallest: float = 0.0) -> Mapping[str, object]:
    """Two metrics that rise together."""
    own = {"test": "correlation", "response": X, "against": Y, "given": list(given)}
    return {**own, "direction": "increasing", "smallest_effect": smallest}


def _levels() -> Iterator[Case]:
    for noise in NOISES:
        yield Case("level", "trend", noise, SIX, (trend(),), _one(np.zeros(6), noise), 0.0)
    for noise in NOISES:
        yield Case("level", "contrast", noise, SIX, (contrast(),), _one(np.zeros(6), noise), 0.0)
    for noise in FEWER_NOISES:
        edge = _one(np.linspace(0, BAND, 6), noise)
        yield Case("level", "equivalence", noise, SIX, (equivalence(),), edge, BAND)
    for noise in (*FEWER_NOISES, DOWN):
        yield Case("level", "mediation", noise, TWO_BY_TWO, (mediation(),), _one(np.zeros(4), noise), 0.0)


def _correlation_levels() -> Iterator[Case]:
    """Each arm has its own x and its own y, drawn anew in each round, which have nothing to do with each other."""
    for noise in ("normal", "skewed"):
        for vary, name in ((SIX_NAMES, "6 arms"), (TWELVE_NAMES, "12 arms")):
            draw = partial(_metrics, noise=noise, arms=_count(vary), link=0.0)
            yield Case("level", "correlation", f"{name}, {noise}", vary, (correlation(),), draw)
    for vary, name in ((SIX_NAMES, "6 arms"), (TWELVE_NAMES, "12 arms")):
        draw = partial(_confounded, arms=_count(vary))
        yield Case("level", "correlation given a metric", f"{name}, normal", vary, (correlation(Z),), draw)
    yield Case("level", "correlation given a factor", "12 arms, normal", TWELVE_NAMES, (correlation(MODE),), _divided)


def _many_arms() -> Iterator[Case]:
    """More arms than can be permuted in all ways, and several given metrics; one that is measured badly."""
    for count, vary in MANY.items():
        draw = partial(_metrics, noise="normal", arms=count, link=0.0)
        yield Case("level", "correlation", f"{count} arms, normal", vary, (correlation(),), draw)
        for causes in (1, 3):
            given, draw = MORE_Z[:causes], partial(_caused, arms=count, causes=causes)
            name = "correlation given a metric" if causes == 1 else f"correlation given {causes} metrics"
            yield Case("level", name, f"{count} arms, normal", vary, (correlation(*given),), draw)
    draw = partial(_caused, arms=40, causes=1, error=1.0)
    name = "correlation given a metric"
    yield Case("level", name, "40 arms, half of it noise", MANY[40], (correlation(Z),), draw)


def _shared_levels() -> Iterator[Case]:
    """What each level does to x and to y is drawn anew and unrelated, and arms that share a level share it."""
    for vary in (EIGHT, TWELVE_NAMES, TWENTY_FOUR_NAMES):
        sizes = tuple(len(levels) for levels in vary.values())
        draw = partial(_by_level, sizes=sizes)
        world = f"{_count(vary)} arms, the sum of what their levels do"
        yield Case("level", "correlation", world, vary, (correlation(),), draw)


def _edges() -> Iterator[Case]:
    """The true effect is the smallest that counts."""
    line = _one(np.arange(6.0), "normal")
    yield Case("edge", "trend", "at a slope of 1", SIX, (trend(1.0),), line, 1.0)
    for size in (1.0, 5.0):
        ends = _ends(size)
        yield Case("edge", "contrast", f"at {size:g}", SIX, (contrast(size),), ends, size)
        yield Case("edge", "contrast", f"at {size:g}, either way", SIX, (contrast(size, "either"),), ends, size)
    for noise in ("skewed", "unequal"):
        yield Case("edge", "contrast", f"at 5, {noise}", SIX, (contrast(5.0),), _one(np.arange(6.0), noise), 5.0)
    yield Case("edge", "equivalence", f"at {BAND:g}", SIX, (equivalence(),), _ends(BAND), BAND)
    both = _one(np.array([0.0, 0.0, 2.0, 0.0]), "normal")
    yield Case("edge", "mediation", "at 2", TWO_BY_TWO, (mediation(2.0),), both, 2.0)
    for arms, vary in ((6, SIX_NAMES), (12, TWELVE_NAMES), (40, MANY[40])):
        means_A = np.linspace(0, 1, arms)
        truth = true_tau(tuple(means_A), 0.5)
        draw = partial(_along, means_A=means_A, noise=0.5)
        yield Case(
            "edge", "correlation", f"{arms} arms, at {truth:.2f}", vary, (correlation(smallest=truth),), draw, truth
        )


def _coverages() -> Iterator[Case]:
    for arms, vary in ((6, SIX_NAMES), (12, TWELVE_NAMES)):
        for noise, word in ((0.05, "nearly in order"), (0.5, "in order, noisy")):
            means_A = np.linspace(0, 1, arms)
            draw = partial(_along, means_A=means_A, noise=noise)
            truth = true_tau(tuple(means_A), noise)
            yield Case("coverage", "correlation", f"{arms} arms, {word}", vary, (correlation(),), draw, truth)


def _powers() -> Iterator[Case]:
    for size in (1.0, 2.0, 4.0):
        line = _one(np.linspace(0, size, 6), "normal")
        yield Case("power", "trend", f"{size:g} from end to end", SIX, (trend(0.1),), line, size / 5)
        yield Case("power", "contrast", f"{size:g}", SIX, (contrast(0.5),), line, size)
    for size in (0.0, 1.0):
        yield Case("power", "equivalence", f"{size:g}, band {BAND:g}", SIX, (equivalence(),), _ends(size), size)
    for size in (1.0, 2.0, 4.0):
        both = _one(np.array([0.0, 0.0, size + 0.5, 0.5]), "normal")
        yield Case("power", "mediation", f"{size:g}", TWO_BY_TWO, (mediation(0.5),), both, size)


def _ends(size: float) -> Draw:
    return _one(np.linspace(0, size, 6), "normal")


def _correlation_powers() -> Iterator[Case]:
    for vary, name in ((SIX_NAMES, "6 arms"), (TWELVE_NAMES, "12 arms")):
        for link in (0.5, 0.8, 0.95):
            draw = partial(_metrics, noise="normal", arms=_count(vary), link=link)
            yield Case("power", "correlation", f"{name}, arms' r = {link:g}", vary, (correlation(),), draw)


def _families() -> Iterator[Case]:
    """Files of five: one of each test, and five contrasts, each with a true effect that does not count by a hair."""
    kinds = (trend(), contrast(), equivalence(), mediation(), correlation())
    responses = (X, "gap/l2i", "gap/centroid_share", "bias/moad_text", "bias/moad_image")
    each = tuple({**kind, "response": response} for kind, response in zip(kinds, responses, strict=True))
    yield Case(
        "family", "one of each test", "at the edge of its claim", TWELVE, each, partial(_family, names=responses)
    )
    small = tuple({**contrast(1.0), "response": response} for response in responses)
    draw = partial(_five_lines, names=responses)
    yield Case("family", "five contrasts", "true effect is the smallest that counts", SIX, small, draw)


def _count(vary: Grid) -> int:
    return int(np.prod([len(levels) for levels in vary.values()]))


def _one(means_A: FloatArray, noise: str) -> Draw:
    return lambda rng, seeds: {X: drawn(rng, means_A, seeds, noise)}


def _metrics(rng: np.random.Generator, seeds: int, noise: str, arms: int, link: float) -> Mapping[str, FloatArray]:
    """Arms' true x and y correlate by `link`; half as much noise in each training as between arms."""
    first_A, second_A = rng.standard_normal((2, arms))
    second_A = link * first_A + np.sqrt(1 - link**2) * second_A
    return {X: drawn(rng, 2 * first_A, seeds, noise), Y: drawn(rng, 2 * second_A, seeds, noise)}


def _confounded(rng: np.random.Generator, seeds: int, arms: int) -> Mapping[str, FloatArray]:
    """x and y both follow z and have nothing else in common; z is the number of attributes and something of its own."""
    steps_A = np.linspace(-1, 1, 6).repeat(arms // 6)
    cause_A = 3 * steps_A + rng.standard_normal(arms)
    means = {name: cause_A + 2 * rng.standard_normal(arms) for name in (X, Y)}
    found = {name: means_A + 0.3 * rng.standard_normal((seeds, arms)) for name, means_A in means.items()}
    return {**found, Z: cause_A + 0.3 * rng.standard_normal((seeds, arms))}


def _divided(rng: np.random.Generator, seeds: int) -> Mapping[str, FloatArray]:
    """x and y are both larger where the temperature is held fixed, and have nothing else in common."""
    mode_A = np.tile([0.0, 1.0], 6)
    return {name: drawn(rng, 3 * mode_A + 2 * rng.standard_normal(12), seeds, "normal") for name in (X, Y)}


def _caused(
    rng: np.random.Generator, seeds: int, arms: int, causes: int, error: float = 0.0
) -> Mapping[str, FloatArray]:
    """x and y both follow the sum of some causes, measured with error, and have nothing else in common.

    Any error is part of what is left of both, and relates them a little: with a tenth of a cause's spread, three causes
    of 40 arms took p below 0.05 in 6.8 % of 2,000 rounds.
    """
    cause_QA = rng.standard_normal((causes, arms))
    means = {name: 2 * cause_QA.sum(axis=0) + 2 * rng.standard_normal(arms) for name in (X, Y)}
    found = {name: means_A + 0.3 * rng.standard_normal((seeds, arms)) for name, means_A in means.items()}
    measured = {
        name: cause_A + error * rng.standard_normal((seeds, arms))
        for name, cause_A in zip(MORE_Z, cause_QA, strict=False)
    }
    return {**found, **measured}


def _by_level(rng: np.random.Generator, seeds: int, sizes: Sequence[int]) -> Mapping[str, FloatArray]:
    """The sum over factors of what each level does; half as much noise in each training as between levels."""
    level_FA = np.indices(sizes).reshape(len(sizes), -1)

    def means() -> FloatArray:
        parts = [rng.standard_normal(size)[level_A] for size, level_A in zip(sizes, level_FA, strict=True)]
        return np.asarray(2 * np.sum(parts, axis=0))

    return {name: drawn(rng, means(), seeds, "normal") for name in (X, Y)}


def _along(rng: np.random.Generator, seeds: int, means_A: FloatArray, noise: float) -> Mapping[str, FloatArray]:
    return {name: means_A + noise * rng.standard_normal((seeds, len(means_A))) for name in (X, Y)}


@cache
def true_tau(means_A: tuple[float, ...], noise: float) -> float:
    """The mean tau over 50,000 seeds."""
    rng = np.random.default_rng(0)
    found = _along(rng, 50_000, np.array(means_A), noise)
    every = [range(len(means_A))]
    return float(
        compute_kendall_taus(rank_within_strata(found[X], every), rank_within_strata(found[Y], every), every).mean()
    )


def _family(rng: np.random.Generator, seeds: int, names: Sequence[str]) -> Mapping[str, FloatArray]:
    found = {name: drawn(rng, np.zeros(12), seeds, "normal") for name in names}
    edge_A = BAND * np.linspace(0, 1, 6).repeat(2)
    # Contrasts over six levels are of means over two arms each.
    apart = {names[2]: drawn(rng, edge_A, seeds, "normal")}
    return {**found, **apart, **_paired_metrics(rng, seeds, names[4])}


def _paired_metrics(rng: np.random.Generator, seeds: int, name: str) -> Mapping[str, FloatArray]:
    found = _metrics(rng, seeds, "normal", 12, 0.0)
    return {name: found[X], Y: found[Y]}


def _five_lines(rng: np.random.Generator, seeds: int, names: Sequence[str]) -> Mapping[str, FloatArray]:
    return {name: drawn(rng, np.linspace(0, 1, 6), seeds, "normal") for name in names}
