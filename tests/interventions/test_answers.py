"""Whether closing the gap helps is read from those interventions that close it, quality by quality."""

import re
from dataclasses import replace

import pytest
from scipy import stats

from gap_galleries import gallery
from gapctl.interventions.fit import list_candidates
from gapctl.interventions.judge import (
    ChangeVerdict,
    InterventionReport,
    InterventionResult,
    MeasureChange,
    bound_distance_change,
    judge_closing,
    judge_interventions,
)
from gapctl.metrics.classification import ZeroShotTasks
from gapctl.report.intervene_page import describe_ideal_words, describe_measure_answer, summarise_answer

OBJECT, BIAS = "quality/object_accuracy", "bias/moad_text"
RECALL, SEARCH = "quality/i2t_recall_1", "quality/mixed_ndcg_10"
AMOUNTS: dict[str, float] = {"helps": 0.1, "harms": -0.1, "no difference that counts": 0.001, "inconclusive": 0.02}


def intervention(name: str, gap: float, **found: ChangeVerdict) -> InterventionResult:
    keys = {"recall": RECALL, "search": SEARCH}
    changes = {
        keys[short]: MeasureChange(0.5 + AMOUNTS[verdict], AMOUNTS[verdict], AMOUNTS[verdict] - 0.005, 0.2, verdict)
        for short, verdict in found.items()
    }
    closed = MeasureChange(gap, gap - 0.8, gap - 0.81, gap - 0.79, "helps")
    return InterventionResult(name, "shift", None, {"gap/l2m": closed, **changes})


def judgement(*judged: InterventionResult, gap: float = 0.8) -> InterventionReport:
    before = {"gap/l2m": gap, RECALL: 0.5, "quality/i2t_recall_5": 0.7, SEARCH: 0.5}
    return InterventionReport(before, judged, 50, 50, 0, "images", 0)


CASES: list[tuple[str, str, ChangeVerdict, ChangeVerdict]] = [
    ("yes", "helps", "helps", "no difference that counts"),
    ("yes", "helps", "inconclusive", "helps"),
    ("no", "harms", "harms", "inconclusive"),
    ("no", "no difference that counts", "no difference that counts", "no difference that counts"),
    ("not decided", "no difference that counts", "inconclusive", "no difference that counts"),
]


@pytest.mark.parametrize(("answer", "first", "second", "search"), CASES)
def test_the_answer_follows_from_the_verdicts(
    answer: str, first: ChangeVerdict, second: ChangeVerdict, search: ChangeVerdict
) -> None:
    closing = (
        intervention("a", 0.1, recall=first, search=search),
        intervention("b", 0.2, recall=second, search=search),
    )
    found = judgement(*closing)

    assert judge_closing(found).answer == answer
    with_which = ", with a" if answer == "yes" else ""
    assert summarise_answer(judge_closing(found), found).startswith(answer.capitalize() + with_which)


def test_help_for_one_quality_and_harm_to_another_is_no_plain_answer() -> None:
    found = judgement(intervention("centre", 0.1, recall="harms", search="helps"))

    assert summarise_answer(judge_closing(found), found) == (
        "It depends: it helps mixed-gallery search (NDCG@10); it harms image-to-text recall at 1."
    )


def test_a_quality_that_one_way_of_closing_helps_and_another_harms_depends_on_how() -> None:
    found = judgement(
        intervention("centre", 0.1, recall="helps", search="helps"),
        intervention("remove 30", 0.3, recall="harms", search="helps"),
    )
    recall = judge_closing(found).measures[0]

    assert (judge_closing(found).answer, judge_closing(found).helping) == ("yes", ("centre",))
    assert (recall.found, recall.helping, recall.harming) == ("depends on how", ("centre",), ("remove 30",))
    assert describe_measure_answer(recall) == (
        "image-to-text recall at 1: depends on how; best with centre, +10.0 points (+9.5 to +20.0)"
    )


def test_a_quality_that_only_some_ways_harm_is_told_with_these_ways() -> None:
    found = judgement(
        intervention("shift 1", 0.1, recall="inconclusive", search="helps"),
        intervention("remove 30", 0.3, recall="harms", search="helps"),
    )
    recall = judge_closing(found).measures[0]

    assert summarise_answer(judge_closing(found), found) == (
        "Yes, with shift 1: it helps mixed-gallery search (NDCG@10); "
        "some ways of closing it harm image-to-text recall at 1."
    )
    assert describe_measure_answer(recall).startswith(
        "image-to-text recall at 1: some ways harm (remove 30); best with shift 1"
    )


def test_what_leaves_most_of_the_gap_open_has_no_say() -> None:
    found = judgement(
        intervention("shift 0.25", 0.6, recall="harms", search="harms"),
        intervention("shift 1", 0.1, recall="helps", search="helps"),
    )
    answer = judge_closing(found)

    assert (answer.answer, answer.closing) == ("yes", ("shift 1",))


def test_the_best_of_a_measure_that_is_to_be_small_is_the_smallest() -> None:
    flips = "quality/flip_rate"
    few, many = (MeasureChange(value, value - 0.2, value - 0.21, value - 0.19, "helps") for value in (0.05, 0.1))
    closed = MeasureChange(0.1, -0.7, -0.71, -0.69, "helps")
    judged = [
        InterventionResult(name, "shift", None, {"gap/l2m": closed, flips: change})
        for name, change in (("a", many), ("b", few))
    ]
    found = InterventionReport({"gap/l2m": 0.8, flips: 0.25}, tuple(judged), 50, 50, 0, "images", 0)

    assert judge_closing(found).measures[0].best.name == "b"


def test_deeper_recalls_are_judged_but_not_asked_for_the_answer() -> None:
    found = judgement(intervention("shift 1", 0.1, recall="helps", search="helps"))

    assert [measure.key for measure in judge_closing(found).measures] == [RECALL, SEARCH]


def test_without_a_gap_or_with_nothing_that_closes_it_there_is_no_answer() -> None:
    none = judgement(gap=0.03)
    open_still = judgement(intervention("remove 1", 0.7, recall="helps", search="helps"))

    assert summarise_answer(judge_closing(none), none).startswith("There is no gap to close: the means are 0.030 apart")
    assert judge_closing(open_still).answer == "not closed"
    assert summarise_answer(judge_closing(open_still), open_still).startswith("Not answered: ")


def test_the_answer_of_a_model_at_chance_is_said_to_count_for_nothing() -> None:
    judged = [
        judge_interventions(each, ZeroShotTasks(), list_candidates([1.0], []), 0.5, 0)
        for each in (gallery(noise=0.3), replace(gallery(noise=0.3), text_MD=gallery(seed=7).text_MD))
    ]
    said = [summarise_answer(judge_closing(each), each) for each in judged]

    assert [each.is_above_chance for each in judged] == [True, False]
    assert "counts for nothing" not in said[0]
    start = r"This model is not above chance \(image-to-text recall at 1 \d\.\d %, by chance 1\.0 %; text-to-image"
    assert re.match(start, said[1])


def test_an_accuracy_of_the_object_above_chance_is_enough_for_an_answer() -> None:
    found = replace(judgement(intervention("centre", 0.1, recall="helps")), chances={RECALL: 0.5})
    by_object = replace(
        found, before={**found.before, OBJECT: 30.0}, chances={RECALL: 0.5, OBJECT: 10.0}, held_out_images=50
    )

    assert not found.is_above_chance
    assert by_object.is_above_chance


@pytest.mark.parametrize("images", [16, 1000, 30_000])
def test_chance_is_judged_as_the_binomial_test_does(images: int) -> None:
    least = next(right for right in range(images) if stats.binom.sf(right - 1, images, 0.1) < 0.001)
    above = [
        InterventionReport(
            {OBJECT: 100 * right / images}, (), 50, images, 0, "images", 0, {OBJECT: 10.0}
        ).is_above_chance
        for right in (0, least - 1, least, images)
    ]

    assert above == [False, False, True, True]


@pytest.mark.parametrize(
    ("before", "low", "high", "found"),
    [
        (0.3, -0.2, -0.1, (-0.2, -0.1)),
        (-0.3, 0.1, 0.2, (-0.2, -0.1)),
        (-0.3, -0.2, -0.1, (0.1, 0.2)),
        (-0.1, 0.05, 0.4, (-0.1, 0.2)),
    ],
)
def test_a_bias_towards_attributes_is_smaller_where_it_comes_nearer_to_none(
    before: float, low: float, high: float, found: tuple[float, float]
) -> None:
    assert bound_distance_change(before, low, high) == pytest.approx(found)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (-0.3, -0.1, "from -0.300, towards attributes, to -0.100, towards attributes, which is nearer to none"),
        (0.1, -0.3, "from +0.100, towards objects, to -0.300, towards attributes, which is farther from none"),
    ],
)
def test_the_sentence_on_ideal_words_says_towards_what_texts_lean(before: float, after: float, said: str) -> None:
    change = MeasureChange(after, after - before, after - before - 0.05, after - before + 0.05, "inconclusive")
    words = InterventionResult("ideal words", "ideal_words", None, {BIAS: change})

    found = describe_ideal_words(InterventionReport({BIAS: before}, (words,), 50, 50, 0, "images", 0))

    assert found.endswith(f"{said}.")
