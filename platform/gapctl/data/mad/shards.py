"""Define the layout of a folder of shards: the settings that determine its bytes, its files, and the digits in each.

    mad.json            what the folder holds; written last, so a folder that has it is whole
    manifest.parquet    a row per digit: split, index, label, shard, byte offset, the shard's sha256
    variants.parquet    a row per variant: its number, its four factor values, its offset within a digit
    train-00000.npy     uint8 (digits, 24, 28, 28), a thousand digits a file (webdataset: train-00000.tar)
    .making/            only while the folder is being made: the request, and a record per finished shard

It uses the standard library only, because `gapctl plan` reads it.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, get_args

from gapctl.data.mad.source import BUNDLED, SPLITS, Split, resolve_source_folder
from gapctl.errors import InputError
from gapctl.io.retry import is_foreign

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
    return sorted(path.name for path in folder.iterdir() if path.name not in own and not is_foreign(path.name))


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


def read_description(folder: Path) -> FolderDescription | None:
    """Return the folder's description, or None without `mad.json`. Raise DamagedDescriptionError if it is damaged."""
    path = folder / DESCRIPTION_FILE
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}). Check its permissions.") from error
    return _parse_description(folder, content)


def read_shards_source(source: str) -> FolderDescription | None:
    """Return the description if a source is a folder of shards, None if it is another source.

    Raise InputError for a folder of shards that is not finished.
    """
    if source == BUNDLED:
        return None
    folder = resolve_source_folder(source)
    description = read_description(folder)
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
        return _build_description(body)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedDescriptionError(
            f"{folder / DESCRIPTION_FILE}: damaged, or not written by this version of gapctl ({error}). "
            f"Delete {folder} "
            "and make it again with `gapctl data mad --out`, or copy it again."
        ) from error


def _build_description(body: dict[str, Any]) -> FolderDescription:
    request = GenerationRequest(**{field.name: body[field.name] for field in fields(GenerationRequest)})
    digits = {split: body["digits"][split] for split in SPLITS if split in body["digits"]}
    return FolderDescription(request, digits, {name: FileRecord(**record) for name, record in body["files"].items()})


def _compute_checksum(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
