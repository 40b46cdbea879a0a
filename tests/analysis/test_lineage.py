"""A question that replaces another says so, and shows what was answered first where the ledger holds it."""

import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from analysis_ledgers import CONTRAST, TREND, falling, fill, sweep_file

from command_line import gapctl
from gapctl.analysis.analyze import analyze_finished_trials
from gapctl.analysis.results import AnalysisResults
from gapctl.cli.options import load_plan
from gapctl.ledger import Ledger
from gapctl.plan.plan import Plan
from gapctl.report.markdown import format_verdict_counts, render_verdict_markdown
from gapctl.report.text import explain_redesign

AGAIN = "first-try@2026-11-25"


def asked(
    folder: Path, *hypotheses: Mapping[str, Any], name: str, asks_again: str | None = None, first_seed: int = 0
) -> Path:
    path = sweep_file(folder, *hypotheses, name=name, first_seed=first_seed)
    if asks_again is not None:
        path.write_text(json.dumps(json.loads(path.read_text()) | {"asks_again": asks_again}, indent=1))
    return path


def answered(folder: Path, path: Path, per_level: float) -> Plan:
    plan = load_plan(path, None, None)
    fill(Ledger(str(folder / "runs")), plan, falling(per_level, noise=0.005))
    return plan


def both(folder: Path, *again: Mapping[str, Any], asks_again: str = AGAIN) -> AnalysisResults:
    """A first question, refuted, and the one that replaces it, supported."""
    answered(folder, asked(folder, TREND, CONTRAST, name="first-try"), 0.001)
    second = asked(folder, *(again or (TREND,)), name="again", asks_again=asks_again, first_seed=100)
    return analyze_finished_trials(answered(folder, second, 0.05), Ledger(str(folder / "runs")))


def note(found: AnalysisResults) -> str:
    assert found.first_question is not None
    return found.first_question.note or ""


def test_a_question_asked_again_is_marked_and_its_first_answer_stands_beside_it(tmp_path: Path) -> None:
    found = both(tmp_path)
    (verdict,) = found.verdicts

    assert (verdict.verdict, verdict.marks) == ("supported", ("redesigned",))
    assert verdict.first_answer is not None
    assert verdict.first_answer[:2] == ("first-try (base)", "slope")
    assert (verdict.first_answer.verdict, verdict.first_answer.marks) == ("refuted", ())
    assert not note(found)


def test_an_answer_of_another_id_is_taken_where_only_one_asked_the_same(tmp_path: Path) -> None:
    (verdict,) = both(tmp_path, {**CONTRAST, "id": "renamed"}).verdicts

    assert verdict.first_answer is not None
    assert verdict.first_answer.id == "difference"


def test_what_was_not_asked_before_has_no_first_answer(tmp_path: Path) -> None:
    (verdict,) = both(tmp_path, {**CONTRAST, "id": "other", "response": "gap/l2m"}).verdicts

    assert (verdict.marks[-1], verdict.first_answer) == ("redesigned", None)


def test_a_hash_must_be_that_of_the_first_hypotheses(tmp_path: Path) -> None:
    first = load_plan(asked(tmp_path, TREND, CONTRAST, name="first-try"), None, None).sweep.hypotheses_sha256
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.mkdir()
    wrong.mkdir()

    assert both(right, asks_again=f"first-try@{first[:12]}").verdicts[0].first_answer is not None
    refused = both(wrong, asks_again="first-try@0123456789ab")
    assert refused.verdicts[0].marks == ("redesigned",)
    assert refused.verdicts[0].first_answer is None
    assert f"has the hypotheses {first[:12]}, not 0123456789ab" in note(refused)


def test_a_sweep_that_the_ledger_does_not_hold_is_said_and_the_mark_stays(tmp_path: Path) -> None:
    found = both(tmp_path, asks_again="elsewhere@2026-11-25")

    assert "holds no sweep elsewhere" in note(found)
    assert found.verdicts[0].marks == ("redesigned",)


def test_a_first_question_without_results_is_said(tmp_path: Path) -> None:
    runs = Ledger(str(tmp_path / "runs"))
    runs.declare_plan(load_plan(asked(tmp_path, TREND, name="first-try"), None, None))
    second = asked(tmp_path, TREND, CONTRAST, name="again", asks_again=AGAIN, first_seed=100)

    assert "no finished training of first-try (base)" in note(
        analyze_finished_trials(answered(tmp_path, second, 0.05), runs)
    )


def test_a_sweep_cannot_be_its_own_first_question(tmp_path: Path) -> None:
    path = asked(tmp_path, TREND, name="again", asks_again="again@2026-11-25")

    found = analyze_finished_trials(answered(tmp_path, path, 0.05), Ledger(str(tmp_path / "runs")))

    assert "is this sweep, as it was declared there" in note(found)
    (said,) = explain_redesign(found)
    assert "no first answer is shown: again in " in said


def test_the_same_hypotheses_of_new_seeds_have_their_first_answer(tmp_path: Path) -> None:
    answered(tmp_path, asked(tmp_path, TREND, name="first-try"), 0.001)
    second = asked(tmp_path, TREND, name="again", asks_again=AGAIN, first_seed=100)
    found = analyze_finished_trials(answered(tmp_path, second, 0.05), Ledger(str(tmp_path / "runs")))

    assert not note(found)
    assert found.verdicts[0].first_answer is not None
    assert (found.verdicts[0].verdict, found.verdicts[0].first_answer.verdict) == ("supported", "refuted")


def test_a_sweep_redesigned_under_its_own_name_has_what_was_declared_as_its_first_answer(tmp_path: Path) -> None:
    answered(tmp_path, asked(tmp_path, TREND, name="again"), 0.001)
    second = asked(tmp_path, TREND, name="again", asks_again="again@2026-11-25", first_seed=100)
    (verdict,) = analyze_finished_trials(answered(tmp_path, second, 0.05), Ledger(str(tmp_path / "runs"))).verdicts

    assert verdict.first_answer is not None
    assert (verdict.verdict, verdict.first_answer.verdict) == ("supported", "refuted")


def test_the_same_hypotheses_of_the_same_trainings_have_no_other_answer(tmp_path: Path) -> None:
    answered(tmp_path, asked(tmp_path, TREND, name="first-try"), 0.05)
    second = asked(tmp_path, TREND, name="again", asks_again=AGAIN)
    plan = load_plan(second, None, None)

    assert "asks the same of the same trainings, so its answer is this one" in note(
        analyze_finished_trials(plan, Ledger(str(tmp_path / "runs")))
    )


def test_it_is_shown_wherever_the_verdict_is(tmp_path: Path) -> None:
    found = both(tmp_path)
    path, runs = str(tmp_path / "again.yaml"), str(tmp_path / "runs")
    pages = [tmp_path / f"report.{ending}" for ending in ("html", "md", "tex")]
    for page in pages:
        assert gapctl("analyze", path, "--runs", runs, "--out", str(page)).exit_code == 0
    told = gapctl("analyze", path, "--runs", runs).out
    document = json.loads(gapctl("analyze", path, "--runs", runs, "--json").out)

    assert "slope: supported (redesigned)" in told
    for text in (told, *(page.read_text() for page in pages), render_verdict_markdown(found)):
        said = " ".join(text.split()).replace("\\", "")
        assert f"It asks again what {AGAIN} asked; the first answer, of first-try (base): 2 refuted." in said
        assert "First answer, first-try (base), slope: refuted, " in said
    assert "REDESIGNED</span>" in pages[0].read_text()
    assert format_verdict_counts(found) == "1 supported (redesigned)"
    assert document["verdicts"][0]["first_answer"]["verdict"] == "refuted"
    assert [one["id"] for one in document["first_question"]["answers"]] == ["slope", "difference"]


def test_lineage_changes_no_trial_and_no_hash(tmp_path: Path) -> None:
    plain = load_plan(asked(tmp_path, TREND, name="again"), None, None)
    again = load_plan(asked(tmp_path, TREND, name="again", asks_again=AGAIN), None, None)

    assert [trial.id for trial in again.trials] == [trial.id for trial in plain.trials]
    assert again.sweep.hypotheses_sha256 == plain.sweep.hypotheses_sha256
    assert again.sweep.spec_sha256 == plain.sweep.spec_sha256


@pytest.mark.parametrize("wrong", ["first-try", "first-try@", "@2026-11-25", "first-try@2026-13-40", "a b@2026-11-25"])
def test_a_name_that_cannot_be_one_is_refused_with_its_place(tmp_path: Path, wrong: str) -> None:
    answer = gapctl("plan", str(asked(tmp_path, TREND, name="again", asks_again=wrong)))

    assert answer.exit_code == 2
    assert "asks_again" in answer.err
    assert "object_attribute@2026-11-25" in answer.err


def test_a_first_question_of_a_day_to_come_is_refused_with_its_place(tmp_path: Path) -> None:
    path = asked(tmp_path, TREND, name="again", asks_again="first-try@2999-01-01")
    for verb in ("plan", "sweep"):
        answer = gapctl(verb, str(path), "--runs", str(tmp_path / "runs"))

        assert answer.exit_code == 2
        assert "again.yaml:" in answer.err
        assert "asks_again: found the day 2999-01-01" in answer.err
    assert not (tmp_path / "runs").exists()
    today = asked(tmp_path, TREND, name="again", asks_again=f"first-try@{date.today()}")
    assert gapctl("plan", str(today)).exit_code == 0


def test_a_plan_says_when_a_sweep_that_names_itself_has_a_first_answer(tmp_path: Path) -> None:
    itself, other = (asked(tmp_path, TREND, name=name, asks_again="again@2026-11-25") for name in ("again", "third"))
    said = json.loads(gapctl("plan", str(itself), "--json").out)["totals"]["notes"]

    assert any(line.startswith("asks_again is again@2026-11-25, this sweep's own name: a first") for line in said)
    assert "this sweep's own name" in " ".join(gapctl("plan", str(itself)).out.split())
    assert "this sweep's own name" not in gapctl("plan", str(other), "--json").out
