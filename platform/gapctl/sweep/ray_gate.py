"""Who may ask Ray from a thread of its own: nobody while it starts or once it ends, which would end the process too.

Ray's core ends the process where it is asked while it shuts down, and a question afterwards may start a new Ray.
Threads ask inside `asking`; who starts and ends Ray closes the gate around that.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

CLOSE_SECONDS: Final = 10.0
"""Those inside wait two seconds at most for machines, but the head itself may not answer them."""

_change = threading.Condition()
_open = True
_inside = 0


@contextmanager
def asking() -> Iterator[bool]:
    """Whether Ray may be asked; if so, `close_gate` waits until the context is left."""
    global _inside
    with _change:
        may_ask = _open
        _inside += may_ask
    try:
        yield may_ask
    finally:
        with _change:
            _inside -= may_ask
            _change.notify_all()


def open_gate() -> None:
    """Ray runs and may be asked; so it is before the gate was ever closed."""
    global _open
    with _change:
        _open = True


def close_gate() -> None:
    """Lets nobody in any more, and waits for those inside, at most for `CLOSE_SECONDS`."""
    global _open
    with _change:
        _open = False
        _change.wait_for(lambda: not _inside, timeout=CLOSE_SECONDS)
