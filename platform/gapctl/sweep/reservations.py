"""Placement groups whose creator has ended: Ray keeps them until the sweep's own process ends.

Ray Train's controller reserves the workers of a trial. Where it is killed, a cleaner of Ray Train's would release them,
but it asks the dashboard, which a local sweep starts Ray without; nothing else would ever be placed there. Ray's public
table does not say who created a group, so the message behind it is read here.
"""

from collections.abc import Iterable
from typing import Any


def release_dead_reservations() -> int:
    """Remove the placement groups of this process's Ray job whose creating actor is dead, and return their number."""
    import ray
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    job = ray.get_runtime_context().get_job_id()
    dead = dead_reservations(_placement_groups(), bytes.fromhex(job))
    for group_id in dead:
        remove_placement_group(PlacementGroup(ray.PlacementGroupID(group_id)))
    return len(dead)


def dead_reservations(groups: Iterable[Any], job_id: bytes) -> list[bytes]:
    """The ids of a job's groups that an actor created that is dead, given as `PlacementGroupTableData` of Ray's GCS.

    A group that no actor created counts as one of a dead actor there; those are the driver's own.
    """
    return [
        group.placement_group_id
        for group in groups
        if group.creator_job_id == job_id
        and group.creator_actor_dead
        and group.creator_actor_id.strip(b"\xff")
        and group.state != group.REMOVED
    ]


def _placement_groups() -> list[Any]:
    import ray
    from ray._raylet import GcsClientOptions, GlobalStateAccessor  # type: ignore[attr-defined]
    from ray.core.generated.gcs_pb2 import PlacementGroupTableData  # type: ignore[attr-defined]

    options = GcsClientOptions.create(
        ray.get_runtime_context().gcs_address, None, allow_cluster_id_nil=True, fetch_cluster_id_if_nil=False
    )
    accessor = GlobalStateAccessor(options)
    if not accessor.connect():
        return []
    return [PlacementGroupTableData.FromString(group) for group in accessor.get_placement_group_table()]
