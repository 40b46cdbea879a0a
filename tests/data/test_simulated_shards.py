"""The shards that the size drill computes are those of its manifest, and the drill says what it found."""

import io
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from gapctl.data.image_text import storage
from gapctl.data.image_text.manifest import SCHEMA, read_manifest, require_unchanged_shards
from gapctl.data.image_text.shard_index import index_shard
from gapctl.data.image_text.storage import ShardReader, find_shard, find_shards, list_shards, open_shard
from simulated_shards import SAMPLE_BYTES, SimulatedShards, serve_shards, write_simulated_manifest
from size_drill import Measured, Outcome

REPOSITORY = Path(__file__).parents[2]
STORED = SimulatedShards("first", 3, 150)
DRILL_SECONDS = 1_800


@pytest.fixture(scope="module")
def served() -> Iterator[None]:
    with serve_shards(STORED):
        yield


def test_a_shard_is_a_tar_and_any_part_of_it_is_that_part() -> None:
    whole = STORED.read(1, 0, STORED.size)
    with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
        names = archive.getnames()
        caption = archive.extractfile("0000000157.txt")
        image = archive.extractfile("0000000157.jpg")
        assert caption is not None
        assert image is not None
        assert caption.read().startswith(b"0000000157 ")
        assert min(Image.open(image).size) == 256

    assert len(whole) == STORED.size
    assert names[:3] == ["0000000150.jpg", "0000000150.txt", "0000000150.json"]
    assert len(names) == 450
    for start, stop in ((0, 1), (SAMPLE_BYTES - 3, 2 * SAMPLE_BYTES + 5), (STORED.size - 1500, STORED.size)):
        assert STORED.read(1, start, stop) == whole[start:stop]


def test_the_manifest_says_what_indexing_would_find(tmp_path: Path) -> None:
    write_simulated_manifest(tmp_path / "m.parquet", STORED)
    manifest = read_manifest(tmp_path / "m.parquet")
    found = index_shard(STORED.read(2, 0, STORED.size))
    made_up = ("shard", "image_mark", "caption_mark")

    assert found.damage is None
    for name in (name for name in SCHEMA if name not in made_up):
        assert manifest.samples[name][300:].to_list() == [getattr(sample, name) for sample in found.samples], name


@pytest.mark.usefixtures("served")
def test_the_server_lists_and_sends_them(tmp_path: Path) -> None:
    write_simulated_manifest(tmp_path / "m.parquet", STORED)
    manifest, listed = read_manifest(tmp_path / "m.parquet"), list_shards(["s3://cc12m/first"])

    assert listed == [shard.stored for shard in manifest.shards] == [find_shard(each.address) for each in listed]
    require_unchanged_shards("m.parquet", manifest)
    with open_shard(listed[2].address) as content:
        assert content[:] == STORED.read(2, 0, STORED.size)
    with ShardReader() as opened:
        assert opened.read(listed[0].address, 5_000, 60_000) == STORED.read(0, 5_000, 65_000)


@pytest.mark.usefixtures("served")
def test_many_shards_of_a_bucket_are_found_by_a_list_and_others_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = [*STORED.list_addresses(), "s3://cc12m/first/00009.tar", "s3://cc12m/none/00000.tar"]
    one_by_one = [find_shard(address) for address in addresses]
    asked: list[str] = []

    def ask(address: str) -> storage.ShardInfo | None:
        asked.append(address)
        return find_shard(address)

    monkeypatch.setattr(storage, "find_shard", ask)
    monkeypatch.setattr(storage, "LISTED_SHARDS", 3)

    assert find_shards(addresses) == one_by_one
    assert one_by_one[3:] == [None, None]
    assert asked == addresses[3:]


def test_the_table_has_the_largest_process_and_what_failed() -> None:
    steps = [Measured("index", 3.0, 2.0, (100.0, 250.0)), Measured("stats", 2.0, 1.0, (1_700.0,), "it said so")]
    outcome = Outcome(12, 3, 2, 1_500.0, steps)
    lines = outcome.markdown().splitlines()

    assert "| index: 3 shards, all unchanged | 3.0 | 2.0 | 250 MB | 2 |" in lines
    assert "* stats: it said so" in lines
    assert outcome.problems == ["stats: a process took 1,700 MB, more than 1,500"]
    slow = Outcome(12, 3, 2, 1_500.0, [Measured("plan", 901.0, 900.5, (1.0,)), Measured("feed", 90.0, 1.0, (1.0,))])
    assert slow.problems == ["all steps took 902 s, more than 900"]


@pytest.mark.slow
@pytest.mark.timeout(DRILL_SECONDS)
def test_the_drill_runs_on_a_small_set(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/size_drill.py", "--quick", "--markdown", str(tmp_path / "table.md")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=DRILL_SECONDS, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    table = (tmp_path / "table.md").read_text()
    assert "| resume: two workers at once, in the middle of epoch 17 |" in table
    assert "4,000 rows in 4 shards" in table
    assert "8,192 samples read" in table
