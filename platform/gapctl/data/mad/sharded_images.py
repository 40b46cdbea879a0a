"""Read a split's images from a folder of shards by memory map, so that they need no memory of their own.

Index letters: N digits, V variants of each, H and W the 28 rows and columns.
"""

import socket
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gapctl.data.mad.shards import MANIFEST_FILE, FolderDescription, Shard, read_description
from gapctl.data.mad.source import Split
from gapctl.errors import InputError, WorkError

_DIGIT_SHAPE: Final = (24, 28, 28)


class ShardedImages:
    """A split's images as one read-only array uint8 (N, 24, 28, 28) over several files.

    Indexed by two arrays, digits and variants, it returns a new array of those images. It pickles as the folder's name:
    a process that receives it, such as a Ray worker, maps the same files, and the pages are shared.
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
        """Return all images in one array in memory: a gigabyte for all of MNIST."""
        if copy is False:
            raise ValueError("images in several files cannot be one array without a copy")
        whole = np.concatenate(self._parts_NVHW)
        return whole if dtype is None else whole.astype(dtype)

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_sharded_images, (self._folder.absolute(), self._split)


def open_images(folder: Path, split: Split) -> tuple[ShardedImages, NDArray[np.int64]]:
    """Return a split's images and its digits' labels, after checking the presence and length of each shard.

    `gapctl data verify` checks every byte. Raise InputError if the split, a shard or the manifest is missing or
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
