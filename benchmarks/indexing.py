"""The rate at which `gapctl data index` goes over shards, beside `cat` on the same files.

    python benchmarks/indexing.py [--shards FOLDER] [--megabytes 4000] [--rounds 3] [--json FILE]

Without a folder it makes shards as CC12M's are at 256 pixels: 20 kB of image, 60 bytes of caption and 600 of JSON a
sample. Times are of whole commands, in turns. First the files are dropped from the system's memory before each reading,
as data of CC12M's size is not in it; then both read from memory, where `cat` copies bytes and nothing else.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np
from PIL import Image

from gapctl.data.parallel_shards import count_available_cores
from row import Row, report

TARGETS: Final = {"disk": 0.7, "memory": 0.4}
IMAGE_BYTES: Final = 20_000
PER_SHARD: Final = 5_000
CAPTION: Final = "a man on a red bicycle rides past a shop window in the rain"


def make_shards(folder: Path, megabytes: int) -> None:
    """Shards of one image with other bytes behind it: indexing does not decode, and reads both its ends."""
    from io import BytesIO

    from webdataset import TarWriter

    buffer = BytesIO()
    Image.new("RGB", (256, 256), "grey").save(buffer, "JPEG")
    draws = np.random.Generator(np.random.Philox(0))
    about = {
        "url": "https://example.org/" + "x" * 60,
        "status": "success",
        "width": 256,
        "height": 256,
        "exif": "x" * 350,
    }
    written, number = 0, 0
    while written < megabytes * 1e6:
        path = folder / f"{number:05d}.tar"
        with path.open("wb") as file, TarWriter(file, encoder=False, mtime=0) as writer:
            for place in range(PER_SHARD):
                key = f"{number:05d}{place:04d}"
                image = buffer.getvalue() + draws.bytes(IMAGE_BYTES - len(buffer.getvalue()))
                text = json.dumps({**about, "key": key, "caption": CAPTION}).encode()
                writer.write({"__key__": key, "jpg": image, "txt": CAPTION.encode(), "json": text})
        written, number = written + path.stat().st_size, number + 1


def drop(files: Sequence[str]) -> None:
    """Takes the files out of the system's memory."""
    subprocess.run(["sync"], check=True)
    for name in files:
        with Path(name).open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def keep(files: Sequence[str]) -> None:
    """Leaves them there: the reading before has brought them."""


def row_of(place: str, megabytes: float, theirs: float, ours: float) -> Row:
    """A figure beside `cat`'s, from a disk or from the system's memory."""
    what = f"indexing {megabytes:,.0f} MB of shards from {place}, {count_available_cores()} cores"
    why = "the start of processes; of a sample, its fingerprint and marks, and the way from header to header in Python"
    return Row(what, "MB/s", ours, why, "cat", theirs, ours / theirs, target=TARGETS[place])


def seconds(call: Callable[[], object]) -> float:
    """The wall time of a call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def main() -> None:
    """Prints the figures, and writes them where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=Path)
    parser.add_argument("--megabytes", type=int, default=4_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.shards or Path(scratch)
        if arguments.shards is None:
            make_shards(folder, arguments.megabytes)
        files, out = sorted(map(str, folder.glob("*.tar"))), Path(scratch) / "manifest.parquet"
        command = [sys.executable, "-m", "gapctl", "data", "index", str(folder), "--out", str(out)]

        def index() -> None:
            out.unlink(missing_ok=True)
            subprocess.run(command, check=True, capture_output=True)

        def cat() -> None:
            with Path("/dev/null").open("wb") as nothing:
                subprocess.run([str(shutil.which("cat")), *files], check=True, stdout=nothing)

        size = sum(Path(file).stat().st_size for file in files) / 1e6
        rates = {}
        for place, prepare in (("disk", drop), ("memory", keep)):
            rounds = []
            for _ in range(arguments.rounds):
                pair = []
                for call in (cat, index):
                    prepare(files)
                    pair.append(seconds(call))
                rounds.append(pair)
                print(f"from {place}: cat {size / pair[0]:,.0f} MB/s, index {size / pair[1]:,.0f} MB/s", flush=True)
            rates[place] = [size / median(column) for column in zip(*rounds, strict=True)]
    rows = [row_of(place, size, *rate) for place, rate in rates.items()]
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
