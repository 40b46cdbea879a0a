"""Describe what MAD's images come from: the bundled digits, a folder of IDX files, or a folder of shards.

1. `find_idx_files` finds the files of digits by MNIST's names.
2. `read_source_description` reads the description of a folder of shards, whose layout is defined here.
3. `compute_dataset_fingerprint` identifies the images by a few hex digits.

A folder of shards holds:

    mad.json            what the folder holds; written last, so a folder that has it is whole
    manifest.parquet    a row per digit: split, index, label, shard, byte offset, the shard's sha256
    variants.parquet    a row per variant: its number, its four factor values, its offset within a digit
    train-00000.npy     uint8 (digits, 24, 28, 28), a thousand digits a file (webdataset: train-00000.tar)
    .making/            only while the folder is being made: the request, and a record per finished shard

It uses the standard library only, because `gapctl plan` reads it.
"""

import gzip
import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Final, Literal, NamedTuple, get_args

from gapctl.errors import InputError, MissingDataError, WorkError
from gapctl.folders import expand_home
from gapctl.io.retry import is_hidden_or_system_file

Split = Literal["train", "test"]
SPLITS: Final[tuple[Split, ...]] = ("train", "test")
BUNDLED: Final = "bundled"
BUNDLED_FILE: Final = Path(__file__).parent / "bundled" / "digits.npz"
_PREFIX: Final[dict[Split, str]] = {"train": "train", "test": "t10k"}

# Raise this when the same digits would give other images: caches and trial ids depend on it.
GENERATOR_VERSION: Final = 1

ShardFormat = Literal["npy", "webdataset"]
SHARD_FORMATS: Final[tuple[ShardFormat, ...]] = get_args(ShardFormat)
DIGITS_PER_SHARD: Final = 1000
DESCRIPTION_FILE: Final = "mad.json"
MANIFEST_FILE: Final = "manifest.parquet"
VARIANTS_FILE: Final = "variants.parquet"
MAKING_FOLDER: Final = ".making"
TABLE_FILES: Final = (MANIFEST_FILE, VARIANTS_FILE)
_FORMAT_SUFFIX: Final[dict[ShardFormat, str]] = {"npy": "npy", "webdataset": "tar"}
DESCRIPTION_KIND: Final = "MAD shards"
LAYOUT_VERSION: Final = 1


class IdxFiles(NamedTuple):
    """The two files of a split."""

    images: Path
    labels: Path


def locate_source(source: str) -> Path:
    """Return the folder of a source that is not `bundled`. Raise MissingDataError for an address."""
    if "://" in source:
        raise MissingDataError(
            f"{source}: an address, and MAD's images are mapped into memory from a disk; expected `bundled` or a "
            "folder. Copy it here with the store's own tool, such as `aws s3 cp --recursive` or `gcloud storage cp`"
        )
    return expand_home(source)


def find_idx_files(folder: Path, split: Split) -> IdxFiles:
    """Return a split's files. Raise InputError with the expected names if the folder or a file is missing."""
    try:
        reason = None if folder.is_dir() else "is a file" if folder.exists() else "does not exist"
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
    if reason:
        raise MissingDataError(
            f"{folder}: the data source {reason}. Expected `bundled` or a folder with MNIST's IDX files "
            f"({', '.join(_list_file_names(split, 'images', 3))}). "
            "`gapctl data fetch mnist --out mnist` brings these; a sweep also takes the shards that "
            "`gapctl data mad --source mnist --out SHARDS` makes of them.",
            absent=reason == "does not exist",
        )
    return IdxFiles(_find_idx_file(folder, split, "images", 3), _find_idx_file(folder, split, "labels", 1))


def _list_file_names(split: Split, kind: str, dimensions: int) -> tuple[str, ...]:
    stem = f"{_PREFIX[split]}-{kind}"
    plain = (f"{stem}-idx{dimensions}-ubyte", f"{stem}.idx{dimensions}-ubyte")
    return tuple(name + suffix for name in plain for suffix in ("", ".gz"))


def _find_idx_file(folder: Path, split: Split, kind: str, dimensions: int) -> Path:
    names = _list_file_names(split, kind, dimensions)
    for name in names:
        if (folder / name).is_file():
            return folder / name
    present = sorted(path.name for path in folder.iterdir())[:8]
    raise InputError(
        f"{folder}: no {split} {kind} there. Sought {', '.join(names)}; the folder holds "
        f"{', '.join(present) or 'nothing'}. Put MNIST's four IDX files there, gzipped or not."
    )


@dataclass(frozen=True)
class GenerationRequest:
    """The settings that determine the bytes of every file; `limit` is the most digits of a split, None for all."""

    source: str
    generator: int
    seed: int
    limit: int | None
    format: ShardFormat
    digits_per_shard: int

    @property
    def fingerprint(self) -> str:
        """The images' name: that of the source if all digits and the default seed are used."""
        seed = f"-seed{self.seed}" if self.seed else ""
        limit = "" if self.limit is None else f"-first{self.limit}"
        return f"{self.source}-v{self.generator}{seed}{limit}"


@dataclass(frozen=True)
class Shard:
    """Digits `first` to `first + count` of a split."""

    split: Split
    number: int
    first: int
    count: int
    format: ShardFormat

    @property
    def name(self) -> str:
        """The shard's file name."""
        return f"{self.split}-{self.number:05d}.{_FORMAT_SUFFIX[self.format]}"


def list_shards(digits: Mapping[Split, int], request: GenerationRequest) -> list[Shard]:
    """Return every shard of a folder with these digits per split, in order."""
    size = request.digits_per_shard
    return [
        Shard(split, number, first, min(size, digits[split] - first), request.format)
        for split in SPLITS
        if split in digits
        for number, first in enumerate(range(0, digits[split], size))
    ]


def list_foreign_files(folder: Path, shards: Sequence[Shard]) -> list[str]:
    """List the names in the folder that do not belong to these shards; without shards, all but the making's own files.

    Files that other systems leave in any folder are ignored.
    """
    own = {MAKING_FOLDER, *((DESCRIPTION_FILE, *TABLE_FILES) if shards else ()), *(shard.name for shard in shards)}
    return sorted(
        path.name for path in folder.iterdir() if path.name not in own and not is_hidden_or_system_file(path.name)
    )


class FileRecord(NamedTuple):
    """A file's size and the sha256 of its bytes."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class FolderDescription:
    """A folder's request, the number of digits of each split, and its files by name."""

    request: GenerationRequest
    digits: Mapping[Split, int]
    files: Mapping[str, FileRecord]

    def shards(self) -> list[Shard]:
        """Return the folder's shards, in order."""
        return list_shards(self.digits, self.request)


class DamagedDescriptionError(InputError):
    """Raised for a damaged `mad.json`."""


def serialise_description(description: FolderDescription) -> bytes:
    """Return the bytes of `mad.json`."""
    body = {
        "kind": DESCRIPTION_KIND,
        "layout": LAYOUT_VERSION,
        "fingerprint": description.request.fingerprint,
        **asdict(description.request),
        "digits": dict(description.digits),
        "images": {split: 24 * count for split, count in description.digits.items()},
        "files": {name: record._asdict() for name, record in description.files.items()},
    }
    return (json.dumps({**body, "checksum": _compute_checksum(body)}, indent=1) + "\n").encode()


def read_folder_description(folder: Path) -> FolderDescription | None:
    """Return the folder's description, or None without `mad.json`. Raise DamagedDescriptionError if it is damaged."""
    path = folder / DESCRIPTION_FILE
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}). Check its permissions.") from error
    return _parse_description(folder, content)


def read_source_description(source: str) -> FolderDescription | None:
    """Return the description if a source is a folder of shards, None if it is another source.

    Raise InputError for a folder of shards that is not finished.
    """
    if source == BUNDLED:
        return None
    folder = locate_source(source)
    description = read_folder_description(folder)
    if description is None and (folder / MAKING_FOLDER).is_dir():
        raise InputError(
            f"{folder}: its images are not all made. Run the `gapctl data mad --out {folder}` that began it again: "
            "it makes what is left."
        )
    return description


def _parse_description(folder: Path, content: bytes) -> FolderDescription:
    try:
        body = json.loads(content)
        if body.pop("checksum") != _compute_checksum(body):
            raise ValueError("its own checksum does not fit")
        if (body["kind"], body["layout"]) != (DESCRIPTION_KIND, LAYOUT_VERSION):
            raise ValueError(
                f"kind {body['kind']!r}, layout {body['layout']!r}; expected {DESCRIPTION_KIND!r}, {LAYOUT_VERSION}"
            )
        request = GenerationRequest(**{field.name: body[field.name] for field in fields(GenerationRequest)})
        digits = {split: body["digits"][split] for split in SPLITS if split in body["digits"]}
        files = {name: FileRecord(**record) for name, record in body["files"].items()}
        return FolderDescription(request, digits, files)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedDescriptionError(
            f"{folder / DESCRIPTION_FILE}: damaged, or not written by this version of gapctl ({error}). "
            f"Delete {folder} and make it again with `gapctl data mad --out`, or copy it again."
        ) from error


def _compute_checksum(body: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def compute_dataset_fingerprint(source: str) -> str:
    """Return the name of a source's images, such as `06012fb109735539-v1`: digest and generator version.

    A folder of shards has the name of its source, and so the same one if its images are the same. Raise InputError as
    `compute_source_fingerprint` does.
    """
    if (shards := read_source_description(source)) is not None:
        return shards.request.fingerprint
    return f"{compute_source_fingerprint(source)}-v{GENERATOR_VERSION}"


def compute_source_fingerprint(source: str) -> str:
    """Return 16 hex digits that change with any byte of the source's files, gzipped or not.

    Raise InputError if the folder or one of its files is missing.
    """
    if source == BUNDLED:
        paths = [BUNDLED_FILE]
    else:
        folder = locate_source(source)
        paths = [path for split in SPLITS for path in find_idx_files(folder, split)]
    digest = hashlib.sha256()
    for path in paths:
        try:
            digest.update(_hash_content(path))
        except OSError as error:
            if path == BUNDLED_FILE:
                raise WorkError(
                    f"{path}: the bundled digits cannot be read ({error.strerror}). Install gapctl again."
                ) from error
            raise InputError(f"{path}: cannot be read ({error.strerror}). Check its permissions.") from error
    return digest.hexdigest()[:16]


def _hash_content(path: Path) -> bytes:
    if path.suffix == ".gz":
        try:
            with gzip.open(path) as file:
                return hashlib.file_digest(file, "sha256").digest()
        except (gzip.BadGzipFile, zlib.error, EOFError):
            pass  # damaged, or not gzipped at all: reading the digits raises the error
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
