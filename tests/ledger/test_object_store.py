"""A ledger in a real object store, whose server also fails: nothing is lost, half written, or waited for for ever."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from command_line import gapctl
from gapctl.config.load import load_sweep
from gapctl.errors import InputError, WorkError
from gapctl.io import files as object_store
from gapctl.io import retry as stores
from gapctl.io.files import Folder
from gapctl.ledger import Ledger, Result
from gapctl.ledger.lease import LEASE_SECONDS, RENEWAL_SECONDS, LeaseOwner
from gapctl.ledger.trial import CONFIGURATION
from gapctl.plan.plan import make_plan
from object_store import BUCKET, PASSING, Fault, Store
from object_store import object_store as served

RUNS = f"s3://{BUCKET}/runs"
SWEEP = Path(__file__).parents[2] / "sweeps/imbalance.yaml"
ONCE = {"connect_timeout": 5, "read_timeout": 20, "retries": {"mode": "standard", "total_max_attempts": 1}}
"""botocore tries nothing again, so that all that goes wrong reaches gapctl."""
RESULT = Result("0123456789ab", {"gap/rmg": 0.25}, 512, 1.5, {}, {})


@pytest.fixture(scope="module")
def server() -> Iterator[Store]:
    with served() as store:
        yield store


@pytest.fixture
def store(server: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The server with an empty bucket, and nobody as patient with it as with one that is far away."""
    for name in server.names():
        server.client().delete_object(Bucket=BUCKET, Key=name)
    server.asked.clear()
    monkeypatch.setattr(stores, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(stores, "LONGEST_PAUSE", 0.05)
    monkeypatch.setattr(object_store, "FIRST_SECONDS", 1.0)
    monkeypatch.setattr(stores, "OPTIONS", {"s3": stores.OPTIONS["s3"] | {"config_kwargs": ONCE}})
    return server


def test_a_trial_is_kept_as_on_a_disk(store: Store) -> None:
    folder = Ledger(RUNS).trial(RESULT.trial)
    for samples in (256, 512, 1024):
        folder.save_checkpoint(samples, str(samples).encode())
    assert [content for _, content in folder.checkpoints()] == [b"1024", b"512"]

    folder.finish(RESULT, weights=b"weights")

    assert Ledger(RUNS).result(RESULT.trial) == RESULT
    assert Ledger(RUNS).finished([RESULT.trial, "ffffffffffff"]) == {RESULT.trial}
    assert store.names() == [f"runs/{RESULT.trial}/{name}" for name in ("checkpoints/final.pt", "result.json")]


def test_what_another_process_wrote_is_seen_at_once(store: Store) -> None:
    ledger = Ledger(RUNS)
    assert ledger.list_trial_ids() == []
    store.client().put_object(Bucket=BUCKET, Key=f"runs/{RESULT.trial}/trial.yaml", Body=b"trial: 1")

    assert ledger.list_trial_ids() == [RESULT.trial]
    assert ledger.trial(RESULT.trial).read_text(CONFIGURATION) == "trial: 1"


def test_a_file_is_read_by_one_request_whether_it_is_there_or_not(store: Store) -> None:
    folder = Folder(RUNS)
    folder.write("there.json", b"{}")
    store.asked.clear()

    assert folder.read("there.json") == b"{}"
    assert folder.read("missing.json") is None
    assert store.asked == ["GET", "GET"]


def test_a_trial_that_nobody_began_before_begins_without_a_listing(store: Store) -> None:
    trial = make_plan(load_sweep(SWEEP, "smoke"), lambda data: "any").trials[0]
    folder = Ledger(RUNS).trial(trial.id)
    folder.acquire(LeaseOwner.for_sweep("any"))

    folder.begin(trial)
    assert folder.checkpoints() == []
    assert "LIST" not in store.asked

    folder.save_checkpoint(256, b"256")
    folder.release()
    again = Ledger(RUNS).trial(trial.id)
    again.acquire(LeaseOwner.for_sweep("any"))
    again.begin(trial)
    assert [content for _, content in again.checkpoints()] == [b"256"]


def test_a_lease_is_renewed_by_a_read_and_a_write(store: Store) -> None:
    folder = Ledger(RUNS).trial(RESULT.trial)
    folder.acquire(LeaseOwner.for_sweep("any"))
    store.asked.clear()

    folder.heartbeat(256)

    assert store.asked == ["GET", "PUT"]


@pytest.mark.parametrize("kind", PASSING)
def test_one_fault_of_each_kind_passes_unnoticed(store: Store, kind: Fault) -> None:
    folder = Folder(RUNS)
    with store.failing(kind, share=0.5, latency=0.005) as happened:
        for number in range(4):
            folder.write(f"{number}.json", str(number).encode())
            assert folder.read(f"{number}.json") == str(number).encode()
        folder.remove("0.json")
        assert folder.read("none.json") is None
        assert folder.names("") == [f"{number}.json" for number in range(1, 4)]

    assert happened[kind]


def test_faults_of_all_kinds_pass_with_the_client_as_it_is_shipped(server: Store) -> None:
    folder = Folder(RUNS)
    with server.failing(share=0.25) as happened:
        for number in range(8):
            folder.write("a.json", str(number).encode())
            assert folder.read("a.json") == str(number).encode()

    assert sum(happened.values())


def test_a_store_that_is_busy_is_never_taken_for_one_without_the_file(store: Store) -> None:
    ledger = Ledger(RUNS)
    ledger.trial(RESULT.trial).finish(RESULT, weights=b"")
    with store.failing("SlowDown", "reset", share=0.4):
        for _ in range(4):
            assert ledger.finished([RESULT.trial]) == {RESULT.trial}
            assert ledger.results([RESULT.trial]) == [RESULT]


@pytest.mark.parametrize("kind", ["InternalError", "SlowDown", "reset"])
def test_a_store_that_stays_away_is_named_with_what_to_do(store: Store, kind: Fault) -> None:
    with store.failing(kind), pytest.raises(WorkError) as found:
        Folder(RUNS).write("a.json", b"{}")

    assert str(found.value).startswith(f"{RUNS}/a.json: cannot be written: ")
    assert "see whether the store can be reached from here and answers, then give the same command" in str(found.value)
    assert store.names() == []


def test_what_asks_whether_a_file_is_there_says_that_it_cannot_know(store: Store) -> None:
    with store.failing("SlowDown"), pytest.raises(WorkError, match="cannot be looked for"):
        Ledger(RUNS).filter_by_file([RESULT.trial], "result.json")


def test_a_store_that_is_silent_is_given_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "REQUEST_SECONDS", 1.0)
    with store.failing("silence"), pytest.raises(WorkError, match=r"cannot be written: .*asked for"):
        Folder(RUNS).write("a.json", b"{}")


def test_a_store_that_answered_once_is_waited_for(store: Store) -> None:
    folder = Folder(RUNS)
    folder.write("a.json", b"1")
    with store.failing("SlowDown"):
        later = threading.Timer(3 * object_store.FIRST_SECONDS, store.mend)
        later.start()
        folder.write("a.json", b"2")
        later.join()

    assert folder.read("a.json") == b"2"


def test_a_training_waits_no_longer_than_its_lease_lasts() -> None:
    longest = object_store.AGAIN_SECONDS + object_store.REQUEST_SECONDS + RENEWAL_SECONDS

    assert longest < LEASE_SECONDS


@pytest.mark.parametrize("old", [None, b"theirs"])
def test_of_several_that_take_a_file_at_once_one_does_also_while_the_store_fails(
    store: Store, monkeypatch: pytest.MonkeyPatch, old: bytes | None
) -> None:
    monkeypatch.setattr(object_store, "FIRST_SECONDS", 30.0)
    if old is not None:
        Folder(RUNS).write("lease.json", old)
    takers = [b"one", b"two", b"three", b"four"]
    with store.failing(share=0.2), ThreadPoolExecutor(len(takers)) as pool:
        took = list(pool.map(lambda mine: Folder(RUNS).swap_content("lease.json", old, mine), takers))

    assert took.count(True) == 1
    assert Folder(RUNS).read("lease.json") == takers[took.index(True)]


def test_an_upload_in_parts_that_breaks_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "AGAIN_SECONDS", 0.5)
    folder, content = Folder(RUNS), b"x" * (101 << 20)
    folder.write("before", b"1")
    breaking = store.failing("InternalError", only="partNumber=2")
    with breaking, pytest.raises(WorkError, match=r"large\.pt: cannot be written"):
        folder.write("large.pt", content)
    assert "runs/large.pt" not in store.names()

    folder.write("large.pt", content)

    assert folder.read("large.pt") == content


@pytest.mark.parametrize(
    ("runs", "said"),
    [("s3://no-such-bucket/runs", "The specified bucket does not exist"), (RUNS, "NoCredentials|credentials")],
)
def test_an_address_that_is_wrong_is_refused_at_once(
    store: Store, monkeypatch: pytest.MonkeyPatch, runs: str, said: str
) -> None:
    if runs == RUNS:
        from s3fs import S3FileSystem

        S3FileSystem.clear_instance_cache()
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(InputError, match=said):
        Ledger(runs).require_writable()


def test_a_verb_on_a_store_that_nobody_serves_says_so_without_a_traceback(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from s3fs import S3FileSystem

    from unhelpful_servers import unused_address

    S3FileSystem.clear_instance_cache()
    monkeypatch.setenv("AWS_ENDPOINT_URL", unused_address())
    answer = gapctl("analyze", "--all", "--runs", RUNS)
    S3FileSystem.clear_instance_cache()

    assert answer.exit_code in (1, 2)
    assert "Could not connect to the endpoint" in answer.err
    assert "Traceback" not in answer.err
