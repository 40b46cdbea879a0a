"""p-values: of a paired difference, of a trend, and after Holm."""

import math
from itertools import permutations
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from gapctl.analysis.estimates import (
    compute_effect_p,
    compute_slope_weights,
    estimate_contrast,
    estimate_trend,
    run_page_test,
)
from gapctl.analysis.hypothesis_effects import apply_holm
from gapctl.analysis.paired_responses import FloatArray, PairedResponses


def responses(values_SL: FloatArray) -> PairedResponses:
    seeds = tuple(range(len(values_SL)))
    return PairedResponses(seeds, values_SL[None], 1, (), (), values_SL.size, values_SL.size)


def test_a_contrast_is_scipys_paired_test() -> None:
    values = np.array([[0.50, 0.26], [0.47, 0.20], [0.52, 0.29]])
    found = estimate_contrast(responses(values), "decreasing", 0.02, 0.05)

    assert found.value == pytest.approx(-(0.24 + 0.27 + 0.23) / 3)
    assert found.p == pytest.approx(stats.ttest_rel(values[:, 1], values[:, 0], alternative="less").pvalue)
    pooled = math.sqrt(values.var(axis=0, ddof=1).mean())
    correction = math.gamma(1) / (math.gamma(0.5) * math.sqrt(1))
    assert found.standardised == pytest.approx(correction * found.value / np.std([0.24, 0.27, 0.23], ddof=1))
    of_both_cells = math.gamma(2) / (math.gamma(1.5) * math.sqrt(2))
    assert found.standardised_pooled == pytest.approx(of_both_cells * found.value / pooled)


def test_what_arms_of_a_seed_share_does_not_widen_a_contrast() -> None:
    differences = np.array([-0.24, -0.27, -0.23])
    of_seeds = np.array([0.1, 5.0, -3.0])
    values = np.column_stack([of_seeds, of_seeds + differences])

    assert estimate_contrast(responses(values), "decreasing", 0.02, 0.05).spread == pytest.approx(
        differences.std(ddof=1)
    )


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=6).filter(lambda found: np.ptp(found) > 1e-3))
def test_both_directions_share_the_evidence_and_either_pays_double(effects: list[float]) -> None:
    found = np.array(effects)
    down, up = compute_effect_p(found, "decreasing").p, compute_effect_p(found, "increasing").p

    assert down + up == pytest.approx(1.0)
    assert compute_effect_p(found, "either").p == pytest.approx(2 * min(down, up))


@pytest.mark.parametrize(
    ("effects", "direction", "p"),
    [
        ([-1.0, -1.0, -1.0], "decreasing", 1 / 8),
        ([-1.0, -1.0, -1.0], "increasing", 1.0),
        ([-1.0, -1.0, -1.0], "either", 1 / 4),
        ([0.0, 0.0], "either", 1.0),
    ],
)
def test_seeds_that_agree_exactly_are_judged_by_their_number(effects: list[float], direction: str, p: float) -> None:
    assert compute_effect_p(np.array(effects), direction) == (pytest.approx(p), "sign")  # type: ignore[arg-type]


def test_a_single_seed_has_no_test_of_its_effect() -> None:
    found = compute_effect_p(np.array([-0.3]), "decreasing")

    assert math.isnan(found.p)
    assert found.by == "none"


def test_slopes_are_those_of_a_fitted_line() -> None:
    rng = np.random.default_rng(3)
    values, levels = rng.standard_normal((4, 5)), np.array([0.0, 1.0, 2.5, 4.0, 10.0])

    assert values @ compute_slope_weights(levels) == pytest.approx([np.polyfit(levels, row, 1)[0] for row in values])


def test_pages_test_agrees_with_its_published_example() -> None:
    """Ten students rate tutorial, lecture and seminar: L = 133.5, exact p = 0.00182, in scipy's documentation too."""
    seminar_last = [
        [3, 4, 3], [2, 2, 4], [3, 3, 5], [1, 3, 2], [2, 3, 2], [2, 4, 5], [1, 2, 4], [3, 4, 4], [2, 4, 5], [1, 3, 4],
    ]  # fmt: skip

    assert run_page_test(np.array(seminar_last, dtype=float)).p == pytest.approx(0.0018191161948127822)


def test_a_perfect_order_in_every_seed_is_one_in_all_orders() -> None:
    rows = np.tile(np.arange(6.0), (3, 1))

    assert run_page_test(rows[:1]).p == pytest.approx(1 / 720)
    assert run_page_test(rows).p == pytest.approx((1 / 720) ** 3)
    assert run_page_test(-rows).p == pytest.approx(1.0)


def test_one_seeds_p_counts_the_orders_that_are_as_good() -> None:
    row = np.array([0.1, 0.4, 0.3, 0.9, 0.7])
    ranks, predicted = stats.rankdata(row), np.arange(1, 6)
    as_good = sum(predicted @ np.array(order) >= predicted @ ranks for order in permutations(range(1, 6)))

    assert run_page_test(row[None]).p == pytest.approx(as_good / 120)


def test_one_seed_with_many_levels_still_has_a_p() -> None:
    rising = run_page_test(np.arange(12.0)[None]).p

    assert 0 < rising < 0.001


def test_a_decreasing_trend_is_an_increasing_one_turned_over() -> None:
    rng = np.random.default_rng(5)
    values, levels = rng.standard_normal((3, 4)), [0.0, 1.0, 2.0, 3.0]
    down = estimate_trend(responses(values), levels, "decreasing", 0.02, 0.05)
    up = estimate_trend(responses(-values), levels, "increasing", 0.02, 0.05)

    assert down.p == pytest.approx(up.p)
    assert down.ci == pytest.approx((-up.ci.high, -up.ci.low))


def test_with_two_levels_a_trend_is_the_t_test_of_its_slopes() -> None:
    values = np.array([[0.50, 0.26], [0.47, 0.20], [0.52, 0.29]])
    found = estimate_trend(responses(values), [0.0, 5.0], "decreasing", 0.02, 0.05)

    assert found.p_test == "t"
    assert found.p == pytest.approx(estimate_contrast(responses(values), "decreasing", 0.02, 0.05).p)
    assert found.value == pytest.approx((values[:, 1] - values[:, 0]).mean() / 5)


@pytest.mark.parametrize("test", ["t", "page"])
def test_without_an_effect_a_twentieth_of_p_values_falls_below_five_percent(test: str) -> None:
    """2,000 rounds: one standard error is 0.5 points; Page's p takes few values, so it may stay below."""
    rng = np.random.default_rng(17)
    values = rng.standard_normal((2_000, 3, 4)) + rng.standard_normal((2_000, 3, 1))
    if test == "t":
        p_values = [compute_effect_p(rows[:, 3] - rows[:, 0], "decreasing").p for rows in values]
    else:
        p_values = [run_page_test(-rows).p for rows in values]

    rate = np.mean(np.array(p_values) < 0.05)
    assert (0.035 if test == "t" else 0.025) < rate < 0.065


def test_holm_agrees_with_a_hand_computation() -> None:
    """Ascending 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, none below the one before it."""
    found = apply_holm([0.01, 0.04, 0.03, 0.005], alpha=0.05)

    assert [item.p for item in found] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert [item.level for item in found] == pytest.approx([0.05 / 3, 0.05, 0.05 / 2, 0.05 / 4])


def test_a_hypothesis_that_cannot_be_tested_still_counts_in_holm() -> None:
    found = apply_holm([0.02, math.nan], alpha=0.05)

    assert found[0] == pytest.approx((0.04, 0.025))
    assert math.isnan(found[1].p)


def test_holm_of_no_hypotheses_is_nothing() -> None:
    assert apply_holm([], 0.05) == []


@given(st.lists(st.floats(0, 1) | st.sampled_from([0.01, 0.02]), min_size=1, max_size=8))
def test_holm_is_that_of_statsmodels(p_values: list[float]) -> None:
    with mock.patch("gc.collect"):  # which statsmodels calls each time
        expected = multipletests(p_values, 0.05, "holm")[1]

    assert [item.p for item in apply_holm(p_values, 0.05)] == list(expected)
