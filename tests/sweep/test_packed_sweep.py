"""A pack of trials leaves the same ledger as trials alone, and survives a bad one among them.

The worker is driven here as Tune drives it; `test_interrupted_sweep.py` runs a packed sweep on Ray.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from gapctl.data.mad.feed import load_mad_arrays
from gapctl.ledger import LeaseOwner, Ledger
from gapctl.ledger.trial import FAILURE
from gapctl.plan.plan import Trial, pack_trials
from gapctl.sweep.worker import HARMED_KEY, HarmedProcessError, TrialWorker
from gapctl.training.trial_state import TrialState
from trained_alone import plan_trials, trained_alone

SHORT = ("base.train.samples=1_280", "base.evaluate.every=640", "base.evaluate.gallery=64")


def trials(*more: str) -> tuple[Trial, ...]:
    return plan_trials(*SHORT, *more)


def worker_for(pack: Sequence[Trial], runs: Path) -> TrialWorker:
    worker = TrialWorker.__new__(TrialWorker)
    worker.setup(
        {"pack": [trial.id for trial in pack]},
        trials={trial.id: trial for trial in pack},
        data={pack[0].config.data.source: load_mad_arrays(pack[0].config.data)},
        runs=str(runs),
        threads=1,
        gpu=False,
        readers=0,
        workers=1,
        claimant=LeaseOwner("run", "sweep"),
        expired={},
    )
    return worker


def reports_of(worker: TrialWorker) -> list[dict[str, Any]]:
    reports = []
    while True:
        result = worker.step()
        reports += result["reports"]
        if result["done"] or result[HARMED_KEY]:
            return reports


def test_a_worker_that_trains_a_pack_leaves_the_same_ledger(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    both = trials()
    reports_of(worker_for(both, tmp_path / "runs"))

    for trial in both:
        found, alone = Ledger(str(tmp_path / "runs")).result(trial.id), trained_alone(trial, tmp_path / "alone")
        assert found is not None
        assert (found.hardware["packed"], alone.hardware["packed"]) == (2, 1)
        assert 100 < int(found.hardware["memory_mb"]) < 3000
        assert found.metrics.keys() == alone.metrics.keys()
        assert found.samples_seen == alone.samples_seen
        for key in ("gap/rmg", "gap/l2m", "train/loss", "bias/moad_image"):
            assert found.metrics[key] == pytest.approx(alone.metrics[key], rel=0.05, abs=0.01), key
        for name in ("trial.yaml", "history.parquet", "checkpoints/final.pt"):
            assert (tmp_path / "runs" / trial.id / name).is_file()


def test_a_trial_that_raises_does_not_take_the_pack_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    good, bad = trials()
    evaluate = TrialState.evaluate

    def raises_for_the_bad_one(member: TrialState) -> None:
        if member.config == bad.config and member.steps:
            raise ArithmeticError("no such number")
        evaluate(member)

    monkeypatch.setattr(TrialState, "evaluate", raises_for_the_bad_one)
    worker = worker_for((good, bad), tmp_path)
    reports = reports_of(worker)

    ended = {report["trial"]: report for report in reports if report.get("done") or "failure" in report}
    assert ended[good.id]["done"]
    assert "ArithmeticError: no such number" in ended[bad.id]["failure"]
    ledger = Ledger(str(tmp_path))
    assert ledger.result(good.id) is not None
    assert ledger.result(bad.id) is None
    assert "ArithmeticError" in str(ledger.trial(bad.id).read_text(FAILURE))
    with pytest.raises(HarmedProcessError):
        worker.step()


def test_a_sound_process_takes_the_next_pack_and_one_that_cannot_begin_it_says_so_at_its_step(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    first, second = trials()
    worker = worker_for((first,), tmp_path)
    reports_of(worker)

    assert worker.reset_config({"pack": [second.id]}), "Tune would give up the next trial for good"
    with pytest.raises(KeyError):
        worker.step()


def test_only_trials_of_one_shape_are_packed_and_packs_have_a_limit() -> None:
    wide = trials("seeds=2", "vary.data.captions.attributes=[0,2,5]")
    assert [len(pack) for pack in pack_trials(wide, 4)] == [4, 2]
    assert [trial for pack in pack_trials(wide, 4) for trial in pack] == list(wide)
    assert [len(pack) for pack in pack_trials(wide, 1)] == [1] * 6

    narrow = trials("base.model.embed_dim=32")
    mixed = [trial for pair in zip(wide, narrow * 3, strict=True) for trial in pair]
    assert {frozenset(trial.config.model.embed_dim for trial in pack) for pack in pack_trials(mixed, 16)} == {
        frozenset({64}),
        frozenset({32}),
    }


def test_a_trial_that_another_sweep_holds_is_left_to_it_and_its_pack_goes_on(tmp_path: Path) -> None:
    theirs, ours = trials()
    other = Ledger(str(tmp_path)).trial(theirs.id)
    other.acquire(LeaseOwner("theirs", "another"))
    reports = reports_of(worker_for((theirs, ours), tmp_path))

    assert [report["trial"] for report in reports if "held" in report] == [theirs.id]
    assert [report["trial"] for report in reports if report.get("done")] == [ours.id]
    assert other.result() is None
    assert other.lease() == (other.handle and other.handle.lease)


def test_a_training_that_is_taken_over_stops_unwritten_and_its_pack_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr("gapctl.training.trial_state.BEAT_SECONDS", 0.0)
    monkeypatch.setattr("gapctl.sweep.worker.REPORT_SECONDS", 0.05)
    taken, ours = trials()
    worker, ledger = worker_for((taken, ours), tmp_path), Ledger(str(tmp_path))
    worker.step()
    (lease,) = ledger.contents([taken.id], "lease.json")
    assert isinstance(lease, bytes)
    other = ledger.trial(taken.id)
    assert other.acquire(LeaseOwner("theirs", "another"), expired=lease) is None
    reports = reports_of(worker)

    assert [report["trial"] for report in reports if "held" in report] == [taken.id]
    assert [report["trial"] for report in reports if report.get("done")] == [ours.id]
    assert other.result() is None
    assert other.lease() == (other.handle and other.handle.lease)
    assert ledger.trial(ours.id).lease() is None
