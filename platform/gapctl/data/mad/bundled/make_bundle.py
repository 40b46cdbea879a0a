"""Make the bundled digits from a folder with MNIST's four IDX files.

Run as `python -m gapctl.data.mad.bundled.make_bundle FOLDER`; the result is the same to the byte each time.
"""

import sys
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gapctl.data.mad.digits import Digits, load_digits
from gapctl.data.mad.source import BUNDLED_FILE, Split

PER_CLASS: Final[dict[Split, int]] = {"train": 400, "test": 100}


def write_bundle(folder: str, destination: Path = BUNDLED_FILE) -> None:
    """Write the first 400 train and 100 test digits of each class, in the order of MNIST's files."""
    arrays: dict[str, NDArray[np.uint8]] = {}
    for split, count in PER_CLASS.items():
        digits = load_digits(folder, split)
        chosen = _select_first_per_class(digits, count)
        arrays[f"{split}_images"] = digits.images_NHW[chosen]
        arrays[f"{split}_labels"] = digits.labels_N[chosen].astype(np.uint8)
    with destination.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def _select_first_per_class(digits: Digits, count: int) -> NDArray[np.int64]:
    by_class = [np.flatnonzero(digits.labels_N == label)[:count] for label in range(10)]
    return np.sort(np.concatenate(by_class))


if __name__ == "__main__":
    write_bundle(sys.argv[1])
