"""Effects that lie exactly on the smallest effect: a tie in every order of the seeds, at every scale and offset."""

from collections.abc import Sequence
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapctl.analysis.estimates import (
    Direction,
    EffectEstimate,
    compute_shuffled_levels_p,
    compute_sign_flip_p,
    compute_slope_weights,
    compute_tie_tolerance,
    count_minimum_sign_test_seeds,
    estimate_contrast,
    estimate_trend,
    is_significant,
    rank_values,
    run_page_test,
)
from gapctl.analysis.hypothesis_effects import estimate_seeds_needed, judge_interval
from gapctl.analysis.paired_responses import FloatArray, PairedResponses

DIRECTIONS: Sequence[Direction] = ("increasing", "decreasing", "either", "neither")


def responses(values_SC: FloatArray) -> PairedResponses:
    return PairedResponses(tuple(range(len(values_SC))), values_SC[None], 1, (), (), values_SC.size, values_SC.size)


def verdict(found: EffectEstimate, smallest: float, direction: Direction) -> str:
    return judge_interval(found.ci, smallest, direction, found.p_claim, 0.05, found.rounding)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("offsets", [[0.1, 0.2, 0.3, 0.7, 1.1, 0.0, 0.05], [1e4, 3e4 + 0.1, 7.7, 0.3, 0.0, 12.0, 1e-3]])
@pytest.mark.parametrize("scale", [1.0, 1 / 3, 1e-9, 3.7e8])
def test_equal_differences_that_are_the_smallest_effect_are_neither_beyond_nor_short_of_it(
    direction: Direction, offsets: list[float], scale: float
) -> None:
    sign = -1 if direction == "decreasing" else 1
    levels = scale * np.array([[offset, offset + sign * 0.02] for offset in offsets])
    found = [
        estimate_contrast(responses(levels[order]), direction, scale * 0.02, 0.05) for order in rolled(len(offsets))
    ]

    assert {verdict(one, scale * 0.02, direction) for one in found} == {"inconclusive"}
    assert {(one.p_test, one.p_claim) for one in found} == {("sign", 1.0)}
    assert {estimate_seeds_needed(one, scale * 0.02, direction, 0.05, 0.05) for one in found} == {None}
    assert all(np.isnan(one.standardised) for one in found)


def rolled(count: int) -> list[list[int]]:
    return [[*range(start, count), *range(start)] for start in range(count)]


def test_equal_slopes_that_are_the_smallest_effect_are_a_tie_too() -> None:
    levels = [0.0, 1.0, 2.0, 3.0]
    rows = np.array([[offset + 0.1 * level for level in levels] for offset in (0.1, 0.2, 0.3, 0.7, 0.9)])
    found = [
        estimate_trend(responses(rows[list(order)]), levels, "increasing", 0.1, 0.05)
        for order in permutations(range(5))
    ]

    assert {verdict(one, 0.1, "increasing") for one in found} == {"inconclusive"}
    assert {one.p_claim for one in found} == {1.0}


@given(
    st.lists(st.floats(-1, 1), min_size=2, max_size=5),
    st.floats(0, 0.5),
    st.sampled_from(DIRECTIONS),
    st.floats(-1e3, 1e3),
    st.integers(-30, 30),
    st.randoms(use_true_random=False),
)
def test_order_scale_and_offset_never_change_a_verdict(
    effects: list[float], smallest: float, direction: Direction, offset: float, power: int, order: object
) -> None:
    """Effects in steps of 0.01, so that ties are common."""
    effects, smallest, unit = [round(one, 2) for one in effects], round(smallest, 2), 10.0**power
    shuffled = sorted(effects, key=lambda _: order.random())  # type: ignore[attr-defined]
    here = np.array([[0.0, one] for one in effects])
    there = unit * np.array([[offset, offset + one] for one in shuffled])
    one, other = (
        estimate_contrast(responses(values), direction, size, 0.05)
        for values, size in ((here, smallest), (there, unit * smallest))
    )

    assert verdict(one, smallest, direction) == verdict(other, unit * smallest, direction)
    assert one.p_claim == pytest.approx(other.p_claim, rel=1e-4, abs=1e-12)


def test_exactly_equal_slopes_beyond_the_smallest_effect_ask_for_what_the_sign_test_needs() -> None:
    """Page's p is tiny at three seeds, but the claim's is the sign test's: 1/8, and 1/32 at five."""
    levels = [0.0, 1.0, 2.0, 3.0]
    rows = np.array([[offset + 0.1 * level for level in levels] for offset in (0.1, 0.2, 0.3)])
    found = estimate_trend(responses(rows), levels, "increasing", 0.05, 0.05)

    assert (found.p_test, found.p_claim) == ("page", 1 / 8)
    assert [estimate_seeds_needed(found, 0.05, "increasing", 0.05, level) for level in (0.05, 0.01)] == [5, 7]


def test_a_perfect_order_of_few_levels_asks_for_the_seeds_at_which_pages_test_can_tell_at_all() -> None:
    """Three levels in order have p 1/6 in each seed: (1/6)^4 is the first below 0.001."""
    rows = np.array([[0.0, 0.10, 0.21], [0.0, 0.11, 0.20]])
    found = estimate_trend(responses(rows), [0.0, 1.0, 2.0], "increasing", 0.0, 0.05)

    assert found.p == pytest.approx(1 / 36)
    assert estimate_seeds_needed(found, 0.0, "increasing", 0.05, 0.001) == 4


@pytest.mark.parametrize(
    ("direction", "level", "seeds"), [("increasing", 0.05, 5), ("either", 0.05, 6), ("neither", 0.25, 3)]
)
def test_the_sign_test_needs_so_many_seeds_to_fall_below_a_level(
    direction: Direction, level: float, seeds: int
) -> None:
    assert count_minimum_sign_test_seeds(direction, level) == seeds


def test_a_p_that_equals_its_level_but_for_rounding_is_not_below_it() -> None:
    assert not is_significant(0.15 / 3, 0.05)
    assert not is_significant(0.05 - 1e-17, 0.05)
    assert is_significant(0.0499999, 0.05)


def test_responses_that_differ_by_rounding_share_their_rank() -> None:
    """0.1 + 0.2 is larger than 0.3 by the last bit, which is no rise."""
    level, rising = np.array([[0.1, 0.3, 0.1 + 0.2]]), np.array([[0.1, 0.3, 0.4]])

    assert run_page_test(level).p == pytest.approx(2 / 6)
    assert run_page_test(rising).p == pytest.approx(1 / 6)


def test_resampled_effects_that_tie_but_for_rounding_count_as_ties() -> None:
    """0.1 + 0.2 - 0.3 is not 0 in doubles, and its sign depends on the order."""
    flipped = {compute_sign_flip_p(np.array(order), "increasing") for order in permutations([0.1, 0.2, -0.3])}
    values = np.array([[0.1, 0.1 + 0.2 - 0.2, 0.1]])

    assert flipped == {5 / 8}
    assert (
        compute_shuffled_levels_p(np.repeat(values, 2, axis=0), compute_slope_weights(np.arange(3.0)), "increasing")
        == 1.0
    )


@given(st.lists(st.integers(0, 20), min_size=1, max_size=30), st.floats(-1e6, 1e6), st.randoms(use_true_random=False))
def test_ranks_are_those_of_the_numbers_without_their_rounding(steps: list[int], offset: float, noise: object) -> None:
    exact = np.array(steps, dtype=float)
    near = exact / 7 + offset
    near *= [1 + 1e-15 * noise.choice((-1, 0, 1)) for _ in steps]  # type: ignore[attr-defined]

    assert rank_values(near, compute_tie_tolerance(near)).tolist() == np.unique(exact, return_inverse=True)[1].tolist()
