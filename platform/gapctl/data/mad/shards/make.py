"""Makes a folder of shards on Ray Data: what is there and sound is kept, and the rest is made.

The folder is the same to the last byte whatever the number of workers and however often the work was stopped.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np

from gapctl.data.mad.digits import Digits, load_digits
from gapctl.data.mad.fingerprint import GENERATOR_VERSION, source_fingerprint
from gapctl.data.mad.shards.atomic import TEMPORARY, write_whole
from gapctl.data.mad.shards.description import Description, FileRecord, read_description, to_json
from gapctl.data.mad.shards.layout import (
    DESCRIPTION,
    DIGITS_PER_SHARD,
    MAKING,
    MANIFEST,
    VARIANTS_TABLE,
    Format,
    Request,
    Shard,
    shards_of,
)
from gapctl.data.mad.shards.output import (
    REQUEST_FILE,
    bytes_needed,
    check_output,
    check_space,
    existing_description,
    unwritable,
)
from gapctl.data.mad.shards.records import sound_shards
from gapctl.data.mad.shards.write import Drawn, ShardRecord, make_shard
from gapctl.data.mad.source import SPLITS, Split
from gapctl.data.mad.store import available_cores, generation_key
from gapctl.errors import InputError, WorkError

_LOCK: Final = "lock"

OnProgress = Callable[[str, int, int], None]
OpenRay = Callable[[int], AbstractContextManager[None]]


@dataclass(frozen=True)
class Made:
    """A whole folder, and how many of its shards this run made."""

    description: Description
    made: int


@dataclass(frozen=True)
class _Work:
    """A folder to make: its request, every split's digits as far as the request goes, and its shards."""

    folder: Path
    request: Request
    digits: Mapping[Split, Digits]
    counts: Mapping[Split, int]

    @property
    def shards(self) -> list[Shard]:
        return shards_of(self.counts, self.request)

    def drawn(self, shard: Shard) -> Drawn:
        digits, rows = self.digits[shard.split], slice(shard.first, shard.first + shard.count)
        key = generation_key(shard.split, self.request.seed)
        return Drawn(digits.images_NHW[rows], digits.labels_N[rows], key)


def make_folder(
    source: str,
    folder: Path,
    open_ray: OpenRay,
    *,
    splits: Collection[Split] = SPLITS,
    limit: int | None = None,
    seed: int = 0,
    form: Format = "npy",
    workers: int | None = None,
    digits_per_shard: int = DIGITS_PER_SHARD,
    on_progress: OnProgress = lambda task, done, total: None,
) -> Made:
    """Make the shards of `splits` that the folder does not hold whole, `limit` digits of each at most.

    `open_ray` starts Ray with so many CPUs, and is called only if there is something to make; `workers` is by default
    one per available core. `on_progress` is told of each task how many digits are done, and of how many. Raises
    InputError for a wrong source, for a folder that holds other data, was made otherwise, is being made by another
    process or has too little room, and WorkError if making fails; what was made until then is kept.
    """
    digits = {split: load_digits(source, split) for split in SPLITS}
    largest = max(map(len, digits.values()))
    cut = limit if limit is not None and limit < largest else None
    request = Request(source_fingerprint(source), GENERATOR_VERSION, seed, cut, form, digits_per_shard)
    work = _work(folder, request, digits, splits)
    check_output(folder, work.request, work.shards)
    kept = _kept(work, on_progress)
    whole = read_description(folder)
    if whole is not None and len(kept) == len(work.shards) and _tables_fit(work, whole, kept):
        return Made(whole, 0)
    workers = workers or available_cores()
    left = [shard for shard in work.shards if shard.name not in kept]
    check_space(folder, bytes_needed(left))
    with _being_made(work):
        made = _make(work, left, open_ray, workers, on_progress)
        description = _finish(work, {**kept, **made})
    return Made(description, len(left))


def _work(folder: Path, request: Request, digits: Mapping[Split, Digits], splits: Collection[Split]) -> _Work:
    there = existing_description(folder) if folder.is_dir() else None
    wanted = {*splits, *(there.digits if there else ())}
    counts = {
        split: len(digits[split]) if request.limit is None else min(len(digits[split]), request.limit)
        for split in SPLITS
        if split in wanted
    }
    return _Work(folder, request, digits, counts)


def _kept(work: _Work, on_progress: OnProgress) -> dict[str, ShardRecord]:
    present = [shard for shard in work.shards if (work.folder / shard.name).is_file()]
    total, done = sum(shard.count for shard in present), 0

    def checked(shard: Shard) -> None:
        nonlocal done
        done += shard.count
        on_progress("checking the shards that are there", done, total)

    return sound_shards(work.folder, present, checked)


@contextmanager
def _being_made(work: _Work) -> Iterator[None]:
    """Mark the folder as unfinished, for this process alone; the mark goes when the folder is whole."""
    making = work.folder / MAKING
    try:
        making.mkdir(parents=True, exist_ok=True)
        lock = (making / _LOCK).open("w")
    except OSError as error:
        raise unwritable(work.folder, error) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"--out {work.folder}: another gapctl is making it now. Wait until it is done, or stop it."
            ) from error
        _begin(work, making)
        yield
        shutil.rmtree(making)


def _begin(work: _Work, making: Path) -> None:
    try:
        for left_over in making.glob(f"*{TEMPORARY}"):
            left_over.unlink(missing_ok=True)
        write_whole(making / REQUEST_FILE, _request_json(work.request), making)
        if (work.folder / DESCRIPTION).exists():
            (work.folder / DESCRIPTION).replace(making / DESCRIPTION)
    except OSError as error:
        raise unwritable(work.folder, error) from error


def _request_json(request: Request) -> bytes:
    import json

    return json.dumps(asdict(request)).encode()


def _make(
    work: _Work, left: Sequence[Shard], open_ray: OpenRay, workers: int, on_progress: OnProgress
) -> dict[str, ShardRecord]:
    if not left:
        return {}
    made: dict[str, ShardRecord] = {}
    done, total = 0, sum(shard.count for shard in left)
    on_progress("drawing MAD's images", 0, total)
    # Never more workers than shards: each costs the seconds in which its process starts.
    workers = min(workers, len(left))
    with open_ray(workers):
        for shard, record in _on_ray(work, left, workers):
            made[shard.name] = record
            done += shard.count
            on_progress("drawing MAD's images", done, total)
    return made


def _on_ray(work: _Work, left: Sequence[Shard], workers: int) -> Iterator[tuple[Shard, ShardRecord]]:
    import ray.data
    from ray.exceptions import RayError

    # Absolute: a Ray process need not work where this one does.
    folder = str(work.folder.absolute())
    items = [{"shard": asdict(shard), "folder": folder, **work.drawn(shard)._asdict()} for shard in left]
    dataset = ray.data.from_items(items, override_num_blocks=len(items)).map(
        _make_row, num_cpus=1, compute=ray.data.TaskPoolStrategy(size=workers)
    )
    try:
        for row in dataset.iter_rows():
            yield Shard(**row["shard"]), ShardRecord(row["bytes"], row["sha256"], tuple(map(int, row["offsets"])))
    except RayError as error:
        raise WorkError(
            f"--out {work.folder}: a shard could not be made ({_reason(error)}). The finished ones are kept: the same "
            "command makes what is left."
        ) from error


def _make_row(row: dict[str, Any]) -> dict[str, Any]:
    shard = Shard(**row["shard"])
    drawn = Drawn(np.asarray(row["digits_NHW"]), np.asarray(row["labels_N"]), int(row["key"]))
    record = make_shard(Path(row["folder"]), shard, drawn)
    return {"shard": asdict(shard), **record._asdict()}


def _reason(error: BaseException) -> str:
    cause = cast("BaseException", getattr(error, "cause", None) or error)
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    lines = str(cause).strip().splitlines()
    return lines[-1] if lines else type(cause).__name__


def _finish(work: _Work, records: Mapping[str, ShardRecord]) -> Description:
    making = work.folder / MAKING
    tables = _tables(work, records)
    description = _describe(work, records, tables)
    try:
        for name, content in tables.items():
            write_whole(work.folder / name, content, making)
        _flush(work.folder)
        write_whole(work.folder / DESCRIPTION, to_json(description), making)
        _flush(work.folder)
    except OSError as error:
        raise WorkError(
            f"--out {work.folder}: its tables could not be written ({error.strerror}). Run the same command again."
        ) from error
    return description


def _tables(work: _Work, records: Mapping[str, ShardRecord]) -> dict[str, bytes]:
    from gapctl.data.mad.shards.tables import manifest, variants_table

    labels = {split: digits.labels_N for split, digits in work.digits.items()}
    return {MANIFEST: manifest(work.shards, records, labels), VARIANTS_TABLE: variants_table(work.request.format)}


def _describe(work: _Work, records: Mapping[str, ShardRecord], tables: Mapping[str, bytes]) -> Description:
    import hashlib

    files = {name: FileRecord(len(content), hashlib.sha256(content).hexdigest()) for name, content in tables.items()}
    for shard in work.shards:
        files[shard.name] = FileRecord(records[shard.name].bytes, records[shard.name].sha256)
    return Description(work.request, work.counts, files)


def _tables_fit(work: _Work, whole: Description, kept: Mapping[str, ShardRecord]) -> bool:
    """Whether the folder's tables are what its shards ask for, so that a damaged one is written again."""
    tables = _tables(work, kept)
    if whole.files != _describe(work, kept, tables).files:
        return False
    try:
        return all((work.folder / name).read_bytes() == content for name, content in tables.items())
    except OSError:
        return False


def _flush(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
