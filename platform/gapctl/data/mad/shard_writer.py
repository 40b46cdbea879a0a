"""Make a folder of shards on Ray Data: keep sound shards, and make the missing ones.

1. `make_folder` checks the output, locks it, and finds the shards that are already sound.
2. Ray tasks draw the other shards with `shard_file.make_shard`.
3. The manifest, the table of variants and `mad.json` are written last.

The folder is the same to the last byte, whatever the number of workers and of interruptions.
"""

import fcntl
import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gapctl.data.mad.digits import Digits, load_digits
from gapctl.data.mad.factors import SHAPE_FACTORS, VARIANTS
from gapctl.data.mad.fingerprint import GENERATOR_VERSION, compute_source_fingerprint
from gapctl.data.mad.images import compute_generation_key, count_available_cores
from gapctl.data.mad.shard_file import DIGIT_BYTES, MadShardRecord, ShardInput, locate_record_file, make_shard
from gapctl.data.mad.shards import (
    DESCRIPTION_FILE,
    DIGITS_PER_SHARD,
    MAKING_FOLDER,
    MANIFEST_FILE,
    VARIANTS_FILE,
    FileRecord,
    FolderDescription,
    GenerationRequest,
    Shard,
    ShardFormat,
    list_foreign_files,
    list_shards,
    read_description,
    serialise_description,
)
from gapctl.data.mad.source import SPLITS, Split
from gapctl.errors import InputError, WorkError
from gapctl.io.atomic import TEMPORARY, hash_file, write_whole

REQUEST_FILE: Final = "request.json"
_TAR_DIGIT_BYTES: Final = 24 * 3 * 1200
"""Three members per picture, each with a header of 512 bytes and one to three blocks of 512."""
_TABLES_BYTES: Final = 4_000_000
_OPTION_NAMES: Final = {
    "source": "the source's digits",
    "generator": "the generator's version",
    "seed": "--seed",
    "limit": "--digits",
    "format": "--format",
    "digits_per_shard": "digits per shard",
}

_MANIFEST_SCHEMA: Final = {
    "split": pl.String,
    "digit": pl.Int32,
    "label": pl.UInt8,
    "shard": pl.String,
    "offset": pl.Int64,
    "shard_sha256": pl.String,
}

READ_THREADS = 4
_LOCK: Final = "lock"

OnProgress = Callable[[str, int, int], None]
OpenRay = Callable[[int], AbstractContextManager[None]]


@dataclass(frozen=True)
class FolderResult:
    """A complete folder, and the number of shards that this run made."""

    description: FolderDescription
    made: int


@dataclass(frozen=True)
class _FolderPlan:
    """A folder to make: its request, the digits of each split within the limit, and its shards."""

    folder: Path
    request: GenerationRequest
    digits: Mapping[Split, Digits]
    counts: Mapping[Split, int]

    @property
    def shards(self) -> list[Shard]:
        return list_shards(self.counts, self.request)

    def drawn(self, shard: Shard) -> ShardInput:
        digits, rows = self.digits[shard.split], slice(shard.first, shard.first + shard.count)
        key = compute_generation_key(shard.split, self.request.seed)
        return ShardInput(digits.images_NHW[rows], digits.labels_N[rows], key)


def make_folder(
    source: str,
    folder: Path,
    open_ray: OpenRay,
    *,
    splits: Collection[Split] = SPLITS,
    limit: int | None = None,
    seed: int = 0,
    form: ShardFormat = "npy",
    workers: int | None = None,
    digits_per_shard: int = DIGITS_PER_SHARD,
    on_progress: OnProgress = lambda task, done, total: None,
) -> FolderResult:
    """Make the shards of `splits` that the folder lacks, with at most `limit` digits of each split.

    `open_ray` starts Ray with a number of CPUs, and is called only if a shard is missing; `workers` is by default one
    per available core. `on_progress` gets each task's finished digits and all digits. Raise InputError for a wrong
    source and for a folder that holds other data, was made otherwise, is being made by another process or has too
    little room. Raise WorkError if making fails; finished shards stay.
    """
    digits = {split: load_digits(source, split) for split in SPLITS}
    largest = max(map(len, digits.values()))
    cut = limit if limit is not None and limit < largest else None
    request = GenerationRequest(
        compute_source_fingerprint(source), GENERATOR_VERSION, seed, cut, form, digits_per_shard
    )
    work = _plan_folder(folder, request, digits, splits)
    check_output(folder, work.request, work.shards)
    kept = _check_present_shards(work, on_progress)
    whole = read_description(folder)
    if whole is not None and len(kept) == len(work.shards) and _match_tables(work, whole, kept):
        return FolderResult(whole, 0)
    workers = workers or count_available_cores()
    left = [shard for shard in work.shards if shard.name not in kept]
    check_space(folder, estimate_bytes(left))
    with _lock_folder(work):
        made = _make_shards(work, left, open_ray, workers, on_progress)
        description = _finish_folder(work, {**kept, **made})
    return FolderResult(description, len(left))


def _plan_folder(
    folder: Path, request: GenerationRequest, digits: Mapping[Split, Digits], splits: Collection[Split]
) -> _FolderPlan:
    there = find_description(folder) if folder.is_dir() else None
    wanted = {*splits, *(there.digits if there else ())}
    counts = {
        split: len(digits[split]) if request.limit is None else min(len(digits[split]), request.limit)
        for split in SPLITS
        if split in wanted
    }
    return _FolderPlan(folder, request, digits, counts)


def _check_present_shards(work: _FolderPlan, on_progress: OnProgress) -> dict[str, MadShardRecord]:
    present = [shard for shard in work.shards if (work.folder / shard.name).is_file()]
    total, done = sum(shard.count for shard in present), 0

    def checked(shard: Shard) -> None:
        nonlocal done
        done += shard.count
        on_progress("checking the shards that are there", done, total)

    return find_sound_shards(work.folder, present, checked)


@contextmanager
def _lock_folder(work: _FolderPlan) -> Iterator[None]:
    """Mark the folder as unfinished, and lock it for this process; the mark goes once the folder is complete."""
    making = work.folder / MAKING_FOLDER
    try:
        making.mkdir(parents=True, exist_ok=True)
        lock = (making / _LOCK).open("w")
    except OSError as error:
        raise make_write_error(work.folder, error) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"--out {work.folder}: another gapctl is making it now. Wait until it is done, or stop it."
            ) from error
        _begin_folder(work, making)
        yield
        shutil.rmtree(making)


def _begin_folder(work: _FolderPlan, making: Path) -> None:
    try:
        for left_over in making.glob(f"*{TEMPORARY}"):
            left_over.unlink(missing_ok=True)
        write_whole(making / REQUEST_FILE, json.dumps(asdict(work.request)).encode(), making)
        if (work.folder / DESCRIPTION_FILE).exists():
            (work.folder / DESCRIPTION_FILE).replace(making / DESCRIPTION_FILE)
    except OSError as error:
        raise make_write_error(work.folder, error) from error


def _make_shards(
    work: _FolderPlan, left: Sequence[Shard], open_ray: OpenRay, workers: int, on_progress: OnProgress
) -> dict[str, MadShardRecord]:
    if not left:
        return {}
    made: dict[str, MadShardRecord] = {}
    done, total = 0, sum(shard.count for shard in left)
    on_progress("drawing MAD's images", 0, total)
    # Never more workers than shards: each costs the seconds in which its process starts.
    workers = min(workers, len(left))
    with open_ray(workers):
        for shard, record in _run_on_ray(work, left, workers):
            made[shard.name] = record
            done += shard.count
            on_progress("drawing MAD's images", done, total)
    return made


def _run_on_ray(work: _FolderPlan, left: Sequence[Shard], workers: int) -> Iterator[tuple[Shard, MadShardRecord]]:
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
            yield Shard(**row["shard"]), MadShardRecord(row["bytes"], row["sha256"], tuple(map(int, row["offsets"])))
    except RayError as error:
        raise WorkError(
            f"--out {work.folder}: a shard could not be made ({_explain_error(error)}). The finished ones "
            "are kept: the same "
            "command makes what is left."
        ) from error


def _make_row(row: dict[str, Any]) -> dict[str, Any]:
    shard = Shard(**row["shard"])
    drawn = ShardInput(np.asarray(row["digits_NHW"]), np.asarray(row["labels_N"]), int(row["key"]))
    record = make_shard(Path(row["folder"]), shard, drawn)
    return {"shard": asdict(shard), **record._asdict()}


def _explain_error(error: BaseException) -> str:
    cause = cast("BaseException", getattr(error, "cause", None) or error)
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    lines = str(cause).strip().splitlines()
    return lines[-1] if lines else type(cause).__name__


def _finish_folder(work: _FolderPlan, records: Mapping[str, MadShardRecord]) -> FolderDescription:
    making = work.folder / MAKING_FOLDER
    tables = _build_tables(work, records)
    description = _describe_folder(work, records, tables)
    try:
        for name, content in tables.items():
            write_whole(work.folder / name, content, making)
        _flush_folder(work.folder)
        write_whole(work.folder / DESCRIPTION_FILE, serialise_description(description), making)
        _flush_folder(work.folder)
    except OSError as error:
        raise WorkError(
            f"--out {work.folder}: its tables could not be written ({error.strerror}). Run the same command again."
        ) from error
    return description


def _build_tables(work: _FolderPlan, records: Mapping[str, MadShardRecord]) -> dict[str, bytes]:
    labels = {split: digits.labels_N for split, digits in work.digits.items()}
    return {
        MANIFEST_FILE: build_manifest(work.shards, records, labels),
        VARIANTS_FILE: build_variants_table(work.request.format),
    }


def _describe_folder(
    work: _FolderPlan, records: Mapping[str, MadShardRecord], tables: Mapping[str, bytes]
) -> FolderDescription:
    files = {name: FileRecord(len(content), hashlib.sha256(content).hexdigest()) for name, content in tables.items()}
    for shard in work.shards:
        files[shard.name] = FileRecord(records[shard.name].bytes, records[shard.name].sha256)
    return FolderDescription(work.request, work.counts, files)


def _match_tables(work: _FolderPlan, whole: FolderDescription, kept: Mapping[str, MadShardRecord]) -> bool:
    """Return whether the folder's tables fit its shards; a damaged one is written again."""
    tables = _build_tables(work, kept)
    if whole.files != _describe_folder(work, kept, tables).files:
        return False
    try:
        return all((work.folder / name).read_bytes() == content for name, content in tables.items())
    except OSError:
        return False


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_output(folder: Path, request: GenerationRequest, shards: Sequence[Shard]) -> None:
    """Raise InputError if the folder holds anything but the files of this request; it may be missing."""
    try:
        if not folder.exists():
            return
        before = find_request(folder)
        foreign = list_foreign_files(folder, shards if before else ())
    except NotADirectoryError as error:
        raise InputError(f"--out {folder}: is a file; expected a folder, new or empty.") from error
    except OSError as error:
        raise make_write_error(folder, error) from error
    if before is not None:
        _check_same_request(folder, before, request)
    if foreign:
        names = ", ".join(foreign[:5]) + (f" and {len(foreign) - 5} more" if len(foreign) > 5 else "")
        raise InputError(
            f"--out {folder}: holds other data ({names}); expected a new or empty folder, or one that "
            "`gapctl data mad --out` began. Nothing was written."
        )


def find_description(folder: Path) -> FolderDescription | None:
    """Return the folder's description from when it was last complete, even if it is being extended now."""
    return read_description(folder) or read_description(folder / MAKING_FOLDER)


def find_request(folder: Path) -> GenerationRequest | None:
    """Return the request that the folder was made by or is being made by, or None for another folder."""
    description = find_description(folder)
    if description is not None:
        return description.request
    try:
        return GenerationRequest(**json.loads((folder / MAKING_FOLDER / REQUEST_FILE).read_bytes()))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{folder / MAKING_FOLDER / REQUEST_FILE}: damaged ({error}). Delete {folder} and make it again."
        ) from error


def estimate_bytes(shards: Sequence[Shard]) -> int:
    """Return the approximate size of the shards and tables; tar files take at most that."""
    per_digit = {"npy": DIGIT_BYTES, "webdataset": _TAR_DIGIT_BYTES}
    return _TABLES_BYTES + sum(shard.count * per_digit[shard.format] for shard in shards)


def check_space(folder: Path, needed: int) -> None:
    """Raise InputError if the folder's disk has less than `needed` bytes free."""
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise InputError(
            f"--out {folder}: {needed / 1e6:,.0f} MB are needed, and its disk has {free / 1e6:,.0f} MB free. "
            "Free some space, give a folder on another disk, or make less with --digits. Nothing was written."
        )


def make_write_error(folder: Path, error: OSError) -> InputError:
    """Return the error for a folder that cannot be written."""
    return InputError(f"--out {folder}: cannot be written ({error.strerror}); expected a folder that can.")


def _check_same_request(folder: Path, before: GenerationRequest, request: GenerationRequest) -> None:
    old, new = asdict(before), asdict(request)
    differing = [
        f"{_OPTION_NAMES[name]} {_format_option(name, old)} there, {_format_option(name, new)} now"
        for name in old
        if old[name] != new[name]
    ]
    if differing:
        raise InputError(
            f"--out {folder}: was made otherwise: {'; '.join(differing)}. Give another folder, or delete this one to "
            f"make it anew ({DESCRIPTION_FILE} says how it was made). Nothing was written."
        )


def _format_option(name: str, request: Mapping[str, object]) -> str:
    value = request[name]
    return "all" if name == "limit" and value is None else str(value)


def build_manifest(
    shards: Sequence[Shard], records: Mapping[str, MadShardRecord], labels: Mapping[Split, NDArray[np.int64]]
) -> bytes:
    """Return a parquet file with a row per digit; `offset` is the position of its variants in the shard's file."""
    parts = [
        pl.DataFrame(
            {
                "split": [shard.split] * shard.count,
                "digit": np.arange(shard.first, shard.first + shard.count),
                "label": labels[shard.split][shard.first : shard.first + shard.count],
                "shard": [shard.name] * shard.count,
                "offset": records[shard.name].offsets,
                "shard_sha256": [records[shard.name].sha256] * shard.count,
            },
            schema_overrides=_MANIFEST_SCHEMA,
        )
        for shard in shards
    ]
    return _encode_parquet(pl.concat(parts))


def build_variants_table(form: str) -> bytes:
    """Return a parquet file with a row per variant; for arrays it has the offset within a digit too."""
    columns: dict[str, list[object]] = {"variant": list(range(len(VARIANTS)))}
    for factor, labels in zip(SHAPE_FACTORS, zip(*VARIANTS, strict=True), strict=True):
        columns[factor.name] = [factor.values[label] for label in labels]
    if form == "npy":
        columns["offset"] = [variant * DIGIT_BYTES // len(VARIANTS) for variant in range(len(VARIANTS))]
    return _encode_parquet(pl.DataFrame(columns, schema_overrides={"variant": pl.UInt8, "offset": pl.Int32}))


def read_manifest(folder: Path) -> pl.DataFrame:
    """Return the manifest. Raise polars' errors or OSError if it cannot be read."""
    return pl.read_parquet(folder / MANIFEST_FILE)


def _encode_parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", compression_level=3, row_group_size=1 << 20)
    return buffer.getvalue()


def find_sound_shards(
    folder: Path, shards: Sequence[Shard], on_checked: Callable[[Shard], None] = lambda shard: None
) -> dict[str, MadShardRecord]:
    """Return the records of the shards that are sound, after reading each file in full."""
    finished = _read_previous_records(folder)
    recorded = {shard.name: _read_record(folder, shard) or finished.get(shard.name) for shard in shards}

    def sound(shard: Shard) -> bool:
        known = recorded[shard.name]
        intact = known is not None and _is_sound(folder / shard.name, known)
        on_checked(shard)
        return intact

    with ThreadPoolExecutor(READ_THREADS) as pool:
        answers = list(pool.map(sound, shards))
    return {
        shard.name: record
        for shard, is_sound in zip(shards, answers, strict=True)
        if is_sound and (record := recorded[shard.name]) is not None
    }


def _is_sound(path: Path, record: MadShardRecord) -> bool:
    try:
        return path.stat().st_size == record.bytes and hash_file(path) == record.sha256
    except OSError:
        return False


def _read_record(folder: Path, shard: Shard) -> MadShardRecord | None:
    try:
        fields = json.loads(locate_record_file(folder, shard).read_bytes())
        return MadShardRecord(fields["bytes"], fields["sha256"], tuple(fields["offsets"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _read_previous_records(folder: Path) -> Mapping[str, MadShardRecord]:
    """Return the records of a folder that was complete: sizes from `mad.json`, offsets from its manifest."""
    description = find_description(folder) if folder.exists() else None
    if description is None:
        return {}
    try:
        rows = read_manifest(folder).group_by("shard", "shard_sha256", maintain_order=True).agg("offset").rows()
    except (OSError, pl.exceptions.PolarsError):
        return {}
    return {
        name: MadShardRecord(description.files[name].bytes, sha256, tuple(offsets))
        for name, sha256, offsets in rows
        if name in description.files and description.files[name].sha256 == sha256
    }
