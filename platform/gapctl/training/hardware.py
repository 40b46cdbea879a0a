"""Describe the hardware and software of a result, choose a trial's device, and monitor load and memory."""

import os
import platform
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import torch

from gapctl.errors import InputError, find_version, first_line_of_error
from gapctl.training.nvidia import GpuLoad, read_nvidia_driver

if TYPE_CHECKING:
    from gapctl.training.step_options import Precision

SAMPLE_SECONDS: Final = 5.0
CPU: Final = "cpu_utilization_percentage"
MEMORY: Final = "system_memory_usage_megabytes"
GPU: Final = "gpu_0_utilization_percentage"
GPU_MEMORY: Final = "gpu_0_memory_usage_megabytes"
GPU_MEMORY_SHARE: Final = "gpu_0_memory_usage_percentage"
RECORDED_PACKAGES = ("gapctl", "torch", "open_clip_torch", "ray", "numpy")


class MachineMonitor:
    """Measures the load of this process and its GPU, at most once in `SAMPLE_SECONDS`.

    A processor's load is relative to the process's `threads`: 100 if all of them worked all of the time, and less if
    the machine had more to do than it has cores. Memory is what the process holds for itself, or all used memory of the
    GPU.
    """

    def __init__(self, device: torch.device, threads: int) -> None:
        self._device, self._threads = device, threads
        self._load = GpuLoad(str(torch.cuda.get_device_properties(device).uuid)) if device.type == "cuda" else None
        self._looked_at, self._worked = time.monotonic(), time.process_time()

    def look(self, *, at_once: bool = False) -> Mapping[str, float] | None:
        """Return the measures by name, or None if the last are recent and `at_once` is false."""
        now, worked = time.monotonic(), time.process_time()
        elapsed = now - self._looked_at
        if elapsed <= 0 or (elapsed < SAMPLE_SECONDS and not at_once):
            return None
        share = 100.0 * (worked - self._worked) / (elapsed * self._threads)
        self._looked_at, self._worked = now, worked
        measures = {CPU: share}
        if (held := read_process_kilobytes()) is not None:
            measures[MEMORY] = held * 1024 / 1e6
        if self._load is not None:
            free, total = torch.cuda.mem_get_info(self._device)
            if (busy := self._load.percent()) is not None:
                measures[GPU] = busy
            measures |= {GPU_MEMORY: (total - free) / 1e6, GPU_MEMORY_SHARE: 100.0 * (total - free) / total}
        return measures


def read_process_kilobytes() -> int | None:
    """Return the process's own memory without shared pages, or None if the system is not Linux."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return next(int(line.split()[1]) for line in status.splitlines() if "RssAnon" in line)
    except (OSError, StopIteration):
        return None


@cache
def list_versions() -> Mapping[str, str]:
    """Return the versions of Python and of the packages that decide numbers; they are looked up once in a process."""
    found = {name: find_version(name) or "not installed" for name in RECORDED_PACKAGES}
    return MappingProxyType({"python": platform.python_version(), **found})


def describe_hardware(device: torch.device, precision: "Precision") -> dict[str, str | int]:
    """Return the processor or GPU, the threads and the number format."""
    return {
        "device": device.type,
        "name": _name_device(device),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "precision": precision,
    }


def describe_workers(device: torch.device, workers: int) -> str:
    """Return a phrase like `2 workers on NVIDIA A100`."""
    return f"{workers} {'worker' if workers == 1 else 'workers'} on {_name_device(device)}"


def _name_device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else read_processor_name()


def select_training_device(*, gpu: bool) -> torch.device:
    """Return the device for a trial; `gpu` means that a GPU is reserved for it.

    Raise InputError if torch cannot use that GPU: on the processor the trial would take days instead.
    """
    if gpu and not torch.cuda.is_available():
        raise InputError(
            "resources.gpus: a GPU is reserved for the trial, but torch cannot use it "
            f"({_explain_cuda_failure()}). Found "
            f"torch {torch.__version__} built for CUDA {torch.version.cuda or 'none'}, NVIDIA driver "
            f"{read_nvidia_driver() or 'not loaded'}; expected torch.cuda.is_available(). Compare "
            "nvidia-smi: install a "
            "driver that is new enough for that CUDA, or a torch for the driver's, or train on the processor with "
            "--set resources.gpus=0"
        )
    return torch.device("cuda" if gpu else "cpu")


def _explain_cuda_failure() -> str:
    """Return torch's reason why CUDA does not start."""
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        return first_line_of_error(error)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "it finds no GPU" if visible is None else f"it finds no GPU; CUDA_VISIBLE_DEVICES is {visible!r}"


def measure_peak_memory(device: torch.device) -> dict[str, int]:
    """Return the process's own memory and its peak of GPU memory, in megabytes.

    Freed memory stays with the process (`fused_step.keep_freed_memory`), so the final value is about the peak.
    """
    held = read_process_kilobytes()
    memory = {} if held is None else {"memory_mb": held // 1024}
    if device.type == "cuda":
        memory["gpu_memory_mb"] = torch.cuda.max_memory_allocated(device) // 2**20
    return memory


def read_processor_name() -> str:
    """Return the processor's name from the system."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
