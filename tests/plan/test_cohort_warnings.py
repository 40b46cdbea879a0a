"""What `plan` says of correlations over a cohort before anything is measured."""

from typing import Any

import pytest

from gapctl.config.hypotheses import Correlation
from gapctl.plan.design_warnings import list_cohort_verdict_warnings

PUBLIC = {"laion2b": 28, "openai": 9, "webli": 7, "one": 1}


def declare(**changes: Any) -> Correlation:
    own = {"id": "it", "claim": "It.", "test": "correlation", "response": "gap/rmg", "against": "gap/l2m"}
    return Correlation(**{**own, "scope": "within_strata", "direction": "either", "smallest_effect": 0.1, **changes})


@pytest.mark.parametrize("scope", ["overall", "within_strata", "between_strata", "given_covariates"])
def test_a_cohort_of_many_models_can_be_decided(scope: str) -> None:
    assert list_cohort_verdict_warnings([declare(scope=scope)], PUBLIC, 0.05) == []


def test_few_orders_within_strata_are_counted() -> None:
    (line,) = list_cohort_verdict_warnings([declare()], {"a": 3, "b": 2, "c": 1}, 0.05)

    assert line.startswith(
        "it: p within 3 strata, 1 of one model, cannot fall below 0.17, and Holm over 1 hypothesis may"
    )


def test_many_hypotheses_ask_for_a_smaller_p() -> None:
    strata = {"a": 4, "b": 3}

    assert list_cohort_verdict_warnings([declare()], strata, 0.05) == []
    assert len(list_cohort_verdict_warnings([declare()] * 4, strata, 0.05)) == 4


def test_two_strata_have_no_interval_between_them() -> None:
    (line,) = list_cohort_verdict_warnings([declare(scope="between_strata")], {"a": 20, "b": 20}, 0.05)

    assert line.startswith("it: 2 strata give no interval of a tau over models of different strata")


def test_a_correlation_over_some_models_is_left_to_the_analysis() -> None:
    assert list_cohort_verdict_warnings([declare(where={"stratum": "a"})], {"a": 2}, 0.05) == []
