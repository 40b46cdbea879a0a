"""Results of many trials in a bucket are read from one file, so long as each is still that of its trial."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gapctl.errors import WorkError
from gapctl.io.files import FEW_FILES
from gapctl.ledger import Ledger, LedgerSnapshot, Result
from gapctl.ledger.json_files import serialize_result
from gapctl.ledger.ledger import PACKED_RESULTS
from object_store import BUCKET, Store, object_store

RUNS = f"s3://{BUCKET}/runs"
IDS = [f"{number:012x}" for number in range(FEW_FILES + 2)]
*DONE, LEFT = IDS


def made_up(trial_id: str, gap: float = 0.25) -> Result:
    return Result(trial_id, {"gap/rmg": gap}, 512, 1.5, {}, {})


def put(store: Store, trial_id: str, result: Result) -> None:
    store.client().put_object(Bucket=BUCKET, Key=f"runs/{trial_id}/result.json", Body=serialize_result(result))


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    """A bucket with finished trials, whose results are packed."""
    with object_store() as served:
        for trial_id in DONE:
            put(served, trial_id, made_up(trial_id))
        assert LedgerSnapshot(RUNS).pack_results(IDS) == len(DONE)
        yield served


def test_packed_results_are_read_without_a_request_for_each(store: Store) -> None:
    with store.failing("InternalError", only="result.json") as happened:
        found = Ledger(RUNS).results(IDS)

    assert found == [*map(made_up, DONE), None]
    assert not sum(happened.values())


def test_few_results_are_read_from_their_own_files(store: Store) -> None:
    with store.failing("InternalError", only=PACKED_RESULTS) as happened:
        assert Ledger(RUNS).results(DONE[:2]) == [*map(made_up, DONE[:2])]

    assert not sum(happened.values())


def test_a_trial_that_was_moved_away_or_trained_anew_is_not_what_it_was_when_packed(store: Store) -> None:
    gone, anew = DONE[:2]
    store.client().delete_object(Bucket=BUCKET, Key=f"runs/{gone}/result.json")
    put(store, anew, made_up(anew, gap=0.5))
    found = dict(zip(IDS, Ledger(RUNS).results(IDS), strict=True))

    assert found[gone] is None
    assert found[anew] == made_up(anew, gap=0.5)
    assert gone not in Ledger(RUNS).finished(IDS)
    put(store, gone, made_up(gone))
    assert LedgerSnapshot(RUNS).pack_results(IDS) == 0, "one new result is left to its own file"


def test_a_damaged_file_of_packed_results_is_as_none(store: Store) -> None:
    before = store.client().get_object(Bucket=BUCKET, Key=f"runs/{PACKED_RESULTS}")["Body"].read()
    for content in (b"", b"nonsense", before[:100]):
        store.client().put_object(Bucket=BUCKET, Key=f"runs/{PACKED_RESULTS}", Body=content)
        assert [result is not None for result in Ledger(RUNS).results(IDS)] == [True] * len(DONE) + [False]


def test_a_damaged_result_is_named_where_many_are_read(store: Store) -> None:
    store.client().put_object(Bucket=BUCKET, Key=f"runs/{LEFT}/result.json", Body=b"{}")
    *_, found = Ledger(RUNS).results(IDS)

    assert isinstance(found, WorkError)
    assert f"{LEFT}/result.json: damaged" in str(found)


def test_a_ledger_on_a_disk_packs_nothing(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path))
    for trial_id in DONE[:2]:
        ledger.trial(trial_id).finish(made_up(trial_id), weights=b"")

    assert ledger.pack_results(IDS) == 0
    assert not (tmp_path / PACKED_RESULTS).exists()
