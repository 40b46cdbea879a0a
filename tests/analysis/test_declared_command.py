"""`gapctl analyze` where hypotheses were changed: what changed is said, and what was declared is shown and judged."""

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from analysis_ledgers import CONTRAST, TREND, falling, fill, sweep_file

from command_line import Answer, gapctl
from gapctl.cli.options import load_plan
from gapctl.ledger import Ledger

CHANGES = "added since: late; removed since: slope; changed since: difference (smallest_effect was 0.05, is 0.01)"


class Changed(NamedTuple):
    """A sweep whose file was changed after its trials, and its text before."""

    file: Path
    runs: str
    declared: str

    def analyze(self, *arguments: str) -> Answer:
        return gapctl("analyze", *arguments, "--runs", self.runs)


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Changed:
    folder = tmp_path_factory.mktemp("changed")
    file, ledger = sweep_file(folder, CONTRAST, {**TREND, "claim": "<b>It falls & falls.</b>"}), folder / "runs"
    declared = file.read_text()
    fill(Ledger(str(ledger)), load_plan(file, None, None), falling(0.05, noise=0.005))
    sweep_file(folder, {**CONTRAST, "smallest_effect": 0.01}, {**TREND, "id": "late"})
    Ledger(str(ledger)).declare_plan(load_plan(file, None, None))
    return Changed(file, str(ledger), declared)


def test_the_terminal_says_which_hypotheses_changed_and_how_to_judge_the_declared_ones(changed: Changed) -> None:
    done = changed.analyze(str(changed.file))

    assert done.exit_code == 0
    assert CHANGES in " ".join(done.out.split())
    assert f"what was declared: gapctl analyze {changed.file} --runs {changed.runs} --declared\n" in done.out


def test_json_has_the_changes_and_the_text(changed: Changed) -> None:
    declared = json.loads(changed.analyze(str(changed.file), "--json").out)["declared"]

    assert (declared["text"], declared["added"], declared["removed"]) == (changed.declared, ["late"], ["slope"])
    assert declared["changed"] == [{"id": "difference", "field": "smallest_effect", "declared": "0.05", "now": "0.01"}]


def test_the_declared_hypotheses_are_judged_as_what_they_are(changed: Changed) -> None:
    found = json.loads(changed.analyze(str(changed.file), "--declared", "--json").out)

    assert [(verdict["id"], verdict["exploratory"]) for verdict in found["verdicts"]] == [
        ("difference", False),
        ("slope", False),
    ]
    assert found["declared"] is None
    assert found["hypotheses_sha256"] == found["declared_sha256"]


def test_a_whole_ledger_is_judged_as_declared_without_files(changed: Changed, tmp_path: Path) -> None:
    runs = shutil.copytree(changed.runs, tmp_path / "runs")
    latest, declared = (
        json.loads(gapctl("analyze", "--all", *more, "--json", "--runs", str(runs)).out)["sweeps"][0]["verdicts"]
        for more in ((), ("--declared",))
    )

    assert ([verdict["id"] for verdict in latest], latest[0]["exploratory"]) == (["difference", "late"], True)
    assert ([verdict["id"] for verdict in declared], declared[0]["exploratory"]) == (["difference", "slope"], False)


@pytest.mark.parametrize("several", [(), ("--all",)], ids=["a file", "the ledger"])
def test_the_page_folds_what_was_declared(changed: Changed, tmp_path: Path, several: tuple[str, ...]) -> None:
    page = tmp_path / "page.html"
    changed.analyze(*(several or (str(changed.file),)), "--out", str(page))
    html = page.read_text(encoding="utf-8")
    folded = html.partition('<details class="declared">')[2].partition("</details>")[0]

    assert "<summary>" in folded
    assert "&lt;b&gt;It falls &amp; falls.&lt;/b&gt;" in folded
    assert "<b>It falls" not in html
    assert "<span>added since: late</span>" in html


def test_markdown_ends_in_what_was_declared(changed: Changed, tmp_path: Path) -> None:
    out = tmp_path / "report.md"
    changed.analyze(str(changed.file), "--out", str(out))
    text = out.read_text(encoding="utf-8")

    assert "## What was declared before the first training" in text
    assert "\n".join(f"    {line}" for line in changed.declared.splitlines()) in text


def test_a_file_without_hypotheses_any_more_says_which_were_declared(changed: Changed, tmp_path: Path) -> None:
    bare = load_plan(sweep_file(tmp_path), None, None).sweep.path
    said = " ".join(changed.analyze(str(bare)).out.split())

    assert "states no hypotheses" in said
    assert "removed since: difference, slope" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--declared",), "found no sweep file; expected one or more, or --all"),
        (("{file}", "--declared", "--set", "seeds=2"), "--declared: found --set seeds=2 beside it; expected it"),
        (("{other}", "--declared"), "has no declaration of other; expected "),
    ],
)
def test_what_cannot_be_judged_as_declared_is_said(
    changed: Changed, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    other = sweep_file(tmp_path, CONTRAST, name="other")
    answer = changed.analyze(*(word.format(file=changed.file, other=other) for word in arguments))

    assert (answer.exit_code, answer.out) == (2, "")
    assert said in answer.err
