"""The page of findings in docs/ is what the ledger beside it gives, and its notes say what other ledgers hold."""

import json
import re
import tarfile
from pathlib import Path

from command_line import gapctl
from gapctl.report.findings.notes import notes_of
from gapctl.report.words import aligned
from sweep_texts import REPOSITORY

NOTES = REPOSITORY / "docs/findings.notes.yaml"


def test_the_page_and_its_figures_follow_from_the_shipped_ledger(tmp_path: Path) -> None:
    with tarfile.open(REPOSITORY / "docs/results/laptop/ledger.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")

    noted = ("--notes", str(NOTES))
    answer = gapctl("findings", "--runs", str(tmp_path / "laptop"), *noted, "--out", str(tmp_path / "findings.md"))

    assert answer.exit_code == 0, answer.err
    made = tmp_path / "images/findings"
    shipped = REPOSITORY / "docs/images/findings"
    assert (tmp_path / "findings.md").read_text() == (REPOSITORY / "docs/findings.md").read_text()
    assert {path.name: path.read_bytes() for path in made.iterdir()} == {
        path.name: path.read_bytes() for path in shipped.iterdir()
    }


def test_the_note_of_an_hour_s_training_has_that_ledger_s_numbers() -> None:
    note = notes_of(NOTES.read_text(), "notes")["claim 1"]
    held = json.loads((REPOSITORY / "docs/results/imbalance-hour/verdicts.json").read_text())["verdicts"]
    found = {verdict["id"]: verdict for verdict in held}
    trend, contrast = found["information-closes-the-gap"], found["full-captions-against-none"]
    estimate, low, high = aligned([trend["estimate"], *trend["ci"]])

    assert (
        f"**{trend['verdict']}** ({estimate} per attribute, {low} to {high}, p after Holm {trend['p_holm']:.3f}" in note
    )
    assert f"to {aligned([contrast['estimate']])[0]}, which still counts" in note
    assert contrast["verdict"] == "supported"


def test_the_note_compares_with_the_row_that_stands_below_it() -> None:
    note = notes_of(NOTES.read_text(), "notes")["claim 1"]
    page = (REPOSITORY / "docs/findings.md").read_text()
    (row,) = [line for line in page.splitlines() if "(`full-captions-against-none`)" in line]
    (before,) = re.findall(r"shrinks from (\S+) to", note)

    assert f"| {before} |" in row
