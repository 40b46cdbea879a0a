"""What `plan` says of correlations over a cohort before anything is measured."""

import math
from typing import Any

import polars as pl
import pytest

from gapctl.analysis.cohort import estimate_cohort_correlation
from gapctl.analysis.estimates import Direction
from gapctl.analysis.hypothesis_effects import apply_holm
from gapctl.config.hypotheses import Correlation
from gapctl.plan.power import list_cohort_verdict_warnings

PUBLIC = {"laion2b": 28, "openai": 9, "webli": 7, "one": 1}


def declare(**changes: Any) -> Correlation:
    own = {"id": "it", "claim": "It.", "test": "correlation", "response": "gap/rmg", "against": "gap/l2m"}
    return Correlation(**{**own, "scope": "within_strata", "direction": "either", "smallest_effect": 0.1, **changes})


@pytest.mark.parametrize("scope", ["overall", "within_strata", "between_strata", "given_covariates"])
def test_a_cohort_of_many_models_can_be_decided(scope: str) -> None:
    assert list_cohort_verdict_warnings([declare(scope=scope)], PUBLIC, 0.05) == []


def test_few_orders_within_strata_are_counted() -> None:
    (line,) = list_cohort_verdict_warnings([declare()], {"a": 3, "b": 2, "c": 1}, 0.05)

    assert line == (
        "it: p by permutation within 3 strata, 1 of one model, is at least about 0.17, so no result can support it, as "
        "that takes p below 0.05: add models"
    )


@pytest.mark.parametrize(
    ("scope", "strata"),
    [
        ("within_strata", {"a": 3, "b": 2, "c": 1}),
        ("within_strata", {"a": 4, "b": 3}),
        ("within_strata", {"a": 2, "b": 1, "c": 1}),
        ("within_strata", {"a": 1, "b": 1, "c": 1}),
        ("overall", {"a": 3, "b": 3}),
        ("overall", {"a": 3}),
        ("between_strata", {"a": 3, "b": 3, "c": 3}),
    ],
)
@pytest.mark.parametrize("direction", ["increasing", "weak"])
def test_what_is_warned_of_is_what_the_analysis_of_the_best_data_cannot_support(
    scope: str, strata: dict[str, int], direction: str
) -> None:
    """In perfect order, p is the least there is; a weak relation needs an interval alone, as it is tested by t."""
    stratum = [name for name, count in strata.items() for _ in range(count)]
    order = [float(place) for place in range(len(stratum))]
    labels = [f"model-{place}" for place in range(len(stratum))]
    models = pl.DataFrame({"label": labels, "stratum": stratum, "gap/rmg": order, "gap/l2m": order})
    stated = declare(scope=scope, direction=direction)
    judged: Direction = "increasing" if direction == "increasing" else "neither"
    found = estimate_cohort_correlation(stated, models, judged, 0.05).estimate

    permuted = found.p_test == "permutation" and not found.p < 0.05
    assert bool(list_cohort_verdict_warnings([stated], strata, 0.05)) == (math.isnan(found.ci.low) or permuted)


def test_two_models_that_their_strata_compare_have_no_interval() -> None:
    (line,) = list_cohort_verdict_warnings([declare(direction="weak")], {"a": 2, "b": 1, "c": 1}, 0.05)

    assert line == (
        "it: 2 models in strata of two or more give no interval of a tau within strata: expected at least 3"
    )


@pytest.mark.parametrize(
    ("hypotheses", "after"),
    [(3, 0), (4, 1), (5, 2), (6, 3)],  # p of 2 / 144 is below 0.05 / 3, and not below 0.05 / 4
)
def test_many_hypotheses_ask_for_a_smaller_p_of_the_first(hypotheses: int, after: int) -> None:
    lines = list_cohort_verdict_warnings([declare()] * hypotheses, {"a": 4, "b": 3}, 0.05)
    least, others = 2 / (24 * 6), [0.0] * after
    passed = [
        apply_holm([*others[:count], least, *[1.0] * (hypotheses - count - 1)], 0.05) for count in range(after + 1)
    ]

    assert len(lines) == (hypotheses if after else 0)
    noun = "1 other" if after == 1 else f"{after} others"
    assert all(
        f"Holm can support it only after {noun} with a smaller p, as the first of {hypotheses} " in x for x in lines
    )
    assert [found[count].p < 0.05 for count, found in enumerate(passed)] == [*[False] * after, True]


def test_two_strata_have_no_interval_between_them() -> None:
    (line,) = list_cohort_verdict_warnings([declare(scope="between_strata")], {"a": 20, "b": 20}, 0.05)

    assert line.startswith("it: 2 strata give no interval of a tau over models of different strata")
    (line,) = list_cohort_verdict_warnings([declare(scope="overall")], {"a": 20}, 0.05)
    assert line.startswith("it: 1 stratum gives no interval")


def test_a_correlation_over_some_models_is_left_to_the_analysis() -> None:
    assert list_cohort_verdict_warnings([declare(where={"stratum": "a"})], {"a": 2}, 0.05) == []
