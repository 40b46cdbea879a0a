"""How each accident is done, and what is done about it by whoever looks after the cluster."""

import signal
import time

from drill.drilled_sweep import DrilledSweep
from drill.local_cluster import LocalCluster, raylet_of
from drill.processes import family, runs, signalled
from drill.schedule import Fault
from drill.services import TrackingServer
from gapctl.ledger import Lease
from object_store import Store
from small_disk import SmallDisk

FROZEN_NODE_SECONDS = 45.0
"""Longer than Ray waits for a node that does not answer."""


class Accidents:
    """Does what a fault says to a sweep's surroundings; afterwards all is as it was, but for what was lost."""

    def __init__(
        self, cluster: LocalCluster, sweep: DrilledSweep, tracking: TrackingServer, store: Store, disk: SmallDisk
    ) -> None:
        self._cluster, self._sweep, self._tracking, self._store, self._disk = cluster, sweep, tracking, store, disk

    def happen(self, fault: Fault, victim: Lease) -> None:
        """`victim` is the lease of a trial in training."""
        getattr(self, "_" + fault.kind.replace(" ", "_"))(fault, victim)

    def _trial_process_killed(self, fault: Fault, victim: Lease) -> None:
        signalled([victim.pid], signal.SIGKILL)

    def _raylet_killed(self, fault: Fault, victim: Lease) -> None:
        node = self._cluster.node_of(victim.pid)
        raylet = raylet_of(node) if node is not None else None
        if raylet is not None:
            signalled([raylet], signal.SIGKILL)
        self._cluster.add_node()

    def _node_lost(self, fault: Fault, victim: Lease) -> None:
        node = self._cluster.node_of(victim.pid) or self._cluster.nodes[0]
        self._cluster.drop(node)
        self._cluster.add_node()

    def _driver_killed(self, fault: Fault, victim: Lease) -> None:
        process = self._sweep.process
        assert process is not None
        signalled([process.pid], signal.SIGKILL)
        process.wait(timeout=30)

    def _head_lost(self, fault: Fault, victim: Lease) -> None:
        self._driver_killed(fault, victim)
        self._cluster.drop_head()
        orphans = list(self._cluster.nodes)
        self._cluster.start_head()
        for node in orphans:
            self._cluster.drop(node)
            self._cluster.add_node()

    def _trial_process_frozen(self, fault: Fault, victim: Lease) -> None:
        _freeze([victim.pid], fault.seconds)

    def _node_frozen(self, fault: Fault, victim: Lease) -> None:
        node = self._cluster.node_of(victim.pid) or self._cluster.nodes[0]
        self._cluster.add_node()
        _freeze(family(node.pid), FROZEN_NODE_SECONDS)

    def _driver_frozen(self, fault: Fault, victim: Lease) -> None:
        assert self._sweep.process is not None
        _freeze([self._sweep.process.pid], fault.seconds)

    def _disk_full(self, fault: Fault, victim: Lease) -> None:
        self._disk.fill()
        time.sleep(fault.seconds)
        self._disk.make_room()

    def _tracking_server_away(self, fault: Fault, victim: Lease) -> None:
        self._tracking.kill()
        time.sleep(fault.seconds)
        self._tracking.start()

    def _object_store_away(self, fault: Fault, victim: Lease) -> None:
        with self._store.failing("reset"):
            time.sleep(fault.seconds)


def _freeze(pids: list[int], seconds: float) -> None:
    frozen = [pid for pid in pids if runs(pid)]
    signalled(frozen, signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        signalled(frozen, signal.SIGCONT)
