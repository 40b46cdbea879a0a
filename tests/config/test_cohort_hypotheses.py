"""Correlations over a cohort of models in a sweep file: keys, hashes, and what is answered where they are wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

from gapctl.config.base import hash_value, select_hashed_fields
from gapctl.config.checks import check_cohort_hypothesis, find_unlogged_metrics
from gapctl.config.hypotheses import Correlation, Trend
from gapctl.config.trial import TrialConfig
from sweep_schema import validator_of
from sweep_texts import complaints

COVARIATES, SETS = ("parameters", "embed_dim", "tower"), ("coco", "imagenet")


def declare(**changes: Any) -> Correlation:
    own = {"id": "it", "claim": "It does.", "test": "correlation", "smallest_effect": 0.1, "direction": "decreasing"}
    metrics = {"response": "imagenet/quality/object_accuracy", "against": "coco/gap/rmg", "scope": "within_strata"}
    return Correlation(**{**own, **metrics, **changes})


def check(**changes: Any) -> list[str]:
    found = check_cohort_hypothesis(declare(**changes), ("hypotheses", 0), COVARIATES, SETS)
    return [f"{'.'.join(map(str, problem.path[2:]))}: {problem.text}" for problem in found]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"scope": "overall"},
        {"scope": "between_strata", "given": ["log parameters"]},
        {"scope": "given_covariates", "given": ["log parameters", "embed_dim", "tower"]},
        {"response": "quality/i2t_recall_1", "against": "gap/rmg", "sets": ["coco"]},
        {"against": "parameters"},
        {"direction": "weak"},
        {"where": {"stratum": "laion2b", "tower": "vit"}},
    ],
)
def test_a_sound_correlation_over_a_cohort_is_taken(changes: dict[str, Any]) -> None:
    assert check(**changes) == []
    validator_of("Correlation").validate(json.loads(declare(**changes).model_dump_json(exclude_defaults=True)))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"scope": None}, "scope: missing; expected the pairs of models that are compared: overall, within_strata"),
        ({"scope": "given_covariates"}, "given: missing; expected the covariates of scope given_covariates"),
        ({"scope": "overall", "given": ["tower"]}, "given: found ['tower'] with scope overall; expected scope given_"),
        ({"sets": ["coca"]}, "sets.0: found 'coca'; did you mean coco? Expected one of coco, imagenet"),
        (
            {"against": "coco/gap/rgm"},
            "against: found 'coco/gap/rgm'; expected a metric such as gap/rmg, or a covariate",
        ),
        (
            {"given": ["log parametres"]},
            "given.0: found 'log parametres'; expected a metric such as gap/rmg, or a covar",
        ),
        ({"given": ["parameters", "log parameters"]}, "given.1: found 'log parameters' again; expected another metric"),
        (
            {"direction": "weak", "smallest_effect": 0},
            "smallest_effect: found 0 with direction weak, which nothing can ",
        ),
        ({"where": {"towr": "vit"}}, "where.towr: found 'towr'; did you mean tower?"),
    ],
)
def test_a_wrong_key_is_answered_at_its_place(changes: dict[str, Any], expected: str) -> None:
    (found,) = check(**changes)

    assert found.startswith(expected)


def test_a_cohort_that_nothing_is_done_to_has_correlations_and_levels_alone() -> None:
    other = Trend(
        id="it", claim="It.", test="trend", response="gap/rmg", factor="x", direction="increasing", smallest_effect=0.1
    )

    (problem,) = check_cohort_hypothesis(other, (), COVARIATES, SETS)

    assert problem.text == "found 'trend'; expected correlation or threshold, the tests of a cohort of models"


def test_metrics_are_looked_for_on_the_sets_of_their_hypothesis() -> None:
    """Accuracy is of evaluation sets alone; those of captions have none."""
    base = TrialConfig.model_validate(
        {
            "data": {"dataset": "image_text"},
            "model": {"preset": "pairs-small"},
            "evaluate": {"sets": ["coco", "cifar10"]},
        }
    )

    def find(*sets: str) -> list[str]:
        asked = declare(response="quality/accuracy", against="gap/rmg", sets=list(sets))
        return [problem.text for problem in find_unlogged_metrics(asked, (), base, {})]

    assert find("cifar10") == []
    (wrong,) = find("cifar10", "coco")
    assert wrong.endswith("logs: sets of kind retrieval, as coco is, have no quality/accuracy")


@pytest.mark.parametrize(("key", "value"), [("scope", "within_strata"), ("sets", ["coco"]), ("direction", "weak")])
def test_keys_of_a_cohort_are_refused_where_arms_are_trained(tmp_path: Path, key: str, value: Any) -> None:
    own = {"id": "it", "claim": "It.", "test": "correlation", "response": "gap/rmg", "against": "gap/l2m"}
    hypothesis = {**own, "direction": "increasing", "smallest_effect": 0.1, key: value}
    document = {
        "name": "tiny",
        "question": "Does it?",
        "base": {},
        "vary": {"data.captions.attributes": [0, 2, 5]},
        "hypotheses": [hypothesis],
    }

    (answer,) = complaints(tmp_path, document)

    assert f"hypotheses[0].{key}: found {value!r}, which is of a cohort of models, and this sweep trains arms" in answer


def test_a_correlation_without_these_keys_has_the_hash_that_it_had() -> None:
    plain = declare(scope=None, response="gap/rmg", against="gap/l2m")

    assert set(select_hashed_fields(plain)) == {
        *("id", "claim", "source", "test", "response", "against", "given", "direction", "smallest_effect"),
    }
    assert hash_value(select_hashed_fields(plain)) != hash_value(select_hashed_fields(declare(against="gap/l2m")))
