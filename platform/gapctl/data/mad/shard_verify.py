"""Compare a folder of shards with its description, byte by byte."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import polars as pl

from gapctl.data.mad.shard_writer import READ_THREADS, read_manifest
from gapctl.data.mad.shards import (
    DESCRIPTION_FILE,
    MAKING_FOLDER,
    MANIFEST_FILE,
    DamagedDescriptionError,
    FileRecord,
    FolderDescription,
    list_foreign_files,
    read_description,
)
from gapctl.errors import InputError
from gapctl.io.atomic import hash_file

OnProgress = Callable[[int, int], None]


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


def verify_folder(folder: Path, on_progress: OnProgress = lambda done, total: None) -> Verification:
    """Read the whole folder, and list every file that is missing, short, changed or foreign.

    `on_progress` gets the bytes read so far and of all. Raise InputError if it is not a folder of shards.
    """
    try:
        description = read_description(folder)
    except DamagedDescriptionError as error:
        what = str(error).removeprefix(f"{folder / DESCRIPTION_FILE}: ")
        return Verification(None, 0, 0, (ShardFileProblem(DESCRIPTION_FILE, what),))
    if description is None:
        return _report_unfinished(folder)
    checked = _check_files(folder, description.files, on_progress)
    problems = [ShardFileProblem(name, what) for name, what in checked.items() if what is not None]
    if checked.get(MANIFEST_FILE) is None:
        problems += _check_manifest(folder, description)
    problems += _list_foreign_problems(folder, description)
    size = sum(record.bytes for record in description.files.values())
    return Verification(description, len(description.files), size, tuple(problems))


def _report_unfinished(folder: Path) -> Verification:
    if (folder / MAKING_FOLDER).is_dir():
        what = f"not finished, or being made now; run the `gapctl data mad --out {folder}` that began it again"
        return Verification(None, 0, 0, (ShardFileProblem(MAKING_FOLDER, what),))
    kind = "a folder without mad.json" if folder.is_dir() else "a file" if folder.exists() else "does not exist"
    raise InputError(
        f"{folder}: {kind}; expected a folder that `gapctl data mad --out` made, tar shards, or their manifest."
    )


def _check_files(folder: Path, files: Mapping[str, FileRecord], on_progress: OnProgress) -> dict[str, str | None]:
    total, done = sum(record.bytes for record in files.values()), 0
    with ThreadPoolExecutor(READ_THREADS) as pool:
        answers = pool.map(lambda name: _check_file(folder / name, files[name]), files)
        checked = {}
        for name, what in zip(files, answers, strict=True):
            checked[name] = what
            done += files[name].bytes
            on_progress(done, total)
    return checked


def _check_file(path: Path, record: FileRecord) -> str | None:
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


def _check_manifest(folder: Path, description: FolderDescription) -> list[ShardFileProblem]:
    """Return whether the manifest lists these shards, with these checksums and numbers of digits."""
    try:
        rows = read_manifest(folder).group_by("shard", "shard_sha256").len().rows()
    except (OSError, pl.exceptions.PolarsError) as error:
        return [ShardFileProblem(MANIFEST_FILE, f"cannot be read ({error})")]
    listed = {(name, sha256, count) for name, sha256, count in rows}
    expected = {(shard.name, description.files[shard.name].sha256, shard.count) for shard in description.shards()}
    differing = sorted({name for name, *_ in listed ^ expected})
    if not differing:
        return []
    return [ShardFileProblem(MANIFEST_FILE, f"does not match mad.json about {', '.join(differing)}")]


def _list_foreign_problems(folder: Path, description: FolderDescription) -> list[ShardFileProblem]:
    unfinished = (
        [ShardFileProblem(MAKING_FOLDER, "left from work that was stopped")]
        if (folder / MAKING_FOLDER).exists()
        else []
    )
    foreign = list_foreign_files(folder, description.shards())
    return unfinished + [ShardFileProblem(name, "foreign: not a file of this folder") for name in foreign]


def is_repairable(problems: tuple[ShardFileProblem, ...]) -> bool:
    """Return whether making the folder again repairs it.

    A damaged `mad.json` or a foreign file prevents that.
    """
    whole = {problem.file for problem in problems if problem.what.startswith("foreign")}
    return not whole and all(problem.file != DESCRIPTION_FILE for problem in problems)
