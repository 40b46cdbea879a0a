"""What a trial asks of its machine while it is trained: processor, memory and GPU, under MLflow's names for them.

Nothing here decides a number of the trial; no two runs of a trial have the same.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch

from gapctl.training.gpu_load import GpuLoad

SAMPLE_SECONDS: Final = 5.0
CPU: Final = "cpu_utilization_percentage"
MEMORY: Final = "system_memory_usage_megabytes"
GPU: Final = "gpu_0_utilization_percentage"
GPU_MEMORY: Final = "gpu_0_memory_usage_megabytes"
GPU_MEMORY_SHARE: Final = "gpu_0_memory_usage_percentage"


class Machine:
    """Looks at this process and its GPU, at most once in `SAMPLE_SECONDS`.

    A processor's share is of the process's `threads`: 100 when all of them worked all of the time, and less where the
    machine had more to do than it has cores. Memory is what the process holds for itself, or all that is taken of the
    GPU.
    """

    def __init__(self, device: torch.device, threads: int) -> None:
        self._device, self._threads = device, threads
        self._load = GpuLoad(str(torch.cuda.get_device_properties(device).uuid)) if device.type == "cuda" else None
        self._looked_at, self._worked = time.monotonic(), time.process_time()

    def look(self, *, at_once: bool = False) -> Mapping[str, float] | None:
        """The measures by name, or None where the last are recent; `at_once` takes them all the same."""
        now, worked = time.monotonic(), time.process_time()
        elapsed = now - self._looked_at
        if elapsed <= 0 or (elapsed < SAMPLE_SECONDS and not at_once):
            return None
        share = 100.0 * (worked - self._worked) / (elapsed * self._threads)
        self._looked_at, self._worked = now, worked
        return {CPU: share, **_memory(), **self._gpu()}

    def _gpu(self) -> dict[str, float]:
        if self._load is None:
            return {}
        free, total = torch.cuda.mem_get_info(self._device)
        busy = self._load.percent()
        found = {GPU_MEMORY: (total - free) / 1e6, GPU_MEMORY_SHARE: 100.0 * (total - free) / total}
        return found if busy is None else {GPU: busy, **found}


def _memory() -> dict[str, float]:
    held = held_kilobytes()
    return {} if held is None else {MEMORY: held * 1024 / 1e6}


def held_kilobytes() -> int | None:
    """What the process holds for itself, shared pages of images aside; None where the system is not Linux."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return next(int(line.split()[1]) for line in status.splitlines() if "RssAnon" in line)
    except (OSError, StopIteration):
        return None
