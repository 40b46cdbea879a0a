"""A trial's lease has one holder at a time, who loses it when it stops to renew it or its process ends."""

import json
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from gapctl.io import files as object_store
from gapctl.io.files import Disk, Folder
from gapctl.ledger import Lease, LeaseLostError, LeaseOwner, Ledger, Result
from gapctl.ledger import lease as process
from gapctl.ledger.lease import Process, get_this_process, has_process_ended
from gapctl.ledger.trial import FAILURE, WEIGHTS, TrialFolder

TRIAL = "0123456789ab"
RESULT = Result(TRIAL, {"gap/rmg": 0.25}, 512, 1.5, {}, {})
OURS, THEIRS = LeaseOwner("ours", "imbalance"), LeaseOwner("theirs", "entropy")
HOLDER = """
import sys, time
from gapctl.ledger import LeaseOwner, Ledger
assert Ledger(sys.argv[1]).trial(sys.argv[2]).acquire(LeaseOwner("theirs", "entropy")) is None
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture(params=["disk", "memory"])
def runs(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new ledger's address; in memory others are waited for less long than across machines."""
    monkeypatch.setattr(object_store, "SETTLE_SECONDS", 0.2)
    return str(tmp_path / "runs") if request.param == "disk" else f"memory://{tmp_path.name}-leases/runs"


def folder_in(runs: str) -> TrialFolder:
    return Ledger(runs).trial(TRIAL)


def taken(runs: str, claimant: LeaseOwner = OURS) -> TrialFolder:
    folder = folder_in(runs)
    assert folder.acquire(claimant) is None
    return folder


def content_of(folder: TrialFolder) -> bytes:
    (found,) = Ledger(str(folder.path()).rsplit("/", 2)[0]).contents([TRIAL], "lease.json")
    assert isinstance(found, bytes)
    return found


def held(folder: TrialFolder) -> Lease:
    assert folder.handle is not None
    return folder.handle.lease


def test_a_lease_names_its_holder_and_keeps_others_away(runs: str) -> None:
    ours = taken(runs)
    ours.heartbeat(256)

    found = folder_in(runs).acquire(THEIRS)
    assert found == held(ours)
    assert found is not None
    assert found.process == get_this_process()
    assert (found.run, found.sweep, found.samples_seen) == ("ours", "imbalance", 256)
    assert found.held_by == f"held by {get_this_process().host} pid {os.getpid()}"


@pytest.mark.parametrize("end", ["rest", "fail", "finish"])
def test_a_trial_that_ended_is_free(runs: str, end: str) -> None:
    folder = taken(runs)
    {"rest": folder.release, "fail": lambda: folder.fail("no"), "finish": lambda: folder.finish(RESULT, b"")}[end]()

    taken(runs, THEIRS)


def test_an_attempt_that_ray_gave_up_leaves_its_trial_to_the_next_of_the_same_sweep(runs: str) -> None:
    first, second = taken(runs), taken(runs)

    assert held(first).holder != held(second).holder
    with pytest.raises(LeaseLostError, match=f"{TRIAL} is held by .* pid .*, which took it over"):
        first.heartbeat(512)


def test_who_lost_a_lease_writes_no_result_and_keeps_its_hands_off_the_new_one(runs: str) -> None:
    lost = taken(runs, THEIRS)
    ours = folder_in(runs)
    assert ours.acquire(OURS, expired=content_of(lost)) is None

    with pytest.raises(LeaseLostError):
        lost.finish(RESULT, b"weights")
    lost.release()

    assert ours.result() is None
    assert ours.read(WEIGHTS) is None
    assert ours.lease() == held(ours)


@pytest.mark.parametrize("act", ["beat", "finish", "fail"])
def test_who_wakes_when_the_other_has_finished_leaves_its_result_alone(runs: str, act: str) -> None:
    woken, other = taken(runs, THEIRS), folder_in(runs)
    assert other.acquire(OURS, expired=content_of(woken)) is None
    other.finish(RESULT, b"the other's")

    late = replace(RESULT, seconds=999.0)
    acts = {
        "beat": lambda: woken.heartbeat(512),
        "finish": lambda: woken.finish(late, b""),
        "fail": lambda: woken.fail("no"),
    }
    with pytest.raises(LeaseLostError, match=f"{TRIAL} was finished by another process, which took it over"):
        acts[act]()

    assert (other.result(), other.read(WEIGHTS), other.read_text(FAILURE)) == (RESULT, b"the other's", None)
    assert other.lease() is None


def test_a_result_that_comes_between_the_look_and_the_putting_back_is_seen_too(
    runs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    woken, other = taken(runs, THEIRS), folder_in(runs)
    woken.clear_lease("theirs")
    swap = Folder.swap_content

    def after_the_other_finished(folder: Folder, *words: Any) -> bool:
        monkeypatch.setattr(Folder, "swap_content", swap)
        assert other.acquire(OURS) is None
        other.finish(RESULT, b"the other's")
        return swap(folder, *words)

    monkeypatch.setattr(Folder, "swap_content", after_the_other_finished)
    with pytest.raises(LeaseLostError, match="was finished by another process"):
        woken.heartbeat(512)

    assert other.lease() is None


def test_who_lost_a_lease_marks_no_trial_failed_that_another_trains(runs: str) -> None:
    lost, ours = taken(runs, THEIRS), folder_in(runs)
    assert ours.acquire(OURS, expired=content_of(lost)) is None

    with pytest.raises(LeaseLostError, match=f"{TRIAL} is held by"):
        lost.fail("Traceback")

    assert ours.read_text(FAILURE) is None
    assert ours.lease() == held(ours)


def test_a_run_gives_up_what_its_ended_process_held(runs: str) -> None:
    taken(runs)

    assert folder_in(runs).abandon_trial("ours", "it vanished") is None
    assert folder_in(runs).read_text(FAILURE) == "it vanished"
    assert folder_in(runs).lease() is None


def test_a_run_gives_up_nothing_that_another_trains_by_now(runs: str) -> None:
    theirs = taken(runs, THEIRS)

    assert folder_in(runs).abandon_trial("ours", "it vanished") == held(theirs)
    assert folder_in(runs).read_text(FAILURE) is None
    assert folder_in(runs).lease() == held(theirs)


def test_a_lease_of_another_machine_is_left_alone_however_old_it_looks(runs: str) -> None:
    theirs = taken(runs, THEIRS)
    old = replace(held(theirs), machine="another", taken=0.0, renewed=0.0)
    Ledger(runs).keep(f"{TRIAL}/lease.json", json.dumps(asdict(old)).encode())

    assert folder_in(runs).abandon_trial("ours", "it vanished") == old
    assert folder_in(runs).read_text(FAILURE) is None


def test_a_lease_that_was_renewed_after_it_was_seen_to_expire_is_not_taken(runs: str) -> None:
    theirs = taken(runs, THEIRS)
    seen = content_of(theirs)
    theirs.heartbeat(256)

    assert folder_in(runs).acquire(OURS, expired=seen) == held(theirs)


def test_a_lease_that_is_gone_is_put_back_by_its_holder(runs: str) -> None:
    ours = taken(runs)
    ours.clear_lease("ours")
    assert ours.lease() is None
    ours.heartbeat(256)

    assert folder_in(runs).acquire(THEIRS) == held(ours)


def test_a_lease_that_cannot_be_read_holds_until_it_was_seen_to_expire(runs: str) -> None:
    Ledger(runs).keep(f"{TRIAL}/lease.json", b'{"by": "a later version"}')

    found = folder_in(runs).acquire(OURS)
    assert found is not None
    assert "an unknown machine" in found.held_by
    assert folder_in(runs).acquire(OURS, expired=b'{"by": "a later version"}') is None


def test_a_lease_that_another_handle_renewed_is_renewed_again_once_that_falls_silent(runs: str) -> None:
    waiting = taken(runs)
    assert waiting.handle is not None
    training = folder_in(runs)
    training.attach(waiting.handle.lease)
    training.heartbeat(256)
    waiting.handle.renew_if_late()

    contents = [content_of(waiting)]
    for _ in range(2):
        waiting.handle.renew_if_late()
        contents.append(content_of(waiting))

    assert len(set(contents)) > 1


def test_only_a_lease_that_nobody_renewed_is_renewed_beside_the_training(runs: str) -> None:
    ours = taken(runs)
    assert ours.handle is not None
    ours.heartbeat(256)
    ours.handle.renew_if_late()
    as_renewed_by_the_training = content_of(ours)
    assert held(ours).samples_seen == 256

    ours.handle.renew_if_late()
    assert content_of(ours) != as_renewed_by_the_training
    assert held(ours).samples_seen == 256

    hold = ours.handle
    ours.release()
    hold.renew_if_late()
    assert folder_in(runs).lease() is None


def test_a_killed_holder_is_gone_at_once(tmp_path: Path) -> None:
    runs = str(tmp_path / "runs")
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, runs, TRIAL], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        lease = folder_in(runs).acquire(OURS)
        assert lease is not None
        assert lease.pid == holder.pid
        assert lease.seems_alive
    finally:
        os.kill(holder.pid, signal.SIGKILL)
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie, of which nobody has asked

    assert not lease.seems_alive
    taken(runs)
    holder.communicate()


def test_another_process_with_the_same_number_is_another() -> None:
    me = get_this_process()

    assert not has_process_ended(me)
    assert has_process_ended(replace(me, started="1"))
    assert has_process_ended(Process(me.host, me.machine, 2**22 + 1, me.started))
    assert not has_process_ended(Process(me.host, "another machine", 2**22 + 1, me.started))


@pytest.mark.skipif(shutil.which("ps") is None, reason="this machine has no ps")
def test_when_a_process_began_is_the_same_in_any_time_zone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(process, "PROC", tmp_path)  # as where there is no /proc
    monkeypatch.setenv("TZ", "UTC")
    here = process._read_start_time(os.getpid())
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")

    assert here
    assert process._read_start_time(os.getpid()) == here


def test_of_many_that_take_a_trial_at_once_one_has_it(runs: str) -> None:
    claimants = [LeaseOwner(f"run {number}", "imbalance") for number in range(16)]
    with ThreadPoolExecutor(16) as pool:
        others = list(pool.map(lambda claimant: folder_in(runs).acquire(claimant), claimants))

    assert sum(other is None for other in others) == 1


def test_of_many_that_take_over_what_expired_one_has_it(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    for number in range(50):
        name = f"{number}/lease.json"
        assert disk.swap_content(name, None, b"expired")
        with ThreadPoolExecutor(4) as pool:
            new = [f"{number} {taker}".encode() for taker in range(4)]
            won = list(pool.map(partial(disk.swap_content, name, b"expired"), new))
        assert sum(won) == 1
        assert disk.read(name) == new[won.index(True)]
        assert disk.names(str(number)) == ["lease.json"]


def _race(place: str) -> int:
    disk = Disk(Path(place))
    return sum(disk.swap_content(f"{number}/lease.json", None, str(os.getpid()).encode()) for number in range(200))


def test_processes_that_take_the_same_trials_share_them(tmp_path: Path) -> None:
    with get_context("fork").Pool(2) as pool:
        shares = pool.map(_race, [str(tmp_path)] * 2)

    assert sum(shares) == 200


def test_a_file_system_without_second_names_has_one_holder_too(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    with mock.patch("os.link", side_effect=PermissionError(1, "Operation not permitted")):
        assert disk.swap_content("lease.json", None, b"ours")
        assert not disk.swap_content("lease.json", None, b"theirs")
        assert not disk.swap_content("lease.json", b"other", b"theirs")
        assert disk.swap_content("lease.json", b"ours", b"theirs")
    assert disk.read("lease.json") == b"theirs"


def test_what_another_put_there_between_look_and_taking_stays(tmp_path: Path) -> None:
    disk, read = Disk(tmp_path), Path.read_bytes
    disk.write("lease.json", b"expired")

    def read_before_another_takes_it(path: Path) -> bytes:
        content = read(path)
        if path.name == "lease.json":
            disk.write("lease.json", b"another's")
        return content

    with mock.patch.object(Path, "read_bytes", read_before_another_takes_it):
        assert not disk.swap_content("lease.json", b"expired", b"ours")
    assert disk.read("lease.json") == b"another's"
    assert [path.name for path in tmp_path.iterdir()] == ["lease.json"]


def test_a_lease_is_json_that_people_read(tmp_path: Path) -> None:
    taken(str(tmp_path))

    document = json.loads((tmp_path / TRIAL / "lease.json").read_text())
    assert {"holder", "host", "pid", "sweep", "taken", "renewed", "samples_seen"} < set(document)
