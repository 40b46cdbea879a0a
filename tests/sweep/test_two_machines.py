"""A trial on two machines with networks of their own: a cut cable, full object stores and a lost head cost nothing."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from drill.drilled_sweep import SHARED_SWEEP, DrilledSweep, kill_sweeps
from drill.local_cluster import LocalCluster
from drill.network import Network, connected_machines, may_make_networks
from drill.processes import adopt_orphans, below, came_true, signalled
from drill.promises import in_the_ledger

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
LONGEST_SECONDS = 900.0
CUT_SECONDS = 60.0
"""Longer than Ray waits for a node that does not answer."""
MACHINES = 3
"""Two train, and one is spare."""
FILL = """\
import sys, time
import numpy, ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

@ray.remote(num_cpus=0)
class Holder:
    def fill(self):
        self.held = [ray.put(numpy.ones(10_000_000, numpy.uint8)) for _ in range(15)]

ray.init(address=sys.argv[1], log_to_driver=False)
nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
holders = [Holder.options(scheduling_strategy=On(node, soft=False)).remote() for node in nodes]
ray.get([holder.fill.remote() for holder in holders])
print(len(nodes), flush=True)
time.sleep(600)
"""
"""Keeps 150 MB in the object store of each node, which has 100 MB."""


@pytest.fixture
def network() -> Iterator[Network]:
    if not may_make_networks():
        pytest.skip("this process may not make network namespaces")
    with connected_machines(MACHINES) as made:
        yield made


def newest_checkpoint(sweep: DrilledSweep) -> str:
    return max((str(path) for path in Path(sweep.runs).glob("*/checkpoints/0*.pt")), default="")


def goes_on(sweep: DrilledSweep, attend: Callable[[], None]) -> bool:
    """Whether a checkpoint is written that was not there, or all is done."""
    before = newest_checkpoint(sweep)

    def went_on() -> bool:
        attend()
        return newest_checkpoint(sweep) not in ("", before) or sweep.code() == 0

    return came_true(went_on, LONGEST_SECONDS)


def test_a_trial_on_two_machines_outlives_a_cut_cable_full_stores_and_a_lost_head(network: Network) -> None:
    adopt_orphans()
    folder = Path(tempfile.mkdtemp(prefix="gn-", dir="/tmp"))  # Ray's sockets need a short path
    cluster = LocalCluster(folder, network, GLOO_SOCKET_IFNAME="eth0")
    tracking = f"sqlite:///{folder / 'mlflow.db'}"
    quiet, struck = (
        DrilledSweep(folder, name, str(folder / name), tracking, 2, 3_200, SHARED_SWEEP, evaluations=20)
        for name in ("quiet", "struck")
    )
    quiet.workers = struck.workers = 2

    def attend() -> None:
        cluster.replace_lost_nodes(2)
        if struck.code() not in (None, 0):
            struck.start(cluster.address, cluster.environment)

    with ExitStack() as ended:
        ended.callback(lambda: signalled([each.pid for each in below(os.getpid())], signal.SIGKILL))
        ended.callback(cluster.stop)
        ended.callback(kill_sweeps, quiet, struck)
        cluster.start_head()
        cluster.replace_lost_nodes(2)
        cluster.wait_for_nodes()
        quiet.start(cluster.address, cluster.environment)
        assert came_true(lambda: quiet.code() is not None, LONGEST_SECONDS)
        assert quiet.code() == 0, quiet.log.read_text()

        struck.start(cluster.address, cluster.environment)
        assert goes_on(struck, attend), "its first checkpoint"
        cut = cluster.nodes[0]
        machine = cluster.machines[cut.pid]
        machine.cut()
        cluster.add_node()
        time.sleep(CUT_SECONDS)
        machine.mend()
        assert goes_on(struck, attend), "after the cable was cut and mended"

        with subprocess.Popen(
            [sys.executable, "-c", FILL, cluster.address], env=dict(cluster.environment), stdout=subprocess.PIPE
        ) as filling:
            assert filling.stdout is not None
            assert int(filling.stdout.readline()) >= 2, "the stores are full"
            assert goes_on(struck, attend), "while the object stores are full"
            filling.kill()

        assert struck.process is not None
        signalled([struck.process.pid], signal.SIGKILL)
        struck.process.wait(timeout=30)
        cluster.drop_head()
        cluster.start_head()
        for node in list(cluster.nodes):
            cluster.drop(node)
        assert goes_on(struck, attend), "after the head was lost"

        def finished() -> bool:
            attend()
            return struck.code() == 0

        assert came_true(finished, LONGEST_SECONDS), struck.log.read_text()
    assert in_the_ledger(struck, quiet) == []
    shutil.rmtree(folder, ignore_errors=True)
