"""Numbers and markup come out as they went in."""

import json
import math
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from analysis_examples import CONDITIONAL, MEDIATED, REFUTED, SUPPORTED, analysis
from hypothesis import given
from hypothesis import strategies as st

from gapctl.report.html import embed_javascript, embed_json, load_templates
from gapctl.report.markdown import render_verdict_markdown
from gapctl.report.text import (
    describe_effect_with_unit,
    format_aligned_numbers,
    format_number,
    format_p_value,
    label_metric_axis,
)

reasonable = st.floats(min_value=-1e5, max_value=1e5, allow_nan=False)
text = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]))


def value_of(shown: str) -> float:
    return float(shown.replace("−", "-").replace(",", ""))


@given(reasonable)
def test_a_number_is_shown_to_three_significant_digits(value: float) -> None:
    assert value_of(format_number(value)) == pytest.approx(value, rel=5.1e-3, abs=1e-300)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.3, "0.300"), (-0.0531, "−0.0531"), (0, "0"), (58.52, "58.5"), (999.7, "1,000"), (51200, "51,200")],
)
def test_numbers_read_as_people_write_them(value: float, shown: str) -> None:
    assert format_number(value) == shown


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_what_is_no_number_is_a_dash(value: float | None) -> None:
    assert format_number(value) == "–"


@given(st.lists(reasonable, min_size=1, max_size=4))
def test_numbers_that_are_compared_have_equally_many_decimals(values: list[float]) -> None:
    shown = format_aligned_numbers(values)

    assert len({len(item.partition(".")[2]) for item in shown}) == 1
    largest = max(map(abs, values))
    assert [value_of(item) for item in shown] == pytest.approx(values, rel=0, abs=max(5.1e-3 * largest, 1e-300))


def test_p_never_claims_to_be_zero() -> None:
    assert [format_p_value(p) for p in (0.0, 0.0009, 0.0123, 1.0, math.nan)] == [
        "< 0.001",
        "< 0.001",
        "0.012",
        "1.000",
        "–",
    ]


def test_a_unit_is_named_once() -> None:
    assert label_metric_axis("gap/rmg") == "relative modality gap (RMG), share"
    assert label_metric_axis("gap/l2m") == "distance of the modality means (L2M)"
    assert label_metric_axis("no/such_metric") == "no/such_metric"


ELEMENT = load_templates().from_string('<p data-value="{{ attribute }}">{{ content }}</p>')


class _Reader(HTMLParser):
    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.texts: list[str] = []
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, attrs))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@given(text, text)
def test_any_text_comes_back_from_an_element(content: str, attribute: str) -> None:
    read = _Reader(ELEMENT.render(content=content, attribute=attribute))

    assert read.tags == [("p", [("data-value", attribute)])]
    assert "".join(read.texts) == content


@given(st.text())
def test_any_text_comes_back_from_json_in_a_script(content: str) -> None:
    inside = embed_json({"x": content})

    assert json.loads(inside) == {"x": content}
    assert not set("<>&\u2028\u2029") & set(inside)


def test_code_cannot_end_its_own_script() -> None:
    assert embed_javascript("a = '</script><!--'") == "a = '<\\/script><\\!--'"


def test_a_correlation_names_both_metrics_and_what_is_accounted_for() -> None:
    plain = replace(SUPPORTED, test="correlation", response="quality/object_accuracy", factor="gap/rmg")
    partial = replace(plain, given=("gap/l2m", "temperature.mode"))

    assert (
        describe_effect_with_unit(plain)
        == "correlation of object accuracy with relative modality gap (RMG), Kendall's τ"
    )
    assert (
        "with relative modality gap (RMG) given distance of the modality means (L2M) and temperature,"
        in describe_effect_with_unit(partial)
    )


def test_a_contrast_names_its_levels_in_the_order_in_which_they_are_subtracted() -> None:
    assert describe_effect_with_unit(REFUTED) == (
        "difference in object bias of images (MOAD) by attributes in the caption (5 against 0), cosine"
    )


def test_an_effect_within_some_trainings_says_which() -> None:
    assert describe_effect_with_unit(CONDITIONAL) == (
        "difference in relative modality gap (RMG) by attributes in the caption (5 against 0), "
        "where order of the caption is canonical and tied is true"
    )


def test_a_mediations_effect_names_its_mediator_and_the_levels_of_both() -> None:
    assert describe_effect_with_unit(MEDIATED) == (
        "mediated difference in object accuracy by attributes in the caption (5 against 0), "
        "through temperature (learned against fixed), where order of the caption is canonical, percentage points"
    )


@pytest.mark.parametrize(
    ("response", "unit"),
    [
        ("gap/rmg", "per attribute"),
        ("quality/object_accuracy", "percentage points per attribute"),
        ("entropy/i2t_nats", "nats per attribute"),
    ],
)
def test_what_a_share_or_a_percentage_changes_by_is_no_share_and_no_percentage(response: str, unit: str) -> None:
    assert describe_effect_with_unit(replace(SUPPORTED, response=response)).endswith(f", {unit}")


def test_the_note_of_a_run_in_mlflow_says_what_each_estimate_is_of() -> None:
    row = render_verdict_markdown(analysis(verdicts=[CONDITIONAL])).splitlines()[2]

    assert [cell.strip() for cell in row.split("|")[2:4]] == [describe_effect_with_unit(CONDITIONAL), "**refuted**"]
