"""What killed writers leave is deleted by the next sweep or by hand; what a training or a person still needs stays."""

import os
import time
from pathlib import Path

import pytest

from command_line import gapctl
from gapctl.cli.options import load_plan
from gapctl.ledger import Ledger, Result
from gapctl.ledger.ledger import ABANDONED_SECONDS
from gapctl.ledger.trial import WEIGHTS
from gapctl.plan.plan import Plan
from sweep_texts import SHIPPED

SMOKE = (str(SHIPPED), "--scale", "smoke", "--runs")


@pytest.fixture
def plan() -> Plan:
    return load_plan(SHIPPED, "smoke", [])


@pytest.fixture
def runs(plan: Plan, tmp_path: Path) -> Path:
    """One trial done, one begun; a checkpoint that a kill left of the first, and files half written, old and new."""
    done, begun = plan.trials
    ledger = Ledger(str(tmp_path / "runs"))
    ledger.trial(done.id).finish(Result(done.id, {}, 512, 1.0, {}, {}), weights=b"w" * 10)
    for trial in (done, begun):
        ledger.trial(trial.id).begin(trial)
        ledger.trial(trial.id).save_checkpoint(256, b"c" * 100)
    old = part(tmp_path / "runs" / begun.id / "checkpoints", "0123abcd")
    old_at = time.time() - ABANDONED_SECONDS - 60
    os.utime(old, (old_at, old_at))
    part(tmp_path / "runs" / begun.id / "checkpoints", "feedbeef")
    return tmp_path / "runs"


def part(folder: Path, tag: str) -> Path:
    path = folder / f".000000000512.pt.{tag}.part"
    path.write_bytes(b"p" * 1000)
    return path


def files(runs: Path) -> set[str]:
    return {path.name for path in runs.rglob("*") if path.is_file()}


def test_nothing_goes_before_a_person_says_so(runs: Path) -> None:
    before = files(runs)
    answer = gapctl("clean", *SMOKE, str(runs))

    assert answer.exit_code == 0, answer.err
    assert "1 half-written file" in answer.out
    assert "1 checkpoint of a finished training" in answer.out
    assert "--yes" in answer.out
    assert files(runs) == before


def test_what_goes_is_what_nobody_needs(plan: Plan, runs: Path) -> None:
    done, begun = plan.trials
    assert gapctl("clean", *SMOKE, str(runs), "--yes").out.startswith("deleted ")

    ledger = Ledger(str(runs))
    assert ledger.trial(begun.id).checkpoints(), "an unfinished training goes on from it"
    assert ledger.trial(done.id).checkpoints() == []
    assert ledger.trial(done.id).read(WEIGHTS) == b"w" * 10
    assert files(runs) & {".000000000512.pt.0123abcd.part", ".000000000512.pt.feedbeef.part"} == {
        ".000000000512.pt.feedbeef.part"
    }
    assert gapctl("clean", *SMOKE, str(runs)).out == "nothing to delete\n"


def test_weights_go_where_they_were_asked_to(plan: Plan, runs: Path) -> None:
    assert "1 final weights" in gapctl("clean", *SMOKE, str(runs), "--weights", "--yes").out

    done = plan.trials[0]
    assert Ledger(str(runs)).trial(done.id).read(WEIGHTS) is None
    assert Ledger(str(runs)).result(done.id) is not None


def test_an_unfinished_training_loses_nothing_but_what_is_half_written(plan: Plan, runs: Path) -> None:
    begun = plan.trials[1]
    (runs / begun.id / "checkpoints" / "final.pt").write_bytes(b"w")

    kinds = {each.kind for each in Ledger(str(runs)).find_garbage([begun.id], weights_of=[begun.id])}

    assert kinds == {"half-written file"}


def test_a_ledger_in_a_store_loses_checkpoints_of_finished_trials(plan: Plan) -> None:
    ledger = Ledger("memory://clean/runs")
    done = plan.trials[0]
    ledger.trial(done.id).finish(Result(done.id, {}, 512, 1.0, {}, {}), weights=b"")
    ledger.trial(done.id).save_checkpoint(256, b"c" * 100)

    ledger.delete_files(ledger.find_garbage([trial.id for trial in plan.trials]))

    assert ledger.trial(done.id).checkpoints() == []


def test_weights_that_other_trainings_begin_with_stay(tmp_path: Path) -> None:
    sweep = SHIPPED.parent / "entropy.yaml"
    plan, ledger = load_plan(sweep, None, []), Ledger(str(tmp_path))
    preparation, arm = plan.preparations[0], plan.trials[-1]
    for trial in (preparation, arm):
        ledger.trial(trial.id).finish(Result(trial.id, {}, 512, 1.0, {}, {}), weights=b"w")

    assert gapctl("clean", str(sweep), "--runs", str(tmp_path), "--weights", "--yes").exit_code == 0

    assert ledger.trial(preparation.id).read(WEIGHTS) == b"w"
    assert ledger.trial(arm.id).read(WEIGHTS) is None
