"""Simulated cohorts of models: claims are as seldom wrong, and intervals as often right, as the documentation has it.

Each bound is binomial: at the promised rate it is broken by chance once in a thousand times. Every case draws its own
numbers from its name, so that a test which passes does so always.
"""

from dataclasses import replace
from pathlib import Path

import pytest
from scipy.stats import binom

from ledger_cohorts import BEGIN as LEDGER_BEGIN
from ledger_cohorts import END as LEDGER_END
from ledger_cohorts import make_table, measure_estimands, read_recipes
from simulated_cohorts import BEGIN, DOCS, END, RESULTS, SCOPES, Case, list_cases, make_tables, read_rows, simulate

CHANCE = 0.001
FEW, MANY = 100, 40
"""Rounds with 30 and with 101 models."""


def most_false(rounds: int, rate: float = 0.05) -> float:
    """The largest share of false claims that chance allows at a true rate."""
    return float(binom.ppf(1 - CHANCE, rounds, rate)) / rounds


def least_held(rounds: int, rate: float = 0.95) -> float:
    """The smallest share of intervals that hold the truth."""
    return float(binom.ppf(CHANCE, rounds, rate)) / rounds


@pytest.mark.parametrize("kind", ["unrelated", "covariate"])
def test_unrelated_metrics_of_30_models_are_seldom_called_related(kind: str) -> None:
    found = simulate(Case(kind, 30, share=0.6), FEW)

    for test in (*SCOPES, "mixed", "within slope", "between slope"):
        assert found[test] <= most_false(FEW), test


def test_a_permutation_of_101_models_calls_unrelated_metrics_related_and_no_verdict_does() -> None:
    found = simulate(Case("unrelated", 101, share=0.8), MANY)

    assert found["plain"] > most_false(MANY, 0.2)
    for scope in SCOPES:
        assert found[scope] <= most_false(MANY), scope
        assert found[f"{scope} covered"] >= least_held(MANY), scope


def test_heavy_tails_change_nothing() -> None:
    found = simulate(Case("unrelated", 30, share=0.8, noise="heavy-tailed"), FEW)

    for scope in SCOPES:
        assert found[scope] <= most_false(FEW), scope


@pytest.mark.parametrize(("between", "within"), [(0.6, 0.6), (-0.6, 0.6)])
def test_intervals_hold_the_true_tau(between: float, within: float) -> None:
    found = simulate(Case("related", 101, between=between, within=within), FEW)

    for scope in SCOPES:
        assert found[scope] >= least_held(FEW), scope


def test_a_relation_at_the_edge_of_the_band_is_seldom_called_weak() -> None:
    (edge,) = (case for case in list_cases() if case.kind == "weak" and case.models == 101 and case.within)

    assert max(simulate(edge, FEW).values()) <= most_false(FEW)


def test_a_mean_over_sets_holds_the_mean_over_all_sets_where_independent_sets_would_not() -> None:
    found = simulate(Case("sets", 30, within=0.3, sets=5, spread=0.2), FEW)

    assert found["within_strata"] >= least_held(FEW)
    assert found["independent"] < least_held(FEW)


def test_the_second_interval_is_for_other_strata() -> None:
    found = simulate(Case("differing", 101, differing=0.4), FEW)

    assert found["other strata"] >= least_held(FEW) > found["within_strata"]


def test_a_case_simulates_the_same_each_time_and_another_does_not() -> None:
    case = Case("related", 30, between=0.6, within=0.6)

    assert simulate(case, 5) == simulate(case, 5)
    assert case.key != replace(case, within=0.5).key


def test_the_documentation_has_the_tables_of_the_figures_that_are_kept() -> None:
    rows, page = read_rows(RESULTS), DOCS.read_text(encoding="utf-8")

    assert [row.case for row in rows] == list(list_cases())
    assert page.partition(BEGIN)[2].partition(END)[0].strip() == make_tables(rows).strip()


def test_no_false_claim_of_the_kept_figures_is_more_frequent_than_promised() -> None:
    for row in read_rows(RESULTS):
        if row.case.kind in ("unrelated", "covariate"):
            assert max(row.figures[scope] for scope in SCOPES) <= most_false(row.rounds), row.case
        elif row.case.kind == "weak" and row.case.within:
            assert max(row.figures.values()) <= most_false(row.rounds), row.case


def test_the_published_ledger_has_both_signs_side_by_side(tmp_path: Path) -> None:
    found = {name: measure_estimands(name, recipes) for name, recipes in read_recipes(tmp_path).items()}
    page = DOCS.read_text(encoding="utf-8").partition(LEDGER_BEGIN)[2].partition(LEDGER_END)[0]

    assert page.strip() == make_table(dict(sorted(found.items())))
    expected = {"object_attribute": (0.63, -0.56), "next_confounds": (0.49, -0.62)}
    for sweep, (within, across) in expected.items():
        assert found[sweep]["within content"].value == pytest.approx(within, abs=0.005)
        assert found[sweep]["across content, strata of one quality"].value == pytest.approx(across, abs=0.005)
        assert found[sweep]["across content, given quality"].value < -0.5
