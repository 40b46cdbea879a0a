"""How busy a GPU is, from the driver's own library (NVML), which is there wherever a GPU of NVIDIA can be used.

torch asks it too, through a package that gapctl does without for this one number.
"""

import ctypes
import re
from pathlib import Path
from typing import Final

LIBRARY: Final = "libnvidia-ml.so.1"
DONE: Final = 0


def nvidia_driver() -> str | None:
    """Return the version of NVIDIA's driver that the system has loaded, or None."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    found = re.search(r"\b\d{3}\.\d+(?:\.\d+)?\b", text)
    return found[0] if found else "of unknown version"


class _Utilization(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class GpuLoad:
    """One GPU by its UUID, as CUDA numbers only those that a process may see."""

    def __init__(self, uuid: str) -> None:
        self._handle = ctypes.c_void_p()
        self._library = _library()
        if self._library is not None:
            name = uuid if uuid.startswith("GPU-") else f"GPU-{uuid}"
            found = self._library.nvmlDeviceGetHandleByUUID(name.encode(), ctypes.byref(self._handle))
            self._library = self._library if found == DONE else None

    def percent(self) -> float | None:
        """The share of the last fraction of a second in which a kernel ran; None where the driver does not say."""
        if self._library is None:
            return None
        found = _Utilization()
        answer = self._library.nvmlDeviceGetUtilizationRates(self._handle, ctypes.byref(found))
        return float(found.gpu) if answer == DONE else None


def _library() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(LIBRARY)
        return library if library.nvmlInit_v2() == DONE else None
    except (OSError, AttributeError):
        return None
