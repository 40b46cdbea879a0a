"""Ends Ray so that nothing can ask for it afterwards: Ray ends the whole process of whoever does, verdicts and all.

An object of Ray that Tune left in a cycle is freed by whichever thread next collects garbage, such as the one that
writes MLflow. Should that be while Ray shuts down, its core worker says that it "has already been shutdown" and exits.
"""

import gc
import threading
import time
from collections.abc import Mapping
from typing import Any

POLL_SECONDS = 0.01


def let_go() -> None:
    """Shuts Ray down after all garbage was collected, and while no thread collects any."""
    import ray

    collects = gc.isenabled()
    gc.disable()
    try:
        collect_here()
        ray.shutdown()
    finally:
        if collects:
            gc.enable()


def collect_here() -> None:
    """Collects garbage in this thread; `gc.collect` alone does nothing while another thread is at it."""
    here, collected = threading.get_ident(), threading.Event()

    def note(phase: str, info: Mapping[str, Any]) -> None:
        if phase == "stop" and threading.get_ident() == here:
            collected.set()

    gc.callbacks.append(note)
    try:
        gc.collect()
        while not collected.is_set():
            time.sleep(POLL_SECONDS)
            gc.collect()
    finally:
        gc.callbacks.remove(note)
