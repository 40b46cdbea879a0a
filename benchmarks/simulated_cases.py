"""What is simulated: for each test, worlds where its claim is false by a hair, and worlds where it is true."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal

import numpy as np

from gapctl.analysis.kendall import sign_matrices, taus
from simulated_ledgers import ATTRIBUTES, MODE, NOISES, SIX, TWO_BY_TWO, FloatArray, drawn

X, Y, Z = "gap/rmg", "quality/object_accuracy", "gap/l2m"
TWELVE: Mapping[str, Sequence[Any]] = {**SIX, MODE: ["learned", "fixed"]}
BAND = 2.0
"""The band of the equivalence cases, in standard deviations of a training's noise."""
FEWER_NOISES = ("normal", "skewed", "skewed and unequal")
DOWN = "skewed down and unequal"
Draw = Callable[[np.random.Generator, int], Mapping[str, FloatArray]]


@dataclass(frozen=True)
class Case:
    """`truth` is the true effect where there is one for all rounds; `kind` says which table the case belongs to.

    In `level` the claim is false by a hair, so that every `supported` is an error; in `power` it is true.
    """

    kind: Literal["level", "coverage", "power", "family"]
    test: str
    world: str
    vary: Mapping[str, Sequence[Any]]
    hypotheses: tuple[Mapping[str, Any], ...]
    draw: Draw
    truth: float | None = None


def cases() -> list[Case]:
    """All of them, in the order of the tables."""
    return [*_levels(), *_correlation_levels(), *_coverages(), *_powers(), *_correlation_powers(), *_families()]


def trend(smallest: float = 0.0) -> Mapping[str, Any]:
    """A rise over six levels."""
    own = {"test": "trend", "response": X, "factor": ATTRIBUTES}
    return {**own, "direction": "increasing", "smallest_effect": smallest}


def contrast(smallest: float = 0.0) -> Mapping[str, Any]:
    """A rise between the ends."""
    own = {"test": "contrast", "response": X, "factor": ATTRIBUTES, "between": [0, 5]}
    return {**own, "direction": "increasing", "smallest_effect": smallest}


def equivalence() -> Mapping[str, Any]:
    """No difference between the ends that counts."""
    return {"test": "equivalence", "response": X, "factor": ATTRIBUTES, "between": [0, 5], "smallest_effect": BAND}


def mediation(smallest: float = 0.0) -> Mapping[str, Any]:
    """A treatment that does more where the mediator is free."""
    own = {"test": "mediation", "response": X, "factor": ATTRIBUTES, "between": [0, 5]}
    arms = {"mediator": MODE, "free": "learned", "fixed": "fixed"}
    return {**own, **arms, "direction": "increasing", "smallest_effect": smallest}


def correlation(*given: str) -> Mapping[str, Any]:
    """Two metrics that rise together."""
    own = {"test": "correlation", "response": X, "against": Y, "given": list(given)}
    return {**own, "direction": "increasing", "smallest_effect": 0.0}


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
        for vary, name in ((SIX, "6 arms"), (TWELVE, "12 arms")):
            draw = partial(_metrics, noise=noise, arms=_count(vary), link=0.0)
            yield Case("level", "correlation", f"{name}, {noise}", vary, (correlation(),), draw)
    for vary, name in ((SIX, "6 arms"), (TWELVE, "12 arms")):
        draw = partial(_confounded, arms=_count(vary), own=1.0)
        yield Case("level", "correlation given a metric", f"{name}, normal", vary, (correlation(Z),), draw)
    draw = partial(_confounded, arms=12, own=0.0)
    yield Case("level", "correlation given a factor", "12 arms, normal", TWELVE, (correlation(ATTRIBUTES),), draw)


def _coverages() -> Iterator[Case]:
    for arms, vary in ((6, SIX), (12, TWELVE)):
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
    for vary, name in ((SIX, "6 arms"), (TWELVE, "12 arms")):
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
    draw = partial(_edges, names=responses)
    yield Case("family", "five contrasts", "true effect is the smallest that counts", SIX, small, draw)


def _count(vary: Mapping[str, Sequence[Any]]) -> int:
    return int(np.prod([len(levels) for levels in vary.values()]))


def _one(means_A: FloatArray, noise: str) -> Draw:
    return lambda rng, seeds: {X: drawn(rng, means_A, seeds, noise)}


def _metrics(rng: np.random.Generator, seeds: int, noise: str, arms: int, link: float) -> Mapping[str, FloatArray]:
    """Arms' true x and y correlate by `link`; half as much noise in each training as between arms."""
    first_A, second_A = rng.standard_normal((2, arms))
    second_A = link * first_A + np.sqrt(1 - link**2) * second_A
    return {X: drawn(rng, 2 * first_A, seeds, noise), Y: drawn(rng, 2 * second_A, seeds, noise)}


def _confounded(rng: np.random.Generator, seeds: int, arms: int, own: float) -> Mapping[str, FloatArray]:
    """x and y both follow z and have nothing else in common; z is the number of attributes and something of its own."""
    steps_A = np.linspace(-1, 1, 6).repeat(arms // 6)
    cause_A = 3 * steps_A + own * rng.standard_normal(arms)
    means = {name: cause_A + 2 * rng.standard_normal(arms) for name in (X, Y)}
    found = {name: means_A + 0.3 * rng.standard_normal((seeds, arms)) for name, means_A in means.items()}
    return {**found, Z: cause_A + 0.3 * rng.standard_normal((seeds, arms))}


def _along(rng: np.random.Generator, seeds: int, means_A: FloatArray, noise: float) -> Mapping[str, FloatArray]:
    return {name: means_A + noise * rng.standard_normal((seeds, len(means_A))) for name in (X, Y)}


@cache
def true_tau(means_A: tuple[float, ...], noise: float) -> float:
    """The mean tau over 50,000 seeds."""
    rng = np.random.default_rng(0)
    found = _along(rng, 50_000, np.array(means_A), noise)
    every = [list(range(len(means_A)))]
    return float(taus(sign_matrices(found[X], every), sign_matrices(found[Y], every)).mean())


def _family(rng: np.random.Generator, seeds: int, names: Sequence[str]) -> Mapping[str, FloatArray]:
    found = {name: drawn(rng, np.zeros(12), seeds, "normal") for name in names}
    edge_A = BAND * np.linspace(0, 1, 6).repeat(2)
    # Contrasts over six levels are of means over two arms each.
    apart = {names[2]: drawn(rng, edge_A, seeds, "normal")}
    return {**found, **apart, **_paired_metrics(rng, seeds, names[4])}


def _paired_metrics(rng: np.random.Generator, seeds: int, name: str) -> Mapping[str, FloatArray]:
    found = _metrics(rng, seeds, "normal", 12, 0.0)
    return {name: found[X], Y: found[Y]}


def _edges(rng: np.random.Generator, seeds: int, names: Sequence[str]) -> Mapping[str, FloatArray]:
    return {name: drawn(rng, np.linspace(0, 1, 6), seeds, "normal") for name in names}
