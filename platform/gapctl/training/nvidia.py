"""NVIDIA's driver: its version, and how busy a GPU is, without torch.

The load comes from the driver's own library (NVML), which is there wherever a GPU of NVIDIA can be used. torch asks it
too, through a package that gapctl does without for this one number.
"""

import ctypes
import re
from pathlib import Path
from typing import Final

NVML_LIBRARY: Final = "libnvidia-ml.so.1"
NVML_SUCCESS: Final = 0


def read_nvidia_driver() -> str | None:
    """Return the version of the loaded NVIDIA driver, or None."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    version = re.search(r"\b\d{3}\.\d+(?:\.\d+)?\b", text)
    return version[0] if version else "of unknown version"


class _Utilization(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class GpuLoad:
    """The load of one GPU, addressed by its UUID because CUDA numbers only the GPUs visible to a process."""

    def __init__(self, uuid: str) -> None:
        self._handle = ctypes.c_void_p()
        self._library = _load_nvml()
        if self._library is not None:
            name = uuid if uuid.startswith("GPU-") else f"GPU-{uuid}"
            status = self._library.nvmlDeviceGetHandleByUUID(name.encode(), ctypes.byref(self._handle))
            self._library = self._library if status == NVML_SUCCESS else None

    def percent(self) -> float | None:
        """Return the share of the last fraction of a second in which a kernel ran, or None if unknown."""
        if self._library is None:
            return None
        utilization = _Utilization()
        answer = self._library.nvmlDeviceGetUtilizationRates(self._handle, ctypes.byref(utilization))
        return float(utilization.gpu) if answer == NVML_SUCCESS else None


def _load_nvml() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(NVML_LIBRARY)
        return library if library.nvmlInit_v2() == NVML_SUCCESS else None
    except (OSError, AttributeError):
        return None
