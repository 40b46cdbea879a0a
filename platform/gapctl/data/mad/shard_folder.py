"""Make and verify a folder of MAD's shards.

1. `make_folder` checks the output, keeps the shards that are sound, and locks the folder.
2. Ray tasks draw the other shards (`draw_shard`): each writes a temporary file, renames it, and records it.
3. The manifest, the table of variants and `mad.json` are written last.
4. `verify_folder` compares every file with `mad.json`.

A shard's bytes are a function of (digits, first index, key) alone. So the folder is the same to the last byte, whatever
the number of workers and of interruptions.

Index letters: N digits, V variants, C channels, H and W 28 rows and columns.
"""

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gapctl.data.mad.digits import Digits, load_digits
from gapctl.data.mad.factors import COLOURS, FACTORS, SHAPE_FACTORS, VARIANTS
from gapctl.data.mad.images import compose_coloured_images, compute_generation_key
from gapctl.data.mad.morphology import apply_variants_to_digits
from gapctl.data.mad.source import (
    DESCRIPTION_FILE,
    DIGITS_PER_SHARD,
    GENERATOR_VERSION,
    MAKING_FOLDER,
    MANIFEST_FILE,
    SPLITS,
    VARIANTS_FILE,
    DamagedDescriptionError,
    FileRecord,
    FolderDescription,
    GenerationRequest,
    Shard,
    ShardFormat,
    Split,
    compute_source_fingerprint,
    list_foreign_files,
    list_shards,
    read_folder_description,
    serialise_description,
)
from gapctl.data.parallel_shards import (
    OnProgress,
    StartRay,
    Workers,
    count_available_cores,
    ignore_progress,
    lock_unfinished_folder,
)
from gapctl.data.rng import Purpose, make_generator
from gapctl.errors import InputError, WorkError
from gapctl.io.atomic import hash_file, stage_file_replacement, write_file_atomically
from gapctl.text import format_first_names

DIGIT_BYTES: Final = 24 * 28 * 28
SHARD_DIGIT_BYTES: Final[Mapping[ShardFormat, int]] = {"npy": DIGIT_BYTES, "webdataset": 24 * 3 * 1200}
"""Bytes of a digit. In a tar at most three members per picture, of a header of 512 bytes and one to three blocks."""
_TABLES_BYTES: Final = 4_000_000
_DIGITS_AT_ONCE: Final = 64
_TAR_BLOCK: Final = 512
_SHAPES: Final = np.arange(len(VARIANTS))
READ_THREADS = 4
REQUEST_FILE: Final = "request.json"
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

OnTaskProgress = Callable[[str, int, int], None]


class ShardTask(NamedTuple):
    """A shard to draw: its folder, its digits with their labels, and the key of its random choices."""

    folder: str
    shard: Shard
    digits_NHW: NDArray[np.uint8]
    labels_N: NDArray[np.int64]
    key: int


class ShardRecord(NamedTuple):
    """A finished shard's size and sha256, and the offset of each digit in it."""

    bytes: int
    sha256: str
    offsets: tuple[int, ...]


@dataclass(frozen=True)
class FolderResult:
    """A complete folder, and the number of shards that this run made."""

    description: FolderDescription
    made: int


def make_folder(
    source: str,
    folder: Path,
    open_ray: StartRay,
    *,
    splits: Collection[Split] = SPLITS,
    limit: int | None = None,
    seed: int = 0,
    form: ShardFormat = "npy",
    workers: int | None = None,
    digits_per_shard: int = DIGITS_PER_SHARD,
    on_progress: OnTaskProgress = lambda task, done, total: None,
) -> FolderResult:
    """Make the shards of `splits` that the folder lacks, with at most `limit` digits of each split.

    `open_ray` starts Ray with a number of CPUs, and is called only if a shard is missing; `workers` is by default one
    per available core. `on_progress` gets each task's finished digits and all digits. Raise InputError for a wrong
    source and for a folder that holds other data, was made otherwise, is being made by another process or has too
    little room. Raise WorkError if making fails; finished shards stay.
    """
    digits = {split: load_digits(source, split) for split in SPLITS}
    cut = limit if limit is not None and limit < max(map(len, digits.values())) else None
    request = GenerationRequest(
        compute_source_fingerprint(source), GENERATOR_VERSION, seed, cut, form, digits_per_shard
    )
    before = _find_description(folder) if folder.is_dir() else None
    wanted = {*splits, *(before.digits if before else ())}
    counts = {split: len(digits[split].labels_N[:cut]) for split in SPLITS if split in wanted}
    shards = list_shards(counts, request)
    _check_output(folder, request, shards)
    records = _find_sound_shards(folder, shards, on_progress)
    left = [shard for shard in shards if shard.name not in records]
    complete = read_folder_description(folder)
    if complete is not None and not left:
        description, tables = _describe_folder(request, counts, records, digits)
        if complete.files == description.files and _match_files(folder, tables):
            return FolderResult(complete, 0)
    _check_space(folder, _TABLES_BYTES + sum(shard.count * SHARD_DIGIT_BYTES[shard.format] for shard in left))
    with lock_unfinished_folder(folder / MAKING_FOLDER, folder, "a folder that can."):
        _begin_folder(folder, request)
        if left:
            processes = workers or count_available_cores()
            records |= _draw_shards(folder, request.seed, left, digits, open_ray, processes, on_progress)
        description, tables = _describe_folder(request, counts, records, digits)
        _finish_folder(folder, description, tables)
    return FolderResult(description, len(left))


def _begin_folder(folder: Path, request: GenerationRequest) -> None:
    making = folder / MAKING_FOLDER
    try:
        write_file_atomically(making / REQUEST_FILE, json.dumps(asdict(request)).encode(), making)
        if (folder / DESCRIPTION_FILE).exists():
            (folder / DESCRIPTION_FILE).replace(making / DESCRIPTION_FILE)
    except OSError as error:
        raise _build_write_error(folder, error) from error


def _draw_shards(
    folder: Path,
    seed: int,
    left: Sequence[Shard],
    digits: Mapping[Split, Digits],
    open_ray: StartRay,
    workers: int,
    on_progress: OnTaskProgress,
) -> dict[str, ShardRecord]:
    tasks = []
    for shard in left:
        rows, key = slice(shard.first, shard.first + shard.count), compute_generation_key(shard.split, seed)
        # Absolute: a Ray process need not work where this one does.
        target, drawn = str(folder.absolute()), digits[shard.split]
        tasks.append(ShardTask(target, shard, drawn.images_NHW[rows], drawn.labels_N[rows], key))
    # Never more workers than shards: each costs the seconds in which its process starts.
    workers = min(workers, len(left))
    pool = Workers(workers, partial(open_ray, workers), ray_tasks=workers)
    made: dict[str, ShardRecord] = {}
    done, total = 0, sum(shard.count for shard in left)
    on_progress("drawing MAD's images", 0, total)
    for place, record in pool.each(draw_shard, tasks, partial(_explain_failure, str(folder))):
        made[left[place].name] = record
        done += left[place].count
        on_progress("drawing MAD's images", done, total)
    return made


def _explain_failure(folder: str, reason: str) -> str:
    return (
        f"--out {folder}: a shard could not be made ({reason}). The finished ones are kept: the same command makes "
        "what is left."
    )


def _finish_folder(folder: Path, description: FolderDescription, tables: Mapping[str, bytes]) -> None:
    making = folder / MAKING_FOLDER
    try:
        for name, content in tables.items():
            write_file_atomically(folder / name, content, making)
        _flush_folder(folder)
        write_file_atomically(folder / DESCRIPTION_FILE, serialise_description(description), making)
        _flush_folder(folder)
    except OSError as error:
        raise WorkError(
            f"--out {folder}: its tables could not be written ({error.strerror}). Run the same command again."
        ) from error


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _match_files(folder: Path, contents: Mapping[str, bytes]) -> bool:
    try:
        return all((folder / name).read_bytes() == content for name, content in contents.items())
    except OSError:
        return False


def draw_shard(task: ShardTask) -> ShardRecord:
    """Draw, write and record one shard. Raise WorkError if it cannot be written."""
    folder, shard = Path(task.folder), task.shard
    try:
        with stage_file_replacement(folder / shard.name, folder / MAKING_FOLDER) as temporary:
            offsets = _write_arrays(temporary, task) if shard.format == "npy" else _write_tar(temporary, task)
            record = ShardRecord(temporary.stat().st_size, hash_file(temporary), offsets)
        content = json.dumps(record._asdict()).encode()
        write_file_atomically(_locate_record(folder, shard), content, folder / MAKING_FOLDER)
    except OSError as error:
        raise WorkError(_explain_failure(task.folder, error.strerror or str(error))) from error
    return record


def _locate_record(folder: Path, shard: Shard) -> Path:
    return folder / MAKING_FOLDER / f"{shard.name}.json"


def _write_arrays(path: Path, task: ShardTask) -> tuple[int, ...]:
    count = task.shard.count
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, 24, 28, 28)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        begin = file.tell()
        for at in range(0, count, _DIGITS_AT_ONCE):
            file.write(
                apply_variants_to_digits(
                    task.digits_NHW[at : at + _DIGITS_AT_ONCE], task.shard.first + at, task.key
                ).data
            )
    return tuple(begin + DIGIT_BYTES * row for row in range(count))


def _write_tar(path: Path, task: ShardTask) -> tuple[int, ...]:
    """Write a shard's samples, digit by digit; return the offset of each digit's first sample."""
    from webdataset import ShardWriter

    offsets, end = [], 0
    options = {"maxcount": len(VARIANTS) * task.shard.count, "verbose": 0, "encoder": False, "mtime": 0}
    with path.open("wb") as file, ShardWriter("%d", opener=lambda _: file, **options) as writer:
        for row in range(task.shard.count):
            offsets.append(end)
            for sample in _render_samples(task, row):
                writer.write(sample)
                for content in sample.values():
                    if isinstance(content, bytes):
                        end += _TAR_BLOCK + -(-len(content) // _TAR_BLOCK) * _TAR_BLOCK
    return tuple(offsets)


def _render_samples(task: ShardTask, row: int) -> Iterator[dict[str, str | bytes]]:
    from PIL import Image

    split, digit, key = task.shard.split, task.shard.first + row, task.key
    colours_V = make_generator(Purpose.COLOUR, key, digit).integers(0, len(COLOURS), len(VARIANTS))
    shapes = apply_variants_to_digits(task.digits_NHW[row : row + 1], digit, key)
    pictures_VCHW = compose_coloured_images(shapes, np.zeros_like(_SHAPES), _SHAPES, colours_V)
    for variant, picture_CHW in enumerate(pictures_VCHW):
        labels = (int(task.labels_N[row]), *VARIANTS[variant], int(colours_V[variant]))
        values = {factor.name: factor.values[value] for factor, value in zip(FACTORS, labels, strict=True)}
        described = {**values, "split": split, "index": digit, "variant": variant}
        png = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(picture_CHW.transpose(1, 2, 0))).save(png, format="PNG")
        yield {
            "__key__": f"{split}-{digit:05d}-{variant:02d}",
            "png": png.getvalue(),
            "txt": "-".join(values.values()).encode(),
            "json": json.dumps(described).encode(),
        }


def _describe_folder(
    request: GenerationRequest,
    counts: Mapping[Split, int],
    records: Mapping[str, ShardRecord],
    digits: Mapping[Split, Digits],
) -> tuple[FolderDescription, dict[str, bytes]]:
    """Return the description of a complete folder, and the bytes of its tables."""
    shards = list_shards(counts, request)
    tables = {
        MANIFEST_FILE: _build_manifest(shards, records, digits),
        VARIANTS_FILE: _build_variants_table(request.format),
    }
    files = {name: FileRecord(len(content), hashlib.sha256(content).hexdigest()) for name, content in tables.items()}
    files |= {shard.name: FileRecord(*records[shard.name][:2]) for shard in shards}
    return FolderDescription(request, counts, files), tables


def _build_manifest(
    shards: Sequence[Shard], records: Mapping[str, ShardRecord], digits: Mapping[Split, Digits]
) -> bytes:
    """Return a parquet file with a row per digit; `offset` is the position of its variants in the shard's file."""
    parts = [
        pl.DataFrame(
            {
                "split": [shard.split] * shard.count,
                "digit": np.arange(shard.first, shard.first + shard.count),
                "label": digits[shard.split].labels_N[shard.first : shard.first + shard.count],
                "shard": [shard.name] * shard.count,
                "offset": records[shard.name].offsets,
                "shard_sha256": [records[shard.name].sha256] * shard.count,
            },
            schema_overrides=_MANIFEST_SCHEMA,
        )
        for shard in shards
    ]
    return _encode_parquet(pl.concat(parts))


def _build_variants_table(form: ShardFormat) -> bytes:
    """Return a parquet file with a row per variant; for arrays it has the offset within a digit too."""
    columns: dict[str, list[object]] = {"variant": list(range(len(VARIANTS)))}
    for factor, labels in zip(SHAPE_FACTORS, zip(*VARIANTS, strict=True), strict=True):
        columns[factor.name] = [factor.values[label] for label in labels]
    if form == "npy":
        columns["offset"] = [variant * DIGIT_BYTES // len(VARIANTS) for variant in range(len(VARIANTS))]
    return _encode_parquet(pl.DataFrame(columns, schema_overrides={"variant": pl.UInt8, "offset": pl.Int32}))


def _encode_parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", compression_level=3, row_group_size=1 << 20)
    return buffer.getvalue()


def _check_output(folder: Path, request: GenerationRequest, shards: Sequence[Shard]) -> None:
    """Raise InputError if the folder holds anything but the files of this request; it may be missing."""
    try:
        if not folder.exists():
            return
        before = _find_request(folder)
        foreign = list_foreign_files(folder, shards if before else ())
    except NotADirectoryError as error:
        raise InputError(f"--out {folder}: is a file; expected a folder, new or empty.") from error
    except OSError as error:
        raise _build_write_error(folder, error) from error
    if before is not None and before != request:
        old, new = (
            {**asdict(each), "limit": "all" if each.limit is None else each.limit} for each in (before, request)
        )
        differing = [
            f"{_OPTION_NAMES[name]} {old[name]} there, {new[name]} now" for name in old if old[name] != new[name]
        ]
        raise InputError(
            f"--out {folder}: was made otherwise: {'; '.join(differing)}. Give another folder, or delete this one to "
            f"make it anew ({DESCRIPTION_FILE} says how it was made). Nothing was written."
        )
    if foreign:
        raise InputError(
            f"--out {folder}: holds other data ({format_first_names(foreign, 5)}); expected a new or empty folder, or "
            "one that `gapctl data mad --out` began. Nothing was written."
        )


def _find_description(folder: Path) -> FolderDescription | None:
    """Return the folder's description from when it was last complete, even if it is being extended now."""
    return read_folder_description(folder) or read_folder_description(folder / MAKING_FOLDER)


def _find_request(folder: Path) -> GenerationRequest | None:
    """Return the request that the folder was made by or is being made by, or None for another folder."""
    description = _find_description(folder)
    if description is not None:
        return description.request
    path = folder / MAKING_FOLDER / REQUEST_FILE
    try:
        return GenerationRequest(**json.loads(path.read_bytes()))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: damaged ({error}). Delete {folder} and make it again.") from error


def _check_space(folder: Path, needed: int) -> None:
    """Raise InputError if the folder's disk has less than `needed` bytes free."""
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise InputError(
            f"--out {folder}: {needed / 1e6:,.0f} MB are needed, and its disk has {free / 1e6:,.0f} MB free. "
            "Free some space, give a folder on another disk, or make less with --digits. Nothing was written."
        )


def _build_write_error(folder: Path, error: OSError) -> InputError:
    return InputError(f"--out {folder}: cannot be written ({error.strerror}); expected a folder that can.")


def _find_sound_shards(folder: Path, shards: Sequence[Shard], on_progress: OnTaskProgress) -> dict[str, ShardRecord]:
    """Return the records of the shards that are sound, after reading each file in full."""
    present = {shard.name: shard for shard in shards if (folder / shard.name).is_file()}
    before = _read_previous_records(folder)
    known = {
        name: record
        for name, shard in present.items()
        if (record := _read_record(folder, shard) or before.get(name)) is not None
    }
    sound: dict[str, ShardRecord] = {}
    done = sum(shard.count for name, shard in present.items() if name not in known)
    total = sum(shard.count for shard in present.values())
    for name, problem in _check_files(folder, known):
        if problem is None:
            sound[name] = known[name]
        done += present[name].count
        on_progress("checking the shards that are there", done, total)
    return sound


def _read_record(folder: Path, shard: Shard) -> ShardRecord | None:
    try:
        fields = json.loads(_locate_record(folder, shard).read_bytes())
        return ShardRecord(fields["bytes"], fields["sha256"], tuple(fields["offsets"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _read_previous_records(folder: Path) -> Mapping[str, ShardRecord]:
    """Return the records of a folder that was complete: sizes from `mad.json`, offsets from its manifest."""
    description = _find_description(folder) if folder.exists() else None
    if description is None:
        return {}
    try:
        manifest = pl.read_parquet(folder / MANIFEST_FILE, glob=False)
        rows = manifest.group_by("shard", "shard_sha256", maintain_order=True).agg("offset").rows()
    except (OSError, pl.exceptions.PolarsError):
        return {}
    return {
        name: ShardRecord(description.files[name].bytes, sha256, tuple(offsets))
        for name, sha256, offsets in rows
        if name in description.files and description.files[name].sha256 == sha256
    }


def _check_files(
    folder: Path, files: Mapping[str, FileRecord] | Mapping[str, ShardRecord]
) -> Iterator[tuple[str, str | None]]:
    """Yield each file's name and the problem with its bytes, in the order of `files`."""
    with ThreadPoolExecutor(READ_THREADS) as pool:
        problems = pool.map(lambda name: _check_file(folder / name, files[name]), files)
        yield from zip(files, problems, strict=True)


def _check_file(path: Path, record: FileRecord | ShardRecord) -> str | None:
    try:
        size = path.stat().st_size
        if size < record.bytes:
            return f"short: {size:,} bytes of {record.bytes:,}"
        if size > record.bytes:
            return f"too long: {size:,} bytes instead of {record.bytes:,}"
        return None if hash_file(path) == record.sha256 else "changed: its bytes do not have the sha256 in mad.json"
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


class ShardFileProblem(NamedTuple):
    """A problem with one file of a folder."""

    file: str
    what: str


@dataclass(frozen=True)
class Verification:
    """The bytes read, and the problems found; `description` is None if `mad.json` could not be read."""

    description: FolderDescription | None
    files: int
    bytes: int
    problems: tuple[ShardFileProblem, ...]

    @property
    def repairable(self) -> bool:
        """Whether making the folder again repairs it; a damaged `mad.json` or a foreign file prevents that."""
        return not any(each.file == DESCRIPTION_FILE or each.what.startswith("foreign") for each in self.problems)


def verify_folder(folder: Path, on_progress: OnProgress = ignore_progress) -> Verification:
    """Read the whole folder, and list every file that is missing, short, changed or foreign.

    `on_progress` gets the bytes read so far and of all. Raise InputError if it is not a folder of shards.
    """
    making = folder / MAKING_FOLDER
    try:
        description = read_folder_description(folder)
    except DamagedDescriptionError as error:
        what = str(error).removeprefix(f"{folder / DESCRIPTION_FILE}: ")
        return Verification(None, 0, 0, (ShardFileProblem(DESCRIPTION_FILE, what),))
    if description is None and making.is_dir():
        what = f"not finished, or being made now; run the `gapctl data mad --out {folder}` that began it again"
        return Verification(None, 0, 0, (ShardFileProblem(MAKING_FOLDER, what),))
    if description is None:
        kind = "a folder without mad.json" if folder.is_dir() else "a file" if folder.exists() else "does not exist"
        raise InputError(
            f"{folder}: {kind}; expected a folder that `gapctl data mad --out` made, tar shards, or their manifest."
        )
    total, done = sum(record.bytes for record in description.files.values()), 0
    problems = []
    for name, what_is_wrong in _check_files(folder, description.files):
        if what_is_wrong is not None:
            problems.append(ShardFileProblem(name, what_is_wrong))
        done += description.files[name].bytes
        on_progress(done, total)
    if not any(problem.file == MANIFEST_FILE for problem in problems):
        problems += _check_manifest(folder, description)
    if making.exists():
        problems.append(ShardFileProblem(MAKING_FOLDER, "left from work that was stopped"))
    foreign = list_foreign_files(folder, description.shards())
    problems += [ShardFileProblem(name, "foreign: not a file of this folder") for name in foreign]
    return Verification(description, len(description.files), total, tuple(problems))


def _check_manifest(folder: Path, description: FolderDescription) -> list[ShardFileProblem]:
    """Compare the manifest's shards, with their checksums and numbers of digits, with `mad.json`."""
    try:
        rows = pl.read_parquet(folder / MANIFEST_FILE, glob=False).group_by("shard", "shard_sha256").len().rows()
    except (OSError, pl.exceptions.PolarsError) as error:
        return [ShardFileProblem(MANIFEST_FILE, f"cannot be read ({error})")]
    listed = {(name, sha256, count) for name, sha256, count in rows}
    expected = {(shard.name, description.files[shard.name].sha256, shard.count) for shard in description.shards()}
    differing = sorted({name for name, *_ in listed ^ expected})
    if not differing:
        return []
    return [ShardFileProblem(MANIFEST_FILE, f"does not match mad.json about {', '.join(differing)}")]
