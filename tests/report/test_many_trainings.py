"""A page of more trainings than it can show one by one shows some and the arms' means, and says so."""

import math
import re

import polars as pl
import pytest
from analysis_examples import ATTRIBUTES, analysis

from gapctl.report.html import RunPages
from gapctl.report.many_trainings import MARKS_EACH, MOST_TRAININGS, choose_even_ranks, summarise_arms
from gapctl.report.page_parts import RunRecord
from gapctl.report.sweep_page import render_report
from page_reading import PageReader

SEEDS = MOST_TRAININGS // 2 + 1
MANY = analysis({ATTRIBUTES: [0, 5]}, SEEDS)
FEW = analysis({ATTRIBUTES: [0, 5]}, 3)


def test_of_each_group_trainings_are_drawn_from_the_lowest_to_the_highest() -> None:
    rows = pl.DataFrame({"level": [0, 1] * 500, "value": [float((7 * place) % 1000) for place in range(1000)]})
    drawn = choose_even_ranks(rows, ["level"], "value", each=21, most=1000)

    for level in (0, 1):
        every, some = (table.filter(level=level)["value"].sort() for table in (rows, drawn))
        assert len(some) == 21
        assert [some[0], some[10], some[20]] == [every[0], every[250], every[499]]


@pytest.mark.parametrize(("groups", "each"), [(1, 21), (100, 10), (900, 1), (2000, 1)])
def test_many_groups_have_fewer_marks_each_but_at_least_one(groups: int, each: int) -> None:
    rows = pl.DataFrame({"level": [place % groups for place in range(24 * groups)]}).with_row_index("value")
    drawn = choose_even_ranks(rows, ["level"], "value", each=21, most=1000)

    assert drawn["level"].value_counts()["count"].unique().to_list() == [each]


def test_a_group_of_few_is_drawn_whole() -> None:
    rows = pl.DataFrame({"level": [0, 0, 0, 1], "value": [2.0, 2.0, 1.0, 5.0]})

    assert choose_even_ranks(rows, ["level"], "value", each=21, most=1000).equals(rows)


def test_charts_of_many_trainings_draw_some_and_the_table_has_their_arms() -> None:
    read = PageReader(render_report(MANY))
    text = render_report(MANY)

    assert (
        f"These are {len(MANY.trials):,} trainings, and a page shows at most {MOST_TRAININGS:,} one by one."
        in read.words
    )
    assert "open marks: single seeds, some of each level." in read.words
    assert not re.search(r'<tr id="trial-', text)
    assert text.count(f'<td data-value="{SEEDS}">{SEEDS}</td>') == 2
    assert len(text) < 2 * len(render_report(FEW)), "the page does not grow with the trainings"


def test_a_page_of_few_trainings_says_nothing_of_it() -> None:
    words = PageReader(render_report(FEW)).words

    assert "one by one" not in words
    assert "open marks: single seeds." in words


def test_an_arms_row_has_the_mean_over_the_trainings_that_have_the_number() -> None:
    broken = MANY.trials.with_columns(
        pl.when(pl.col("seed") == 0).then(math.nan).otherwise(pl.col("gap/rmg")).alias("gap/rmg")
    )
    (first, second) = summarise_arms(analysis({ATTRIBUTES: [0, 5]}, SEEDS, trials=broken), ["gap/rmg"]).rows

    assert [first["trainings"], second["trainings"]] == [SEEDS, SEEDS]
    for row, level in ((first, 0), (second, 5)):
        known = broken.filter((pl.col(ATTRIBUTES) == level) & pl.col("gap/rmg").is_not_nan())["gap/rmg"]
        assert row["gap/rmg"] == pytest.approx(known.mean())


def test_addresses_of_runs_are_those_of_trainings_that_are_drawn() -> None:
    pages = {trial: f"#/runs/{trial}" for trial in MANY.trials["trial"]}
    text = render_report(MANY, RunRecord(run_pages=RunPages("http://127.0.0.1:5000", None, pages)))
    kept = sum(f'"{page}"' in text for page in pages.values())

    assert MARKS_EACH <= kept < len(pages) // 2
