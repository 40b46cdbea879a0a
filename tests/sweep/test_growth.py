"""A cluster that may grow is asked before a trial is refused, and `gpus: auto` waits for a GPU that it may start."""

import sys
from typing import Any

import pytest
from ray.core.generated import autoscaler_pb2

from gapctl.config.sweep import Resources
from gapctl.errors import InputError
from gapctl.sweep import capacity as offer
from gapctl.sweep.capacity import judge_growth
from gapctl.sweep.ray_private import (
    AutoscalerState,
    add_legacy_report,
    list_dead_reservations,
    parse_status,
    read_autoscaler_state,
    set_stop_timeout,
)

ONE = [{"CPU": 1.0, "GPU": 1.0}]
NO_GPU = [{"CPU": 1.0, "GPU": 0.0}]


def status(
    seen: int = 0, now: int = 0, launching: int = 0, refused: tuple[dict[str, float], ...] = ()
) -> AutoscalerState:
    reply = autoscaler_pb2.GetClusterStatusReply()  # type: ignore[attr-defined]
    reply.cluster_resource_state.cluster_resource_state_version = now
    state = reply.autoscaling_state
    state.autoscaler_state_version, state.last_seen_cluster_resource_state_version = seen, seen
    if launching:
        state.pending_instance_requests.add(ray_node_type_name="spot_l4", count=launching)
    if refused:
        gang = state.infeasible_gang_resource_requests.add()
        for bundle in refused:
            gang.requests.add(resources_bundle={name: amount for name, amount in bundle.items() if amount})
    return parse_status(reply)


@pytest.mark.parametrize(
    ("found", "answer"),
    [
        (status(seen=6, launching=1), True),
        (status(seen=6, refused=(ONE[0],)), False),
        (status(seen=6, launching=1, refused=({"CPU": 64.0},)), True),  # refused to others
        (status(seen=5, launching=1), None),  # started for others, before the request was seen
        (status(seen=6), None),
    ],
)
def test_an_autoscaler_starts_a_machine_or_calls_the_request_infeasible(
    found: AutoscalerState, answer: bool | None
) -> None:
    assert judge_growth(found, ONE, before=status(now=5)) is answer


def test_a_bundle_without_gpus_is_recognised_though_ray_leaves_zeros_out() -> None:
    assert judge_growth(status(seen=6, refused=(NO_GPU[0],)), NO_GPU, before=status(now=5)) is False


def test_where_no_autoscaler_ever_reported_there_is_none() -> None:
    assert not status().present
    assert status(seen=1).present


def legacy(**report: Any) -> AutoscalerState:
    return add_legacy_report(status(), report)


def test_the_older_autoscaler_is_known_by_its_machines_and_its_launches() -> None:
    assert judge_growth(legacy(pending_launches={"spot_l4": 1}), ONE, status()) is True
    assert judge_growth(legacy(pending_nodes=[["192.0.2.4", "spot_l4", "waiting"]]), ONE, status()) is True
    assert judge_growth(legacy(active_nodes={"head": 1}), ONE, status()) is None
    assert legacy(active_nodes={"head": 1}).present
    assert not legacy(active_nodes={"node_dce6": 1}, idle_nodes=None).present
    assert not legacy().present


def test_a_ray_without_these_interfaces_has_no_autoscaler_no_groups_and_no_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("ray._raylet", "ray.core.generated.gcs_pb2", "ray.experimental.internal_kv"):
        monkeypatch.setitem(sys.modules, name, None)

    assert read_autoscaler_state() == AutoscalerState()
    assert list_dead_reservations() == []
    set_stop_timeout(object(), 60)


class Cluster:
    """Has what `living` says, and grows to what `may_have` holds; remembers what it was asked."""

    def __init__(self, living: dict[str, float], may_have: dict[str, float]) -> None:
        self.living, self.may_have = living, may_have
        self.asked: list[list[dict[str, float]]] = []

    def grows_to(self, bundles: list[dict[str, float]]) -> bool:
        self.asked.append(bundles)
        return all(sum(bundle.get(name, 0) for bundle in bundles) <= self.may_have[name] for name in ("CPU", "GPU"))

    def request(self, monkeypatch: pytest.MonkeyPatch, elastic: bool = True, **resources: Any) -> offer.ResourceRequest:
        monkeypatch.setattr(offer, "_cluster_resources", lambda: self.living)
        monkeypatch.setattr(offer, "can_scale_to", self.grows_to)
        return offer.build_resource_request(Resources(**resources), elastic=elastic)


EMPTY, LAPTOP, GPUS, CPUS = (
    {"CPU": cpus, "GPU": gpus} for cpus, gpus in ((0.0, 0.0), (2.0, 0.0), (8.0, 8.0), (64.0, 0))
)


def test_a_head_without_cpus_gets_its_machines_when_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Cluster(EMPTY, GPUS).request(monkeypatch) == ([{"CPU": 1.0, "GPU": 1.0}], True, None)
    assert Cluster(EMPTY, CPUS).request(monkeypatch) == ([{"CPU": 1.0, "GPU": 0.0}], False, None)


def test_a_gpu_is_waited_for_where_the_cluster_may_start_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Cluster(LAPTOP, GPUS).request(monkeypatch).gpu
    assert not Cluster(LAPTOP, CPUS).request(monkeypatch).gpu


def test_what_it_cannot_grow_to_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"resources\.cpus: 16 CPUs asked for a trial, but Ray has 2, and no autosc"):
        Cluster(LAPTOP, GPUS).request(monkeypatch, cpus=16)
    with pytest.raises(InputError, match=r"resources\.gpus: 16 GPUs asked for a trial, but Ray has 0, and no autosc"):
        Cluster(LAPTOP, GPUS).request(monkeypatch, gpus=16)


def test_this_machine_is_never_asked_to_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(LAPTOP, GPUS)

    assert not cluster.request(monkeypatch, elastic=False).gpu
    with pytest.raises(InputError):
        cluster.request(monkeypatch, elastic=False, cpus=4)
    assert cluster.asked == []


def test_workers_of_one_trial_are_asked_for_together(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(EMPTY, GPUS)

    request = cluster.request(monkeypatch, workers=4)

    assert cluster.asked == [4 * ONE, 4 * ONE]
    assert request == ([offer.WAITING_BUNDLE], True, offer.MAX_WAITING_TRIALS)
