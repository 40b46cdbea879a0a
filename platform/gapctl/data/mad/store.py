"""The variants of a source's digits, made once and kept on disk under the fingerprint of what made them.

Index letters: N digits, V the 24 variants, H and W 28 rows and columns.
"""

import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from gapctl.data.mad.digits import Digits, load_digits
from gapctl.data.mad.factors import VARIANTS
from gapctl.data.mad.fingerprint import dataset_fingerprint
from gapctl.data.mad.generate import Progress, generate_variants
from gapctl.data.mad.images import Images
from gapctl.data.mad.shards.description import shards_source
from gapctl.data.mad.shards.mapped import open_images
from gapctl.data.mad.source import Split, source_folder
from gapctl.errors import InputError, WorkError
from gapctl.folders import cache_root

GENERATION_SEEDS: Final[dict[Split, int]] = {"train": 1, "test": 2}


@dataclass(frozen=True, eq=False)
class MadSplit:
    """Every variant of a split's digits (read-only memory maps), and the digits' labels; equal to itself alone."""

    images_NVHW: Images
    digit_labels_N: NDArray[np.int64]
    fingerprint: str


def generation_key(split: Split, seed: int) -> int:
    """Return the key of a split's random choices, another for each split and seed; the cache's seed is 0."""
    return GENERATION_SEEDS[split] + len(GENERATION_SEEDS) * seed


def available_cores() -> int:
    """Return how many cores this process may use."""
    available = getattr(os, "sched_getaffinity", None)
    return len(available(0)) if available else os.cpu_count() or 1


def cache_folder(cache: Path | None = None) -> Path:
    """Return where images are kept: `cache`, or `$GAPCTL_CACHE`, or `~/.cache/gapctl`; below it, `mad`."""
    return cache_root(cache) / "mad"


def variants_file(source: str, split: Split, cache: Path | None = None) -> Path:
    """Return where a split's images are or will be; raises InputError for a wrong source."""
    return cache_folder(cache) / dataset_fingerprint(source) / f"{split}.npy"


def find_variants(source: str, split: Split, cache: Path | None = None) -> MadSplit | None:
    """Return a split's images from a folder of shards or a cache that holds them whole, else None.

    Raises InputError for a wrong source.
    """
    if (shards := _from_shards(source, split)) is not None:
        return shards
    return _find(load_digits(source, split), variants_file(source, split, cache))


def load_variants(
    source: str,
    split: Split,
    on_progress: Progress | None = None,
    cache: Path | None = None,
    workers: int | None = None,
) -> MadSplit:
    """Return a split's images: those of a folder of shards, or the cache's, made now if it does not hold them whole.

    `on_progress` is called only while images are made; `workers` is by default one process per available
    core. Raises InputError for a wrong source or a cache that cannot be written, WorkError if making them
    fails.
    """
    if (shards := _from_shards(source, split)) is not None:
        return shards
    digits, path = load_digits(source, split), variants_file(source, split, cache)
    found = _find(digits, path)
    if found is None:
        _make(path, digits, split, on_progress, workers or available_cores())
        found = _find(digits, path)
    if found is None:
        raise WorkError(f"{path}: the images just written cannot be read back. Check the disk, then run again.")
    return found


def _from_shards(source: str, split: Split) -> MadSplit | None:
    description = shards_source(source)
    if description is None:
        return None
    return MadSplit(*open_images(source_folder(source), split), description.request.fingerprint)


def _find(digits: Digits, path: Path) -> MadSplit | None:
    images = _read(path, len(digits))
    return None if images is None else MadSplit(images, digits.labels_N, fingerprint=path.parent.name)


def _read(path: Path, count: int) -> NDArray[np.uint8] | None:
    """Map the file; None if it is missing, truncated or not what is expected of it."""
    try:
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    expected = (count, len(VARIANTS), 28, 28)
    return images if images.dtype == np.uint8 and images.shape == expected else None


def _make(path: Path, digits: Digits, split: Split, on_progress: Progress | None, workers: int) -> None:
    temporary = _temporary_beside(path)
    try:
        shape = (len(digits), len(VARIANTS), 28, 28)
        images = open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        generate_variants(digits.images_NHW, GENERATION_SEEDS[split], workers, on_progress, images)
        images.flush()
        temporary.chmod(0o644)
        # Whoever else made the same images meanwhile made the same bytes: the last one to rename wins.
        temporary.replace(path)
    except OSError as error:
        raise WorkError(
            f"{path}: cannot be written ({error.strerror}). Free some space "
            f"({len(digits) * 18816 / 1e6:.0f} MB are needed) or set GAPCTL_CACHE to another folder."
        ) from error
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def _temporary_beside(path: Path) -> Path:
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
