"""Count the requests and bytes that trainings ask of an object store for their pairs, before any training starts.

1. `summarise_stored_pairs` sums up what a training reads of the manifests, or returns None for pairs on a disk.
2. `estimate_requests` counts from that, from the training's samples and batch, and from its number of nodes.

The counts follow `pieces.py`: spans of up to 256 neighbours, read whole by a node whose workers want enough of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from gapctl.config.trial import PairData, TrialConfig
from gapctl.data.image_text.order import CHUNK_SAMPLES, SPAN_SAMPLES
from gapctl.data.image_text.storage import REMOTE_GAP_BYTES, REMOTE_READ_BYTES, expand_place

if TYPE_CHECKING:
    from gapctl.data.image_text.manifest import ManifestShard


class StoredShard(NamedTuple):
    """What a shard holds, and how many of its samples are trained on, held-out ones being left out."""

    bytes: int
    samples: int
    trained: float


@dataclass(frozen=True)
class StoredPairs:
    """The shards of a training that lie in an object store, and what a held-out pair there takes.

    `address` is that of a shard. `held_out_bytes` is 0 where held-out pairs lie elsewhere.
    """

    address: str
    shards: Sequence[StoredShard]
    held_out_bytes: float


class RequestEstimate(NamedTuple):
    """Requests (GETs) to an object store, and the bytes that come back."""

    gets: float = 0.0
    bytes: float = 0.0

    def add(self, other: "RequestEstimate") -> "RequestEstimate":
        """Return the sum of both."""
        return RequestEstimate(self.gets + other.gets, self.bytes + other.bytes)


def summarise_stored_pairs(data: PairData) -> StoredPairs | None:
    """Return what a training reads from object stores; None if it reads nothing there.

    Raise InputError if a manifest is missing.
    """
    trained = _list_remote_shards(data.source)
    held_out = _list_remote_shards(data.held_out) if data.held_out else trained
    share = 1.0 if data.held_out else 1.0 - data.held_out_share
    shards = [StoredShard(shard.bytes, shard.samples, share * shard.usable) for shard in trained if shard.usable]
    if not (trained or held_out):
        return None
    samples = sum(shard.samples for shard in held_out)
    pair_bytes = sum(shard.bytes for shard in held_out) / samples if samples else 0.0
    return StoredPairs((trained or held_out)[0].address, shards, pair_bytes)


def _list_remote_shards(source: str) -> "list[ManifestShard]":
    """Return the shards of a source that lie in an object store; those that it names, if it names tars."""
    from gapctl.data.image_text.manifest import read_manifest_shards
    from gapctl.data.image_text.source import BUNDLED, find_manifest

    if source == BUNDLED:
        return []
    shards = [shard for shard in read_manifest_shards(find_manifest(source)) if "://" in shard.address]
    named = set(expand_place(source)) if source.endswith(".tar") else set()
    return [shard for shard in shards if shard.address in named] or shards


def estimate_requests(config: TrialConfig, stored: StoredPairs, nodes: int) -> RequestEstimate:
    """Estimate what one training on so many nodes asks of the store.

    A chunk is read by each node that has a part of its batches. Held-out pairs lie far apart: each evaluation sends a
    request for each pair of its gallery, unless they fit into memory, so of these it is an upper bound.
    """
    train, evaluate = config.train, config.evaluate
    slice_samples = max(1.0, train.batch_size / nodes)
    touching = min(float(nodes), 1.0 + CHUNK_SAMPLES / slice_samples)  # nodes that read a chunk
    epoch = RequestEstimate()
    for shard in stored.shards:
        one = _estimate_span_requests(shard, 1.0 / touching)
        spans = _count_spans(shard)
        epoch = epoch.add(RequestEstimate(spans * touching * one.gets, spans * touching * one.bytes))
    trained = sum(shard.trained for shard in stored.shards)
    epochs = train.samples / trained if trained else 0.0
    found = RequestEstimate(epochs * epoch.gets, epochs * epoch.bytes)
    if not stored.held_out_bytes:
        return found
    pairs = evaluate.gallery * (1.0 + train.samples / evaluate.every)
    return found.add(RequestEstimate(pairs, pairs * stored.held_out_bytes))


def _count_spans(shard: StoredShard) -> float:
    """Return the number of spans of a shard, as `split_into_spans` cuts it."""
    return max(1.0, -(-shard.trained // SPAN_SAMPLES))


def _estimate_span_requests(shard: StoredShard, share: float) -> RequestEstimate:
    """Estimate the requests for one span by a node that wants a `share` of its samples, drawn at random.

    With p the wanted share of all that lies there and q = 1 - p, k others lie between two wanted samples with
    probability p q^k. Less than `most` of them are read along. A request is no larger than `REMOTE_READ_BYTES`.
    """
    spans = _count_spans(shard)
    samples, each = shard.samples / spans, shard.bytes / shard.samples
    wanted = share * shard.trained / spans
    p = min(1.0, wanted / samples)
    q, most = 1.0 - p, int(REMOTE_GAP_BYTES / each) + 1
    any_wanted = 1.0 - q**samples
    gaps = wanted - any_wanted
    read_along = q * (1.0 - most * q ** (most - 1) + (most - 1) * q**most) / p  # the sum of k p q^k for k < most
    held = each * min(samples, wanted + gaps * read_along)
    groups = any_wanted + gaps * q**most
    return RequestEstimate(groups * max(1.0, -(-held / groups // REMOTE_READ_BYTES)), held)
