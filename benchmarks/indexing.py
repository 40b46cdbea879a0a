"""The rate at which `gapctl data index` goes over shards, beside `cat` on the same files.

    python benchmarks/indexing.py [--shards FOLDER] [--megabytes 4000] [--rounds 3] [--json FILE]

Without a folder it makes shards as CC12M's are at 256 pixels: 20 kB of image, 60 bytes of caption and 600 of JSON a
sample. Both read files that the system has in memory, in turns, which is the harder comparison: from a disk `cat` waits
for the disk, and so does indexing. Times are of whole commands.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np
from PIL import Image

from gapctl.data.mad.store import available_cores
from row import Row, write_rows

TARGET: Final = 0.7
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

        cat()
        rounds = [(seconds(cat), seconds(index)) for _ in range(arguments.rounds)]
    size = sum(Path(file).stat().st_size for file in files) / 1e6 if arguments.shards else arguments.megabytes
    theirs, ours = (size / median(column) for column in zip(*rounds, strict=True))
    what = f"indexing {size:,.0f} MB of shards, {available_cores()} cores"
    why = "three tar headers, two marks and a caption a sample, in Python"
    row = Row(what, "MB/s", ours, why, "cat", theirs, ours / theirs, target=TARGET)
    print(row)
    if arguments.json:
        write_rows([row], arguments.json)


if __name__ == "__main__":
    main()
