"""What a command costs, run to its end as a process of its own: seconds, and the most memory it held."""

import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from typing import NamedTuple


class Cost(NamedTuple):
    """What one process took: wall seconds, memory, and the seconds that it and its children computed."""

    seconds: float
    megabytes: float
    computed: float = 0.0


def measured(command: Sequence[str]) -> tuple[Cost, bytes]:
    """A process to its end: its cost and what it printed."""
    began = time.monotonic()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - began
        output.seek(0)
        printed = output.read()
    if process.returncode:
        raise SystemExit(f"{' '.join(command[:4])} ended with {process.returncode}")
    return Cost(seconds, usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime), printed
