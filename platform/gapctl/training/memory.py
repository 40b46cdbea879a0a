"""Memory that a step frees stays with the process for the next step, in large pages.

By default glibc gives freed blocks of a step's size back to the kernel and asks for them again milliseconds later;
touching the new pages then takes up to a fifth of a step. And a step walks through tens of megabytes, more pages of
4 KiB than a processor remembers the addresses of. So the heap keeps what it has, and its first part is marked for
pages of 2 MiB. Numbers do not depend on any of this.
"""

import ctypes
from functools import cache
from typing import Final

M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3
MADV_HUGEPAGE: Final = 14
"""From glibc's malloc.h and Linux's mman.h."""

LARGEST_INT: Final = 2**31 - 1
HEAP_BLOCK: Final = 2**30
"""Blocks up to this come from the heap, which keeps them."""
LARGE_PAGE: Final = 2**21
LARGE_PAGES_BYTES: Final = 2**27
"""Address space for one step of the presets; what is never touched takes no memory."""


@cache
def keep_freed_memory() -> None:
    """Once for the process; does nothing where the C library is not glibc."""
    try:
        libc = ctypes.CDLL(None)
        mallopt, malloc, free, madvise = libc.mallopt, libc.malloc, libc.free, libc.madvise
    except (OSError, AttributeError, TypeError):
        return
    mallopt(M_MMAP_THRESHOLD, HEAP_BLOCK)
    mallopt(M_TRIM_THRESHOLD, LARGEST_INT)
    malloc.restype, malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    free.argtypes = [ctypes.c_void_p]
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    block = malloc(LARGE_PAGES_BYTES)
    if block:
        first = -(-block // LARGE_PAGE) * LARGE_PAGE
        madvise(first, (block + LARGE_PAGES_BYTES - first) // LARGE_PAGE * LARGE_PAGE, MADV_HUGEPAGE)
        free(block)
