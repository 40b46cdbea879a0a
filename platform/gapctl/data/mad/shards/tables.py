"""The two tables of a folder of shards: where each digit lies, and what each variant shows."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gapctl.data.mad.factors import SHAPE_FACTORS, VARIANTS
from gapctl.data.mad.shards.layout import MANIFEST, Shard
from gapctl.data.mad.shards.write import DIGIT_BYTES, ShardRecord
from gapctl.data.mad.source import Split

_SCHEMA: Final = {
    "split": pl.String,
    "digit": pl.Int32,
    "label": pl.UInt8,
    "shard": pl.String,
    "offset": pl.Int64,
    "shard_sha256": pl.String,
}


def manifest(
    shards: Sequence[Shard], records: Mapping[str, ShardRecord], labels: Mapping[Split, NDArray[np.int64]]
) -> bytes:
    """Return a parquet file with a row per digit; `offset` is where its variants begin in the shard's file."""
    parts = [
        pl.DataFrame(
            {
                "split": [shard.split] * shard.count,
                "digit": np.arange(shard.first, shard.first + shard.count),
                "label": labels[shard.split][shard.first : shard.first + shard.count],
                "shard": [shard.name] * shard.count,
                "offset": records[shard.name].offsets,
                "shard_sha256": [records[shard.name].sha256] * shard.count,
            },
            schema_overrides=_SCHEMA,
        )
        for shard in shards
    ]
    return _parquet(pl.concat(parts))


def variants_table(form: str) -> bytes:
    """Return a parquet file with a row per variant; arrays also say how far it lies into its digit."""
    columns: dict[str, list[object]] = {"variant": list(range(len(VARIANTS)))}
    for factor, labels in zip(SHAPE_FACTORS, zip(*VARIANTS, strict=True), strict=True):
        columns[factor.name] = [factor.values[label] for label in labels]
    if form == "npy":
        columns["offset"] = [variant * DIGIT_BYTES // len(VARIANTS) for variant in range(len(VARIANTS))]
    return _parquet(pl.DataFrame(columns, schema_overrides={"variant": pl.UInt8, "offset": pl.Int32}))


def read_manifest(folder: Path) -> pl.DataFrame:
    """Return the manifest; raises polars' errors or OSError if it cannot be read."""
    return pl.read_parquet(folder / MANIFEST)


def _parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", compression_level=3, row_group_size=1 << 20)
    return buffer.getvalue()
