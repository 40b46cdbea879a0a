"""Verdicts on ledgers made by hand, through the same calls that a sweep writes and `gapctl analyze` reads by."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from analysis_ledgers import ATTRIBUTES, CONTRAST, RMG, TREND, by_seed, falling, fill, finish, plan_of, sweep_file

from gapctl.analysis.analyze import analyze_finished_trials
from gapctl.analysis.results import Verdict
from gapctl.config.load import load_sweep
from gapctl.ledger import Ledger
from gapctl.plan.plan import Trial
from gapctl.report.text import explain_seeds_needed


def judged(folder: Path, effects: Sequence[float], hypothesis: Mapping[str, Any] = CONTRAST, **options: Any) -> Verdict:
    """The verdict where each seed's RMG differs by its own effect from level 0 to level 5."""
    plan = plan_of(sweep_file(folder, hypothesis, seeds=len(effects), **options))
    ledger = Ledger(str(folder / "runs"))
    fill(ledger, plan, by_seed(gap__rmg=effects))
    return analyze_finished_trials(plan, ledger).verdicts[0]


def test_a_fall_that_all_seeds_share_is_supported(tmp_path: Path) -> None:
    found = judged(tmp_path, [-0.24, -0.27, -0.25])

    assert (found.verdict, found.seeds, found.trials, found.seeds_needed) == ("supported", 3, 6, None)
    assert found.estimate == pytest.approx(-0.7600 / 3)
    assert found.reason == ("All 3 seeds fall by 0.240 to 0.270; the interval lies beyond the smallest effect of 0.05.")


def test_a_rise_refutes_a_declared_fall(tmp_path: Path) -> None:
    found = judged(tmp_path, [0.24, 0.27, 0.25])

    assert found.verdict == "refuted"
    assert found.p > 0.99
    assert found.reason == "All 3 seeds rise by 0.240 to 0.270; the whole interval lies on the other side of zero."


def test_an_effect_too_small_to_count_is_refuted_however_significant(tmp_path: Path) -> None:
    found = judged(tmp_path, [-0.020, -0.021, -0.0205])

    assert (found.verdict, found.refuted_as) == ("refuted", "negligible")
    assert found.p_direction < 0.001
    assert found.reason.endswith("every effect in the interval is smaller than the smallest effect of 0.05.")


def test_an_interval_from_the_band_to_the_other_side_refutes_too(tmp_path: Path) -> None:
    found = judged(tmp_path, [0.02, 0.06, 0.04])

    assert -0.05 < found.ci.low < 0.05 < found.ci.high
    assert found.verdict == "refuted"
    assert "no effect in the interval reaches the smallest effect of 0.05 in the declared direction" in found.reason


def test_seeds_that_disagree_leave_it_open_and_say_how_many_would_settle_it(tmp_path: Path) -> None:
    found = judged(tmp_path, [-0.2, -0.05, 0.01])

    assert found.verdict == "inconclusive"
    assert found.seeds_needed is not None
    assert found.seeds_needed > 3
    assert found.reason == (
        "2 of 3 seeds fall, the effects running from -0.200 to 0.010; the interval reaches from effects short of "
        "the smallest effect of 0.05 to effects beyond it."
    )


def test_two_sided_hypotheses_are_supported_by_either_sign_and_refuted_by_none(tmp_path: Path) -> None:
    either = {**CONTRAST, "direction": "either"}
    verdicts = []
    for name, effects in (("up", [0.2, 0.22, 0.21]), ("down", [-0.2, -0.22, -0.21]), ("none", [0.01, -0.01, 0.005])):
        (tmp_path / name).mkdir()
        verdicts.append(judged(tmp_path / name, effects, either).verdict)

    assert verdicts == ["supported", "supported", "refuted"]


def test_a_trend_is_judged_by_its_slope_per_unit(tmp_path: Path, ledger: Ledger) -> None:
    plan = plan_of(sweep_file(tmp_path, TREND))
    fill(ledger, plan, falling(0.05, noise=0.005))
    found = analyze_finished_trials(plan, ledger).verdicts[0]

    assert (found.verdict, found.seeds, found.trials) == ("supported", 3, 18)
    assert found.estimate == pytest.approx(-0.05, abs=0.005)
    assert found.p_direction == pytest.approx((1 / 720) ** 3)
    assert "per unit of attributes" in found.reason


def turning(trial: Trial) -> dict[str, float]:
    """RMG that falls once and then rises a little, except at seed 2, which falls with every level."""
    level = int(trial.factors[ATTRIBUTES])
    slope = 0.09 if trial.seed == 2 else 0.091 + 0.001 * trial.seed
    turn = 0.0 if trial.seed == 2 else {0: 0.0, 1: -0.15, 2: -0.05, 3: 0.05}[level]
    return {RMG: 0.9 - slope * level + turn}


def test_a_trend_that_pages_test_keeps_open_names_the_levels_out_of_order(tmp_path: Path, ledger: Ledger) -> None:
    plan = plan_of(sweep_file(tmp_path, {**TREND, "smallest_effect": 0.01}, vary={ATTRIBUTES: [3, 0, 1, 2]}))
    fill(ledger, plan, turning)
    found = analyze_finished_trials(plan, ledger).verdicts[0]

    assert (found.verdict, found.p_test, found.seeds_out_of_order) == ("inconclusive", "page", 2)
    assert "but p of the order of the levels (Page's test) after Holm is" in found.reason
    assert found.reason.endswith(
        "the levels are out of order in 2 of 3 seeds: gap/rmg rises from 1 to 2 in 2 of them and from 2 to 3 in 2 of "
        "them."
    )
    assert explain_seeds_needed(found).startswith("If the response turns between these levels, it has no trend to find")


def test_levels_of_a_trend_are_ordered_by_size_whatever_the_files_order(tmp_path: Path, ledger: Ledger) -> None:
    plan = plan_of(sweep_file(tmp_path, TREND, vary={ATTRIBUTES: [3, 0, 5, 1]}))
    fill(ledger, plan, falling(0.05, noise=0.005))
    found = analyze_finished_trials(plan, ledger).verdicts[0]

    assert found.verdict == "supported"
    assert found.estimate == pytest.approx(-0.05, abs=0.005)


def test_a_trend_over_two_levels_says_which_test_stands_in(tmp_path: Path, ledger: Ledger) -> None:
    plan = plan_of(sweep_file(tmp_path, TREND, vary={ATTRIBUTES: [0, 5]}))
    fill(ledger, plan, falling(0.05, noise=0.005))
    found = analyze_finished_trials(plan, ledger).verdicts[0]

    assert found.verdict == "supported"
    assert found.reason.endswith("as Page's test needs three levels, p is that of the slopes' t test.")


def test_one_seed_gives_an_estimate_and_no_verdict(tmp_path: Path, ledger: Ledger) -> None:
    plan = plan_of(sweep_file(tmp_path, TREND, CONTRAST, seeds=1))
    fill(ledger, plan, falling(0.05))
    slope, difference = analyze_finished_trials(plan, ledger).verdicts

    assert slope.verdict == difference.verdict == "inconclusive"
    assert difference.estimate == pytest.approx(-0.25)
    assert all(map(math.isnan, (*difference.ci, *difference.ci_bootstrap, difference.p, difference.standardised)))
    assert slope.p_direction_before_holm == pytest.approx(1 / 720)
    assert slope.seeds_needed is None
    assert difference.reason == "The only complete seed falls by 0.250; an interval needs at least two seeds."


def test_seeds_that_agree_to_the_last_bit_do_not_make_three_numbers_certain(tmp_path: Path) -> None:
    found = judged(tmp_path, [-0.25, -0.25, -0.25])

    assert found.verdict == "inconclusive"
    assert found.p == pytest.approx(1 / 8)
    assert math.isnan(found.standardised)
    assert found.seeds_needed == 5
    assert found.reason == (
        "All 3 seeds fall by exactly 0.250; the interval lies beyond the smallest effect of 0.05, but p after Holm is "
        "0.125, not below 0.05; as the seeds agree exactly, p is the sign test's, which cannot fall below 0.05 with "
        "fewer than 5 seeds."
    )


def test_enough_seeds_that_agree_exactly_are_supported(tmp_path: Path) -> None:
    assert judged(tmp_path, [-0.25] * 5).verdict == "supported"


def test_a_response_that_never_changes_is_refuted(tmp_path: Path) -> None:
    found = judged(tmp_path, [0.0, 0.0, 0.0])

    assert (found.verdict, found.p) == ("refuted", 1.0)
    assert found.reason.startswith("All 3 seeds do not change; every effect in the interval is smaller")


def test_holm_can_leave_open_what_a_single_hypothesis_would_support(tmp_path: Path, ledger: Ledger) -> None:
    barely = {**CONTRAST, "smallest_effect": 0.0}
    others = [{**CONTRAST, "id": f"other-{index}", "response": "gap/l2m"} for index in range(4)]
    measure = by_seed(gap__rmg=[-0.20, -0.30, -0.36], gap__l2m=[0.1, 0.12, 0.13])
    (tmp_path / "alone").mkdir()
    alone = plan_of(sweep_file(tmp_path / "alone", barely))
    among = plan_of(sweep_file(tmp_path, barely, *others))
    fill(ledger, among, measure)
    single, first = (
        analyze_finished_trials(alone, ledger).verdicts[0],
        analyze_finished_trials(among, ledger).verdicts[0],
    )

    assert (single.verdict, first.verdict) == ("supported", "inconclusive")
    assert first.p_direction == pytest.approx(5 * first.p_direction_before_holm)
    assert single.p_claim == first.p_claim == pytest.approx(first.p / 5)
    assert "but p after Holm is" in first.reason
    assert first.seeds_needed == 4


def test_a_seed_without_all_its_trainings_is_left_out_and_counted(tmp_path: Path, ledger: Ledger) -> None:
    plan = plan_of(sweep_file(tmp_path, TREND, CONTRAST))
    fill(ledger, plan, falling(0.05, noise=0.005), trials=plan.trials[:-2])
    slope, difference = analyze_finished_trials(plan, ledger).verdicts

    assert (slope.seeds, slope.trials, difference.seeds, difference.trials) == (2, 12, 2, 4)
    command = f"`gapctl sweep {tmp_path}/made-up.yaml --runs {tmp_path}/runs`"
    assert slope.reason.endswith(
        f"; seed 2 is left out as 16 of 18 trainings are done; {command} trains the other 2 "
        "(attributes=4 seed=2, attributes=5 seed=2)."
    )
    assert difference.reason.endswith(
        f"; seed 2 is left out as 5 of 6 trainings are done; {command} trains the other 1 (attributes=5 seed=2)."
    )


def test_trainings_that_a_contrast_does_not_need_are_not_missed(tmp_path: Path, ledger: Ledger) -> None:
    plan = plan_of(sweep_file(tmp_path, CONTRAST))
    ends = [trial for trial in plan.trials if trial.factors[ATTRIBUTES] in (0, 5)]
    fill(ledger, plan, falling(0.05, noise=0.005), trials=ends)
    found = analyze_finished_trials(plan, ledger).verdicts[0]

    assert (found.verdict, found.seeds) == ("supported", 3)
    assert "left out" not in found.reason


def test_a_seed_whose_response_is_no_number_is_left_out_by_name(tmp_path: Path, ledger: Ledger) -> None:
    plan = plan_of(sweep_file(tmp_path, CONTRAST, seeds=4))
    fill(ledger, plan, by_seed(gap__rmg=[-0.24, math.nan, -0.25, -0.26]))
    found = analyze_finished_trials(plan, ledger).verdicts[0]

    assert (found.verdict, found.seeds) == ("supported", 3)
    assert found.reason.endswith(
        "; seed 1 is left out as gap/rmg is not a finite number (nan in attributes=0 seed=1, nan in attributes=5 "
        "seed=1)."
    )


def test_a_metric_that_no_training_has_leaves_its_hypothesis_open(tmp_path: Path, ledger: Ledger) -> None:
    plan = plan_of(sweep_file(tmp_path, {**CONTRAST, "response": "gap/l2m"}))
    fill(ledger, plan, falling(0.05))
    found = analyze_finished_trials(plan, ledger).verdicts[0]

    assert (found.verdict, found.seeds, found.trials) == ("inconclusive", 0, 0)
    assert math.isnan(found.estimate)
    assert found.reason == ("No seed can be judged yet; seeds 0, 1 and 2 are left out as no training recorded gap/l2m.")


def test_other_factors_are_averaged_within_a_seed_first(tmp_path: Path, ledger: Ledger) -> None:
    vary = {"temperature.mode": ["learned", "fixed"], ATTRIBUTES: [0, 5]}
    plan = plan_of(sweep_file(tmp_path, CONTRAST, vary=vary))

    def measure(trial: Trial) -> dict[str, float]:
        own = {"learned": -0.2, "fixed": -0.3}[str(trial.factors["temperature.mode"])] + 0.01 * trial.seed
        return {RMG: 0.5 + own * float(trial.factors[ATTRIBUTES]) / 5}

    fill(ledger, plan, measure)
    found = analyze_finished_trials(plan, ledger).verdicts[0]

    assert (found.seeds, found.trials) == (3, 12)
    assert found.estimate == pytest.approx(-0.24)
    assert found.ci.high - found.ci.low == pytest.approx(2 * 4.302653 * 0.01 / math.sqrt(3), rel=1e-6)


def test_a_contrast_of_named_levels_goes_from_the_first_to_the_second(tmp_path: Path, ledger: Ledger) -> None:
    hypothesis = {**CONTRAST, "factor": "temperature.mode", "between": ["fixed", "learned"]}
    plan = plan_of(sweep_file(tmp_path, hypothesis, vary={"temperature.mode": ["learned", "fixed"]}))
    fill(
        ledger,
        plan,
        lambda trial: {RMG: 0.5 - (0.3 + trial.seed / 100) * (trial.factors["temperature.mode"] == "learned")},
    )

    assert analyze_finished_trials(plan, ledger).verdicts[0].estimate == pytest.approx(-0.31)


def test_the_order_of_a_plan_does_not_change_a_bit_of_the_verdicts(tmp_path: Path, ledger: Ledger) -> None:
    vary = {ATTRIBUTES: [0, 1, 2, 5], "train.lr": [0.001, 0.002, 0.003, 0.004]}
    plan = plan_of(sweep_file(tmp_path, TREND, CONTRAST, vary=vary, seeds=4))
    fill(ledger, plan, lambda trial: {RMG: random.Random(trial.id).random()})
    shuffled = replace(plan, trials=tuple(random.Random(1).sample(plan.trials, len(plan.trials))))

    assert analyze_finished_trials(shuffled, ledger).verdicts == analyze_finished_trials(plan, ledger).verdicts


def test_adding_a_seed_uses_it_and_keeps_the_others(tmp_path: Path, ledger: Ledger) -> None:
    three = plan_of(sweep_file(tmp_path, CONTRAST, seeds=3))
    fill(ledger, three, falling(0.05, noise=0.05))
    four = plan_of(sweep_file(tmp_path, CONTRAST, seeds=4))
    waiting = analyze_finished_trials(four, ledger).verdicts[0]
    for trial in four.trials[len(three.trials) :]:
        finish(ledger, trial, falling(0.05, noise=0.05)(trial))
    before, after = (
        analyze_finished_trials(three, ledger).verdicts[0],
        analyze_finished_trials(four, ledger).verdicts[0],
    )

    assert waiting.estimate == before.estimate
    assert "seed 3 is left out as 6 of 8 trainings are done" in waiting.reason
    assert (before.seeds, after.seeds) == (3, 4)


def test_an_analysis_carries_what_a_report_needs_to_say(tmp_path: Path, ledger: Ledger) -> None:
    path = sweep_file(tmp_path, CONTRAST)
    plan = plan_of(path)
    fill(ledger, plan, falling(0.05), trials=plan.trials[:5])
    found, sweep = analyze_finished_trials(plan, ledger), load_sweep(path)

    assert (found.sweep, found.question, found.scale, found.alpha) == ("made-up", "Does it?", None, 0.05)
    assert (found.spec_sha256, found.hypotheses_sha256) == (sweep.spec_sha256, sweep.hypotheses_sha256)
    assert (found.factors, found.planned, len(found.trials)) == ((ATTRIBUTES,), 18, 5)


def test_a_file_without_hypotheses_has_curves_and_no_verdicts(tmp_path: Path, ledger: Ledger) -> None:
    plan = plan_of(sweep_file(tmp_path))
    fill(ledger, plan, falling(0.05))
    found = analyze_finished_trials(plan, ledger)

    assert found.verdicts == ()
    assert len(found.curves) == 6
