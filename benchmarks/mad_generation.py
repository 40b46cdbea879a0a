"""MAD images per second on one core: our generator beside the official one, on the same digits in one run.

    python benchmarks/mad_generation.py [--official FOLDER] [--digits 8] [--rounds 5] [--source bundled] [--json FILE]

FOLDER is a checkout of the paper's code, https://github.com/lmb-freiburg/two-effects-one-trigger: its own image
creator is run as it is, on the same digits. The two take turns, so that a drifting clock hits both, and both are
timed by processor time on one thread. Without --official ours is timed alone.
"""

import argparse
import importlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from gapctl.data.mad.digits import load_digits
from gapctl.data.mad.morphology import apply_variants_to_digits
from row import Row, write_rows

VARIANTS = 24
OURS_AT_ONCE = 64
TARGET, WANTED = 25.0, 100.0
Draw = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


class Digits:
    """Some digits, as the official creator asks torchvision for them."""

    def __init__(self, images_NHW: NDArray[np.uint8]) -> None:
        self.images_NHW = images_NHW

    def __len__(self) -> int:
        return len(self.images_NHW)

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], int]:
        return self.images_NHW[index], 0


def ours(images_NHW: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Every variant of every digit: uint8 (N, 24, 28, 28)."""
    return apply_variants_to_digits(images_NHW, 0, key=1)


def official(folder: Path) -> Draw:
    """The official creator's images in the same order, one by one as it makes them."""
    sys.path.insert(0, str(folder / "mad_dataset"))
    creator: Any = importlib.import_module("prepare_MAD").ImageCaptionDatasetCreator

    def draw(images_NHW: NDArray[np.uint8]) -> NDArray[np.uint8]:
        made = creator.__new__(creator)  # its constructor would download MNIST
        made.image_data = Digits(images_NHW)
        made.aug_combinations = all_combinations()
        images = [made[index][0].numpy() for index in range(len(made))]
        return np.stack(images).reshape(len(images_NHW), VARIANTS, 28, 28)

    return draw


def all_combinations() -> list[tuple[str, ...]]:
    """The 24 combinations, from the lists of the official module."""
    from itertools import product

    module: Any = importlib.import_module("prepare_MAD")
    return list(product(module.thickthinning, module.swelling, module.fracture, module.scaling))


def rate(draw: Draw, images_NHW: NDArray[np.uint8]) -> float:
    """Images per second of processor time."""
    began = time.process_time()
    draw(images_NHW)
    return VARIANTS * len(images_NHW) / (time.process_time() - began)


def agreement(peer: Draw, images_NHW: NDArray[np.uint8]) -> float:
    """Of the plain, thick and thin images, where nothing is random: the share of pixels within 2 grey levels."""
    both = [draw(images_NHW)[:, (0, 8, 16)].astype(int) for draw in (ours, peer)]
    return float(np.mean(np.abs(both[0] - both[1]) <= 2))


def main() -> None:
    """Print both rates of each round, and the median of their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--official", type=Path, metavar="FOLDER")
    parser.add_argument("--source", default="bundled")
    parser.add_argument("--digits", type=int, default=8, help="digits that the official generator draws in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with threadpool_limits(1):
        row = compare(arguments)
    if row.ratio is None:
        print(f"gapctl {row.ours:,.0f} images/s; for the ratio give --official, a checkout of the paper's code")
    else:
        print(
            f"official {row.peer:,.1f} images/s, gapctl {row.ours:,.0f} images/s: "
            f"median ratio {row.ratio:.0f} (at least {TARGET:.0f}, wanted {WANTED:.0f})"
        )
    write_rows([row], arguments.json)


def compare(arguments: argparse.Namespace) -> Row:
    """The medians over the rounds; without the peer there is no ratio."""
    images = load_digits(arguments.source, "train").images_NHW
    few, many = images[: arguments.digits], images[:OURS_AT_ONCE]
    peer = official(arguments.official) if arguments.official else None
    rate(ours, many)  # the tables that are made once
    rounds = []
    for _ in range(arguments.rounds):
        rounds.append((rate(ours, many), rate(peer, few) if peer else None))
        print("  ".join(f"{value:,.1f}/s" for value in rounds[-1] if value is not None), flush=True)
    if peer:
        print(f"{agreement(peer, few):.2%} of the pixels agree where nothing is random")
    return Row(
        what="MAD's images, per core",
        unit="images/s",
        ours=median(value for value, _ in rounds),
        limited_by="the skeleton's priority order, pixel by pixel, and the resampling of swellings",
        peer_name="official generator" if peer else "",
        peer=median(value for _, value in rounds if value is not None) if peer else None,
        ratio=median(value / other for value, other in rounds if other is not None) if peer else None,
        target=TARGET if peer else None,
        wanted=WANTED,
    )


if __name__ == "__main__":
    main()
