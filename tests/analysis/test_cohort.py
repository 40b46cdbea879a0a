"""Correlations over a cohort of models: what is compared, what is left out, and what the verdict says."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from cohorts import ACCURACY, GAP, SIZES, declare, judge, make_models, measure
from scipy import stats

from cohort_ledgers import WITHIN, fill_cohort, measure_model, plan_cohort
from gapctl.analysis.analyze import analyze_finished_trials
from gapctl.analysis.cohort import NOT_MEASURED
from gapctl.analysis.hypothesis_effects import estimate_hypothesis_effect
from gapctl.analysis.json_output import build_analysis_json
from gapctl.analysis.learning import ArmCheck
from gapctl.analysis.results import AnalysisResults, CohortSummary
from gapctl.analysis.tables import read_trial_tables
from gapctl.config.hypotheses import Level
from gapctl.errors import InputError
from gapctl.ledger import Ledger
from gapctl.report.text import describe_effect_with_unit, explain_marks, format_replicates_heading


def summarise(*arguments: object, **changes: object) -> CohortSummary:
    found = judge(declare(**changes), *arguments).cohort  # type: ignore[arg-type]
    assert found is not None
    return found


def test_a_reversal_between_strata_leaves_the_verdict_within_them_and_stands_beside_it() -> None:
    models = make_models(within=1.0, between=-1.0)

    within, overall = judge(declare(), models), judge(declare(scope="overall"), models)

    assert within.verdict == "supported"
    assert within.cohort is not None
    assert within.cohort.within.value == within.estimate > 0.6
    assert within.cohort.between.value < -0.4
    assert within.cohort.overall.value == overall.estimate < 0
    assert overall.verdict != "supported"
    assert "between strata -0." in within.reason
    assert within.reason.startswith("Over 24 models in 5 strata, 1 of one model, tau is 0.")


def test_tau_over_all_models_is_kendalls() -> None:
    models = make_models(within=0.5, between=0.2)
    expected = stats.kendalltau(models[GAP], models[ACCURACY]).statistic

    assert judge(declare(scope="overall"), models).estimate == pytest.approx(expected)


def test_tau_within_strata_pools_pairs_and_counts_ties_as_tau_b_does() -> None:
    models = make_models(within=0.5, between=0.2, seed=3).with_columns(pl.col(ACCURACY).round(0))
    agree = pairs_x = pairs_y = 0.0
    for one in models.partition_by("stratum"):
        signs = [np.sign(np.subtract.outer(one[name].to_numpy(), one[name].to_numpy())) for name in (GAP, ACCURACY)]
        agree += (signs[0] * signs[1]).sum()
        pairs_x, pairs_y = pairs_x + np.abs(signs[0]).sum(), pairs_y + np.abs(signs[1]).sum()

    assert judge(declare(), models).estimate == pytest.approx(agree / math.sqrt(pairs_x * pairs_y))


def test_replicates_are_models_in_every_form() -> None:
    verdict = judge(declare(), make_models(within=1.0, between=-1.0))

    assert (verdict.replicates, verdict.seeds, verdict.trials) == (24, 24, 24)
    assert format_replicates_heading([verdict]) == "models"
    assert describe_effect_with_unit(verdict) == (
        "correlation of object accuracy with relative modality gap (RMG) within strata, Kendall's τ"
    )
    empty = pl.DataFrame()
    analysis = AnalysisResults("s", "?", None, 0.05, "", "", None, (), (verdict,), empty, empty, empty, 24)
    (document,) = json.loads(json.dumps(build_analysis_json(analysis, ()), allow_nan=False))["verdicts"]
    assert document["cohort"]["singletons"] == 1
    assert document["cohort"]["sets"][0]["slopes"]["within"][0] > 0
    assert document["cohort"]["lineages"]["most"].startswith("model-")
    assert document["replicates"] == 24


def test_the_order_of_rows_changes_nothing() -> None:
    models = make_models(within=0.5, between=0.2, parameters=np.geomspace(1e7, 1e9, sum(SIZES)))
    hypothesis = declare(given=["log parameters"])

    assert judge(hypothesis, models) == judge(hypothesis, models.sample(fraction=1.0, shuffle=True, seed=1))


def test_a_covariate_that_both_follow_is_taken_away() -> None:
    """The metrics follow the logarithm of the size and have nothing else in common."""
    rng = np.random.default_rng(0)
    size = rng.uniform(7, 9.5, 40)
    models = pl.DataFrame(
        {
            "label": [f"m{place}" for place in range(40)],
            "stratum": [f"s{place % 8}" for place in range(40)],
            "parameters": 10**size,
            GAP: size + 0.4 * rng.standard_normal(40),
            ACCURACY: size + 0.4 * rng.standard_normal(40),
        }
    )

    plain = judge(declare(scope="overall"), models)
    given = judge(declare(scope="given_covariates", given=["log parameters"]), models)

    assert plain.verdict == "supported"
    assert plain.estimate > 0.5
    assert abs(given.estimate) < 0.2
    assert given.verdict != "supported"
    assert judge(declare(given=["log parameters"]), models).estimate < plain.estimate


def test_a_covariate_of_names_takes_away_what_its_groups_differ_by() -> None:
    rng = np.random.default_rng(3)
    towers = np.array(["cnn", "vit"])[rng.integers(0, 2, 40)]
    shift = np.where(towers == "vit", 5.0, 0.0)
    models = pl.DataFrame(
        {
            "label": [f"m{place}" for place in range(40)],
            "stratum": [f"s{place % 8}" for place in range(40)],
            "tower": towers,
            GAP: shift + rng.standard_normal(40),
            ACCURACY: shift + rng.standard_normal(40),
        }
    )

    assert judge(declare(scope="overall"), models).estimate > 0.4
    assert abs(judge(declare(scope="given_covariates", given=["tower"]), models).estimate) < 0.2


def test_a_covariate_may_be_what_the_response_is_compared_with() -> None:
    models = make_models(within=1.0, between=1.0)
    models = models.with_columns(parameters=10 ** pl.col(GAP))

    for name in ("parameters", "log parameters"):
        assert judge(declare(against=name), models).estimate == judge(declare(), models).estimate


@pytest.mark.parametrize(("within", "verdict"), [(0.0, "supported"), (1.0, "refuted"), (0.4, "inconclusive")])
def test_a_weak_relation_is_supported_by_an_interval_inside_the_band_alone(within: float, verdict: str) -> None:
    models = make_models(within=within, between=0.0, sizes=(40, 35, 30, 25), noise=1.0, seed=5)
    found = judge(declare(direction="weak", smallest_effect=0.25), models)

    assert found.verdict == verdict
    assert found.direction == "neither"
    assert (verdict == "supported") == (found.ci.low > -0.25 and found.ci.high < 0.25)


def test_models_of_one_lineage_count_once() -> None:
    """Ten copies of one training run are one piece of evidence, whatever their noise."""
    models = make_models(within=0.0, between=0.0, seed=2)
    copies = pl.concat(
        [models.head(1).with_columns(label=pl.lit(f"copy-{place}"), lineage=pl.lit("run")) for place in range(10)]
    )
    first = models.head(1).with_columns(lineage=pl.lit("run"))
    others = models.tail(-1).with_columns(lineage=pl.lit(None, pl.String))

    alone = judge(declare(), models)
    repeated = judge(declare(), pl.concat([first, others, copies]))

    assert repeated.estimate == pytest.approx(alone.estimate)
    assert repeated.p == alone.p
    assert (repeated.replicates, repeated.trials) == (24, 34)
    assert "Over 34 models as 24, those of one lineage at their mean" in repeated.reason


def test_the_lineage_that_moves_the_estimate_most_is_named() -> None:
    models = make_models(within=1.0, between=1.0, noise=0.01)
    turned = pl.col("label").is_in(["model-00", "model-01"])
    models = models.with_columns(
        pl.when(turned).then(-30 * pl.col(GAP)).otherwise(pl.col(ACCURACY)).alias(ACCURACY),
        lineage=pl.when(turned).then(pl.col("label") + "'s run"),
    )

    verdict = judge(declare(), models)
    assert verdict.cohort is not None
    left = verdict.cohort.lineages

    assert left is not None
    assert left.most in ("model-00's run", "model-01's run")
    assert left.low <= verdict.estimate <= left.high == left.without_it
    assert f"without {left.most}" in verdict.reason


def test_sets_are_averaged_and_shown_one_by_one() -> None:
    models = make_models(within=1.0, between=0.0)
    models = models.rename({GAP: f"coco/{GAP}", ACCURACY: f"coco/{ACCURACY}"}).with_columns(
        pl.col(f"coco/{GAP}").alias(f"flickr30k/{GAP}"), (-pl.col(f"coco/{ACCURACY}")).alias(f"flickr30k/{ACCURACY}")
    )

    verdict = judge(declare(sets=["coco", "flickr30k"]), models)
    assert verdict.cohort is not None
    (coco, flickr) = verdict.cohort.sets

    assert verdict.estimate == pytest.approx(0.0)
    assert (coco.name, flickr.name) == ("coco", "flickr30k")
    assert coco.tau.value == pytest.approx(-flickr.tau.value)
    assert coco.tau.low > 0 > flickr.tau.high
    assert verdict.cohort.spread_of_sets > 0.5
    assert verdict.ci.low < -0.9
    assert "the mean of 2 sets, from -0." in verdict.reason
    assert judge(declare(response=f"coco/{ACCURACY}", against=f"coco/{GAP}"), models).estimate == coco.tau.value


def test_a_covariate_is_the_same_on_every_set() -> None:
    models = make_models(within=1.0, between=0.0)
    models = models.with_columns(pl.col(ACCURACY).alias(f"{name}/{ACCURACY}") for name in ("one", "two")).drop(ACCURACY)
    models = models.rename({GAP: "parameters"})

    found = judge(declare(against="parameters", sets=["one", "two"]), models)

    assert found.estimate == judge(declare(), make_models(within=1.0, between=0.0)).estimate
    assert found.cohort is not None
    assert found.cohort.spread_of_sets == 0


def test_models_without_a_value_are_named_and_make_the_verdict_exploratory() -> None:
    models = make_models(within=1.0, between=-1.0)
    models = models.with_columns(
        pl.when(pl.col("label") == "model-03").then(math.nan).otherwise(pl.col(GAP)).alias(GAP),
        parameters=pl.when(pl.col("label") == "model-05").then(None).otherwise(1e8 + 1e6 * pl.col(GAP).rank()),
    )

    verdict = judge(declare(given=["parameters"]), models, [*models["label"], "model-99"])

    assert verdict.marks == ("exploratory",)
    assert verdict.replicates == 22
    assert "1 model (model-03) is left out: gap/rmg has no usable number" in verdict.reason
    assert "1 model (model-05) is left out: parameters has no value" in verdict.reason.replace(
        "no usable number", "no value"
    )
    assert f"1 model (model-99) is left out: {NOT_MEASURED}" in verdict.reason


def test_where_keeps_some_models() -> None:
    models = make_models(within=1.0, between=-1.0)

    one = judge(declare(where={"stratum": "data-0"}), models)

    assert one.replicates == SIZES[0]
    assert one.reason.startswith("Among models with stratum=data-0, over 9 models in 1 stratum")


@pytest.mark.parametrize(
    ("changes", "sizes", "expected"),
    [
        ({}, (1, 1, 1, 1), "Each of 4 strata has one model, so none are compared within strata"),
        ({"scope": "between_strata"}, (5,), "All models are of one stratum, so none are compared between strata"),
        ({}, (2,), "2 models are too few to have an order"),
    ],
)
def test_a_cohort_that_cannot_be_compared_says_why(
    changes: dict[str, str], sizes: tuple[int, ...], expected: str
) -> None:
    verdict = judge(declare(**changes), make_models(within=1.0, between=0.0, sizes=sizes))

    assert verdict.verdict == "inconclusive"
    assert math.isnan(verdict.estimate)
    assert verdict.reason.startswith(expected)


def test_a_metric_that_no_model_recorded_leaves_all_out() -> None:
    verdict = judge(declare(response="quality/flip_rate"), make_models(within=1.0, between=0.0))

    assert (
        "24 models (model-00, model-01, model-02 and 21 more) are left out: quality/flip_rate was not" in verdict.reason
    )


def test_two_strata_give_an_estimate_and_no_interval_between_them() -> None:
    verdict = judge(declare(scope="overall"), make_models(within=1.0, between=0.0, sizes=(6, 6)))

    assert math.isfinite(verdict.estimate)
    assert math.isnan(verdict.ci.low)
    assert verdict.verdict == "inconclusive"
    assert "too few of them can be left out in turn for an interval" in verdict.reason


def test_models_in_perfect_order_have_an_interval_of_some_width() -> None:
    for scope in ("overall", "within_strata"):
        verdict = judge(declare(scope=scope), make_models(within=1.0, between=1.0, noise=0.0))

        assert verdict.estimate == pytest.approx(1.0)
        assert verdict.ci.low < 0.95
        assert verdict.ci.high == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("models", "changes", "expected"),
    [
        (make_models(1.0, 0.0).drop("stratum"), {}, "the table of models has no column stratum"),
        (pl.concat([make_models(1.0, 0.0)] * 2), {}, "has model-00 in 2 rows; expected one a model"),
        (make_models(1.0, 0.0, parameters=1.0), {"given": ["parametres"]}, "did you mean parameters?"),
        (make_models(1.0, 0.0, tower="vit"), {"against": "tower"}, r"has names \(vit\); expected numbers"),
    ],
)
def test_a_table_that_lacks_something_is_refused(
    models: pl.DataFrame, changes: dict[str, object], expected: str
) -> None:
    with pytest.raises(InputError, match=expected):
        measure(declare(**changes), models)


@pytest.mark.parametrize(
    ("values", "level"), [(["True", "False"], True), (["2000000000.0", "5.0"], 2_000_000_000), ([1.0, 2.0], 1)]
)
def test_where_keeps_models_by_truth_values_and_numbers_however_the_table_holds_them(
    values: list[object], level: Level
) -> None:
    models = make_models(within=1.0, between=-1.0)
    models = models.with_columns(pl.Series("fact", [values[place % 2] for place in range(len(models))]))

    assert summarise(models, where={"fact": level}).models == len(models) / 2


def test_an_unfinished_model_that_where_leaves_out_leaves_a_hypothesis_complete(tmp_path: Path) -> None:
    one, other = ({**WITHIN, "id": name, "where": {**WITHIN["where"], "stratum": name}} for name in ("wit", "webli"))
    plan = plan_cohort(tmp_path, one, other)
    last = plan.trials[-1].model
    assert last is not None
    assert last.facts["pretraining_set"] == "webli"
    ledger = Ledger(str(tmp_path / "runs"))
    fill_cohort(ledger, plan, without=[last.name])

    trials = read_trial_tables(plan, ledger).trials
    whole, waiting = (estimate_hypothesis_effect(each, trials, plan.sweep.spec) for each in plan.sweep.spec.hypotheses)

    assert (whole.complete, waiting.complete) == (True, False)
    assert waiting.cohort is not None
    assert waiting.cohort.summary.left_out == {NOT_MEASURED: (last.name,)}


def test_a_level_over_a_cohort_takes_its_models_as_replicates(tmp_path: Path) -> None:
    """Without anything to vary: their mean less the value, and an interval over models."""
    above = {"id": "above", "claim": "It is wide.", "test": "threshold", "response": "gap/l2m", "value": 0.3}
    above |= {"direction": "increasing", "smallest_effect": 0.1}
    plan = plan_cohort(tmp_path, above, interventions=())
    ledger = Ledger(str(tmp_path / "runs"))
    fill_cohort(ledger, plan)

    (verdict,) = analyze_finished_trials(plan, ledger).verdicts

    values = [measure_model(trial)["gap/l2m"] for trial in plan.trials]
    assert verdict.estimate == pytest.approx(np.mean(values) - 0.3)
    assert verdict.ci[0] == pytest.approx(verdict.estimate - stats.t.ppf(0.975, 29) * stats.sem(values))
    assert (verdict.verdict, verdict.replicates) == ("supported", 30)


def test_a_cohort_that_nothing_is_done_to_says_without_an_arm_that_it_did_not_learn(tmp_path: Path) -> None:
    level = {"id": "above", "claim": "It is wide.", "test": "threshold", "response": "gap/l2m", "value": 0.3}
    plan = plan_cohort(tmp_path, {**level, "direction": "increasing", "smallest_effect": 0.1}, interventions=())
    ledger = Ledger(str(tmp_path / "runs"))
    fill_cohort(ledger, plan)
    (verdict,) = analyze_finished_trials(plan, ledger).verdicts

    failed = ArmCheck("", {}, "loss", (0, 1), (1,), "loss 4.9 in 1 of 30 models", 40)
    unlearned = replace(verdict, not_learned=(failed,))

    assert "Not learned: loss 4.9 in 1 of 30 models." in explain_marks(unlearned)
