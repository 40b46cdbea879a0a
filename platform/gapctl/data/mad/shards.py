"""How a folder of shards is laid out: what decides its bytes, which files it has and which digits are in each.

    mad.json            what the folder holds; written last, so a folder that has it is whole
    manifest.parquet    a row per digit: split, index, label, shard, byte offset, the shard's sha256
    variants.parquet    a row per variant: its number, its four factor values, its offset within a digit
    train-00000.npy     uint8 (digits, 24, 28, 28), a thousand digits a file (webdataset: train-00000.tar)
    .making/            only while the folder is being made: what was asked for, and a record per finished shard

Standard library only: `gapctl plan` reads it.
"""

import hashlib
import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gapctl.data.mad.source import BUNDLED, SPLITS, Split, resolve_source_folder
from gapctl.errors import InputError, WorkError
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


@dataclass(frozen=True)
class GenerationRequest:
    """What decides the bytes of every file; `limit` is how many digits of a split at most, None for all."""

    source: str
    generator: int
    seed: int
    limit: int | None
    format: ShardFormat
    digits_per_shard: int

    @property
    def fingerprint(self) -> str:
        """The images' name: that of the whole source's where nothing was left out and the seed is the usual one."""
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
        """The shard's file."""
        return f"{self.split}-{self.number:05d}.{_FORMAT_SUFFIX[self.format]}"


def list_shards(digits: Mapping[Split, int], request: GenerationRequest) -> list[Shard]:
    """Every shard of a folder with so many digits per split, in order."""
    size = request.digits_per_shard
    return [
        Shard(split, number, first, min(size, digits[split] - first), request.format)
        for split in SPLITS
        if split in digits
        for number, first in enumerate(range(0, digits[split], size))
    ]


def list_foreign_files(folder: Path, shards: Sequence[Shard]) -> list[str]:
    """Names in the folder that are not of the layout of these shards; without shards, all but what marks the making.

    What other systems leave in any folder is passed over.
    """
    own = {MAKING_FOLDER, *((DESCRIPTION_FILE, *TABLE_FILES) if shards else ()), *(shard.name for shard in shards)}
    return sorted(path.name for path in folder.iterdir() if path.name not in own and not is_foreign(path.name))


DESCRIPTION_KIND: Final = "MAD shards"
LAYOUT_VERSION: Final = 1


class FileRecord(NamedTuple):
    """A file's size and the sha256 of its bytes."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class FolderDescription:
    """A folder's request, the digits of each split that it holds, and its files by name."""

    request: GenerationRequest
    digits: Mapping[Split, int]
    files: Mapping[str, FileRecord]

    def shards(self) -> list[Shard]:
        """The folder's shards, in order."""
        return list_shards(self.digits, self.request)


class DamagedDescriptionError(InputError):
    """`mad.json` is there, but is not what was written."""


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
    """Return what the folder says it holds; None if it has no `mad.json`; raises InputError if that is damaged."""
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

    Raises InputError for a folder of shards that is not finished.
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


_DIGIT_SHAPE: Final = (24, 28, 28)


class ShardedImages:
    """A split's images as one read-only array uint8 (N, 24, 28, 28) that lies in several files.

    Indexed by two arrays, digits and variants, it gives a new array of those images. Pickled, it is no more than the
    folder's name: a process that gets it, such as a Ray worker, maps the same files, and the pages are shared.
    """

    dtype: Final = np.dtype(np.uint8)

    def __init__(self, folder: Path, split: Split) -> None:
        self._folder, self._split = folder, split
        description = _require_description(folder)
        shards = [shard for shard in description.shards() if shard.split == split]
        self._digits_per_shard = description.request.digits_per_shard
        self._parts_NVHW = [_map_shard(folder, shard) for shard in shards]
        self.shape = (sum(map(len, self._parts_NVHW)), *_DIGIT_SHAPE)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: tuple[NDArray[np.int64], NDArray[np.int64]]) -> NDArray[np.uint8]:
        digit_B, variant_B = np.broadcast_arrays(*index)
        if digit_B.size and not 0 <= digit_B.min() <= digit_B.max() < len(self):
            raise IndexError(f"digits {digit_B.min()} to {digit_B.max()} of {len(self)}")
        part_B, row_B = np.divmod(digit_B, self._digits_per_shard)
        images_BHW = np.empty((*digit_B.shape, *_DIGIT_SHAPE[1:]), np.uint8)
        for part in np.unique(part_B):
            here = part_B == part
            images_BHW[here] = self._parts_NVHW[part][row_B[here], variant_B[here]]
        return images_BHW

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """All images in one array in memory: a gigabyte for all of MNIST."""
        if copy is False:
            raise ValueError("images in several files cannot be one array without a copy")
        whole = np.concatenate(self._parts_NVHW)
        return whole if dtype is None else whole.astype(dtype)

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_sharded_images, (self._folder.absolute(), self._split)


def open_images(folder: Path, split: Split) -> tuple[ShardedImages, NDArray[np.int64]]:
    """Return a split's images and its digits' labels, of each shard checked that it is there and as long as it should.

    `gapctl data verify` checks every byte. Raises InputError if the split, a shard or the manifest is missing or
    damaged, and if the folder is in another format.
    """
    description = _require_description(folder)
    if split not in description.digits:
        raise InputError(
            f"{folder}: a folder of shards without {split} digits. Add them: "
            f"`gapctl data mad --out {folder} --splits {split}` with the same source and options."
        )
    if description.request.format != "npy":
        raise InputError(
            f"{folder}: shards in the format {description.request.format}, which is for other programs. "
            "Make a folder with `gapctl data mad --out DIR --format npy`."
        )
    return ShardedImages(folder, split), _read_labels(folder, split, description.digits[split])


def _require_description(folder: Path) -> FolderDescription:
    description = read_description(folder)
    if description is None:
        raise WorkError(
            f"{folder}: no folder of MAD's shards there on {socket.gethostname()}. On a cluster it must be at the "
            "same place on each machine; a folder of IDX files need only be where the sweep is started."
        )
    return description


def _open_sharded_images(folder: Path, split: Split) -> ShardedImages:
    return ShardedImages(folder, split)


def _map_shard(folder: Path, shard: Shard) -> NDArray[np.uint8]:
    path = folder / shard.name
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise _make_damage_error(path, "is missing") from error
    except (OSError, ValueError, EOFError) as error:
        raise _make_damage_error(path, f"cannot be read ({error})") from error
    expected = (shard.count, *_DIGIT_SHAPE)
    if mapped.dtype != np.uint8 or mapped.shape != expected:
        raise _make_damage_error(path, f"holds {mapped.dtype} {mapped.shape}, expected uint8 {expected}")
    # A plain array over the map: memmap's own indexing takes several times as long.
    plain: NDArray[np.uint8] = mapped.view(np.ndarray)
    return plain


def _read_labels(folder: Path, split: Split, count: int) -> NDArray[np.int64]:
    import polars as pl

    from gapctl.data.mad.shard_writer import read_manifest

    try:
        rows = read_manifest(folder).filter(pl.col("split") == split)
        digits, labels = rows["digit"].to_numpy(), rows["label"].to_numpy().astype(np.int64)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise _make_damage_error(folder / MANIFEST_FILE, f"cannot be read ({error})") from error
    if not np.array_equal(digits, np.arange(count)):
        raise _make_damage_error(folder / MANIFEST_FILE, f"does not list the {count} {split} digits in order")
    return labels


def _make_damage_error(path: Path, what: str) -> InputError:
    return InputError(
        f"{path}: {what}. `gapctl data verify {path.parent}` names all that is wrong with the folder; the "
        "`gapctl data mad --out` that made it makes again what is missing."
    )
