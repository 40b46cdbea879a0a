"""Which process of which machine does something, told apart from a later one that got the same number."""

import os
import socket
import subprocess
import uuid
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
PLAINLY: Final = {"LC_ALL": "C", "TZ": "UTC"}
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


def this_process() -> Process:
    """The process that asks."""
    return _process(os.getpid())


def is_gone(process: Process) -> bool:
    """Whether it ended for certain; what another machine does is not known here."""
    return process.machine == _machine() and _started(process.pid) != process.started


def runs_here(process: Process) -> bool:
    """Whether it is one of this machine that has not ended."""
    return process.machine == _machine() and not is_gone(process)


@cache
def _process(pid: int) -> Process:
    return Process(socket.gethostname(), _machine(), pid, _started(pid))


@cache
def _machine() -> str:
    """A boot of Linux and its space of process numbers (a container has its own); elsewhere the network card's."""
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {(PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return f"{socket.gethostname()} {uuid.getnode():x}"


def _started(pid: int) -> str:
    """When it began; nothing where there is no such process, or only what its parent has yet to hear of."""
    if (PROC / "self/stat").exists():
        return _started_by_proc(pid)
    command = ["ps", "-o", "lstart=", "-p", str(pid)]
    told = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **PLAINLY})
    return told.stdout.strip()


def _started_by_proc(pid: int) -> str:
    """In ticks since the boot: field 22 of proc(5)'s `stat`, whose second field may have spaces."""
    try:
        after_name = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    state, started = after_name[0], after_name[19]
    return "" if state in "ZX" else started
