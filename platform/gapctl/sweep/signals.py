"""Ctrl-C while Tune runs, and after it."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def signals_restored() -> Iterator[None]:
    """Tune catches the first Ctrl-C and would go on catching it after the sweep."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
