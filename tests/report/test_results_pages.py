"""The tables of docs/results say what the verdicts beside them say."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sweep_texts import REPOSITORY

RESULTS = REPOSITORY / "docs/results"
PAGES = sorted(path.parent.name for path in RESULTS.glob("*/verdicts.json"))
NUMBER = re.compile(r"[−-]?\d[\d,]*(?:\.\d+)?")


def rows_of(page: str) -> list[list[str]]:
    """The rows of the page's table of hypotheses, by cell."""
    lines = (RESULTS / page / "README.md").read_text().splitlines()
    head = next(place for place, line in enumerate(lines) if line.startswith("| hypothesis"))
    table = lines[head + 2 :]
    end = next((place for place, line in enumerate(table) if not line.startswith("|")), len(table))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[:end]]


def numbers_in(cell: str) -> list[str]:
    return [found.replace("−", "-").replace(",", "") for found in NUMBER.findall(cell)]


def agrees(written: str, value: float) -> bool:
    """Whether a written number is the value, rounded to as many decimals."""
    decimals = len(written.partition(".")[2])
    return abs(float(written) - value) <= 0.5000001 * 10**-decimals


@pytest.mark.parametrize("page", PAGES)
def test_each_row_has_the_verdict_the_effect_and_the_interval_of_its_hypothesis(page: str) -> None:
    verdicts: list[dict[str, Any]] = json.loads((RESULTS / page / "verdicts.json").read_text())["verdicts"]
    rows = rows_of(page)

    assert len(rows) == len(verdicts)
    for cells, verdict in zip(rows, verdicts, strict=True):
        said, effect, interval = cells[1:4]
        assert said.startswith(f"**{verdict['verdict']}**"), verdict["id"]
        assert ("not learned" in said) == bool(verdict.get("not_learned")), verdict["id"]
        assert agrees(numbers_in(effect)[0], verdict["estimate"]), verdict["id"]
        low, high = numbers_in(interval)
        assert agrees(low, verdict["ci"][0]), verdict["id"]
        assert agrees(high, verdict["ci"][1]), verdict["id"]


def test_there_is_a_page_for_each_run_that_is_kept() -> None:
    assert {path.parent.name for path in RESULTS.glob("*/README.md")} >= set(PAGES)
    listed = Path(RESULTS / "README.md").read_text()
    assert all(f"({page}/README.md)" in listed for page in PAGES)
