"""Leases: which process trains a trial.

1. A process takes a trial with `acquire_lease`, which writes `runs/<trial>/lease.json` by compare-and-swap.
2. While it trains, it renews the lease through its `LeaseHandle`, at least every `LEASE_SECONDS`.
3. Every write of a result first checks that the lease is still its own; otherwise LeaseLostError is raised.
4. A lease may be taken over if its process is gone, if the same run left it, or if the caller saw it unchanged for
   `LEASE_SECONDS`. That is measured on the observer's clock (sweep/lease_watch.py), because clocks of different
   machines disagree.
"""

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
from gapctl.ledger.json_files import RESULT_FILE, STRICT_DOCUMENT, DocumentKind

PROC: Final = Path("/proc")
PLAIN_LOCALE: Final = {"LC_ALL": "C", "TZ": "UTC"}
"""Makes `ps` print times alike in all time zones and languages."""


@dataclass(frozen=True)
class Process:
    """A process, identified across restarts and reused pids.

    `machine` is equal for processes that see each other's pids, until the machine restarts. `started` is the start time
    as the system counts it.
    """

    host: str
    machine: str
    pid: int
    started: str


def get_this_process() -> Process:
    """Return the calling process."""
    return _get_process(os.getpid())


def has_process_ended(process: Process) -> bool:
    """Return whether the process has certainly ended. Processes of other machines count as alive."""
    return process.machine == _read_machine_id() and _read_start_time(process.pid) != process.started


def is_running_here(process: Process) -> bool:
    """Return whether the process runs on this machine."""
    return process.machine == _read_machine_id() and not has_process_ended(process)


@cache
def _get_process(pid: int) -> Process:
    return Process(socket.gethostname(), _read_machine_id(), pid, _read_start_time(pid))


@cache
def _read_machine_id() -> str:
    """Return the Linux boot and pid namespace (each container has its own), elsewhere the network card's address."""
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {(PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return f"{socket.gethostname()} {uuid.getnode():x}"


def _read_start_time(pid: int) -> str:
    """Return the start time, or "" if there is no such process or it is a zombie.

    Where there is `/proc`, it is in clock ticks since boot: field 22 of `stat` in proc(5), whose second field may
    contain spaces.
    """
    if not (PROC / "self/stat").exists():
        command, plain = ["ps", "-o", "lstart=", "-p", str(pid)], {**os.environ, **PLAIN_LOCALE}
        return subprocess.run(command, capture_output=True, text=True, check=False, env=plain).stdout.strip()
    try:
        after_name = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    state, started = after_name[0], after_name[19]
    return "" if state in "ZX" else started


LEASE_FILE: Final = "lease.json"
LEASE_SECONDS: Final = 120.0
"""A lease not renewed for so long has expired: its holder was killed or froze, or its machine was lost."""
RENEWAL_SECONDS: Final = 10.0
ACQUIRE_ATTEMPTS: Final = 3


@dataclass(frozen=True)
class LeaseOwner:
    """On whose behalf leases are taken: one run of a command (`run`, unique) for a sweep."""

    run: str
    sweep: str

    @classmethod
    def for_sweep(cls, name: str) -> "LeaseOwner":
        """Return the owner for a new run of a command."""
        return cls(uuid.uuid4().hex, name)


@with_config(STRICT_DOCUMENT)
@dataclass(frozen=True)
class Lease:
    """The content of `lease.json`: its holder (one attempt), the run and sweep, the process, and times.

    `taken` and `renewed` are seconds since 1970 on the holder's clock. They are only shown, as clocks of machines
    differ.
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
        """A phrase such as `held by node-7 pid 4711`."""
        return f"held by {self.host} pid {self.pid}"

    @property
    def seems_alive(self) -> bool:
        """Whether the holder renewed it lately, as far as one look at clocks and processes tells."""
        return time.time() - self.renewed < LEASE_SECONDS and not has_process_ended(self.process)


LEASE: Final = DocumentKind(TypeAdapter(Lease), "")
UNREADABLE_LEASE: Final = Lease("", "", "another version", "an unknown machine", "", 0, "", 0.0, 0.0, 0)
"""Stands for a lease that this version cannot read. It expires like others."""


class LeaseLostError(WorkError):
    """Another process trains the trial or has finished it, so this one must not write any more.

    `lease` is the other process's lease, or None if the trial is done and nobody holds it.
    """

    def __init__(self, trial_id: str, lease: Lease | None) -> None:
        super().__init__(trial_id, lease)
        self.trial_id, self.lease, self._done = trial_id, lease or UNREADABLE_LEASE, lease is None

    def __str__(self) -> str:
        found = "was finished by another process" if self._done else f"is {self.lease.held_by}"
        return f"{self.trial_id} {found}, which took it over when this process did not renew its lease"


class LeaseHandle:
    """A lease that this process holds, from acquiring to releasing it."""

    def __init__(self, runs: Folder, trial_id: str, lease: Lease) -> None:
        self.lease = lease
        self._runs, self._trial_id, self._name = runs, trial_id, f"{trial_id}/{LEASE_FILE}"
        self._one_at_a_time, self._released, self._looked_at = threading.Lock(), False, lease.renewed

    def renew_lease(self, samples_seen: int) -> None:
        """Renew the lease and record the samples seen. Raises LeaseLostError if another process has it."""
        with self._one_at_a_time:
            self._write_lease(replace(self._read_own_lease(), renewed=time.time(), samples_seen=samples_seen))

    def renew_if_late(self) -> None:
        """Renew the lease if nobody did since the last call. Raises LeaseLostError if another process has it."""
        with self._one_at_a_time:
            if self._released:
                return
            if self.lease.renewed != self._looked_at:  # through this handle, which read the file then
                self._looked_at = self.lease.renewed
                return
            found = self._read_own_lease()
            if found.renewed == self._looked_at:
                found = replace(found, renewed=time.time())
                self._write_lease(found)
            self.lease, self._looked_at = found, found.renewed

    def require_ownership(self) -> None:
        """Raise LeaseLostError if another process has the lease."""
        with self._one_at_a_time:
            self._read_own_lease()

    def release(self) -> None:
        """Remove the lease, so that others can take the trial at once."""
        with self._one_at_a_time:
            self._released = True
            self._remove_lease()

    def _remove_lease(self) -> None:
        found = parse_lease(self._runs.read(self._name))
        if found is not None and found.holder == self.lease.holder:
            self._runs.remove(self._name)

    def _write_lease(self, lease: Lease) -> None:
        self._runs.write(self._name, LEASE.serialize(lease))
        self.lease = lease

    def _read_own_lease(self) -> Lease:
        """Return the lease in the file. Restore it if the file is gone, as after a mistaken takeover."""
        content = self._runs.read(self._name)
        if content is None and self._restore_lease():
            return self.lease
        found = parse_lease(content if content is not None else self._runs.read(self._name))
        if found is None or found.holder != self.lease.holder:
            raise LeaseLostError(self._trial_id, found or UNREADABLE_LEASE)
        return found

    def _restore_lease(self) -> bool:
        """Write the lease back and return whether that worked, which it does not if another has one now.

        The result is checked again afterwards: another process may have taken and finished the trial in between.
        """
        self._require_unfinished()
        if not self._runs.swap_content(self._name, None, LEASE.serialize(self.lease)):
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
    """Acquire a trial and return the handle, or return the lease of the process that has it.

    A lease is free if its process is gone, if an earlier attempt of the same run left it (Ray has given that process
    up), or if its content still is `expired`, which the caller saw go without renewal.
    """
    name = f"{trial_id}/{LEASE_FILE}"
    found = runs.read(name)
    for _ in range(ACQUIRE_ATTEMPTS):
        lease = parse_lease(found)
        free = lease is not None and (lease.run == claimant.run or has_process_ended(lease.process))
        if found is not None and found != expired and not free:
            return lease or UNREADABLE_LEASE
        now, process = time.time(), asdict(get_this_process())
        mine = Lease(uuid.uuid4().hex, claimant.run, claimant.sweep, **process, taken=now, renewed=now, samples_seen=0)
        if runs.swap_content(name, found, LEASE.serialize(mine)):
            return LeaseHandle(runs, trial_id, mine)
        found = runs.read(name)
    return parse_lease(found) or UNREADABLE_LEASE


def parse_lease(content: bytes | None) -> Lease | None:
    """Return the lease in a file's content, or None if there is none or it cannot be read."""
    try:
        return None if content is None else LEASE.parse(content)
    except ValueError:
        return None
