"""The ledger says what is true: whole files, damaged ones named, hypotheses kept as first declared."""

import json
import math
from pathlib import Path

import polars as pl
import pytest

from gapctl.errors import InputError, WorkError
from gapctl.ledger import Declaration, LeaseOwner, Ledger, Result
from gapctl.ledger.json_files import serialize_result
from gapctl.ledger.preregistration import DECLARATION
from gapctl.ledger.trial import (
    AXIS,
    CLOUDS,
    CONFIGURATION,
    DIMENSIONS,
    FAILURE,
    HISTORY,
    NEIGHBORS,
    TrialFolder,
)

RESULT = Result(
    trial="0123456789ab",
    metrics={"gap/rmg": 0.25, "bias/moad_image": 0.1},
    samples_seen=512,
    seconds=1.5,
    versions={"python": "3.11"},
    hardware={"device": "cpu", "threads": 1},
)
CLAIMANT = LeaseOwner("run", "sweep")

DECLARED = DECLARATION.serialize(Declaration("imbalance", "Does it?", "00", True, {"smoke": "11"}, {"smoke": ["22"]}))


@pytest.fixture
def folder(tmp_path: Path) -> TrialFolder:
    return Ledger(str(tmp_path / "runs")).trial(RESULT.trial)


def test_a_result_comes_back_as_it_was_written(folder: TrialFolder) -> None:
    folder.finish(RESULT, weights=b"weights")

    assert folder.result() == RESULT


def test_a_trial_without_a_result_is_not_done(folder: TrialFolder) -> None:
    folder.save_checkpoint(256, b"state")

    assert folder.result() is None


def test_equal_results_are_equal_files(tmp_path: Path) -> None:
    shuffled = Result(**{**RESULT.__dict__, "metrics": dict(reversed(RESULT.metrics.items()))})
    for name, result in (("a", RESULT), ("b", shuffled)):
        Ledger(str(tmp_path / name)).trial(RESULT.trial).finish(result, weights=b"")

    a, b = (tmp_path / name / RESULT.trial / "result.json" for name in ("a", "b"))
    assert a.read_bytes() == b.read_bytes()


def test_a_metric_that_is_not_a_number_is_null_in_the_file_and_nan_when_read(
    folder: TrialFolder, tmp_path: Path
) -> None:
    folder.finish(Result(**{**RESULT.__dict__, "metrics": {"gap/rmg": math.nan}}), weights=b"")

    document = json.loads((tmp_path / "runs" / RESULT.trial / "result.json").read_text())
    assert document["metrics"] == {"gap/rmg": None}
    found = folder.result()
    assert found is not None
    assert math.isnan(found.metrics["gap/rmg"])


WHOLE = serialize_result(RESULT).decode()
DAMAGED = {
    "empty": b"",
    "cut": WHOLE[:-20].encode(),
    "a list": b"[]",
    "a key is missing": b'{"trial": "0123456789ab"}',
    "a key too many": WHOLE.replace('"trial"', '"also": 1, "trial"').encode(),
    "not text": b"\xff\xfe",
    "zeros": bytes(200),
    "nested without end": b"[" * 100_000,
    "a metric is text": WHOLE.replace("0.25", '"0.25"').encode(),
    "a metric is true": WHOLE.replace("0.25", "true").encode(),
    "metrics are a list": WHOLE.replace('"metrics": {', '"metrics": [], "m": {').encode(),
    "seconds are text": WHOLE.replace("1.5", '"long"').encode(),
    "no samples": WHOLE.replace("512", "null").encode(),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_result_is_named_with_what_to_do(folder: TrialFolder, tmp_path: Path, content: bytes) -> None:
    folder.finish(RESULT, weights=b"")
    (tmp_path / "runs" / RESULT.trial / "result.json").write_bytes(content)

    with pytest.raises(WorkError, match=r"0123456789ab/result\.json: damaged: .* Move the folder .* away"):
        folder.result()


def test_a_result_in_the_wrong_folder_is_damage(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path))
    ledger.trial("ffffffffffff").finish(RESULT, weights=b"")

    with pytest.raises(WorkError, match="it is the result of trial 0123456789ab"):
        ledger.result("ffffffffffff")


def test_the_newest_two_checkpoints_are_kept_newest_first(folder: TrialFolder) -> None:
    for samples in (256, 512, 1024):
        folder.save_checkpoint(samples, str(samples).encode())

    assert [content for _, content in folder.checkpoints()] == [b"1024", b"512"]


def test_a_finished_trial_keeps_its_weights_and_drops_its_checkpoints(folder: TrialFolder, tmp_path: Path) -> None:
    folder.save_checkpoint(256, b"state")
    folder.acquire(CLAIMANT)
    folder.finish(RESULT, weights=b"weights")

    left = sorted(path.name for path in (tmp_path / "runs" / RESULT.trial).rglob("*") if path.is_file())
    assert left == ["final.pt", "result.json"]


def test_history_keeps_a_column_per_metric_also_where_the_first_row_lacks_it(folder: TrialFolder) -> None:
    folder.save_history([{"samples_seen": 0, "gap/rmg": 0.5}, {"samples_seen": 256, "gap/rmg": 0.4, "train/loss": 2.0}])

    history = folder.read_table(HISTORY)
    assert history is not None
    assert history["train/loss"].to_list() == [None, 2.0]
    assert history["samples_seen"].to_list() == [0, 256]


def test_files_that_are_written_together_are_all_there_once_the_block_ends(folder: TrialFolder) -> None:
    with folder.write_in_parallel():
        folder.save_dimensions([0.5], [0.0])
        folder.save_clouds(b"clouds")
    folder.save_neighbors(b"neighbors")

    found = [folder.read(name) for name in (CLOUDS, NEIGHBORS)]
    assert found == [b"clouds", b"neighbors"]
    assert folder.read_table(DIMENSIONS) is not None


def test_a_file_that_cannot_be_written_with_others_is_named_and_the_others_are_there(
    folder: TrialFolder, tmp_path: Path
) -> None:
    (tmp_path / "runs" / RESULT.trial / CLOUDS / "in the way").mkdir(parents=True)

    def save_both() -> None:
        with folder.write_in_parallel():
            folder.save_clouds(b"clouds")
            folder.save_neighbors(b"neighbors")

    with pytest.raises(WorkError, match=r"clouds\.png: cannot be written"):
        save_both()

    assert folder.read(NEIGHBORS) == b"neighbors"


def test_an_error_in_a_block_leaves_what_it_had_written(folder: TrialFolder) -> None:
    def fail_after_clouds() -> None:
        with folder.write_in_parallel():
            folder.save_clouds(b"clouds")
            raise ArithmeticError("no direction")

    with pytest.raises(ArithmeticError):
        fail_after_clouds()

    assert folder.read(CLOUDS) == b"clouds"


def test_both_centroids_come_back_by_dimension(folder: TrialFolder) -> None:
    assert folder.read_table(DIMENSIONS) is None

    folder.save_dimensions([0.5, 0.25], [0.0, -1.0])

    found = folder.read_table(DIMENSIONS)
    assert found is not None
    assert found.rows() == [(0, 0.5, 0.0), (1, 0.25, -1.0)]
    assert found.columns == ["dimension", "image_mean", "text_mean"]


def test_the_gallery_along_the_gap_comes_back_in_single_precision(folder: TrialFolder) -> None:
    assert folder.read_table(AXIS) is None

    folder.save_axis([0.5, 0.1], [0.0, -1.0], [0.9, 0.8], [3, 7])

    found = folder.read_table(AXIS)
    assert found is not None
    assert found["image"].to_list() == pytest.approx([0.5, 0.1])
    assert found["text"].to_list() == [0.0, -1.0]
    assert found["image_on_mean"].to_list() == pytest.approx([0.9, 0.8])
    assert found["label"].to_list() == [3, 7]
    assert list(map(str, found.dtypes)) == ["Float32"] * 3 + ["Int32"]


def test_a_gallery_of_an_earlier_version_has_its_places_alone(folder: TrialFolder, tmp_path: Path) -> None:
    folder.save_axis([0.5, 0.1], [0.0, -1.0], [0.9, 0.8], [3, 7])
    path = tmp_path / "runs" / RESULT.trial / "axis.parquet"
    pl.read_parquet(path).select("image", "text").write_parquet(path)

    found = folder.read_table(AXIS)

    assert found is not None
    assert found.columns == ["image", "text"]


def test_a_gallery_along_the_gap_with_other_columns_is_named(folder: TrialFolder, tmp_path: Path) -> None:
    folder.save_dimensions([0.5], [0.0])
    (tmp_path / "runs" / RESULT.trial / "dimensions.parquet").rename(tmp_path / "runs" / RESULT.trial / "axis.parquet")

    with pytest.raises(WorkError, match=r"axis\.parquet: damaged: its columns are dimension, image_mean, text_mean"):
        folder.read_table(AXIS)


def test_a_truncated_history_is_named(folder: TrialFolder, tmp_path: Path) -> None:
    folder.save_history([{"samples_seen": 0}])
    path = tmp_path / "runs" / RESULT.trial / "history.parquet"
    path.write_bytes(path.read_bytes()[:-20])

    with pytest.raises(WorkError, match=r"history\.parquet: damaged"):
        folder.read_table(HISTORY)


def test_a_write_that_fails_leaves_the_old_content(folder: TrialFolder, tmp_path: Path) -> None:
    folder.finish(RESULT, weights=b"")
    target = tmp_path / "runs" / RESULT.trial
    before = (target / "result.json").read_bytes()
    target.rename(tmp_path / "elsewhere")
    target.write_text("a file where the folder should be")

    with pytest.raises(WorkError, match="cannot be written"):
        folder.finish(RESULT, weights=b"")
    assert (tmp_path / "elsewhere" / "result.json").read_bytes() == before


def test_a_runs_folder_that_cannot_be_written_is_named_at_once(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path / "runs"))
    (tmp_path / "runs").write_text("a file that came meanwhile")

    with pytest.raises(InputError, match=r"runs/\.writable: cannot be written: .*; check rights and space, or give"):
        ledger.require_writable()


@pytest.mark.parametrize("below", ["", "/runs", "/deeper/runs"])
def test_a_runs_folder_that_is_or_lies_in_a_file_is_named_at_once(tmp_path: Path, below: str) -> None:
    (tmp_path / "taken").write_text("a file")

    with pytest.raises(InputError, match="taken is a file; expected a folder, or the name of a new one"):
        Ledger(f"{tmp_path}/taken{below}")


@pytest.mark.parametrize(("address", "found"), [("nowhere://runs", " nowhere://runs: .*"), ("", ": found nothing")])
def test_an_address_that_no_file_system_understands_is_named(address: str, found: str) -> None:
    with pytest.raises(InputError, match=rf"--runs{found}; expected a folder, or an address"):
        Ledger(address)


def test_a_ledger_in_an_object_store_keeps_the_same_contract() -> None:
    folder = Ledger("memory://ledger-test/runs").trial(RESULT.trial)
    folder.save_checkpoint(256, b"state")
    folder.finish(RESULT, weights=b"weights")

    assert folder.result() == RESULT
    assert folder.checkpoints() == []


def test_a_failure_is_kept_until_the_trial_begins_again(folder: TrialFolder) -> None:
    folder.fail("Traceback ...\nRuntimeError: no")

    assert folder.read_text(FAILURE) == "Traceback ...\nRuntimeError: no"


def test_a_trial_is_being_trained_only_while_it_reports(folder: TrialFolder, tmp_path: Path) -> None:
    folder.acquire(CLAIMANT)
    folder.heartbeat(256)
    lease = folder.lease()
    assert lease is not None
    assert (lease.samples_seen, lease.seems_alive) == (256, True)

    path = tmp_path / "runs" / RESULT.trial / "lease.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"renewed": 0.0}))
    lease = folder.lease()
    assert lease is not None
    assert not lease.seems_alive


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"samples_seen": "many", "renewed": null}', b"\xff\xfe"])
def test_a_damaged_lease_shows_no_training(folder: TrialFolder, tmp_path: Path, content: bytes) -> None:
    folder.acquire(CLAIMANT)
    (tmp_path / "runs" / RESULT.trial / "lease.json").write_bytes(content)

    assert folder.lease() is None


def test_a_trial_file_that_is_no_text_is_named(folder: TrialFolder, tmp_path: Path) -> None:
    (tmp_path / "runs" / RESULT.trial).mkdir(parents=True)
    (tmp_path / "runs" / RESULT.trial / "trial.yaml").write_bytes(b"label: \xff")

    with pytest.raises(WorkError, match=r"trial\.yaml: damaged"):
        folder.read_text(CONFIGURATION)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"sweep": "s"}', b"\xff", DECLARED.replace(b"true", b'"false"'), DECLARED[:-9]]
)
def test_a_damaged_declaration_is_named_with_what_to_do(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "imbalance.sweep.json").write_bytes(content)

    with pytest.raises(WorkError, match=r"imbalance\.sweep\.json: damaged: .* Restore it from a backup"):
        Ledger(str(tmp_path)).read_declaration("imbalance")
