"""A trial's lease: who trains it. No two processes hold one at a time, and one that is not renewed ends."""

import json
import os
import socket
import subprocess
import threading
import time
import uuid
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, with_config

from gapctl.errors import WorkError
from gapctl.io.files import Folder
from gapctl.ledger.documents import RESULT_FILE, STRICT_DOCUMENT, parse_document

PROC: Final = Path("/proc")
PLAIN_LOCALE: Final = {"LC_ALL": "C", "TZ": "UTC"}
"""So that `ps` writes one time alike for all who ask, whatever their time zones and languages."""


@dataclass(frozen=True)
class Process:
    """`machine` is the same for all processes that see each other's numbers, until it is started anew.

    `started` is when the process began, as its system counts.
    """

    host: str
    machine: str
    pid: int
    started: str


def get_this_process() -> Process:
    """The process that asks."""
    return _get_process(os.getpid())


def is_gone(process: Process) -> bool:
    """Whether it ended for certain; what another machine does is not known here."""
    return process.machine == _read_machine_id() and _read_start_time(process.pid) != process.started


def is_running_here(process: Process) -> bool:
    """Whether it is one of this machine that has not ended."""
    return process.machine == _read_machine_id() and not is_gone(process)


@cache
def _get_process(pid: int) -> Process:
    return Process(socket.gethostname(), _read_machine_id(), pid, _read_start_time(pid))


@cache
def _read_machine_id() -> str:
    """A boot of Linux and its space of process numbers (a container has its own); elsewhere the network card's."""
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {(PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return f"{socket.gethostname()} {uuid.getnode():x}"


def _read_start_time(pid: int) -> str:
    """When it began; nothing where there is no such process, or only what its parent has yet to hear of."""
    if (PROC / "self/stat").exists():
        return _read_proc_start_time(pid)
    command = ["ps", "-o", "lstart=", "-p", str(pid)]
    told = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **PLAIN_LOCALE})
    return told.stdout.strip()


def _read_proc_start_time(pid: int) -> str:
    """In ticks since the boot: field 22 of proc(5)'s `stat`, whose second field may have spaces."""
    try:
        after_name = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    state, started = after_name[0], after_name[19]
    return "" if state in "ZX" else started


LEASE_FILE: Final = "lease.json"
LEASE_SECONDS: Final = 120.0
"""A lease that nobody renewed for so long has ended: its holder was killed or froze, or its machine was lost."""
RENEWAL_SECONDS: Final = 10.0
ACQUIRE_ATTEMPTS: Final = 3


@dataclass(frozen=True)
class LeaseOwner:
    """On whose behalf trials are taken: one run of a command (`run`, unlike all others) for a sweep."""

    run: str
    sweep: str

    @classmethod
    def for_sweep(cls, name: str) -> "LeaseOwner":
        """A new run of a command."""
        return cls(uuid.uuid4().hex, name)


@with_config(STRICT_DOCUMENT)
@dataclass(frozen=True)
class Lease:
    """`runs/<trial>/lease.json`: its holder (one attempt), for which run and sweep, in which process, and since when.

    Times are the holder's clock in seconds since 1970 and only shown: clocks of machines differ.
    """

    holder: str
    run: str
    sweep: str
    host: str
    machine: str
    pid: int
    started: str
    taken: float
    renewed: float
    samples_seen: int

    @property
    def process(self) -> Process:
        """The process that holds it."""
        return Process(self.host, self.machine, self.pid, self.started)

    @property
    def held_by(self) -> str:
        """`held by node-7 pid 4711`."""
        return f"held by {self.host} pid {self.pid}"

    @property
    def seems_alive(self) -> bool:
        """Whether its holder showed itself of late, as far as clocks and processes tell at one look."""
        return time.time() - self.renewed < LEASE_SECONDS and not is_gone(self.process)


_LEASE_ADAPTER: Final = TypeAdapter(Lease)
UNREADABLE_LEASE: Final = Lease("", "", "another version", "an unknown machine", "", 0, "", 0.0, 0.0, 0)
"""Stands for a lease that this version cannot read; it ends like others."""


class LeaseLostError(WorkError):
    """Another process trains the trial now, or has finished it; what this one has of it must not be written any more.

    `lease` is the other's; given as None, the trial is done and nobody holds it.
    """

    def __init__(self, trial_id: str, lease: Lease | None) -> None:
        super().__init__(trial_id, lease)
        self.trial_id, self.lease, self._done = trial_id, lease or UNREADABLE_LEASE, lease is None

    def __str__(self) -> str:
        found = "was finished by another process" if self._done else f"is {self.lease.held_by}"
        return f"{self.trial_id} {found}, which took it over when this process did not renew its lease"


class LeaseHandle:
    """A process's hold on a trial, from the taking of its lease to its release."""

    def __init__(self, runs: Folder, trial_id: str, lease: Lease) -> None:
        self.lease = lease
        self._runs, self._trial_id, self._name = runs, trial_id, _name_lease(trial_id)
        self._one_at_a_time, self._released, self._looked_at = threading.Lock(), False, lease.renewed

    def renew_lease(self, samples_seen: int) -> None:
        """Says that the trial is still trained, and how far it is; raises LeaseLostError where another has it."""
        with self._one_at_a_time:
            self._write_lease(replace(self._read_own_lease(), renewed=time.time(), samples_seen=samples_seen))

    def renew_if_late(self) -> None:
        """Renews it if nobody has since this was last asked; raises LeaseLostError where another has it."""
        with self._one_at_a_time:
            if self._released:
                return
            found = self._read_own_lease()
            if found.renewed == self._looked_at:
                found = replace(found, renewed=time.time())
                self._write_lease(found)
            self._looked_at = found.renewed

    def require_ownership(self) -> None:
        """Raises LeaseLostError where another has the trial."""
        with self._one_at_a_time:
            self._read_own_lease()

    def release(self) -> None:
        """Lets others take the trial at once."""
        with self._one_at_a_time:
            self._released = True
            self._remove_lease()

    def _remove_lease(self) -> None:
        found = parse_lease(self._runs.read(self._name))
        if found is not None and found.holder == self.lease.holder:
            self._runs.remove(self._name)

    def _write_lease(self, lease: Lease) -> None:
        self._runs.write(self._name, _serialize_lease(lease))
        self.lease = lease

    def _read_own_lease(self) -> Lease:
        """The lease as it lies there; put back where it is gone, as between a taker's look at it and its mistake."""
        content = self._runs.read(self._name)
        if content is None and self._restore_lease():
            return self.lease
        found = parse_lease(content if content is not None else self._runs.read(self._name))
        if found is None or found.holder != self.lease.holder:
            raise LeaseLostError(self._trial_id, found or UNREADABLE_LEASE)
        return found

    def _restore_lease(self) -> bool:
        """Whether the lease lies there again, and not another's.

        A result is looked for once more afterwards: another may have taken the trial and finished it between.
        """
        self._require_unfinished()
        if not self._runs.swap_content(self._name, None, _serialize_lease(self.lease)):
            return False
        try:
            self._require_unfinished()
        except LeaseLostError:
            self._remove_lease()
            raise
        return True

    def _require_unfinished(self) -> None:
        if self._runs.exists(f"{self._trial_id}/{RESULT_FILE}"):
            raise LeaseLostError(self._trial_id, None)


def acquire_lease(
    runs: Folder, trial_id: str, claimant: LeaseOwner, expired: bytes | None = None
) -> LeaseHandle | Lease:
    """The hold on a trial, or the lease of whoever has it.

    A lease is free where its process is no more, where an earlier attempt of the same run left it (Ray has given that
    process up), and where it still is what the caller saw expire.
    """
    found = runs.read(_name_lease(trial_id))
    for _ in range(ACQUIRE_ATTEMPTS):
        lease = parse_lease(found)
        if found is not None and found != expired and not _is_free(lease, claimant):
            return lease or UNREADABLE_LEASE
        mine = _make_lease(claimant)
        if runs.swap_content(_name_lease(trial_id), found, _serialize_lease(mine)):
            return LeaseHandle(runs, trial_id, mine)
        found = runs.read(_name_lease(trial_id))
    return parse_lease(found) or UNREADABLE_LEASE


def parse_lease(content: bytes | None) -> Lease | None:
    """The lease in a file's content; None where there is none, or what cannot be read."""
    try:
        return None if content is None else parse_document(_LEASE_ADAPTER, content)
    except ValueError:
        return None


def _is_free(lease: Lease | None, claimant: LeaseOwner) -> bool:
    return lease is not None and (lease.run == claimant.run or is_gone(lease.process))


def _make_lease(claimant: LeaseOwner) -> Lease:
    now, process = time.time(), get_this_process()
    return Lease(
        holder=uuid.uuid4().hex,
        run=claimant.run,
        sweep=claimant.sweep,
        **asdict(process),
        taken=now,
        renewed=now,
        samples_seen=0,
    )


def _serialize_lease(lease: Lease) -> bytes:
    return (json.dumps(asdict(lease), indent=1) + "\n").encode()


def _name_lease(trial_id: str) -> str:
    return f"{trial_id}/{LEASE_FILE}"
