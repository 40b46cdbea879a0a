"""The node types of cluster.yaml come from zero when a sweep waits for them, and go when it is over.

Ray's provider for tests starts a raylet of this machine where `ray up`'s would start a machine of a cloud.
"""

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster_texts import AWS

from drill.drilled_sweep import DrilledSweep
from drill.local_autoscaler import ENVIRONMENT, FAKE_HEAD, localised, write_localised
from drill.local_cluster import LocalCluster
from drill.processes import below, came_true, environment_of

PATIENCE_SECONDS = 900.0
IDLE_MINUTES = 0.2
DOCUMENT: dict[str, Any] = yaml.safe_load(AWS.read_text(encoding="utf-8"))


@pytest.fixture
def folder() -> Iterator[Path]:
    """One whose path is short enough for Ray's sockets."""
    with tempfile.TemporaryDirectory(prefix="ga-", dir="/tmp", ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.fixture
def cluster(folder: Path) -> Iterator[LocalCluster]:
    """A head alone, whose autoscaler knows the node types of cluster.yaml."""
    made, file = LocalCluster(folder, **ENVIRONMENT), folder / "autoscaling.json"
    write_localised(AWS, file, made.address, IDLE_MINUTES)
    try:
        made.start_head(f"--autoscaling-config={file}")
        yield made
    finally:
        made.stop()


def node_types(cluster: LocalCluster) -> Counter[str]:
    """How many raylets of each type run, by what their starter told them."""
    assert cluster.head is not None
    raylets = [each.pid for each in below(cluster.head.pid) if "/raylet/raylet " in each.command]
    return Counter(environment_of(pid).get("RAY_NODE_TYPE_NAME", "") for pid in raylets)


def test_what_is_tried_here_has_the_names_limits_and_priorities_of_the_shipped_file() -> None:
    kinds = localised(DOCUMENT, "127.0.0.1:6379", IDLE_MINUTES)["available_node_types"]

    workers = set(DOCUMENT["available_node_types"]) - {DOCUMENT["head_node_type"]}
    assert set(kinds) == workers | {FAKE_HEAD}
    for name in workers:
        shipped = DOCUMENT["available_node_types"][name]
        for key in ("min_workers", "max_workers", "priority"):
            assert kinds[name][key] == shipped[key]
        assert kinds[name]["resources"]["GPU"] == shipped["resources"]["GPU"]


@pytest.mark.slow
@pytest.mark.timeout(3 * PATIENCE_SECONDS)
def test_nodes_come_from_zero_for_a_sweep_and_go_when_it_is_over(cluster: LocalCluster, folder: Path) -> None:
    idle = Counter({FAKE_HEAD: 1})
    assert came_true(lambda: node_types(cluster) == idle, PATIENCE_SECONDS)
    tracking = f"sqlite:///{folder / 'mlflow.db'}"
    sweep = DrilledSweep(folder, "scaled", str(folder / "runs"), tracking, trials=2, samples=1_280)
    most: Counter[str] = Counter()

    def ended() -> bool:
        most.update({name: count - most[name] for name, count in node_types(cluster).items() if count > most[name]})
        return sweep.code() is not None

    sweep.start(cluster.address, cluster.environment)

    assert came_true(ended, PATIENCE_SECONDS), sweep.log.read_text()
    assert sweep.code() == 0, sweep.log.read_text()
    assert len(list((folder / "runs").glob("*/result.json"))) == len(sweep.ids)
    first_choice = max(DOCUMENT["available_node_types"].items(), key=lambda item: item[1].get("priority", -1))[0]
    assert set(most) == {FAKE_HEAD, first_choice}
    assert 1 <= most[first_choice] <= len(sweep.ids)
    assert came_true(lambda: node_types(cluster) == idle, PATIENCE_SECONDS), node_types(cluster)
