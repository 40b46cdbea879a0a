"""Folders with the four files of a small MNIST, made of the bundled digits."""

import gzip
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gapctl.data.mad.digits import load_digits
from gapctl.data.mad.source import SPLITS

STEMS = {"train": "train", "test": "t10k"}


def idx(values: NDArray[np.uint8]) -> bytes:
    """The values as an IDX file of unsigned bytes."""
    header = bytes((0, 0, 8, values.ndim)) + b"".join(length.to_bytes(4, "big") for length in values.shape)
    return header + values.tobytes()


def write_digits(folder: Path, train: int = 20, test: int = 10) -> Path:
    """A folder with so many digits; the images are gzipped and the labels are not."""
    folder.mkdir(parents=True)
    for split, count in zip(SPLITS, (train, test), strict=True):
        digits = load_digits("bundled", split)
        images, labels = digits.images_NHW[:count], digits.labels_N[:count].astype(np.uint8)
        (folder / f"{STEMS[split]}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (folder / f"{STEMS[split]}-labels-idx1-ubyte").write_bytes(idx(labels))
    return folder
