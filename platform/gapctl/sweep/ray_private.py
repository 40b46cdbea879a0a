"""Ray's private interfaces, all in one place. Tried with Ray 2.60, which `requirements.lock` pins.

Nothing here raises: where an interface is missing or does not answer, a sweep goes on with less. Without the
autoscaler's report, it waits for machines only as long as for a silent autoscaler. Without the table of placement
groups, what a dead process reserved stays reserved. Without drains, a machine that is to be taken away is lost like
any other. Without the timeout, Tune kills a process after ten seconds.
Without the counting of memory kills, one may end the sweep.
"""

import json
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final, NamedTuple

Bundles = list[dict[str, float]]

LEGACY_STATUS_KEY: Final = b"__autoscaling_status"
"""Key under which the autoscaler of Ray before 2.50 writes its report."""
ANSWER_SECONDS: Final = 5
COUNTED_NODE_PREFIX: Final = "node_"
"""Without a cluster file, the older autoscaler only counts nodes, each as a type of its own."""


class AutoscalerState(NamedTuple):
    """The last report of an autoscaler, if one is `present`.

    `now` is the version of the cluster's resources and requests, `seen` the one that the autoscaler last acted on:
    whether it is `starting` machines, and which requests it has `refused`. The older autoscaler has no versions and
    reports no refusals, only whether it is `starting_legacy` machines.
    """

    present: bool = False
    now: int = 0
    seen: int = 0
    starting: bool = False
    refused: tuple[Bundles, ...] = ()
    starting_legacy: bool = False


def read_autoscaler_state() -> AutoscalerState:
    """Return the state of the joined cluster's autoscaler."""
    state = AutoscalerState()
    with suppress(Exception):  # the head did not answer in time, or this Ray has another interface
        state = parse_status(_fetch_status())
    with suppress(Exception):
        state = add_legacy_report(state, _fetch_legacy_report())
    return state


def parse_status(reply: Any) -> AutoscalerState:
    """Convert a GetClusterStatusReply of Ray's `autoscaler.proto`."""
    state = reply.autoscaling_state
    return AutoscalerState(
        present=bool(state.autoscaler_state_version),
        now=reply.cluster_resource_state.cluster_resource_state_version,
        seen=state.last_seen_cluster_resource_state_version,
        starting=bool(state.pending_instance_requests or state.pending_instances),
        refused=tuple(
            [dict(each.resources_bundle) for each in gang.requests] for gang in state.infeasible_gang_resource_requests
        ),
    )


def add_legacy_report(state: AutoscalerState, report: dict[str, Any]) -> AutoscalerState:
    """Add the report of the older autoscaler, {} where there is none."""
    types = [*(report.get("active_nodes") or {}), *(report.get("idle_nodes") or {})]
    active = any(not name.startswith(COUNTED_NODE_PREFIX) for name in types)
    starting = bool(report.get("pending_launches") or report.get("pending_nodes"))
    return state._replace(present=state.present or active, starting_legacy=starting)


def _fetch_status() -> Any:
    import ray
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply  # type: ignore[attr-defined]

    client = GcsClient(address=ray.get_runtime_context().gcs_address)
    return GetClusterStatusReply.FromString(client.get_cluster_status(timeout_s=ANSWER_SECONDS))


def _fetch_legacy_report() -> dict[str, Any]:
    from ray.experimental.internal_kv import _internal_kv_get

    found: bytes | None = _internal_kv_get(LEGACY_STATUS_KEY)
    return json.loads(found).get("autoscaler_report") or {} if found else {}


def list_dead_reservations() -> list[bytes]:
    """Return the ids of the placement groups of this process's Ray job whose creating actor is dead.

    Ray's public table does not say who created a group, and its state API needs the dashboard.
    """
    with suppress(Exception):
        import ray
        from ray._raylet import GcsClientOptions, GlobalStateAccessor  # type: ignore[attr-defined]
        from ray.core.generated.gcs_pb2 import PlacementGroupTableData  # type: ignore[attr-defined]

        context = ray.get_runtime_context()
        options = GcsClientOptions.create(
            context.gcs_address, None, allow_cluster_id_nil=True, fetch_cluster_id_if_nil=False
        )
        accessor = GlobalStateAccessor(options)
        if accessor.connect():
            groups = [PlacementGroupTableData.FromString(group) for group in accessor.get_placement_group_table()]
            return select_dead_reservations(groups, bytes.fromhex(context.get_job_id()))
    return []


def select_dead_reservations(groups: Iterable[Any], job_id: bytes) -> list[bytes]:
    """Select those of a job's groups (`PlacementGroupTableData`) whose creating actor is dead, and return their ids.

    Groups of the driver have no creating actor and are kept, although the table marks that actor as dead.
    """
    return [
        group.placement_group_id
        for group in groups
        if group.creator_job_id == job_id
        and group.creator_actor_dead
        and group.creator_actor_id.strip(b"\xff")
        and group.state != group.REMOVED
    ]


def is_this_node_draining() -> bool:
    """Return whether Ray was told that the node of this process will be taken away."""
    with suppress(Exception):
        import ray

        if ray.is_initialized():  # else the next call would start it
            return ray.get_runtime_context().get_node_id() in set(ray._private.state.state.get_draining_nodes())
    return False


def drain_this_node(until: float) -> None:
    """Have Ray place nothing on the node of this process any more, which ends at `until`, in seconds since 1970.

    Ray has a command for it (`ray drain-node`), which it hides, and which starts a process.
    """
    with suppress(Exception):
        import ray
        from ray._raylet import GcsClient  # type: ignore[attr-defined]
        from ray.core.generated.autoscaler_pb2 import DrainNodeReason  # type: ignore[attr-defined]

        if not ray.is_initialized():
            return
        context = ray.get_runtime_context()
        GcsClient(address=context.gcs_address).drain_node(
            context.get_node_id(),
            DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION,
            "its cloud takes the machine away",
            int(until * 1000),
            timeout=ANSWER_SECONDS,
        )


def set_stop_timeout(tune_controller: object, seconds: float) -> None:
    """Set how long Tune waits for a process that it has asked to stop; Tune has no setting for it."""
    if hasattr(tune_controller, "_actor_force_cleanup_timeout"):
        tune_controller._actor_force_cleanup_timeout = seconds


def count_memory_kills_as_losses() -> None:
    """Let Tune take a process that Ray's memory monitor ended, or whose machine died, for a lost one.

    Ray raises such an end as an error of its own where it comes between two calls, and Tune ends with a traceback.
    """
    with suppress(Exception):
        from ray.air.execution._internal.actor_manager import RayActorManager
        from ray.exceptions import NodeDiedError, OutOfMemoryError, RayActorError

        fail = RayActorManager._actor_task_failed
        if getattr(fail, "counts_memory_kills", False):
            return

        def fail_lost_actor(self: RayActorManager, tracked_actor_task: Any, exception: Exception) -> None:
            lost = isinstance(exception, OutOfMemoryError | NodeDiedError)
            fail(self, tracked_actor_task, RayActorError(error_msg=str(exception)) if lost else exception)

        fail_lost_actor.counts_memory_kills = True  # type: ignore[attr-defined]
        RayActorManager._actor_task_failed = fail_lost_actor  # type: ignore[method-assign]
