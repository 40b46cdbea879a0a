"""Whether a cluster will grow to hold a trial: Ray does not tell which machines its autoscaler may start.

So a trial's resources are reserved for a moment, as Tune will reserve them, and the autoscaler is watched: it starts a
machine, calls the request infeasible, or says nothing because there is none.
"""

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

Bundle = Mapping[str, float]
Report = Mapping[str, Any]

PATIENCE_SECONDS: Final = 30.0
"""Autoscalers look every five seconds, and take a few to ask their cloud."""
SILENT_SECONDS: Final = 10.0
"""Time enough for an autoscaler that is there to say so."""
LOOK_SECONDS: Final = 1.0
STATUS_OF_THE_OLDER_ONE: Final = b"__autoscaling_status"
"""Where the autoscaler of Ray before 2.50 writes what it does."""
ANSWER_SECONDS: Final = 5
NODE_THAT_IS_COUNTED: Final = "node_"


def grows_to(bundles: Sequence[Bundle]) -> bool:
    """Whether the cluster that this process has joined can hold all bundles, or is about to."""
    return bool(answer_growth(bundles))


def answer_growth(bundles: Sequence[Bundle]) -> bool | None:
    """The same, and None where an autoscaler is there that neither starts a machine nor refuses to."""
    from ray.util import placement_group, remove_placement_group

    before = _status()
    wanted = placement_group([dict(bundle) for bundle in bundles])
    try:
        began = time.monotonic()
        while time.monotonic() < began + PATIENCE_SECONDS:
            if wanted.wait(timeout_seconds=LOOK_SECONDS):
                return True
            status, report = _status(), _older_report()
            answer = answer_of(status, bundles, before)
            if answer is None:
                answer = older_answer_of(report)
            if answer is not None:
                return answer
            if not (is_there(status) or starts_machines(report)) and time.monotonic() > began + SILENT_SECONDS:
                return False
        return None
    finally:
        remove_placement_group(wanted)


def is_there(status: Any) -> bool:
    """Whether an autoscaler has ever said how it stands."""
    return bool(status.autoscaling_state.autoscaler_state_version)


def answer_of(status: Any, bundles: Sequence[Bundle], before: Any) -> bool | None:
    """What Ray's autoscaler makes of a request for these bundles: that it grows, that it cannot, or nothing yet.

    `status` is a GetClusterStatusReply of Ray's `autoscaler.proto`, `before` the one from before the request: what is
    started on what the autoscaler knew then is started for others.
    """
    state = status.autoscaling_state
    if state.last_seen_cluster_resource_state_version <= before.cluster_resource_state.cluster_resource_state_version:
        return None
    refused = [
        [dict(each.resources_bundle) for each in gang.requests] for gang in state.infeasible_gang_resource_requests
    ]
    if [_needed(bundle) for bundle in bundles] in [[_needed(each) for each in request] for request in refused]:
        return False
    return True if state.pending_instance_requests or state.pending_instances else None


def older_answer_of(report: Report) -> bool | None:
    """The same of the older autoscaler, which reports what it launches and no request that it cannot meet."""
    return True if report.get("pending_launches") or report.get("pending_nodes") else None


def starts_machines(report: Report) -> bool:
    """Whether the older autoscaler may: without a cluster file it only counts nodes, each as a type of its own."""
    types = [*(report.get("active_nodes") or {}), *(report.get("idle_nodes") or {})]
    return any(not name.startswith(NODE_THAT_IS_COUNTED) for name in types)


def _needed(bundle: Bundle) -> dict[str, float]:
    return {name: float(amount) for name, amount in bundle.items() if amount}


def _status() -> Any:
    """The autoscaler's reply, empty where the head did not answer in time."""
    import ray
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply  # type: ignore[attr-defined]
    from ray.exceptions import RaySystemError, RpcError

    reply = GetClusterStatusReply()
    with suppress(RaySystemError, RpcError):
        client = GcsClient(address=ray.get_runtime_context().gcs_address)
        reply.ParseFromString(client.get_cluster_status(timeout_s=ANSWER_SECONDS))
    return reply


def _older_report() -> Report:
    from ray.experimental.internal_kv import _internal_kv_get

    found: bytes | None = _internal_kv_get(STATUS_OF_THE_OLDER_ONE)
    return json.loads(found).get("autoscaler_report") or {} if found else {}
