"""What a result was computed on and with; kept beside every result."""

import os
import platform
from pathlib import Path

import torch

from gapctl.errors import InputError
from gapctl.training.gpu_load import nvidia_driver
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


def training_device(*, gpu: bool) -> torch.device:
    """Return the device for a trial; `gpu` says that one is reserved for it.

    Raises InputError where torch cannot use that GPU: on the processor the trial would take days in its place.
    """
    if gpu and not torch.cuda.is_available():
        raise InputError(
            f"resources.gpus: a GPU is reserved for the trial, but torch cannot use it ({_cuda_problem()}). Found "
            f"torch {torch.__version__} built for CUDA {torch.version.cuda or 'none'}, NVIDIA driver "
            f"{nvidia_driver() or 'not loaded'}; expected torch.cuda.is_available(). Compare nvidia-smi: install a "
            "driver that is new enough for that CUDA, or a torch for the driver's, or train on the processor with "
            "--set resources.gpus=0"
        )
    return torch.device("cuda" if gpu else "cpu")


def _cuda_problem() -> str:
    """Why CUDA does not start, in torch's words."""
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        return str(error).strip().splitlines()[0].rstrip(".")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "it finds no GPU" if visible is None else f"it finds no GPU; CUDA_VISIBLE_DEVICES is {visible!r}"


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
