"""What a result was computed on and with; kept beside every result."""

import os
import platform
from pathlib import Path

import torch

from gapctl.training.machine import held_kilobytes
from gapctl.training.precision import Resolved

PACKAGES = ("gapctl", "torch", "open_clip_torch", "ray", "numpy")


def versions() -> dict[str, str]:
    """The versions of what decides numbers."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def hardware(device: torch.device, precision: Resolved) -> dict[str, str | int]:
    """The processor or GPU, the threads and the number format."""
    return {
        "device": device.type,
        "name": _name(device),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "precision": precision,
    }


def describe_workers(device: torch.device, workers: int) -> str:
    """So many workers on such devices, in words."""
    return f"{workers} {'worker' if workers == 1 else 'workers'} on {_name(device)}"


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor()


def memory(device: torch.device) -> dict[str, int]:
    """Megabytes that the process holds for itself (shared pages of images aside), and the most it held of a GPU.

    Freed memory stays with the process (`training/memory.py`), so what it holds in the end is about the most it had.
    """
    held = held_kilobytes()
    found = {} if held is None else {"memory_mb": held // 1024}
    if device.type == "cuda":
        found["gpu_memory_mb"] = torch.cuda.max_memory_allocated(device) // 2**20
    return found


def processor() -> str:
    """The processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        found = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    except OSError:
        found = []
    return found[0] if found else platform.processor() or platform.machine()
