"""What a set of pairs is like: lengths of captions, sizes of images, repetitions, and the vocabulary."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from gapctl.data.pairs.manifest import Manifest
from gapctl.data.pairs.spread import Workers
from gapctl.data.pairs.stored import OpenShards
from gapctl.errors import WorkError

QUANTILES: Final = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
SHOWN_WORDS: Final = 30
_WORD: Final = re.compile(r"\w[\w'’-]*")


@dataclass(frozen=True)
class Spread:
    """The mean of a column, its values at `QUANTILES`, and how often each rounded value occurs."""

    mean: float
    quantiles: tuple[float, ...]
    counts: Mapping[int, int]


@dataclass(frozen=True)
class Repeated:
    """How many distinct values stand more than once, and how many samples they are beyond the first of each."""

    values: int
    beyond_first: int


@dataclass(frozen=True)
class Vocabulary:
    """Distinct words (case folded), their occurrences, how many make 90 %, how many occur once, the commonest."""

    words: int
    occurrences: int
    for_90_percent: int
    once: int
    commonest: Sequence[tuple[str, int]]


@dataclass(frozen=True)
class PairStats:
    """Of the usable samples alone, but for `samples` and `problems`.

    Images count as repeated if their length and both their ends are the same; `verify` compares them whole.
    """

    samples: int
    usable: int
    problems: Mapping[str, int]
    bytes: int
    caption_words: Spread
    caption_characters: Spread
    image_shorter_side: Spread
    image_aspect: Spread
    forms: Mapping[str, int]
    repeated_captions: Repeated
    repeated_images: Repeated
    vocabulary: Vocabulary


def stats_of(manifest: Manifest, workers: Workers) -> PairStats:
    """The statistics of a manifest; captions are read for their words. Raises WorkError where a shard cannot be read.

    `image_aspect` is the longer side over the shorter one.
    """
    usable = manifest.usable
    shorter, longer = pl.min_horizontal("width", "height"), pl.max_horizontal("width", "height")
    sides = usable.select(shorter.alias("shorter"), (longer / shorter).alias("aspect"))
    problems = manifest.samples["problem"].drop_nulls().value_counts(sort=True)
    return PairStats(
        samples=len(manifest.samples),
        usable=len(usable),
        problems=dict(problems.iter_rows()),
        bytes=sum(shard.bytes for shard in manifest.shards),
        caption_words=_spread(usable["words"]),
        caption_characters=_spread(usable["characters"]),
        image_shorter_side=_spread(sides["shorter"]),
        image_aspect=_spread(sides["aspect"]),
        forms=dict(usable["form"].value_counts(sort=True).iter_rows()),
        repeated_captions=_repeated(usable["caption_mark"]),
        repeated_images=_repeated(usable["image_mark"]),
        vocabulary=_vocabulary(usable, workers),
    )


def _spread(column: pl.Series) -> Spread:
    counts = column.round().cast(pl.Int64).value_counts().sort(column.name)
    quantiles = tuple(float(column.quantile(share, "nearest") or 0) for share in QUANTILES)
    return Spread(float(column.mean() or 0), quantiles, dict(counts.iter_rows()))  # type: ignore[arg-type]


def _repeated(marks: pl.Series) -> Repeated:
    counts = marks.value_counts(name="times")["times"]
    several = counts.filter(counts > 1)
    return Repeated(len(several), int(several.sum()) - len(several))


def _vocabulary(usable: pl.DataFrame, workers: Workers) -> Vocabulary:
    parts = usable.select("shard", "caption_offset", "caption_bytes").partition_by("shard", maintain_order=True)
    counts = Counter[str]()
    for _, counted in workers.each(words_of, [part.rows() for part in parts]):
        counts.update(counted)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    occurrences, reached, needed = counts.total(), 0, 0
    for _, count in ordered:
        if reached >= 0.9 * occurrences:
            break
        reached, needed = reached + count, needed + 1
    once = sum(count == 1 for count in counts.values())
    return Vocabulary(len(counts), occurrences, needed, once, ordered[:SHOWN_WORDS])


def words_of(captions: Sequence[tuple[str, int, int]]) -> Counter[str]:
    """How often each word occurs in captions that lie at (shard, offset, bytes)."""
    counts = Counter[str]()
    try:
        with OpenShards() as opened:
            for shard, start, size in captions:
                counts.update(_WORD.findall(opened.read(shard, start, size).decode("utf-8-sig", "replace").casefold()))
    except OSError as error:
        raise WorkError(f"{error}; run `gapctl data index` again") from error
    return counts
