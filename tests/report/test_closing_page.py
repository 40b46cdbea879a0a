"""The report on interventions answers first, shows every one of them, and needs nothing from elsewhere."""

import re
from dataclasses import replace

import pytest

from gap_galleries import gallery
from gapctl.interventions.fit import list_candidates
from gapctl.interventions.judge import InterventionReport, judge_closing, judge_interventions, list_main_qualities
from gapctl.metrics.classification import ZeroShotTasks
from gapctl.report.intervene_page import build_quality_rows, render_intervene_page, summarise_answer
from page_reading import PageReader

CHARTED = ("i2t-recall-1", "mixed-ndcg-10", "t2i-recall-1")
RECALL = "quality/i2t_recall_1"


@pytest.fixture(scope="module")
def judgement() -> InterventionReport:
    return judge_interventions(gallery(400, gap=2.0), ZeroShotTasks(), list_candidates((0.0, 0.5, 1.0), (1,)), 0.5, 0)


def rendered(judgement: InterventionReport, title: str = "a file") -> str:
    return render_intervene_page(
        judgement, judge_closing(judgement), list_main_qualities(judgement), title, {"file": title}
    )


def test_the_answer_comes_first_and_every_intervention_is_in_the_table(judgement: InterventionReport) -> None:
    read = PageReader(rendered(judgement))
    answer = summarise_answer(judge_closing(judgement), judgement)

    assert answer.startswith("Yes, with ")
    assert read.words.index(answer) < read.words.index("Quality against gap") < read.words.index("Every intervention")
    for judged in judgement.judged:
        assert re.search(rf"\b{judged.name} [▲▼=?] ", read.words)
    assert read.unclosed == []


def test_every_chart_has_its_place_and_the_library_is_there_once(judgement: InterventionReport) -> None:
    read = PageReader(rendered(judgement))
    places = [attributes["data-chart"] for _, attributes in read.elements if "data-chart" in attributes]

    assert sorted(places) == sorted(read.charts()) == [f"closing-{name}" for name in CHARTED]
    assert sum(script.count("window.vegaEmbed=") for script in read.scripts) == 1


def test_nothing_is_loaded_and_text_from_outside_stays_text(judgement: InterventionReport) -> None:
    hostile = "</script><script>alert(1)</script><img src=x onerror=alert(2)> ${x} $answer"
    read = PageReader(rendered(judgement, hostile))

    assert read.attributes("img") == []
    assert len(read.scripts) == 4
    assert hostile in read.words
    addresses = [value for _, found in read.elements for name, value in found.items() if name in ("src", "href")]
    assert addresses == ["data:,"]


def test_equal_judgements_give_equal_pages(judgement: InterventionReport) -> None:
    assert rendered(judgement) == rendered(replace(judgement))


def test_the_charts_draw_each_intervention_at_its_gap_with_the_interval_of_its_change(
    judgement: InterventionReport,
) -> None:
    rows = {row["name"]: row for row in build_quality_rows(judgement, RECALL)}
    shift = next(each for each in judgement.judged if each.name == "shift 0.5")

    assert set(rows) == {each.name for each in judgement.judged}
    assert rows["shift 0.5"]["gap"] == shift.changes["gap/l2m"].value
    assert rows["shift 0.5"]["value"] == pytest.approx(100 * shift.changes[RECALL].value)
    for row in rows.values():
        assert 0 <= row["low"] <= row["value"] <= row["high"] <= 100


def test_what_could_not_be_applied_is_said_in_the_table(judgement: InterventionReport) -> None:
    first, *others = judgement.judged
    spoilt = replace(judgement, judged=(replace(first, changes={}, impossible="text row 0 has no length"), *others))

    assert f"{first.name} not applied: text row 0 has no length" in PageReader(rendered(spoilt)).words
