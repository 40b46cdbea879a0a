"""The space that a sweep's training will take on the disks of this machine, compared with what is free there."""

import os
import shutil
from collections.abc import Sequence
from typing import Final, NamedTuple

from gapctl.errors import InputError
from gapctl.ledger import Ledger
from gapctl.plan.estimate import count_parallel_trials, estimate_disk
from gapctl.plan.plan import Plan, Trial
from gapctl.sweep.ray_session import find_default_ray_folder
from gapctl.tracking.store import find_database_file

SPARE_FACTOR: Final = 2.0
"""The multiple of the needed space below which there is a warning."""
RELOCATION_HINTS: Final = {
    "the ledger": "another ledger with --runs",
    "MLflow": "another tracking.uri",
    "Ray": "another temporary folder with RAY_TMPDIR",
}


class DiskSpace(NamedTuple):
    """One disk: its users, the folder by which it is named, and the bytes needed and free."""

    users: tuple[str, ...]
    folder: str
    needed: float
    free: float

    @property
    def state(self) -> str:
        """A sentence on the free and the needed space."""
        users = ", ".join(self.users)
        return (
            f"{self.folder} has {_format_size(self.free)} free, and {users} will take about "
            f"{_format_size(self.needed)} there"
        )

    @property
    def is_too_small(self) -> bool:
        """Whether less is free than is needed, which a sweep on this machine refuses."""
        return self.free < self.needed


def measure_disks(plan: Plan, left: Sequence[Trial], ledger: Ledger, address: str | None) -> list[DiskSpace]:
    """Measure the disks of this machine that training will write to; object stores and servers have none."""
    resources = plan.sweep.spec.resources
    at_once = count_parallel_trials(plan, os.cpu_count() or 1) * resources.pack if address is None else len(left)
    space = estimate_disk(left, at_once)
    database = find_database_file(plan.sweep.spec.tracking.uri)
    wanted = [
        ("the ledger", ledger.disk, space.ledger),
        ("MLflow", None if database is None else database.parent, space.mlflow),
        ("Ray", find_default_ray_folder() if address is None else None, space.ray),
    ]
    by_disk: dict[int, DiskSpace] = {}
    for user, folder, needed in wanted:
        if folder is not None and needed:
            existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
            disk = existing.stat().st_dev
            known = by_disk.get(disk, DiskSpace((), str(folder), 0.0, float(shutil.disk_usage(existing).free)))
            by_disk[disk] = known._replace(users=(*known.users, user), needed=known.needed + needed)
    return list(by_disk.values())


def check_disk_space(disks: Sequence[DiskSpace], *, estimated_high: bool = False) -> list[str]:
    """Warn where a disk has less than twice the needed space; raise InputError where it has less than needed.

    With `estimated_high` only warn: for a cluster it is unknown how many trainings run at a time.
    """
    for disk in disks:
        if disk.is_too_small and not estimated_high:
            others = " or ".join(RELOCATION_HINTS[user] for user in disk.users)
            raise InputError(f"{disk.state}; make room, or give {others}. Nothing was started")
    return [f"little room: {disk.state}" for disk in disks if disk.free < SPARE_FACTOR * disk.needed]


def _format_size(count: float) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"
