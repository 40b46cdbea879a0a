"""Import modules that stay to the end, without letting Python look through them for garbage."""

import atexit
import gc
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from types import ModuleType


def import_without_garbage_collection(name: str) -> ModuleType:
    """Import and return a module, and leave what its imports made out of every later collection of garbage.

    Imports make up to a million objects that last to the end. To look through them again and again takes a fifth of
    the imports' time, and half a second each time in a process that trains.
    """
    if name in sys.modules:
        return sys.modules[name]
    collects = gc.isenabled()
    gc.disable()
    try:
        return import_module(name)
    finally:
        gc.freeze()
        if collects:
            gc.enable()


def collect_garbage_at_exit() -> None:
    """Let this process exit as others do, which look through all objects in the end, also those of imports.

    Else bindings such as triton's print that each of theirs was leaked. With torch it takes up to two seconds.
    """
    atexit.register(gc.unfreeze)


@contextmanager
def import_in_background(name: str) -> Iterator[None]:
    """Import a module in a thread while the caller waits for something else; both are done in the end.

    Where the import fails, the caller's own import of the module says so.
    """

    def load() -> None:
        with suppress(Exception):
            import_without_garbage_collection(name)

    thread = threading.Thread(target=load, name="gapctl-import")
    thread.start()
    try:
        yield
    finally:
        thread.join()
