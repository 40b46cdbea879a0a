"""A tar shard as batches that a model can take: runs in Ray's reading tasks.

Index letters: B batch, M captions of a batch, C channels, H and W pixels, L caption positions.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import torch

from gapctl.data.pairs.caption_lines import CaptionRule, captions_of
from gapctl.data.pairs.problems import Problem
from gapctl.data.pairs.samples import Sample, picture_of, samples_of
from gapctl.encoding.open_model import tokenizer_of, transform_of
from gapctl.encoding.shard_cache import Described
from gapctl.errors import InputError

BATCH: Final = 32
"""Fixed, and never across shards, so that sums are taken in the same order however many processes share the work."""

MOST_CAPTIONS: Final = 1000
"""Of one image; a text of more lines is no list of captions, and would have to fit into memory."""

Row = dict[str, Any]
tokenizer = cache(tokenizer_of)


@dataclass
class _Pending:
    """What has been read of a shard and not been handed on."""

    pictures: list[torch.Tensor] = field(default_factory=list)
    samples: list[Described] = field(default_factory=list)


def read_batches(row: Row, *, model: str, preprocess: Mapping[str, Any], captions: CaptionRule) -> Iterator[Row]:
    """The batches of a row's shard, the last one marked; a row with an `error` in place of a shard that is wrong.

    The row's `left_out`, if it has any, are the places of samples that are not read. Images are float32 (B, C, H, W)
    and tokens int64 (M, L), as bytes; M captions, those of the first image first. Their shapes follow from the model
    and from `texts`, which is M.
    """
    transform, pending, skipped = transform_of(preprocess), _Pending(), {}
    try:
        for sample in samples_of(Path(row["path"]), frozenset(json.loads(row.get("left_out", "[]")))):
            texts = captions_of(sample.caption or "", captions)
            why = _unusable(sample, texts) or _take(sample, texts, transform, pending)
            if why:
                skipped[sample.key] = why
            elif len(pending.samples) == BATCH:
                yield _row(row, model, pending)
                pending = _Pending()
    except InputError as error:
        yield {**_row(row, model, _Pending()), "error": str(error), "last": True}
        return
    yield {**_row(row, model, pending), "skipped": json.dumps(skipped), "last": True}


def _unusable(sample: Sample, texts: Sequence[str]) -> str | None:
    if sample.image is None:
        return Problem.NO_IMAGE.value
    if len(texts) > MOST_CAPTIONS:
        return f"over {MOST_CAPTIONS:,} captions"
    return None if texts else Problem.NO_CAPTION.value


def _take(sample: Sample, texts: list[str], transform: Any, pending: _Pending) -> str | None:
    """Adds a sample; says why where its image cannot be read."""
    try:
        picture = transform(picture_of(sample))
    except ValueError:
        return Problem.UNREADABLE.value
    pending.pictures.append(picture)
    pending.samples.append(Described(sample.key, texts, sample.about))
    return None


def _row(row: Row, model: str, pending: _Pending) -> Row:
    images_BCHW = torch.stack(pending.pictures).numpy().tobytes() if pending.pictures else b""
    captions = [caption for sample in pending.samples for caption in sample.captions]
    tokens_BL = tokenizer(model)(captions).numpy().tobytes() if captions else b""
    batch = {"images": images_BCHW, "tokens": tokens_BL, "samples": json.dumps(pending.samples)}
    return {"shard": row["shard"], "texts": len(captions), **batch, "skipped": "{}", "error": "", "last": False}
