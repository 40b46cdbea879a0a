"""A sweep ends where no machine can hold a trial any more, and what dead processes reserved is free again."""

import itertools
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
import ray
from hypothesis import given
from hypothesis import strategies as st
from ray.core.generated.gcs_pb2 import PlacementGroupTableData  # type: ignore[attr-defined]
from ray.util.placement_group import placement_group, placement_group_table

from gapctl.sweep.capacity import (
    ASK_AGAIN_SECONDS,
    MISSING_SECONDS,
    WATCH_SECONDS,
    Bundle,
    ClusterWatch,
    can_hold_bundles,
    release_dead_reservations,
)
from gapctl.sweep.ray_private import select_dead_reservations

TRAINING, READING = {"CPU": 2.0, "GPU": 1.0}, {"CPU": 3.0}
BIG, SMALL = {"CPU": 8.0, "GPU": 2.0}, {"CPU": 2.0}


class Cluster:
    """Machines and an autoscaler as a test says, and a clock that it moves."""

    def __init__(self, nodes: list[Bundle], grows: bool | None = False, *, elastic: bool = True) -> None:
        self.nodes, self.grows, self.now, self.asked, self.freed = nodes, grows, 0.0, 0, 0
        self.watch = ClusterWatch(
            [TRAINING, READING],
            elastic=elastic,
            nodes=lambda: self.nodes,
            grows=self._ask,
            release=self._free,
            clock=lambda: self.now,
        )

    def _ask(self, bundles: Any) -> bool | None:
        self.asked += 1
        return self.grows

    def _free(self) -> int:
        self.freed += 1
        return 0

    def ends_within(self, seconds: float) -> bool:
        """Asks as Tune does; whether the sweep was to end."""
        until = self.now + seconds
        while self.now < until:
            self.now += 0.5
            if self.watch.stop_all():
                return True
        return False


def test_a_cluster_without_room_ends_the_sweep_within_a_minute_and_says_why() -> None:
    cluster = Cluster([BIG, SMALL])
    assert not cluster.ends_within(300)

    cluster.nodes = [SMALL]
    assert cluster.ends_within(60)
    assert cluster.watch.stop_all()
    assert cluster.watch.reason == (
        "no machine of the cluster can hold a trial any more, and no autoscaler starts one: a trial asks for 5 CPUs "
        "and 1 GPUs in 2 parts, the 1 that are left have 2 CPUs"
    )


def test_an_empty_cluster_is_named_so() -> None:
    cluster = Cluster([])

    assert cluster.ends_within(60)
    assert cluster.watch.reason.endswith("none is left")


def test_a_machine_that_comes_back_is_waited_for() -> None:
    cluster = Cluster([BIG])
    for _ in range(5):
        cluster.nodes = []
        assert not cluster.ends_within(MISSING_SECONDS - WATCH_SECONDS)
        cluster.nodes = [BIG]
        assert not cluster.ends_within(2 * WATCH_SECONDS)
    assert not cluster.asked


@pytest.mark.parametrize("grows", [True, None])
def test_an_autoscaler_that_does_not_refuse_is_waited_for_and_seldom_asked(grows: bool | None) -> None:
    cluster = Cluster([], grows)

    assert not cluster.ends_within(600)
    assert 0 < cluster.asked <= 600 / ASK_AGAIN_SECONDS + 1
    cluster.grows = False
    assert cluster.ends_within(ASK_AGAIN_SECONDS + WATCH_SECONDS)


def test_a_local_ray_is_not_asked_for_its_machines_but_freed() -> None:
    cluster = Cluster([], elastic=False)

    assert not cluster.ends_within(60)
    assert not cluster.asked
    assert cluster.freed


@given(
    nodes=st.lists(st.fixed_dictionaries({"CPU": st.integers(0, 7), "GPU": st.integers(0, 2)}), max_size=3),
    training=st.fixed_dictionaries({"CPU": st.integers(1, 4), "GPU": st.integers(0, 1)}),
    reading=st.integers(0, 3),
    workers=st.integers(1, 2),
)
def test_bundles_are_held_where_some_way_to_place_them_is_there(
    nodes: list[dict[str, int]], training: dict[str, int], reading: int, workers: int
) -> None:
    bundles = ([training] if not reading else [training, {"CPU": reading}]) * workers

    def fit(places: tuple[int, ...]) -> bool:
        return all(
            sum(bundle.get(name, 0) for bundle, place in zip(bundles, places, strict=True) if place == index)
            <= node[name]
            for index, node in enumerate(nodes)
            for name in ("CPU", "GPU")
        )

    expected = any(fit(places) for places in itertools.product(range(len(nodes)), repeat=len(bundles)))
    assert can_hold_bundles(nodes, bundles) == expected


def group(number: int, *, job: bytes = b"\1\0\0\0", actor: bytes = b"a" * 16, dead: bool = True) -> Any:
    return PlacementGroupTableData(
        placement_group_id=bytes([number]),
        creator_job_id=job,
        creator_actor_id=actor,
        creator_actor_dead=dead,
        state=PlacementGroupTableData.CREATED,
    )


def test_only_groups_of_a_dead_actor_of_this_job_are_dead() -> None:
    removed = group(5)
    removed.state = PlacementGroupTableData.REMOVED
    groups = [group(1), group(2, dead=False), group(3, job=b"\2\0\0\0"), group(4, actor=b"\xff" * 16), removed]

    assert select_dead_reservations(groups, b"\1\0\0\0") == [b"\1"]


@ray.remote(num_cpus=0)
class Reserves:
    """Reserves a CPU as Ray Train's controller does."""

    def reserve(self) -> int:
        """Keep the group and return the process's number."""
        self.kept = placement_group([{"CPU": 1}])
        assert self.kept.wait(60)
        return os.getpid()


@pytest.fixture
def local_ray() -> Iterator[None]:
    ray.init(include_dashboard=False, num_cpus=2, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.mark.timeout(600)
def test_what_a_killed_process_reserved_is_free_again_without_a_dashboard(local_ray: None) -> None:
    own, living, dying = placement_group([{"CPU": 0.5}]), Reserves.options().remote(), Reserves.options().remote()
    assert own.wait(60)
    pid = ray.get(dying.reserve.remote())
    assert release_dead_reservations() == 0

    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 120
    while not release_dead_reservations() and time.monotonic() < deadline:
        time.sleep(0.2)

    assert ray.get(living.reserve.remote(), timeout=120), "it gets the CPU of the one that was killed"
    assert placement_group_table(own)["state"] == "CREATED", "the driver's own stays"
