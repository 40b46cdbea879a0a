"""What machines cost: each says its kind by its cloud's metadata service, here a server of this test.

A cluster of several machines is what no test has: Ray's own calls are made up here, and its errors are real.
"""

from typing import Any

import pytest
import ray
from ray.exceptions import RayTaskError, WorkerCrashedError

from gapctl.cluster import running_cost as node_kinds
from gapctl.cluster.cost import load_shipped_prices
from gapctl.cluster.running_cost import ClusterCost, MachineKind, RunningCost, detect_machine_kind, find_price
from metadata_service import metadata
from unhelpful_servers import answering, unused_address

AMAZON = {
    "PUT /latest/api/token": "a token",
    "GET /latest/meta-data/instance-type": "g6.2xlarge",
    "GET /latest/meta-data/instance-life-cycle": "spot",
}
GOOGLE = {
    "GET /computeMetadata/v1/instance/machine-type": "projects/1/machineTypes/g2-standard-8",
    "GET /computeMetadata/v1/instance/scheduling/preemptible": "FALSE",
}


def test_a_machine_of_amazon_says_its_kind_and_market() -> None:
    with metadata(AMAZON, ("X-aws-ec2-metadata-token", "a token")) as address:
        assert detect_machine_kind(address) == MachineKind("g6.2xlarge", spot=True)


def test_a_machine_of_google_says_its_kind_and_market() -> None:
    with metadata(GOOGLE, ("Metadata-Flavor", "Google")) as address:
        assert detect_machine_kind(address) == MachineKind("g2-standard-8", spot=False)


def test_a_machine_of_no_cloud_has_no_kind() -> None:
    assert detect_machine_kind(unused_address()) is None
    with answering(404) as address:
        assert detect_machine_kind(address) is None


@pytest.mark.parametrize(
    ("kind", "otherwise", "price"),
    [
        (MachineKind("g6.2xlarge", spot=True), None, load_shipped_prices().instances["g6.2xlarge"].spot),
        (MachineKind("g6.2xlarge", spot=False), 9.0, load_shipped_prices().instances["g6.2xlarge"].on_demand),
        (MachineKind("x9.unheard", spot=False), 9.0, 9.0),
        (None, 9.0, 9.0),
        (None, None, None),
    ],
)
def test_a_price_is_the_tables_or_else_what_the_user_says(
    kind: MachineKind | None, otherwise: float | None, price: float | None
) -> None:
    assert find_price(kind, load_shipped_prices(), otherwise) == price


LARGE, SMALL = MachineKind("g6.2xlarge", spot=True), MachineKind("g6.xlarge", spot=False)
FAILING = RayTaskError("this_machine", "ModuleNotFoundError: gapctl", ModuleNotFoundError("gapctl"))
LOST = WorkerCrashedError()
LATE = "late"


class Cluster:
    """Nodes by what each answers: its kind, an error, or nothing (`LATE`)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answers: dict[str, Any]) -> None:
        self.answers, self.asked, self.cancelled = answers, list[str](), list[str]()
        self.runs = True
        calls = {
            "is_initialized": lambda: self.runs,
            "nodes": lambda: [{"NodeID": node, "Alive": True} for node in self.answers],
            "remote": lambda **_: lambda function: self,
            "wait": self.wait,
            "get": self.get,
            "cancel": lambda task: self.cancelled.append(task[0]),
        }
        for name, call in calls.items():
            monkeypatch.setattr(ray, name, call)
        there = "ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy"
        monkeypatch.setattr(there, lambda node, soft: node)

    def options(self, scheduling_strategy: str) -> "Cluster":
        self.asked.append(scheduling_strategy)
        return self

    def remote(self) -> tuple[str, int]:
        return self.asked[-1], len(self.asked)

    def wait(self, tasks: list[tuple[str, int]], num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        assert timeout <= 2
        late = [task for task in tasks if self.answers[task[0]] == LATE]
        return [task for task in tasks if task not in late], late

    def get(self, task: tuple[str, int], timeout: float) -> MachineKind | None:
        answer = self.answers[task[0]]
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]


def per_hour(*kinds: MachineKind) -> float:
    return sum(find_price(kind, load_shipped_prices(), None) or 0.0 for kind in kinds)


@pytest.mark.parametrize(("answer", "unanswered"), [(FAILING, 0), (LOST, 1), (LATE, 1), (None, 0)])
def test_a_node_that_cannot_say_what_it_is_leaves_the_prices_of_the_others(
    monkeypatch: pytest.MonkeyPatch, answer: Any, unanswered: int
) -> None:
    Cluster(monkeypatch, {"head": LARGE, "worker": SMALL, "odd": answer})

    assert RunningCost(None)() == ClusterCost(per_hour(LARGE, SMALL), 2, 1, unanswered)
    assert RunningCost(9.0)() == ClusterCost(per_hour(LARGE, SMALL) + 9.0, 3, 0, unanswered)


def test_a_node_is_asked_once_and_again_where_it_was_lost_or_is_late_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch, {"head": LARGE, "odd": FAILING, "lost": LOST, "late": LATE})
    bill = RunningCost(None)
    bill()
    bill()
    assert cluster.asked == ["head", "odd", "lost", "late", "lost"]

    monkeypatch.setattr(node_kinds, "GIVE_UP_SECONDS", 0.0)
    bill()
    cluster.answers["late"] = SMALL
    found = bill()

    assert cluster.cancelled == ["late"]
    assert found == ClusterCost(per_hour(LARGE, SMALL), 2, 2, 1)


def test_a_ray_that_has_not_begun_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch, {"head": LARGE})

    cluster.runs = False
    assert RunningCost(None)() is None
    assert cluster.asked == []
