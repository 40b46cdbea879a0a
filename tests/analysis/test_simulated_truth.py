"""Ledgers with known effects, simulated here: verdicts are as seldom wrong as they claim to be.

Each bound is binomial: at the claimed rate it is broken by chance once in a thousand times. Every case draws its own
numbers from its name, so that a test which passes does so always.
"""

import pytest
from scipy.stats import binom

from simulated_cases import Case, cases
from simulated_tables import tables
from simulated_truth import BEGIN, DOCS, END, RESULTS, read, simulate

ROUNDS, CHANCE = 80, 0.001
LEVELS = [
    ("trend", "normal"),
    ("contrast", "normal"),
    ("equivalence", "normal"),
    ("mediation", "normal"),
    ("correlation", "6 arms, normal"),
    ("correlation", "12 arms, the sum of what their levels do"),
    ("correlation given a metric", "6 arms, normal"),
]
EDGES = [("trend", "at a slope of 1"), ("contrast", "at 5, either way"), ("mediation", "at 2")]


def most_false(rounds: int, rate: float = 0.05) -> float:
    """The largest share of false verdicts that chance allows at a true rate of alpha."""
    return float(binom.ppf(1 - CHANCE, rounds, rate)) / rounds


def least_held(rounds: int, rate: float = 0.95) -> float:
    """The smallest share of intervals that hold the truth."""
    return float(binom.ppf(CHANCE, rounds, rate)) / rounds


def case(kind: str, test: str, world: str) -> Case:
    (found,) = (one for one in cases() if (one.kind, one.test, one.world) == (kind, test, world))
    return found


@pytest.mark.parametrize(
    ("kind", "test", "world"), [*(("level", *one) for one in LEVELS), *(("edge", *one) for one in EDGES)]
)
def test_a_claim_that_is_false_by_a_hair_is_seldom_supported(kind: str, test: str, world: str) -> None:
    found = simulate(case(kind, test, world), seeds=3, rounds=ROUNDS)

    assert found.supported <= most_false(ROUNDS)
    assert found.covered is None or found.covered >= least_held(ROUNDS)


def test_five_effects_that_only_just_do_not_count_are_seldom_supported_in_one_file() -> None:
    found = simulate(
        case("family", "five contrasts", "true effect is the smallest that counts"), seeds=3, rounds=ROUNDS
    )

    assert found.supported <= most_false(ROUNDS)


@pytest.mark.parametrize(("test", "world"), [("contrast", "4"), ("correlation", "6 arms, arms' r = 0.95")])
def test_a_large_effect_is_found(test: str, world: str) -> None:
    """In at least half of all sweeps of five seeds."""
    assert simulate(case("power", test, world), seeds=5, rounds=40).supported >= least_held(40, 0.5)


def test_the_same_seed_simulates_the_same() -> None:
    one = case("level", "contrast", "normal")

    assert simulate(one, seeds=2, rounds=5) == simulate(one, seeds=2, rounds=5)


def test_the_documentation_has_the_tables_of_the_figures_that_are_kept() -> None:
    kept = read(RESULTS)
    page = DOCS.read_text(encoding="utf-8")

    assert {(one.kind, one.test, one.world) for one in kept} == {(c.kind, c.test, c.world) for c in cases()}
    assert page.partition(BEGIN)[2].partition(END)[0].strip() == tables(kept).strip()
