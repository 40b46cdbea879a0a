"""Folders of shards for tests: a few digits, two to a shard."""

from collections.abc import Collection
from contextlib import nullcontext
from pathlib import Path

from gapctl.data.mad.shard_folder import FolderResult, OnTaskProgress, make_folder
from gapctl.data.mad.source import SPLITS, ShardFormat, Split
from gapctl.data.parallel_shards import StartRay

PER_SHARD = 2


def make(
    source: Path | str,
    folder: Path,
    *,
    splits: Collection[Split] = SPLITS,
    limit: int | None = None,
    seed: int = 0,
    form: ShardFormat = "npy",
    workers: int = 2,
    open_ray: StartRay = lambda workers: nullcontext(),
    on_progress: OnTaskProgress = lambda task, done, total: None,
) -> FolderResult:
    """Make a folder on the Ray that the test has started."""
    return make_folder(
        str(source),
        folder,
        open_ray,
        splits=splits,
        limit=limit,
        seed=seed,
        form=form,
        workers=workers,
        digits_per_shard=PER_SHARD,
        on_progress=on_progress,
    )


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
