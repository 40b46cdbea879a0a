"""Whether the disks have room for what a sweep will write, asked before it begins."""

import os
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from gapctl.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from gapctl.ledger import Ledger
    from gapctl.plan.trials import Plan, Trial

AMPLE: Final = 2.0
"""Times as much as is needed, below which there is a warning."""
ELSEWHERE: Final = {
    "the ledger": "another ledger with --runs",
    "MLflow": "another tracking.uri",
    "Ray": "another temporary folder with RAY_TMPDIR",
}


class Room(NamedTuple):
    """One disk: what is kept there, the folder by which it is known, and bytes needed and free."""

    users: tuple[str, ...]
    folder: str
    needed: float
    free: float

    @property
    def state(self) -> str:
        """What a person is told of it."""
        users = ", ".join(self.users)
        return f"{self.folder} has {_size(self.free)} free, and {users} will take about {_size(self.needed)} there"


def rooms_for(plan: "Plan", left: "Sequence[Trial]", ledger: "Ledger", address: str | None) -> list[Room]:
    """The disks of this machine that training what is left will write to; object stores and servers have none."""
    from gapctl.plan.cost import slots_on
    from gapctl.plan.space import space_of
    from gapctl.sweep.ray_folder import default_ray_folder
    from gapctl.tracking.uri import database_file

    resources = plan.sweep.spec.resources
    at_once = slots_on(plan, os.cpu_count() or 1) * resources.pack if address is None else len(left)
    space = space_of(left, at_once)
    database = database_file(plan.sweep.spec.tracking.uri)
    wanted = [
        ("the ledger", ledger.disk, space.ledger),
        ("MLflow", None if database is None else database.parent, space.mlflow),
        ("Ray", default_ray_folder() if address is None else None, space.ray),
    ]
    by_disk: dict[int, Room] = {}
    for user, folder, needed in wanted:
        if folder is not None and needed:
            existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
            disk = existing.stat().st_dev
            known = by_disk.get(disk, Room((), str(folder), 0.0, float(shutil.disk_usage(existing).free)))
            by_disk[disk] = known._replace(users=(*known.users, user), needed=known.needed + needed)
    return list(by_disk.values())


def clear_leftovers(plan: "Plan", ledger: "Ledger", console: "Console") -> None:
    """Deletes what killed writers left on a disk of this machine; a store leaves nothing half written."""
    found = ledger.leftovers([trial.id for trial in plan.trainings]) if ledger.disk is not None else []
    ledger.delete(found)
    if found:
        size = f"{sum(each.bytes for each in found) / 1e6:,.1f} MB"
        console.print(f"deleted {len(found)} files ({size}) that killed processes left", highlight=False)


def check_room(rooms: Sequence[Room], console: "Console", *, estimated_high: bool = False) -> None:
    """Warns where a disk has less than twice what is needed; raises InputError where it has less than that.

    It only warns where the need is `estimated_high`: of a cluster it is not known how many trainings run at a time.
    """
    for room in rooms:
        if room.free < room.needed and not estimated_high:
            others = " or ".join(ELSEWHERE[user] for user in room.users)
            raise InputError(f"{room.state}; make room, or give {others}. Nothing was started")
        if room.free < AMPLE * room.needed:
            console.print(f"little room: {room.state}", highlight=False, markup=False, soft_wrap=True)


def _size(count: float) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"
