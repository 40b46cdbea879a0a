"""Generate the variants of a source's digits once, cache them on disk, and render images from them.

1. `load_variant_images` finds a split's variants in a folder of shards or in the cache, or makes them there.
2. `generate_variant_images` draws them with `morphology`, in several processes.
3. `compose_coloured_images` colours chosen variants on the host, `DeviceImages` on a device.

Index letters: N digits, V the 24 variants, B rendered images, C the 3 channels, H and W 28 rows and columns.
"""

import socket
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import DTypeLike, NDArray

from gapctl.data.mad.digits import Digits, load_digits
from gapctl.data.mad.factors import COLOURS
from gapctl.data.mad.source import (
    MANIFEST_FILE,
    SPLITS,
    FolderDescription,
    Shard,
    Split,
    compute_dataset_fingerprint,
    locate_source,
    read_folder_description,
    read_source_description,
)
from gapctl.data.parallel_shards import OnProgress, Workers, count_available_cores
from gapctl.errors import InputError, WorkError
from gapctl.folders import find_cache_root
from gapctl.io.atomic import stage_file_replacement

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_CHUNK: Final = 64
_DIGIT_SHAPE: Final = (24, 28, 28)

GENERATION_SEEDS: Final[dict[Split, int]] = {"train": 1, "test": 2}
# Per channel: what stays of the stroke's grey level, and what every stroke pixel is filled with.
_KEEP: Final = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
_FILL: Final = {"cyan": (0, 255, 255), "magenta": (255, 0, 255), "yellow": (255, 255, 0)}
DIGITS_AT_ONCE = 4_096
"""Digits that are copied together, 77 MB with all their variants."""


class VariantImages(Protocol):
    """Images uint8 (N, 24, 28, 28): an array, or the mapped files of a folder of shards."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Digits, variants, rows and columns."""

    def __getitem__(self, index: tuple[NDArray[np.int64], NDArray[np.int64]], /) -> NDArray[np.uint8]:
        """Return the images of digits and variants, given as two arrays of one shape."""

    def __len__(self) -> int:
        """Return the number of digits."""


@dataclass(frozen=True, eq=False)
class MadSplit:
    """Every variant of a split's digits (read-only memory maps), and the digits' labels. It equals only itself."""

    images_NVHW: VariantImages
    digit_labels_N: NDArray[np.int64]
    fingerprint: str


def load_variant_images(
    source: str,
    split: Split,
    on_progress: OnProgress | None = None,
    cache: Path | None = None,
    workers: int | None = None,
) -> MadSplit:
    """Return a split's images from a folder of shards or the cache, generating them if the cache is incomplete.

    `on_progress` is called only while images are made; `workers` is by default one process per available core. Raise
    InputError for a wrong source or a cache that cannot be written, WorkError if a worker process dies.
    """
    if (found := find_variant_images(source, split, cache)) is not None:
        return found
    path = locate_variants_file(source, split, cache)
    _make_cache_file(path, load_digits(source, split), split, on_progress, workers or count_available_cores())
    if (made := find_variant_images(source, split, cache)) is None:
        raise WorkError(f"{path}: the images just written cannot be read back. Check the disk, then run again.")
    return made


def find_variant_images(source: str, split: Split, cache: Path | None = None) -> MadSplit | None:
    """Return a split's images from a folder of shards or a complete cache, else None.

    Raise InputError for a wrong source.
    """
    if (description := read_source_description(source)) is not None:
        return MadSplit(*open_images(locate_source(source), split), description.request.fingerprint)
    digits, path = load_digits(source, split), locate_variants_file(source, split, cache)
    try:
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if images.dtype != np.uint8 or images.shape != (len(digits), *_DIGIT_SHAPE):
        return None
    return MadSplit(images, digits.labels_N, fingerprint=path.parent.name)


def locate_variants_file(source: str, split: Split, cache: Path | None = None) -> Path:
    """Return the path of a split's images, existing or not. Raise InputError for a wrong source."""
    return find_cache_folder(cache) / compute_dataset_fingerprint(source) / f"{split}.npy"


def find_cache_folder(cache: Path | None = None) -> Path:
    """Return the folder of cached images: `mad` below `cache`, `$GAPCTL_CACHE`, or `~/.cache/gapctl`."""
    return find_cache_root(cache) / "mad"


def _make_cache_file(path: Path, digits: Digits, split: Split, on_progress: OnProgress | None, workers: int) -> None:
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = stack.enter_context(stage_file_replacement(path, path.parent))
        except OSError as error:
            raise InputError(
                f"{path.parent}: the cache of MAD images cannot be written ({error.strerror}). "
                "Set GAPCTL_CACHE to a folder that can."
            ) from error
        try:
            images = open_memmap(temporary, mode="w+", dtype=np.uint8, shape=(len(digits), *_DIGIT_SHAPE))
            generate_variant_images(digits.images_NHW, GENERATION_SEEDS[split], workers, on_progress, images)
            images.flush()
            # A concurrent process has made the same bytes, so the last rename may win.
            stack.close()
        except OSError as error:
            raise WorkError(
                f"{path}: cannot be written ({error.strerror}). Free some space "
                f"({len(digits) * 18816 / 1e6:.0f} MB are needed) or set GAPCTL_CACHE to another folder."
            ) from error


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

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[np.generic]:
        """Return all images in one array in memory: a gigabyte for all of MNIST."""
        if copy is False:
            raise ValueError("images in several files cannot be one array without a copy")
        whole = np.concatenate(self._parts_NVHW)
        return whole if dtype is None else whole.astype(dtype)

    def __reduce__(self) -> "tuple[type[ShardedImages], tuple[Path, Split]]":
        return ShardedImages, (self._folder.absolute(), self._split)


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


def count_digits(source: str) -> dict[Split, int]:
    """Return the number of digits per split. Raise InputError for a source that a trial cannot be trained on."""
    if read_source_description(source) is None:
        return {split: len(load_digits(source, split)) for split in SPLITS}
    return {split: len(open_images(locate_source(source), split)[0]) for split in SPLITS}


def _read_labels(folder: Path, split: Split, count: int) -> NDArray[np.int64]:
    import polars as pl

    path = folder / MANIFEST_FILE
    try:
        rows = pl.read_parquet(path, glob=False).filter(pl.col("split") == split)
        digits, labels = rows["digit"].to_numpy(), rows["label"].to_numpy().astype(np.int64)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise _build_damage_error(path, f"cannot be read ({error})") from error
    if not np.array_equal(digits, np.arange(count)):
        raise _build_damage_error(path, f"does not list the {count} {split} digits in order")
    return labels


def _require_description(folder: Path) -> FolderDescription:
    description = read_folder_description(folder)
    if description is None:
        raise WorkError(
            f"{folder}: no folder of MAD's shards there on {socket.gethostname()}. On a cluster it must be at the "
            "same place on each machine; a folder of IDX files need only be where the sweep is started."
        )
    return description


def _map_shard(folder: Path, shard: Shard) -> NDArray[np.uint8]:
    path = folder / shard.name
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise _build_damage_error(path, "is missing") from error
    except (OSError, ValueError, EOFError) as error:
        raise _build_damage_error(path, f"cannot be read ({error})") from error
    expected = (shard.count, *_DIGIT_SHAPE)
    if mapped.dtype != np.uint8 or mapped.shape != expected:
        raise _build_damage_error(path, f"holds {mapped.dtype} {mapped.shape}, expected uint8 {expected}")
    # A plain array over the map: memmap's own indexing takes several times as long.
    plain: NDArray[np.uint8] = mapped.view(np.ndarray)
    return plain


def _build_damage_error(path: Path, what: str) -> InputError:
    return InputError(
        f"{path}: {what}. `gapctl data verify {path.parent}` names all that is wrong with the folder; the "
        "`gapctl data mad --out` that made it makes again what is missing."
    )


def generate_variant_images(
    digits_NHW: NDArray[np.uint8],
    seed: int,
    workers: int = 1,
    on_progress: OnProgress | None = None,
    out_NVHW: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Return uint8 (N, 24, 28, 28): every variant of every digit, in the order of `factors.VARIANTS`.

    The random choices of a variant depend on `seed` and the digit's position alone. `on_progress` gets the number of
    finished digits and of all. The result is written to `out_NVHW` if given. Raise WorkError if a worker process dies.
    """
    images = np.empty((len(digits_NHW), *_DIGIT_SHAPE), np.uint8) if out_NVHW is None else out_NVHW
    chunks = [_DigitChunk(first, digits_NHW[first : first + _CHUNK]) for first in range(0, len(digits_NHW), _CHUNK)]
    done = 0

    def explain(reason: str) -> str:
        return (
            f"one of {workers} processes that make MAD's images died, perhaps for lack of memory. Nothing "
            "was kept of them; run again, with fewer workers if it happens again."
        )

    for place, part_NVHW in Workers(workers).each(partial(_draw_chunk, seed), chunks, explain):
        first = chunks[place].first
        images[first : first + len(part_NVHW)] = part_NVHW
        done += len(part_NVHW)
        if on_progress is not None:
            on_progress(done, len(images))
    return images


class _DigitChunk(NamedTuple):
    first: int
    digits_NHW: NDArray[np.uint8]


def _draw_chunk(seed: int, chunk: _DigitChunk) -> NDArray[np.uint8]:
    from gapctl.data.mad.morphology import apply_variants_to_digits

    return apply_variants_to_digits(chunk.digits_NHW, chunk.first, seed)


def compute_generation_key(split: Split, seed: int) -> int:
    """Return the key of a split's random choices, which differs by split and seed; the cache's seed is 0."""
    return GENERATION_SEEDS[split] + len(GENERATION_SEEDS) * seed


def _build_masks(table: dict[str, tuple[int, int, int]], default: int) -> NDArray[np.uint8]:
    return np.array([table.get(colour, (default,) * 3) for colour in COLOURS], dtype=np.uint8)


KEEP_7C: Final = _build_masks(_KEEP, default=255)
FILL_7C: Final = _build_masks(_FILL, default=0)


def compose_coloured_images(
    images_NVHW: VariantImages,
    digit_B: NDArray[np.int64],
    variant_B: NDArray[np.int64],
    colour_B: NDArray[np.int64],
) -> NDArray[np.uint8]:
    """Return uint8 (B, 3, 28, 28): the chosen variants in the chosen colours, on black.

    On pixels above 0, red, green and blue keep one channel of the grey level; cyan, magenta and yellow set two channels
    to 255 and keep the third.
    """
    grey: NDArray[np.uint8] = images_NVHW[digit_B, variant_B].reshape(len(digit_B), 1, -1)
    stroke = np.where(grey > 0, np.uint8(255), np.uint8(0))
    keep, fill = KEEP_7C[colour_B][:, :, None], FILL_7C[colour_B][:, :, None]
    return ((grey & keep) | (stroke & fill)).reshape(len(digit_B), 3, *images_NVHW.shape[2:])


class DeviceImages:
    """A split's grey images uint8 (N, V, H, W) on a device: 1.1 GB for MNIST's training digits."""

    def __init__(self, images_NVHW: VariantImages, device: "torch.device") -> None:
        import torch  # here, as processes that draw digits need seconds to import it and never use it

        self._grey_NVHW = torch.empty(images_NVHW.shape, dtype=torch.uint8, device=device)
        digits, variants = images_NVHW.shape[:2]
        for first in range(0, digits, DIGITS_AT_ONCE):
            some = np.arange(first, min(digits, first + DIGITS_AT_ONCE))
            part_NVHW = images_NVHW[some[:, None], np.arange(variants)[None]]
            self._grey_NVHW[first : first + DIGITS_AT_ONCE] = torch.from_numpy(part_NVHW).to(device)
        self._keep_7C, self._fill_7C = (torch.from_numpy(table).to(device) for table in (KEEP_7C, FILL_7C))

    def render(self, digit_B: "Tensor", variant_B: "Tensor", colour_B: "Tensor") -> "Tensor":
        """Return uint8 (B, C, H, W), the same bytes as `compose_coloured_images` returns."""
        grey_BHW = self._grey_NVHW[digit_B, variant_B]
        grey_B1P = grey_BHW.flatten(1).unsqueeze(1)
        stroke_B1P = (grey_B1P > 0).to(grey_B1P.dtype).mul_(255)
        keep_BC1, fill_BC1 = (table[colour_B].unsqueeze(2) for table in (self._keep_7C, self._fill_7C))
        return ((grey_B1P & keep_BC1) | (stroke_B1P & fill_BC1)).view(len(digit_B), -1, *grey_BHW.shape[1:])
