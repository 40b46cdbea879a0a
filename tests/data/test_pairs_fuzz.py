"""Whatever stands in a shard, reading it ends soon, runs nothing, and gives samples that lie within it."""

from contextlib import suppress
from pathlib import Path

import pytest

from gapctl.config.trial import PairCaptions
from gapctl.data.image_text.index import iterate_shard_samples, make_manifest_part
from gapctl.data.image_text.manifest import Manifest, parse_manifest
from gapctl.data.image_text.read import read_rows_with_samples
from gapctl.data.image_text.storage import list_shards
from gapctl.data.image_text.tools import verify_shards
from gapctl.data.parallel_shards import Workers
from gapctl.data.treatments import TREATMENT_TABLE, treat_caption
from gapctl.errors import InputError
from shard_mutations import mutated_shard

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


def read_in_every_way(path: Path) -> None:
    (stored,) = list_shards([str(path)])
    indexed, checked = parse_manifest(make_manifest_part(stored)), verify_shards([stored], Workers(1)).found
    assert indexed.shards[0].fingerprint
    assert len(indexed.samples) == len(checked.samples)
    require_within(indexed, path.stat().st_size)
    for row, sample in read_rows_with_samples(checked.usable):
        assert sample.image
        assert sample.caption
        for keep in TREATMENT_TABLE:
            rule = PairCaptions.model_validate({"keep": keep, "field": "name"})
            treat_caption(rule, sample.caption, sample.about, 0, 0, row["offset"])
    with suppress(InputError):
        list(iterate_shard_samples(path))


def require_within(manifest: Manifest, size: int) -> None:
    for part in ("image", "caption", "json"):
        ends = manifest.samples[f"{part}_offset"] + manifest.samples[f"{part}_bytes"]
        assert (ends <= size).all()
        assert (manifest.samples[f"{part}_bytes"] >= 0).all()
