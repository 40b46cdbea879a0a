"""Watch whether the machine of this process is to be taken away, so that its trial goes on elsewhere in time.

AWS and Google announce it in their metadata service. Ray does not read that, so this module asks Ray to drain the node,
and Ray then starts nothing there any more. Ray's autoscaler, KubeRay or a person may drain the node too.
"""

import threading
import time
from typing import Final

from gapctl.errors import WorkError
from gapctl.io.cloud_metadata import Cloud, detect_cloud, read_spot_notice
from gapctl.sweep.ray_private import drain_this_node, is_this_node_draining

NOTICE_CHECK_SECONDS: Final = 5.0
"""Seconds between two questions, as AWS advises."""
MACHINE_TAKEN_TEXT: Final = "its machine is to be taken away"
"""Text in the error of a process that has left its machine in time, and in no other."""


class MachineTakenError(WorkError):
    """The machine is announced to be taken away; the checkpoint was written, and the trial goes on elsewhere."""


class SpotWatch:
    """A thread that asks every few seconds, as long as the process lives. Where no cloud answers it asks Ray alone."""

    def __init__(self, every: float = NOTICE_CHECK_SECONDS) -> None:
        self._every, self._announced, self._closed = every, threading.Event(), threading.Event()
        threading.Thread(target=self._watch_machine, name="gapctl-spot", daemon=True).start()

    @property
    def announced(self) -> bool:
        """Whether this machine is to be taken away."""
        return self._announced.is_set()

    def close(self) -> None:
        """End the thread."""
        self._closed.set()

    def _watch_machine(self) -> None:
        cloud = detect_cloud()
        while not self._closed.is_set():
            until = _ask_cloud(cloud)
            if until is not None:
                drain_this_node(until)
            if until is not None or is_this_node_draining():
                self._announced.set()
                return
            self._closed.wait(self._every)


def _ask_cloud(cloud: Cloud | None) -> float | None:
    try:
        return None if cloud is None else read_spot_notice(cloud, time.time())
    except (OSError, ValueError, KeyError, TypeError):  # the service is busy, or has another form: ask again
        return None
