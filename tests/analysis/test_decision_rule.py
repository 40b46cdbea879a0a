"""The rule that turns an interval and a p-value into a verdict, and the seeds that an open one needs."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapctl.analysis.estimates import (
    Direction,
    EffectEstimate,
    SeedEffects,
    compute_effect_p,
    compute_t_interval,
    estimate_effect,
)
from gapctl.analysis.hypothesis_effects import determine_refutation_kind, estimate_seeds_needed, judge_interval
from gapctl.analysis.results import UNKNOWN_INTERVAL, Interval

SMALLEST = 0.05


@pytest.mark.parametrize(
    ("low", "high", "direction", "verdict"),
    [
        (-0.30, -0.20, "decreasing", "supported"),
        (-0.30, -0.04, "decreasing", "inconclusive"),
        (-0.30, 0.30, "decreasing", "inconclusive"),
        (-0.04, 0.04, "decreasing", "refuted"),
        (0.20, 0.30, "decreasing", "refuted"),
        (-0.04, 0.30, "decreasing", "refuted"),
        (-0.05, 0.30, "decreasing", "inconclusive"),
        (-0.30, -0.05, "decreasing", "inconclusive"),
        (0.20, 0.30, "increasing", "supported"),
        (-0.30, 0.04, "increasing", "refuted"),
        (0.20, 0.30, "either", "supported"),
        (-0.30, -0.20, "either", "supported"),
        (-0.04, 0.04, "either", "refuted"),
        (-0.04, 0.06, "either", "inconclusive"),
        (-0.30, 0.30, "either", "inconclusive"),
        (math.nan, math.nan, "decreasing", "inconclusive"),
        (math.nan, math.nan, "either", "inconclusive"),
    ],
)
def test_an_interval_against_the_smallest_effect(low: float, high: float, direction: Direction, verdict: str) -> None:
    assert judge_interval(Interval(low, high), SMALLEST, direction, p_holm=0.001, alpha=0.05) == verdict


@pytest.mark.parametrize(
    ("low", "high", "direction", "how"),
    [
        (-0.04, 0.04, "decreasing", "negligible"),
        (0.01, 0.04, "decreasing", "negligible"),
        (-0.04, 0.04, "either", "negligible"),
        (0.20, 0.30, "decreasing", "opposite"),
        (0.01, 0.30, "decreasing", "opposite"),
        (-0.30, -0.01, "increasing", "opposite"),
        (-0.04, 0.30, "decreasing", "short"),
        (-0.30, 0.04, "increasing", "short"),
        (0.06, 0.30, "neither", "different"),
        (-0.30, -0.06, "neither", "different"),
    ],
)
def test_a_refutation_says_whether_there_is_no_effect_or_another(
    low: float, high: float, direction: Direction, how: str
) -> None:
    assert judge_interval(Interval(low, high), SMALLEST, direction, p_holm=0.001, alpha=0.05) == "refuted"
    assert determine_refutation_kind(Interval(low, high), SMALLEST, direction) == how


@pytest.mark.parametrize("p_holm", [0.05, 0.2, math.nan])
def test_an_interval_beyond_the_smallest_effect_is_not_enough_without_p(p_holm: float) -> None:
    assert judge_interval(Interval(-0.3, -0.2), SMALLEST, "decreasing", p_holm, alpha=0.05) == "inconclusive"


def test_a_smallest_effect_of_zero_leaves_the_sign_to_decide() -> None:
    verdicts = [
        judge_interval(Interval(*ci), 0.0, "decreasing", 0.001, 0.05) for ci in ((-2, -1), (1, 2), (0, 0), (-1, 1))
    ]

    assert verdicts == ["supported", "refuted", "inconclusive", "inconclusive"]


@given(
    st.floats(-1, 1), st.floats(0, 1), st.floats(0, 0.5), st.sampled_from(["decreasing", "increasing"]), st.floats(0, 1)
)
def test_a_hypothesis_and_its_mirror_get_the_same_verdict(
    low: float, width: float, smallest: float, direction: Direction, p: float
) -> None:
    mirrored: Direction = "increasing" if direction == "decreasing" else "decreasing"
    here = judge_interval(Interval(low, low + width), smallest, direction, p, 0.05)

    assert judge_interval(Interval(-low - width, -low), smallest, mirrored, p, 0.05) == here


@given(st.floats(-1, 1), st.floats(0.001, 1), st.floats(0, 0.5), st.floats(0, 1))
def test_opposite_hypotheses_are_never_both_supported(low: float, width: float, smallest: float, p: float) -> None:
    ci = Interval(low, low + width)
    verdicts = {judge_interval(ci, smallest, direction, p, 0.05) for direction in ("decreasing", "increasing")}

    assert verdicts != {"supported"}


def of(effects: list[float], direction: Direction = "decreasing") -> EffectEstimate:
    return estimate_effect(SeedEffects(np.array(effects), 0.0), direction, SMALLEST, 0.05)


def needed(
    found: EffectEstimate, smallest: float = SMALLEST, direction: Direction = "decreasing", level: float = 0.05
) -> int | None:
    return estimate_seeds_needed(found, smallest, direction, alpha=0.05, holm_level=level)


def with_moments(mean: float, spread: float, seeds: int) -> np.ndarray:
    pattern = np.linspace(-1, 1, seeds)
    return mean + spread * (pattern - pattern.mean()) / pattern.std(ddof=1)


@pytest.mark.parametrize("mean", [-0.10, 0.0])
def test_the_seeds_asked_for_are_the_fewest_that_settle_it(mean: float) -> None:
    spread = 0.08
    asked = needed(of(list(with_moments(mean, spread, 3))))

    def settled(seeds: int) -> bool:
        effects = with_moments(mean, spread, seeds)
        p = compute_effect_p(effects, "decreasing", SMALLEST).p
        return judge_interval(compute_t_interval(effects, 0.05), SMALLEST, "decreasing", p, 0.05) != "inconclusive"

    assert asked is not None
    assert asked > 3
    assert settled(asked)
    assert not settled(asked - 1)


def test_a_stricter_holm_level_asks_for_more_seeds_where_p_is_what_is_missing() -> None:
    found = of(list(with_moments(-0.3, 0.1, 3)))

    relaxed, strict = needed(found, smallest=0.0, level=0.05), needed(found, smallest=0.0, level=0.0001)
    assert relaxed is not None
    assert strict is not None
    assert strict > relaxed


def test_a_page_test_that_is_not_significant_yet_asks_for_seeds_as_its_statistic_grows() -> None:
    """z of p = 0.1 is 1.28 from two seeds, and p = 0.01 needs 2.33: 2 (2.33 / 1.28)^2 = 6.6 seeds."""
    found = EffectEstimate(np.array([-0.3, -0.31]), -0.305, Interval(-0.36, -0.25), UNKNOWN_INTERVAL, 0.1, "page")

    assert needed(found, level=0.01) == 7


@pytest.mark.parametrize(("direction", "seeds"), [("decreasing", 5), ("either", 6)])
def test_seeds_that_agree_exactly_need_as_many_as_the_sign_test(direction: Direction, seeds: int) -> None:
    assert needed(of([-1.0, -1.0, -1.0], direction), direction=direction) == seeds


def test_nothing_can_be_asked_of_a_single_seed_or_of_an_estimate_on_the_boundary() -> None:
    on_boundary = EffectEstimate(np.array([-0.25, -0.75]), -0.5, Interval(-4.0, 3.0), UNKNOWN_INTERVAL, 0.2, "t")

    assert needed(of([-0.3])) is None
    assert needed(of([])) is None
    assert needed(on_boundary, smallest=0.5) is None


def test_more_than_a_thousand_seeds_are_not_proposed() -> None:
    assert needed(of(list(with_moments(-0.0501, 0.5, 3)))) is None
