"""A sweep whose cluster loses the last machine that can hold a trial says so, and judges what is done."""

import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from drill.local_cluster import LocalCluster
from sweeping import SMOKE, command_for, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
LONGEST_SECONDS = 600.0
SETTINGS = tuple(
    part
    for change in ("seeds=2", "resources.gpus=0", "base.train.samples=12_800", "base.evaluate.every=6_400")
    for part in ("--set", change)
)


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    """A head without CPUs and one node with one, which no autoscaler replaces."""
    with tempfile.TemporaryDirectory(prefix="gl-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        made = LocalCluster(Path(folder))
        try:
            made.start_head()
            made.add_node()
            yield made
        finally:
            made.stop()


def test_it_ends_within_a_minute_with_the_verdicts_of_what_is_done(cluster: LocalCluster, tmp_path: Path) -> None:
    command = command_for(SMOKE, tmp_path, "--scale", "smoke", *SETTINGS, "--address", cluster.address)
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=dict(cluster.environment)
    )
    try:
        wait_until(lambda: bool(list((tmp_path / "runs").glob("*/result.json"))), process, LONGEST_SECONDS)
        cluster.drop(cluster.nodes[0])
        dropped = time.monotonic()
        output = process.communicate(timeout=LONGEST_SECONDS)[0]
    finally:
        process.kill()

    assert process.returncode == 1, output
    assert time.monotonic() - dropped < 300, "a minute on a machine that has nothing else to do"
    assert "no machine of the cluster can hold a trial any more, and no autoscaler starts one: a trial" in output
    assert "trainings are left, those in training with checkpoints" in output
    assert "of 4 trainings done" in output
    assert "Interrupted" not in output
    assert "Traceback" not in output
