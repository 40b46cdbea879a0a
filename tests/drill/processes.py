"""Processes of the drill, those included whose parents were killed: found, frozen and ended by their numbers."""

import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

ADOPT_ORPHANS: Final = 36
"""`PR_SET_CHILD_SUBREAPER` of prctl(2): orphans become children of this process, and not of the first one."""
LOOK_SECONDS: Final = 0.1


class Running(NamedTuple):
    """A process as /proc has it; `command` is its command line."""

    pid: int
    parent: int
    state: str
    command: str


def adopt_orphans() -> None:
    """From now on whatever this process started can be found below it, whoever was killed in between."""
    ctypes.CDLL(None, use_errno=True).prctl(ADOPT_ORPHANS, 1, 0, 0, 0)


def below(pid: int) -> list[Running]:
    """Everything that a process started and that still runs, and what that started."""
    children: dict[int, list[Running]] = {}
    for found in _all():
        children.setdefault(found.parent, []).append(found)
    family = list(children.get(pid, []))
    for each in family:
        family += children.get(each.pid, [])
    return [each for each in family if each.state not in "ZX"]


def family(pid: int) -> list[int]:
    """A process and everything below it."""
    return [pid, *(each.pid for each in below(pid))]


def signalled(pids: Iterable[int], number: signal.Signals) -> None:
    """Sends a signal to each of these that still runs."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def runs(pid: int) -> bool:
    """Whether it is there and has not ended."""
    found = _read(pid)
    return found is not None and found.state not in "ZX"


def environment_of(pid: int) -> dict[str, str]:
    """The variables that a process began with; none where it has ended."""
    try:
        found = (Path("/proc") / str(pid) / "environ").read_bytes().decode(errors="replace")
    except OSError:
        return {}
    return dict(each.partition("=")[::2] for each in found.split("\0") if "=" in each)


def came_true(condition: Callable[[], bool], seconds: float) -> bool:
    """Waits for a condition; whether it held within so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_SECONDS)
    return True


def _all() -> list[Running]:
    found = (_read(int(path.name)) for path in Path("/proc").iterdir() if path.name.isdigit())
    return [each for each in found if each is not None]


def _read(pid: int) -> Running | None:
    """From proc(5)'s `stat`, whose second field may have spaces."""
    folder = Path("/proc") / str(pid)
    try:
        state, parent = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
        command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return None
    return Running(pid, int(parent), state, command)
