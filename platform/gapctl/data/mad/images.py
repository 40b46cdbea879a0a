"""Generate the variants of a source's digits once, cache them on disk, and render images from them.

1. `load_variants` finds a split's variants in a folder of shards or in the cache, or makes them there.
2. `generate_variants` draws them with `morphology`, in several processes.
3. `render_images` colours chosen variants on the host, `DeviceImages` on a device.

Index letters: N digits, V the 24 variants, B rendered images, C the 3 channels, H and W 28 rows and columns.
"""

import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor

from gapctl.data.mad.digits import Digits, load_digits
from gapctl.data.mad.factors import COLOURS, VARIANTS
from gapctl.data.mad.fingerprint import compute_dataset_fingerprint
from gapctl.data.mad.sharded_images import open_images
from gapctl.data.mad.shards import read_shards_source
from gapctl.data.mad.source import Split, resolve_source_folder
from gapctl.errors import InputError, WorkError
from gapctl.folders import find_cache_root

_CHUNK: Final = 64
_THREAD_COUNTS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

ProgressCallback = Callable[[int, int], None]
GENERATION_SEEDS: Final[dict[Split, int]] = {"train": 1, "test": 2}
# Per channel: what stays of the stroke's grey level, and what every stroke pixel is filled with.
_KEEP: Final = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
_FILL: Final = {"cyan": (0, 255, 255), "magenta": (255, 0, 255), "yellow": (255, 255, 0)}
DIGITS_AT_ONCE = 4_096
"""Digits that are copied together, 77 MB with all their variants."""


class _ImageChunk(NamedTuple):
    first: int
    images_NVHW: NDArray[np.uint8]


class VariantImages(Protocol):
    """Images uint8 (N, 24, 28, 28): an array, or the mapped files of a folder of shards."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Digits, variants, rows and columns."""

    def __getitem__(self, index: tuple[NDArray[np.int64], NDArray[np.int64]], /) -> Any:
        """Return the images of digits and variants, given as two arrays of one shape."""

    def __len__(self) -> int:
        """Return the number of digits."""


@dataclass(frozen=True, eq=False)
class MadSplit:
    """Every variant of a split's digits (read-only memory maps), and the digits' labels. It equals only itself."""

    images_NVHW: VariantImages
    digit_labels_N: NDArray[np.int64]
    fingerprint: str


def load_variants(
    source: str,
    split: Split,
    on_progress: ProgressCallback | None = None,
    cache: Path | None = None,
    workers: int | None = None,
) -> MadSplit:
    """Return a split's images from a folder of shards or the cache, generating them if the cache is incomplete.

    `on_progress` is called only while images are made; `workers` is by default one process per available core. Raise
    InputError for a wrong source or a cache that cannot be written, WorkError if a worker process dies.
    """
    if (shards := _open_shard_split(source, split)) is not None:
        return shards
    digits, path = load_digits(source, split), locate_variants_file(source, split, cache)
    split_images = _open_cached_split(digits, path)
    if split_images is None:
        _make_cache_file(path, digits, split, on_progress, workers or count_available_cores())
        split_images = _open_cached_split(digits, path)
    if split_images is None:
        raise WorkError(f"{path}: the images just written cannot be read back. Check the disk, then run again.")
    return split_images


def find_variants(source: str, split: Split, cache: Path | None = None) -> MadSplit | None:
    """Return a split's images from a folder of shards or a complete cache, else None.

    Raise InputError for a wrong source.
    """
    if (shards := _open_shard_split(source, split)) is not None:
        return shards
    return _open_cached_split(load_digits(source, split), locate_variants_file(source, split, cache))


def locate_variants_file(source: str, split: Split, cache: Path | None = None) -> Path:
    """Return the path of a split's images, existing or not. Raise InputError for a wrong source."""
    return find_cache_folder(cache) / compute_dataset_fingerprint(source) / f"{split}.npy"


def find_cache_folder(cache: Path | None = None) -> Path:
    """Return the folder of cached images: `mad` below `cache`, `$GAPCTL_CACHE`, or `~/.cache/gapctl`."""
    return find_cache_root(cache) / "mad"


def _open_shard_split(source: str, split: Split) -> MadSplit | None:
    description = read_shards_source(source)
    if description is None:
        return None
    return MadSplit(*open_images(resolve_source_folder(source), split), description.request.fingerprint)


def _open_cached_split(digits: Digits, path: Path) -> MadSplit | None:
    images = _map_variants(path, len(digits))
    return None if images is None else MadSplit(images, digits.labels_N, fingerprint=path.parent.name)


def _map_variants(path: Path, count: int) -> NDArray[np.uint8] | None:
    """Map the file, or return None if it is missing, truncated or of another format."""
    try:
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    expected = (count, len(VARIANTS), 28, 28)
    return images if images.dtype == np.uint8 and images.shape == expected else None


def _make_cache_file(
    path: Path, digits: Digits, split: Split, on_progress: ProgressCallback | None, workers: int
) -> None:
    temporary = _make_temporary_file(path)
    try:
        shape = (len(digits), len(VARIANTS), 28, 28)
        images = open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        generate_variants(digits.images_NHW, GENERATION_SEEDS[split], workers, on_progress, images)
        images.flush()
        temporary.chmod(0o644)
        # A concurrent process has made the same bytes, so the last rename may win.
        temporary.replace(path)
    except OSError as error:
        raise WorkError(
            f"{path}: cannot be written ({error.strerror}). Free some space "
            f"({len(digits) * 18816 / 1e6:.0f} MB are needed) or set GAPCTL_CACHE to another folder."
        ) from error
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def _make_temporary_file(path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=".npy", dir=path.parent)
    except OSError as error:
        raise InputError(
            f"{path.parent}: the cache of MAD images cannot be written ({error.strerror}). "
            "Set GAPCTL_CACHE to a folder that can."
        ) from error
    os.close(handle)
    return Path(name)


def generate_variants(
    digits_NHW: NDArray[np.uint8],
    seed: int,
    workers: int = 1,
    on_progress: ProgressCallback | None = None,
    out_NVHW: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Return uint8 (N, 24, 28, 28): every variant of every digit, in the order of `factors.VARIANTS`.

    The random choices of a variant depend on `seed` and the digit's position alone. `on_progress` gets the number of
    finished digits and of all. The result is written to `out_NVHW` if given. Raise WorkError if a worker process dies.
    """
    total = len(digits_NHW)
    images = np.empty((total, len(VARIANTS), 28, 28), np.uint8) if out_NVHW is None else out_NVHW
    done = 0
    for chunk in (
        _generate_in_process(digits_NHW, seed) if workers <= 1 else _generate_in_pool(digits_NHW, seed, workers)
    ):
        images[chunk.first : chunk.first + len(chunk.images_NVHW)] = chunk.images_NVHW
        done += len(chunk.images_NVHW)
        if on_progress is not None:
            on_progress(done, total)
    return images


def _make_chunk(digits_NHW: NDArray[np.uint8], first: int, seed: int) -> _ImageChunk:
    from gapctl.data.mad.morphology import draw_shapes

    return _ImageChunk(first, draw_shapes(digits_NHW, first, seed))


def _generate_in_process(digits_NHW: NDArray[np.uint8], seed: int) -> Iterator[_ImageChunk]:
    for first in range(0, len(digits_NHW), _CHUNK):
        yield _make_chunk(digits_NHW[first : first + _CHUNK], first, seed)


def _generate_in_pool(digits_NHW: NDArray[np.uint8], seed: int, workers: int) -> Iterator[_ImageChunk]:
    # Not fork: the caller may hold threads (torch, Ray) that a forked child would find frozen.
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    try:
        with _limit_child_threads():
            yield from _collect_chunks(pool, digits_NHW, seed, 3 * workers)
    except BrokenProcessPool as error:
        raise WorkError(
            f"one of {workers} processes that make MAD's images died, perhaps for lack of memory. Nothing "
            "was kept of them; run again, with fewer workers if it happens again."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _limit_child_threads() -> Iterator[None]:
    # With one process per core, threaded matrix products would cost a third of the speed. A child reads these
    # variables only when it starts.
    before = {name: os.environ.get(name) for name in _THREAD_COUNTS}
    os.environ.update(dict.fromkeys(_THREAD_COUNTS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _collect_chunks(
    pool: ProcessPoolExecutor, digits_NHW: NDArray[np.uint8], seed: int, at_once: int
) -> Iterator[_ImageChunk]:
    running: set[Future[_ImageChunk]] = set()
    for first in range(0, len(digits_NHW), _CHUNK):
        running.add(pool.submit(_make_chunk, digits_NHW[first : first + _CHUNK], first, seed))
        if len(running) >= at_once:
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in finished)
    for future in running:
        yield future.result()


def compute_generation_key(split: Split, seed: int) -> int:
    """Return the key of a split's random choices, which differs by split and seed; the cache's seed is 0."""
    return GENERATION_SEEDS[split] + len(GENERATION_SEEDS) * seed


def count_available_cores() -> int:
    """Return the number of cores available to this process."""
    available = getattr(os, "sched_getaffinity", None)
    return len(available(0)) if available else os.cpu_count() or 1


def _build_masks(table: dict[str, tuple[int, int, int]], default: int) -> NDArray[np.uint8]:
    return np.array([table.get(colour, (default,) * 3) for colour in COLOURS], dtype=np.uint8)


KEEP_7C: Final = _build_masks(_KEEP, default=255)
FILL_7C: Final = _build_masks(_FILL, default=0)


def render_images(
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

    def __init__(self, images_NVHW: VariantImages, device: torch.device) -> None:
        self._grey_NVHW = torch.empty(images_NVHW.shape, dtype=torch.uint8, device=device)
        digits, variants = images_NVHW.shape[:2]
        for first in range(0, digits, DIGITS_AT_ONCE):
            some = np.arange(first, min(digits, first + DIGITS_AT_ONCE))
            part_NVHW = images_NVHW[some[:, None], np.arange(variants)[None]]
            self._grey_NVHW[first : first + DIGITS_AT_ONCE] = torch.from_numpy(part_NVHW).to(device)
        self._keep_7C, self._fill_7C = (torch.from_numpy(table).to(device) for table in (KEEP_7C, FILL_7C))

    def render(self, digit_B: Tensor, variant_B: Tensor, colour_B: Tensor) -> Tensor:
        """Return uint8 (B, C, H, W), the same bytes as `render_images` returns."""
        grey_BHW = self._grey_NVHW[digit_B, variant_B]
        grey_B1P = grey_BHW.flatten(1).unsqueeze(1)
        stroke_B1P = (grey_B1P > 0).to(torch.uint8).mul_(255)
        keep_BC1, fill_BC1 = (table[colour_B].unsqueeze(2) for table in (self._keep_7C, self._fill_7C))
        return ((grey_B1P & keep_BC1) | (stroke_B1P & fill_BC1)).view(len(digit_B), -1, *grey_BHW.shape[1:])
