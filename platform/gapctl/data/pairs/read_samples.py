"""Samples by their places in a manifest, without a walk through the tar."""

from collections.abc import Iterator
from typing import Any

import polars as pl

from gapctl.data.pairs.index import look_at
from gapctl.data.pairs.manifest import Manifest, read_manifest, require_current
from gapctl.data.pairs.samples import Sample, sample_at
from gapctl.data.pairs.spread import Workers
from gapctl.data.pairs.stored import content_of, stored_shards
from gapctl.folders import expand_home


def read_rows(rows: pl.DataFrame) -> Iterator[tuple[dict[str, Any], Sample]]:
    """Each row with its sample, shard after shard."""
    for shard in rows["shard"].unique(maintain_order=True):
        with content_of(shard) as content:
            for row in rows.filter(pl.col("shard") == shard).iter_rows(named=True):
                yield row, sample_at(content, row)


def manifest_at(places: list[str], workers: Workers) -> Manifest:
    """The manifest of a file that ends in .parquet, refused if its shards changed; else of shards, looked at now."""
    if len(places) == 1 and places[0].endswith(".parquet"):
        path = expand_home(places[0])
        manifest = read_manifest(path)
        require_current(path, manifest)
        return manifest
    return look_at(stored_shards(places), workers)
