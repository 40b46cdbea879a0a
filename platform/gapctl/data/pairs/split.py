"""Which pairs are held out of training, decided by their images alone."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from gapctl.data.pairs.manifest import Manifest


def held_out(mark: int, share: float, seed: int) -> bool:
    """Whether an image goes into validation; equal images go the same way, whatever else there is."""
    digest = hashlib.blake2b(mark.to_bytes(8) + seed.to_bytes(8), digest_size=8).digest()
    return float(int.from_bytes(digest) / 2**64) < share


def split_rows(manifest: Manifest, share: float, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The usable rows of a manifest to train on and to validate on, in its order; `share` of them on average."""
    usable_N = np.flatnonzero(manifest.samples["problem"].is_null().to_numpy())
    marks = manifest.samples["image_mark"][usable_N]
    out_N = np.array([held_out(mark, share, seed) for mark in marks], dtype=bool)
    return usable_N[~out_N], usable_N[out_N]
