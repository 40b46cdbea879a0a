"""Damaged and failed trials are named with their file and reason, and the others are told of."""

from pathlib import Path

import pytest
from refusals import Damage, cut_in_half

from command_line import gapctl
from gapctl.cli.options import load_plan
from gapctl.ledger import Ledger, Result
from gapctl.plan.plan import Plan


@pytest.fixture
def finished(tiny: Path) -> Plan:
    """The tiny sweep with both trials done."""
    plan = load_plan(tiny, None, None)
    for trial in plan.trials:
        folder = Ledger(str(tiny.parent / "runs")).trial(trial.id)
        folder.begin(trial)
        folder.finish(Result(trial.id, {"gap/rmg": 0.5}, 512, 1.0, {"python": "3"}, {"device": "cpu"}), b"weights")
    return plan


def a_folder_in_its_place(path: Path) -> None:
    path.unlink()
    path.mkdir()


def of_another_trial(path: Path) -> None:
    path.write_text(path.read_text().replace(path.parent.name, "0" * 12))


DAMAGED_RESULTS: dict[str, tuple[Damage, str]] = {
    "cut in half": (cut_in_half, "damaged: Invalid JSON"),
    "emptied": (lambda path: path.write_bytes(b""), "damaged: Invalid JSON"),
    "overwritten with zeros": (lambda path: path.write_bytes(bytes(99)), "damaged: Invalid JSON"),
    "edited by hand": (
        lambda path: path.write_text(path.read_text().replace("0.5", '"half"')),
        "metrics.gap/rmg: Input",
    ),
    "that of another trial": (of_another_trial, "damaged: it is the result of trial 000000000000"),
    "a folder": (a_folder_in_its_place, "cannot be read: "),
}


@pytest.mark.parametrize("name", DAMAGED_RESULTS)
def test_a_damaged_trial_is_named_and_the_others_are_told_of(tiny: Path, finished: Plan, name: str) -> None:
    damage, expected = DAMAGED_RESULTS[name]
    sound, bad = finished.trials
    damage(tiny.parent / "runs" / bad.id / "result.json")
    code, out, err = gapctl("status", str(tiny), "--runs", str(tiny.parent / "runs"))

    assert code == 1
    assert f"gapctl: attributes=5 seed=0 ({bad.id}) damaged: " in err
    assert f"{tiny.parent}/runs/{bad.id}/result.json: " in err
    assert expected in err
    assert "Traceback" not in err
    assert "1 done, 1 damaged" in out
    assert sound.id not in err


def test_a_file_in_place_of_a_trial_folder_is_damage(tiny: Path, finished: Plan) -> None:
    bad = finished.trials[1]
    folder = tiny.parent / "runs" / bad.id
    folder.rename(tiny.parent / "elsewhere")
    folder.write_text("a file")
    code, out, err = gapctl("status", str(tiny), "--runs", str(tiny.parent / "runs"))

    assert code == 1
    assert f"{bad.id}/result.json: cannot be read: " in err
    assert "1 done, 1 damaged" in out


@pytest.mark.parametrize("name", ["cut in half", "that of another trial"])
def test_a_damaged_trial_is_not_trained_over(tiny: Path, finished: Plan, name: str) -> None:
    bad = finished.trials[1]
    DAMAGED_RESULTS[name][0](tiny.parent / "runs" / bad.id / "result.json")
    before = contents(tiny.parent / "runs")
    code, out, err = gapctl("train", str(tiny), "--trial", bad.id, "--runs", str(tiny.parent / "runs"))

    assert (code, out) == (1, "")
    assert f"{bad.id}/result.json: damaged: " in err
    assert f"Move the folder {tiny.parent}/runs/{bad.id}/ away and run the sweep again" in err
    assert contents(tiny.parent / "runs") == before


@pytest.mark.parametrize(
    ("failure", "why"), [("Traceback ...\nValueError: no", "ValueError: no"), ("", "for a reason that")]
)
def test_a_failed_trial_is_told_with_its_reason_and_where_its_traceback_is(tiny: Path, failure: str, why: str) -> None:
    plan = load_plan(tiny, None, None)
    Ledger(str(tiny.parent / "runs")).trial(plan.trials[0].id).fail(failure)
    code, out, err = gapctl("status", str(tiny), "--runs", str(tiny.parent / "runs"))

    assert code == 1
    assert f"gapctl: attributes=0 seed=0 ({plan.trials[0].id}) failed: {why}" in err
    assert f"its traceback is in {tiny.parent}/runs/{plan.trials[0].id}/failure.txt" in err
    assert "1 failed, 1 missing" in out


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
