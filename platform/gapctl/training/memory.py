"""Memory that a step frees stays with the process, for the next step.

By default glibc gives freed blocks of this size back to the kernel and asks for them again a few milliseconds later;
touching the new pages then takes up to a tenth of a step. What is kept is at most what a step needs.
"""

import ctypes
from functools import cache

M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
LARGEST = 2**31 - 1
"""mallopt takes a C int."""


@cache
def keep_freed_memory() -> None:
    """Once for the process; does nothing where the C library is not glibc."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(M_MMAP_THRESHOLD, 2**30)
    mallopt(M_TRIM_THRESHOLD, LARGEST)
