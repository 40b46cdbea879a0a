"""Where the samples of a training lie, as arrays: 80 bytes a sample, which processes share without copying.

Index letters: N samples; the second axis of a span is where it begins in the shard, and its bytes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from gapctl.data.pairs.manifest import Manifest
from gapctl.errors import InputError


class PairTable(NamedTuple):
    """The training's samples in the order of the manifest: `row_N` are their rows there, `shard_N` says which address.

    `whole_N2` is the span of all of a sample's members; `size_N2` are the width and height that the index found.
    """

    addresses: Sequence[str]
    row_N: NDArray[np.int64]
    shard_N: NDArray[np.int32]
    whole_N2: NDArray[np.int64]
    image_N2: NDArray[np.int64]
    caption_N2: NDArray[np.int64]
    json_N2: NDArray[np.int64]
    size_N2: NDArray[np.int32]


def table_of(manifest: Manifest, rows: ArrayLike) -> PairTable:
    """The samples in these rows of a manifest, each once; raises InputError for none, and for rows with a problem."""
    row_N = np.unique(np.asarray(rows, dtype=np.int64))
    if not len(row_N):
        raise InputError("no usable image-text pairs are left to read; `gapctl data verify MANIFEST` says why")
    samples = manifest.samples[row_N]
    wrong = samples.filter(pl.col("problem").is_not_null())
    if len(wrong):
        first = wrong.row(0, named=True)
        raise InputError(
            f"{first['shard']}: sample {first['key']} cannot be read ({first['problem']}), as {len(wrong)} of these "
            "rows; expected rows of the manifest without a problem"
        )
    addresses = [shard.address for shard in manifest.shards]
    numbers = pl.DataFrame({"shard": addresses, "number": np.arange(len(addresses), dtype=np.int32)})
    shard_N = samples.select("shard").join(numbers.unique("shard"), on="shard", how="left", maintain_order="left")

    def span(start: str, size: str) -> NDArray[np.int64]:
        return np.ascontiguousarray(samples.select(pl.col(start, size).cast(pl.Int64)).to_numpy())

    return PairTable(
        tuple(addresses),
        row_N,
        shard_N["number"].to_numpy(),
        span("offset", "bytes"),
        span("image_offset", "image_bytes"),
        span("caption_offset", "caption_bytes"),
        span("json_offset", "json_bytes"),
        np.ascontiguousarray(samples.select("width", "height").to_numpy().astype(np.int32)),
    )
