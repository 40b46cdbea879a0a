"""Samples a second that one core reads, decodes, crops and tokenises, beside open_clip's own loader on the same shards.

    python benchmarks/feed.py [--peer PYTHON] [--data SHARDS] [--rounds 5] [--json FILE]

`--peer` is the Python of an environment with open_clip's loader, which does not run with today's webdataset:

    uv venv peer
    uv pip install --python peer/bin/python open_clip_torch==3.3.0 "webdataset==0.2.86" pandas braceexpand \
      torch torchvision pillow     # the versions of requirements.lock
    python benchmarks/feed.py --peer peer/bin/python

Without it our figures stand alone. Without `--data` (a folder of shards) it makes shards of 256-pixel JPEGs from the
photographs that scikit-image brings. Both take random crops of 0.9 to 1.0 of the area and open_clip's tokenizer, in
turns; figures are medians. Seconds are the processor's, of all threads and processes of each, so that other work on the
machine counts for little.
"""

import argparse
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np
from PIL import Image

from gapctl.data.image_text.feed import PairFeed
from gapctl.data.image_text.index import build_manifest
from gapctl.data.image_text.read import ReadOptions
from gapctl.data.image_text.storage import list_shards
from gapctl.data.parallel_shards import Workers
from row import Row, report
from simulated_shards import WORDS

SIZES: Final = (224, 64)
BATCH: Final = 128
BATCHES: Final = 16
WARM: Final = 4
TARGETS = {224: 4.5, 64: 2.0}
SHARDS, PER_SHARD = 8, 500
SIDE, QUALITY = 256, 95
PHOTOGRAPHS: Final = ("astronaut", "chelsea", "coffee", "rocket", "retina", "hubble_deep_field")


def make_shards(folder: Path) -> None:
    """Parts of photographs, 256 pixels high or wide, with captions of 5 to 15 words."""
    from skimage import data
    from webdataset import TarWriter

    draws = np.random.Generator(np.random.Philox(0))
    photographs = [Image.fromarray(getattr(data, name)()[..., :3]) for name in PHOTOGRAPHS]
    for shard in range(SHARDS):
        with (folder / f"{shard:05d}.tar").open("wb") as file, TarWriter(file, encoder=False, mtime=0) as writer:
            for place in range(PER_SHARD):
                photograph = photographs[int(draws.integers(len(photographs)))]
                caption = " ".join(draws.choice(WORDS.split(), int(draws.integers(5, 16))))
                key = f"{shard:05d}{place:04d}"
                writer.write({"__key__": key, "jpg": picture(photograph, draws), "txt": caption.encode()})


def picture(photograph: Image.Image, draws: np.random.Generator) -> bytes:
    """A part of at least 256 pixels a side, the shorter made 256, the longer up to a half more."""
    width, height = photograph.size
    shorter = int(draws.integers(min(SIDE, width, height), min(width, height) + 1))
    longer = min(width, round(shorter * draws.uniform(1, 1.5)))
    left, top = int(draws.integers(width - longer + 1)), int(draws.integers(height - shorter + 1))
    part = photograph.crop((left, top, left + longer, top + shorter))
    buffer = io.BytesIO()
    part.resize((round(SIDE * longer / shorter), SIDE), Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def ours(folder: Path, size: int, clock: Callable[[], float] = time.process_time) -> float:
    """Samples of the feed in a second of the clock, by default of processor time, after its first batches."""
    manifest = build_manifest(list_shards([str(folder)]), Workers(1))
    rows = np.flatnonzero(manifest.samples["problem"].is_null().to_numpy())
    feed = iter(PairFeed(manifest, rows, ReadOptions(size), 0, BATCH))
    for _ in islice(feed, WARM):
        pass
    began = clock()
    samples = sum(len(batch.sample_B) for batch, _ in islice(feed, BATCHES))
    return samples / (clock() - began)


def measure_rates(command: Sequence[str], workers: int = 1) -> list[float]:
    """Run as many processes at once, each with one thread; return the rate that each prints last."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    began = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(workers)]
    outputs = [process.communicate()[0] for process in began]
    if any(process.returncode for process in began):
        raise SystemExit(f"{' '.join(command[:3])} failed")
    return [float(output.split()[-1]) for output in outputs]


def rates(folder: Path, size: int, peer: Path | None, rounds: int) -> Iterator[tuple[float, float | None]]:
    """Ours and the peer's, in turns."""
    shards = sorted(map(str, folder.glob("*.tar")))
    here = Path(__file__)
    for _ in range(rounds):
        (mine,) = measure_rates([sys.executable, str(here), "--one", str(size), "--data", str(folder)])
        theirs = None
        if peer is not None:
            loader = here.with_name("open_clip_loader.py")
            (theirs,) = measure_rates([str(peer), str(loader), "::".join(shards), str(size), str(BATCH), str(BATCHES)])
        print(f"{size} pixels: ours {mine:,.0f}" + (f", open_clip {theirs:,.0f}" if theirs else ""), flush=True)
        yield mine, theirs


def row_of(size: int, found: list[tuple[float, float | None]]) -> Row:
    """The medians as a line of the table."""
    mine, theirs = median(each[0] for each in found), [each[1] for each in found if each[1] is not None]
    what, why = f"pairs to {size} x {size} pixels, one core", "decoding and resizing of JPEGs, in C"
    if not theirs:
        return Row(what, "samples/s", mine, why)
    peer = median(theirs)
    return Row(what, "samples/s", mine, why, "open_clip's loader", peer, mine / peer, target=TARGETS.get(size))


def main() -> None:
    """Prints the figures, and writes them where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(ours(arguments.data, arguments.one))
        return
    if arguments.peer is None:
        print("no --peer: open_clip's loader needs an environment of its own (see this file); ours alone", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        if arguments.data is None:
            make_shards(Path(scratch))
        folder = arguments.data or Path(scratch)
        rows = [row_of(size, list(rates(folder, size, arguments.peer, arguments.rounds))) for size in SIZES]
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
