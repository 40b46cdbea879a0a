"""`gapctl analyze --models` writes the table of models as a page that sorts, LaTeX, csv and parquet."""

import re
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from browser import Browser, Tab, browser_program, browsing
from cohort_ledgers import ACCURACY, GAP, fill_cohort, list_models, plan_cohort
from command_line import Answer, gapctl
from gapctl.ledger import Ledger
from page_reading import PageReader

MODELS = [
    {**row, "name": f"{row['name']} & 100 %", "parameters": 64} if place == 3 else dict(row)
    for place, row in enumerate(list_models(12))
]
LISTED = [str(row["name"]) for row in MODELS]
HEADINGS = "[...document.querySelectorAll('table.sortable thead button')]"
SHOWN = "[...document.querySelectorAll('table.sortable tbody tr')].map((row) => row.cells[0].innerText)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished cohort of twelve models, and its table in each format."""
    folder = tmp_path_factory.mktemp("models")
    plan, ledger = plan_cohort(folder, models=MODELS), Ledger(str(folder / "runs"))
    fill_cohort(ledger, plan)
    for ending in ("csv", "parquet", "html", "tex"):
        ran = write(folder, f"models.{ending}")
        assert ran.exit_code == 0, ran.err
        assert f"12 models: {folder / 'models'}.{ending}" in "".join(ran.out.split("\n"))
    return folder


def write(folder: Path, name: str) -> Answer:
    return gapctl("analyze", "--all", "--runs", str(folder / "runs"), "--models", str(folder / name))


def read_latex(folder: Path) -> list[list[str]]:
    """The cells of each row of the LaTeX table, its headings first."""
    text = (folder / "models.tex").read_text(encoding="utf-8")
    body = text.partition("\\toprule\n")[2].partition("\\end{longtable}")[0]
    rows = [line.removesuffix(" \\\\") for line in body.splitlines() if line.endswith(" \\\\")]
    cells = [re.split(r" (?<!\\)& ", row) for row in rows]
    headings = [re.sub(r"\\parbox\[b\]\{1.8cm\}\{\\raggedright (.*)\}", r"\1", cell) for cell in cells[0]]
    return [headings, *cells[1:]]


def test_every_format_has_the_same_models_and_numbers(folder: Path) -> None:
    table = pl.read_parquet(folder / "models.parquet")
    assert pl.read_csv(folder / "models.csv")["model"].to_list() == table["model"].to_list() == LISTED
    page = PageReader((folder / "models.html").read_text(encoding="utf-8"))
    assert not page.unclosed
    assert "Each of 12 models with intervention none." in page.words
    headings, *rows = read_latex(folder)
    gaps = [row[headings.index("Relative modality gap (RMG)")] for row in rows]
    assert [float(gap) for gap in gaps] == pytest.approx(table[GAP].to_list(), abs=5e-4)
    for gap in gaps:
        assert f" {gap} " in f" {page.words} "


def test_latex_has_a_cell_for_each_column_and_escapes_what_names_say(folder: Path) -> None:
    text = (folder / "models.tex").read_text(encoding="utf-8")
    headings, *rows = read_latex(folder)
    (alignment,) = re.findall(r"\\begin\{longtable\}\{([lr]+)\}", text)

    assert len(rows) == 12
    assert {len(row) for row in [headings, *rows]} == {len(alignment)}
    assert rows[3][0] == r"ViT-B-3 \textless{}datacomp\_xl\textgreater{} \& 100 \%"
    words = [cell for cell, kind in zip(headings, alignment, strict=True) if kind == "l"]
    assert words == ["model", "stratum", "tower"]
    assert "imagenet accuracy (published)" in headings
    assert [row[headings.index("parameters")] for row in rows[2:4]] == ["160,000,000", "64"]
    assert text.count("{") == text.count("}")
    assert re.findall(r"\\usepackage\{(.*)\}", text) == ["booktabs,longtable,pdflscape"]


def test_another_ending_is_refused_before_anything_is_judged(folder: Path) -> None:
    ran = write(folder, "models.xlsx")
    assert (ran.exit_code, ran.out) == (2, "")
    assert "expected a name that ends in .parquet, .csv, .html or .tex" in ran.err


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(str(browser_program()), tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def tab(browser: Browser, folder: Path) -> Tab:
    tab = browser.open((folder / "models.html").as_uri())
    tab.wait_for(f"{SHOWN}.length === 12")
    return tab


@pytest.mark.skipif(browser_program() is None, reason="no Chromium on this machine; Debian's is `chromium`")
@pytest.mark.parametrize(("column", "heading"), [("parameters", "parameters"), (GAP, "gap/rmg"), (ACCURACY, ACCURACY)])
def test_pressing_a_heading_sorts_by_the_numbers_and_again_turns_it_round(
    tab: Tab, folder: Path, column: str, heading: str
) -> None:
    button = f"{HEADINGS}.find((each) => each.textContent === '{heading}')"
    table = pl.read_parquet(folder / "models.parquet").sort(column)
    assert tab.value(SHOWN) == LISTED

    tab.press(tab.centre(button))
    assert tab.value(SHOWN) == table["model"].to_list()
    assert tab.value(f"{button}.closest('th').getAttribute('aria-sort')") == "ascending"

    tab.press(tab.centre(button))
    assert tab.value(SHOWN) == table["model"].to_list()[::-1]


@pytest.mark.skipif(browser_program() is None, reason="no Chromium on this machine; Debian's is `chromium`")
def test_names_sort_with_their_numbers_in_order(tab: Tab) -> None:
    tab.press(tab.centre(f"{HEADINGS}[0]"))
    found = tab.value(SHOWN)

    assert sorted(found) == sorted(LISTED)
    order = [(name.split("-")[1], int(re.findall(r"-(\d+) <", name)[0])) for name in found]
    assert order == sorted(order)
