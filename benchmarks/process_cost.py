"""What a command costs, run to its end as a process of its own: seconds, and the most memory it held.

A process counts as its own what its parent held when it was started. So a small interpreter in between starts it.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

STARTER: Final = """
import json, os, subprocess, sys, time
began = time.monotonic()
process = subprocess.Popen(sys.argv[2:])
_, status, usage = os.wait4(process.pid, 0)
found = (time.monotonic() - began, usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime)
with open(sys.argv[1], "w") as file:
    json.dump({"status": os.waitstatus_to_exitcode(status), "cost": found}, file)
"""


class Cost(NamedTuple):
    """What one process took: wall seconds, memory, and the seconds that it and its children computed."""

    seconds: float
    megabytes: float
    computed: float = 0.0


def middle(costs: Sequence[Cost]) -> Cost:
    """The medians of rounds."""
    return Cost(*(median(column) for column in zip(*costs, strict=True)))


def measured(command: Sequence[str]) -> tuple[Cost, bytes]:
    """A process to its end: its cost and what it printed."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "cost.json"
        starter = [sys.executable, "-I", "-S", "-c", STARTER, str(answer), *command]
        printed = subprocess.run(starter, stdout=subprocess.PIPE, check=True).stdout
        found = json.loads(answer.read_text(encoding="utf-8"))
    if found["status"]:
        raise SystemExit(f"{' '.join(command[:4])} ended with {found['status']}")
    return Cost(*found["cost"]), printed
