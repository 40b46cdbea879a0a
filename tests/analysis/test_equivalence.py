"""Equivalence: two levels that differ by too little to count, judged by two one-sided tests."""

from pathlib import Path

import numpy as np
import pytest
from analysis_ledgers import CONTRAST, by_seed, fill, plan_of, sweep_file
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.weightstats import DescrStatsW

from gapctl.analysis.analyze import analyze_finished_trials
from gapctl.analysis.estimates import compute_effect_p, compute_t_interval
from gapctl.analysis.hypothesis_effects import judge_interval
from gapctl.analysis.results import Interval, Verdict
from gapctl.ledger import Ledger

EQUIVALENCE = {key: value for key, value in CONTRAST.items() if key != "direction"} | {
    "id": "same",
    "test": "equivalence",
}
effects = st.lists(st.floats(-1, 1), min_size=2, max_size=6).filter(lambda found: np.ptp(found) > 1e-3)


def judged(folder: Path, effects: list[float]) -> Verdict:
    plan = plan_of(sweep_file(folder, EQUIVALENCE, seeds=len(effects)))
    ledger = Ledger(str(folder / "runs"))
    fill(ledger, plan, by_seed(gap__rmg=effects))
    return analyze_finished_trials(plan, ledger).verdicts[0]


@given(effects, st.floats(0.01, 1))
def test_p_is_that_of_statsmodels_two_one_sided_tests(found: list[float], band: float) -> None:
    expected = DescrStatsW(np.array(found)).ttost_mean(-band, band)[0]

    assert compute_effect_p(np.array(found), "neither", band).p == pytest.approx(expected, abs=1e-12)


@given(st.floats(-1, 1), st.floats(0.001, 1), st.floats(0.01, 0.5))
def test_what_supports_equivalence_refutes_a_difference_and_the_other_way_round(
    low: float, width: float, band: float
) -> None:
    ci = Interval(low, low + width)
    opposite = {"supported": "refuted", "refuted": "supported", "inconclusive": "inconclusive"}

    assert judge_interval(ci, band, "neither", 0.001, 0.05) == opposite[judge_interval(ci, band, "either", 0.001, 0.05)]


def test_an_interval_within_the_band_is_supported(tmp_path: Path) -> None:
    found = judged(tmp_path, [-0.005, 0.004, 0.002])

    assert (found.verdict, found.direction, found.between) == ("supported", "neither", (0, 5))
    assert found.reason == (
        "Over 3 seeds the difference runs from -0.00500 to 0.00400; the interval lies within the smallest effect of "
        "0.05 on both sides."
    )


def test_an_interval_beyond_the_band_is_refuted(tmp_path: Path) -> None:
    found = judged(tmp_path, [-0.24, -0.27, -0.25])

    assert found.verdict == "refuted"
    assert found.reason.endswith("the whole interval lies beyond the smallest effect of 0.05.")


def test_seeds_that_spread_across_the_band_leave_it_open_and_ask_for_more(tmp_path: Path) -> None:
    found = judged(tmp_path, [-0.04, 0.05, 0.01])

    assert found.verdict == "inconclusive"
    assert found.seeds_needed is not None
    settled = np.array([-0.04, 0.05, 0.01]).mean() + 0.0451 * np.array([-1, 1] * found.seeds_needed)
    assert judge_interval(compute_t_interval(settled, 0.05), 0.05, "neither", 0.001, 0.05) == "supported"


def test_no_difference_at_all_in_three_seeds_is_not_certain(tmp_path: Path) -> None:
    found = judged(tmp_path, [0.0, 0.0, 0.0])

    assert (found.verdict, found.p, found.p_test, found.seeds_needed) == ("inconclusive", 1 / 8, "sign", 5)
