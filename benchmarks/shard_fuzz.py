"""Reads 2,000 spoilt shards in every way: none may crash, hang, or run what stands in it.

    python benchmarks/shard_fuzz.py [--shards 2000] [--first 0] [--json FILE]

One that fails is named by its seed and by what was done to it; one that takes 20 seconds ends the run. The mutations
are those of the tests (`tests/shard_mutations.py`).
"""

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from row import Row, write_rows
from shard_mutations import mutated_shard, read_in_every_way

MOST_SECONDS: Final = 20


def main() -> None:
    """Prints what failed and the slowest, and writes the row where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=int, default=2_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    failed, slowest = 0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(arguments.first, arguments.first + arguments.shards):
            content, done = mutated_shard(seed)
            path = Path(folder) / "00000.tar"
            path.write_bytes(content)
            began = time.perf_counter()
            signal.alarm(MOST_SECONDS)  # its handler is the system's: a hang ends the run
            try:
                read_in_every_way(path)
            except Exception as error:
                failed += 1
                print(f"seed {seed} ({done}): {error!r}", flush=True)
            signal.alarm(0)
            slowest = max(slowest, time.perf_counter() - began)
    print(f"{arguments.shards:,} spoilt shards, {failed} failed, the slowest took {slowest:.2f} s")
    rows = [
        Row(f"{arguments.shards:,} spoilt shards: crashes", "shards", failed, "", target=0.0, better="lower"),
        Row("the slowest of them", "s", slowest, "each is read, decoded and treated whole", target=5.0, better="lower"),
    ]
    write_rows(rows, arguments.json)
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
