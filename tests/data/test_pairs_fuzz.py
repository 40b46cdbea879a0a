"""Whatever stands in a shard, reading it ends soon, runs nothing, and gives samples that lie within it."""

from pathlib import Path

import pytest

from shard_mutations import mutated_shard, read_in_every_way

SHARDS = 60
"""`benchmarks/shard_fuzz.py` does the same with 2,000."""


@pytest.mark.timeout(120)
def test_no_mutated_shard_crashes_or_hangs_what_reads_it(tmp_path: Path) -> None:
    for seed in range(SHARDS):
        content, done = mutated_shard(seed)
        path = tmp_path / "00000.tar"
        path.write_bytes(content)
        try:
            read_in_every_way(path)
        except Exception as error:
            error.add_note(f"seed {seed}: {done}")
            raise
