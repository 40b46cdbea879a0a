"""Correlation: Kendall's tau over arms within a seed, its p by permuting whole arms, its interval over seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analysis_ledgers import ATTRIBUTES, RMG, fill, plan_of, sweep_file
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gapctl.analysis import correlation as arm_orders
from gapctl.analysis.analyze import analyze_finished_trials
from gapctl.analysis.correlation import (
    PermutedTaus,
    TailShares,
    compute_kendall_taus,
    compute_tau_interval,
    estimate_correlation,
    permute_levels,
    rank_within_strata,
)
from gapctl.analysis.estimates import compute_t_interval
from gapctl.analysis.hypothesis_effects import judge_interval
from gapctl.analysis.paired_responses import FloatArray, PairedResponses
from gapctl.analysis.results import Verdict
from gapctl.config import arms
from gapctl.config.arms import ArmGrid, build_correlation_arm_grid
from gapctl.config.trial import FACTOR_VALUES
from gapctl.ledger import Ledger
from gapctl.plan.plan import Trial

QUALITY, L2M, MODE = "quality/object_accuracy", "gap/l2m", "temperature.mode"
MAIN, NAMES = "data.main_factor", list(FACTOR_VALUES)
TWO_FACTORS = {MAIN: NAMES, MODE: ["learned", "fixed"]}
CORRELATION: Mapping[str, Any] = {
    "id": "gap-goes-with-quality",
    "claim": "Where the gap is larger, quality is lower.",
    "test": "correlation",
    "response": QUALITY,
    "against": RMG,
    "direction": "decreasing",
    "smallest_effect": 0.3,
}


def every(arms: int) -> ArmGrid:
    return ArmGrid((arms,), (False,))


def permute_arms(x_SA: FloatArray, y_SA: FloatArray) -> TailShares:
    return permute_levels(x_SA, y_SA, every(x_SA.shape[1])).tails


def own_taus(x_SA: FloatArray, y_SA: FloatArray) -> FloatArray:
    strata = every(x_SA.shape[1]).strata
    return compute_kendall_taus(rank_within_strata(x_SA, strata), rank_within_strata(y_SA, strata), strata)


def responses(*values_SA: FloatArray) -> PairedResponses:
    first = values_SA[0]
    return PairedResponses(tuple(range(len(first))), np.array(values_SA), 1, (), (), first.size, first.size)


def judged(
    folder: Path,
    measure: Any,
    vary: Mapping[str, Sequence[Any]] | None = None,
    seeds: int = 3,
    **changes: Any,
) -> Verdict:
    plan = plan_of(sweep_file(folder, {**CORRELATION, **changes}, vary=vary or {MAIN: NAMES}, seeds=seeds))
    ledger = Ledger(str(folder / "runs"))
    fill(ledger, plan, measure)
    return analyze_finished_trials(plan, ledger).verdicts[0]


def place(trial: Trial) -> float:
    """The place of a training's level among names, which have no order."""
    return float(NAMES.index(str(trial.factors[MAIN])))


def opposite(trial: Trial) -> dict[str, float]:
    level = place(trial)
    return {RMG: 0.5 - 0.05 * level, QUALITY: 40 + 5 * level + trial.seed}


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=9))
def test_a_seeds_tau_is_scipys_ties_included(pairs: list[tuple[int, int]]) -> None:
    x, y = np.array(pairs, dtype=float).T
    own = own_taus(x[None], y[None])[0]

    assert own == pytest.approx(stats.kendalltau(x, y).statistic, nan_ok=True)


def test_p_counts_the_orders_of_whole_arms_that_are_as_good() -> None:
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((2, 3, 5))
    found = np.mean([stats.kendalltau(*rows).statistic for rows in zip(x, y, strict=True)])
    permuted = [
        np.mean([stats.kendalltau(*rows).statistic for rows in zip(x, y[:, list(order)], strict=True)])
        for order in permutations(range(5))
    ]

    assert permute_arms(x, y).above == pytest.approx(np.mean(np.array(permuted) >= found - 1e-9))


def test_p_permutes_the_levels_of_each_factor_and_all_their_arms_with_them() -> None:
    """Two factors of two and three levels: 2! 3! permutations; each takes whole rows and whole columns along."""
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((2, 3, 6))

    def tau_of(rows: Sequence[int], columns: Sequence[int]) -> float:
        permuted = y.reshape(3, 2, 3)[:, rows][:, :, columns].reshape(3, 6)
        return float(np.mean([stats.kendalltau(*pair).statistic for pair in zip(x, permuted, strict=True)]))

    permuted = [tau_of(rows, columns) for rows, columns in product(permutations(range(2)), permutations(range(3)))]
    found = permute_levels(x, y, ArmGrid((2, 3), (False, False))).tails

    assert len(permuted) == 12
    assert found.above == pytest.approx(np.mean(np.array(permuted) >= permuted[0] - 1e-9))
    assert found.below == pytest.approx(np.mean(np.array(permuted) <= permuted[0] + 1e-9))


def test_random_permutations_agree_with_all(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(6)
    x, y = rng.standard_normal((2, 3, 6)) + rng.standard_normal((2, 1, 6))
    every = permute_levels(x, y, ArmGrid((6,), (False,))).tails
    arm_orders.list_permutations.cache_clear()
    for module in (arms, arm_orders):
        monkeypatch.setattr(module, "MOST_COUNTED", 100)
    some = permute_levels(x, y, ArmGrid((6,), (False,))).tails
    arm_orders.list_permutations.cache_clear()

    assert some == pytest.approx(every, abs=0.03)


def test_what_levels_do_to_both_metrics_is_not_counted_once_per_arm() -> None:
    """Dealt one by one, 24 such arms give p below 0.05 in 1 round of 5. Of 150 rounds more than 17 come once in 500."""
    rng, grid = np.random.default_rng(10), ArmGrid((6, 2, 2), (False, False, False))
    levels = np.indices(grid.levels).reshape(3, -1)

    def metric() -> FloatArray:
        effects = sum(rng.standard_normal(size)[level] for size, level in zip(grid.levels, levels, strict=True))
        return effects + 0.2 * rng.standard_normal((2, grid.arms))

    assert sum(permute_levels(metric(), metric(), grid).tails.above < 0.05 for _ in range(150)) <= 17


def test_seeds_of_one_arm_are_not_counted_as_so_many_arms() -> None:
    """Arms with their own x and their own y, unrelated: shuffling each seed by itself would call 1 in 4 related."""
    rng = np.random.default_rng(8)
    p_values = []
    for _ in range(200):
        x, y = rng.standard_normal((2, 1, 6)) + 0.1 * rng.standard_normal((2, 5, 6))
        p_values.append(permute_arms(x, y).above)

    assert np.mean(np.array(p_values) < 0.05) < 0.09


def test_seeds_that_all_agree_by_few_arms_still_have_an_interval_with_a_width() -> None:
    """Half a pair of 15 turning over: 1/15 is the least spread that six arms are taken to have."""
    low, high = compute_tau_interval(np.ones(3), 1 / 15, 0.05)

    assert (low, high) == (pytest.approx(1 - 4.302653 / 15 / np.sqrt(3)), 1.0)


def test_the_least_spread_makes_intervals_hold_a_tau_near_one() -> None:
    """Four arms almost in order: in most rounds all three seeds agree, and an interval of no width misses 0.98."""
    rng = np.random.default_rng(12)
    means = np.linspace(0, 1, 4)

    def draw(seeds: int) -> FloatArray:
        x, y = means + 0.1 * rng.standard_normal((2, seeds, 4))
        return own_taus(x, y)

    true = draw(20_000).mean()
    rounds = [draw(3) for _ in range(300)]
    held = [low <= true <= high for low, high in (compute_tau_interval(found, 1 / 6, 0.05) for found in rounds)]
    held_without = [low <= true <= high for low, high in (compute_t_interval(found, 0.05) for found in rounds)]

    assert np.mean(held) > 0.93
    assert np.mean(held_without) < 0.4


def test_metrics_that_go_opposite_ways_in_every_seed_are_supported(tmp_path: Path) -> None:
    found = judged(tmp_path, opposite)

    assert (found.verdict, found.estimate, found.seeds, found.trials) == ("supported", -1.0, 3, 18)
    assert (found.factor, found.p_direction) == (RMG, pytest.approx(1 / 720))
    assert found.reason == ("In all 3 seeds tau is exactly -1.00; the interval lies beyond the smallest effect of 0.3.")


def test_too_few_arms_say_that_no_seed_helps(tmp_path: Path) -> None:
    found = judged(tmp_path, opposite, vary={MAIN: NAMES[:3]}, seeds=5)

    assert (found.verdict, found.p_direction, found.seeds_needed) == ("inconclusive", pytest.approx(1 / 6), None)
    assert found.reason.endswith(
        "p cannot fall below 0.167, as it is counted over 6 ways to permute the levels of 3 arms."
    )


def confounded(rng: np.random.Generator, arms: int) -> FloatArray:
    """x and y that both follow z and have nothing else in common: shape (3, 1, arms)."""
    z = 3 * np.linspace(-1, 1, arms) + rng.standard_normal(arms)
    return np.array([[z + 2 * rng.standard_normal(arms)], [z + 2 * rng.standard_normal(arms)], [z]])


def test_what_two_metrics_owe_to_a_third_is_taken_away() -> None:
    """Of 300 rounds one standard error is 1.3 points at 5 %."""
    rng = np.random.default_rng(9)
    rates = []
    for _ in range(300):
        values = confounded(rng, 6)
        plain = estimate_correlation(responses(*values[:2]), every(6), "increasing", 0.0, 0.05).estimate.p
        partial = estimate_correlation(responses(*values), every(6), "increasing", 0.0, 0.05).estimate.p
        rates.append((plain < 0.05, partial < 0.05))
    plainly, partially = np.mean(rates, axis=0)

    assert plainly > 0.13
    assert partially < 0.09


@pytest.mark.parametrize("arms", [13, 40])
def test_what_several_metrics_explain_is_taken_away_among_many_arms_too(arms: int) -> None:
    """Of 60 rounds at 5 %, more than 10 come once in 2,000."""
    rng, grid = np.random.default_rng(11), every(arms)
    found = []
    for _ in range(60):
        causes = rng.standard_normal((3, 1, arms))
        x, y = 2 * causes.sum(axis=0) + rng.standard_normal((2, 1, arms))
        found.append(
            [
                estimate_correlation(responses(*rows), grid, "increasing", 0.0, 0.05).estimate.p
                for rows in ((x, y), (x, y, *causes))
            ]
        )
    plainly, partially = (np.array(found) < 0.05).sum(axis=0)

    assert plainly > 48
    assert partially <= 10


def test_a_residual_is_fitted_again_after_each_permutation() -> None:
    """Against residuals by numpy's least squares, over all 720 orders; six arms have a parabola taken away."""
    rng = np.random.default_rng(12)
    x, y, z = rng.standard_normal((3, 1, 6)) + 2 * rng.standard_normal((1, 1, 6))

    def left(values_A: FloatArray) -> FloatArray:
        return values_A - np.polyval(np.polyfit(z[0], values_A, 2), z[0])

    kept, own = left(x[0]), left(y[0])
    permuted = [stats.kendalltau(kept, left(own[list(order)])).statistic for order in permutations(range(6))]
    found = estimate_correlation(responses(x, y, z), every(6), "increasing", 0.0, 0.05).estimate

    assert found.value == pytest.approx(permuted[0])
    assert found.p == pytest.approx(np.mean(np.array(permuted) >= permuted[0] - 1e-9))


def test_a_given_metric_said_twice_or_from_another_zero_is_taken_away_once() -> None:
    x, y, z = np.random.default_rng(13).standard_normal((3, 2, 8))
    once = estimate_correlation(responses(x, y, z), every(8), "either", 0.0, 0.05).estimate
    twice = estimate_correlation(responses(x, y, z, 1e4 + z / 3), every(8), "either", 0.0, 0.05).estimate
    elsewhere = estimate_correlation(responses(x + 1e4, y, z - 1e5), every(8), "either", 0.0, 0.05).estimate

    assert (once.value, once.p) == (twice.value, twice.p) == (elsewhere.value, elsewhere.p)


def test_ties_widen_the_least_interval_as_fewer_pairs_can_turn_over() -> None:
    """Of 15 pairs of six arms, a metric of two values tells nine apart."""
    order, two = np.tile(np.arange(6.0), (3, 1)), np.tile([0.0, 0, 0, 1, 1, 1], (3, 1))

    assert (
        estimate_correlation(responses(order, order), every(6), "increasing", 0.0, 0.05).estimate.least_spread == 1 / 15
    )
    tied = estimate_correlation(responses(order, two), every(6), "increasing", 0.0, 0.05).estimate
    assert tied.least_spread == pytest.approx(1 / np.sqrt(15 * 9))


def test_a_given_factor_lets_only_arms_of_one_level_be_compared(tmp_path: Path) -> None:
    def measure(trial: Trial) -> dict[str, float]:
        level, learned = place(trial), trial.factors[MODE] == "learned"
        return {RMG: -level + 0.1 * learned, QUALITY: level + 0.1 * learned}

    (tmp_path / "given").mkdir()
    plain = judged(tmp_path, measure, vary=TWO_FACTORS)
    within = judged(tmp_path / "given", measure, vary=TWO_FACTORS, given=[MAIN])

    assert plain.estimate < -0.8
    assert (within.estimate, within.verdict, within.p_refuting) == (1.0, "inconclusive", 0.5)
    assert within.given == (MAIN,)


def test_a_given_metric_that_explains_all_leaves_nothing(tmp_path: Path) -> None:
    found = judged(tmp_path, lambda trial: {**opposite(trial), L2M: place(trial)}, given=[L2M])

    assert (found.verdict, found.seeds, found.exploratory) == ("inconclusive", 0, True)
    assert "seeds 0, 1 and 2 are left out as quality/object_accuracy or gap/rmg is the same in all" in found.reason


def test_too_many_given_metrics_for_the_arms_are_said(tmp_path: Path) -> None:
    vary = {MAIN: NAMES[:3]}
    found = judged(tmp_path, lambda trial: {**opposite(trial), L2M: trial.seed / 7}, vary=vary, given=[L2M])

    assert (found.verdict, found.seeds) == ("inconclusive", 0)
    assert found.reason == "Nothing can be told apart: the given metrics leave no order among 3 arms."


def test_a_metric_that_is_the_same_in_all_arms_of_a_seed_leaves_the_seed_out(tmp_path: Path) -> None:
    found = judged(tmp_path, lambda trial: opposite(trial) | ({RMG: 0.5} if trial.seed == 1 else {}))

    assert (found.seeds, found.exploratory) == (2, True)
    assert found.reason.endswith(
        "seed 1 is left out as quality/object_accuracy or gap/rmg is the same in all arms compared."
    )


def smooth(rng: np.random.Generator, doses: int) -> FloatArray:
    """A curve of a dose, steep or shallow, up or down, with a turn or without."""
    along = np.linspace(-1, 1, doses)
    bend, slope, steep, centre = *rng.standard_normal(2), rng.uniform(2, 10), rng.uniform(-0.8, 0.8)
    return rng.choice([-1, 1]) / (1 + np.exp(-steep * (along - centre))) + 0.3 * (slope * along + bend * along**2)


@pytest.mark.parametrize("sizes", [(6,), (12,), (6, 4), (5, 5)])
def test_smooth_curves_of_a_dose_that_are_unrelated_are_seldom_called_related(sizes: tuple[int, ...]) -> None:
    """As names, p is below 0.05 in a fifth of all rounds of one factor. Of 100 rounds more than 12 come once in 500."""
    rng, doses = np.random.default_rng(14), ArmGrid(sizes, (False,) * len(sizes), tuple(tuple(range(n)) for n in sizes))
    plain = replace(doses, doses=())

    def metric() -> FloatArray:
        means = sum(np.ix_(*[smooth(rng, size) for size in sizes])).ravel()
        return means + 0.05 * rng.standard_t(3, size=(2, means.size))

    found = []
    for _ in range(100):
        x, y = metric(), metric()
        found.append([permute_levels(x, y, grid).tails.above < 0.05 for grid in (doses, plain)])
    ordered, named = np.sum(found, axis=0)

    assert ordered <= 12
    assert named > 14 or len(sizes) > 1


def test_a_dose_is_reversed_from_its_smallest_number_to_its_largest_wherever_they_stand_in_the_file() -> None:
    grid = build_correlation_arm_grid(
        {"train.lr": [0.1, 0.4, 0.2, 0.3], MODE: ["learned", "fixed"], "model.x": [1, 2]}, {}, []
    )
    x = np.array([[1.0, 4, 2, 3]]).repeat(4, axis=1)
    reversed_only = ArmGrid((4,), (False,), (grid.list_doses()[0],))

    found = permute_levels(x[:, ::4], np.array([[1.0, 4, 2, 3.5]]), reversed_only)

    assert grid.doses == ((0, 2, 3, 1), (), ())
    assert (grid.orders, found.counted) == (8, 2)
    assert sorted(found.permuted_N) == pytest.approx([-1.0, 1.0])


CURVES = [np.square, np.exp, lambda z: np.tanh(3 * z)]


@pytest.mark.parametrize("arms", [12, 40])
@pytest.mark.parametrize("curve", CURVES, ids=["parabola", "exponential", "saturating"])
def test_what_two_metrics_owe_to_a_third_by_a_curve_is_taken_away(curve: Any, arms: int) -> None:
    """By a straight line alone, p is below 0.05 in most rounds. Of 40 rounds at 5 %, more than 7 come once in 500."""
    rng, grid = np.random.default_rng(15), every(arms)
    found = 0
    for _ in range(40):
        z = rng.standard_normal((1, arms))
        shared = curve(z) / curve(np.linspace(-2, 2, 99)).std()
        x, y = (2 * shared + rng.standard_normal((1, arms)) for _ in range(2))
        found += estimate_correlation(responses(x, y, z), grid, "increasing", 0.0, 0.05).estimate.p < 0.05

    assert found <= 7


@pytest.mark.parametrize("arms", [6, 12])
def test_a_relation_as_large_as_claimed_is_seldom_refuted_by_the_arms_that_were_chosen(arms: int) -> None:
    """The population's tau is 0.3, the claim 0.25: seeds that agree on these arms' own tau say too little of others."""
    rng, refuted = np.random.default_rng(16), []
    for _ in range(150):
        x = rng.standard_normal(arms)
        y = 0.454 * x + 0.891 * rng.standard_normal(arms)
        pair = [metric + 0.05 * rng.standard_normal((3, arms)) for metric in (x, y)]
        found = estimate_correlation(responses(*pair), every(arms), "increasing", 0.25, 0.05).estimate
        outcomes = [
            judge_interval(found.ci, 0.25, "increasing", found.p_claim, 0.05, p_refuting=p)
            for p in (found.p_refuting, float("nan"))
        ]
        refuted.append([outcome == "refuted" for outcome in outcomes])
    with_p, without = np.mean(refuted, axis=0)

    assert with_p < 0.07
    assert without > 0.15


def test_p_of_a_tau_as_large_as_claimed_counts_the_permutations_that_far_below() -> None:
    found = PermutedTaus(-0.2, np.array([-0.6, -0.45, -0.2, 0.0, 0.1, 0.3]), 6)

    assert found.compute_refuting_p("increasing", 0.25) == pytest.approx(3 / 6)
    assert found.compute_refuting_p("decreasing", 0.25) == pytest.approx(3 / 6)
    assert found.compute_refuting_p("either", 0.4) == pytest.approx(2 / 6)


def test_p_of_a_tau_as_large_as_claimed_counts_ties_that_rounding_hides() -> None:
    tied = np.array([0.4] * 60 + [0.9] * 60)  # 0.6 - 0.2 is a little less than 0.4
    rising, falling = PermutedTaus(0.6, tied, 120), PermutedTaus(-0.6, -tied, 120)

    assert rising.compute_refuting_p("increasing", 0.2) == pytest.approx(61 / 120)
    assert falling.compute_refuting_p("decreasing", 0.2) == pytest.approx(61 / 120)


def test_an_interval_alone_does_not_refute_a_correlation_over_few_arms(tmp_path: Path) -> None:
    found = judged(tmp_path, opposite, vary={MAIN: NAMES[:3]}, direction="increasing")

    assert (found.verdict, found.p_refuting) == ("inconclusive", pytest.approx(1 / 6))
    assert found.seeds_needed is None
    assert "the interval lies short of the smallest effect of 0.3, but p of a tau that large" in found.reason


def test_two_metrics_of_one_dose_say_nothing_whatever_their_tau(tmp_path: Path) -> None:
    def measure(trial: Trial) -> dict[str, float]:
        level = float(trial.factors[ATTRIBUTES])
        return {RMG: 0.5 - 0.05 * level, QUALITY: 40 + 5 * level + trial.seed}

    found = judged(tmp_path, measure, vary={ATTRIBUTES: list(range(6))})

    assert (found.verdict, found.estimate, found.p_direction) == ("inconclusive", -1.0, 0.5)
    assert "2 ways to permute the levels of 6 arms, where levels that are numbers keep their order" in found.reason
