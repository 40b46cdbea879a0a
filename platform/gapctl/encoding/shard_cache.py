"""Embeddings of finished shards, kept under the hash of everything that decides them.

Index letters: N samples, M captions of theirs, D embedding.
"""

import json
import zipfile
import zlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.data.mad.shards.atomic import appearing
from gapctl.data.pairs.caption_lines import CaptionRule
from gapctl.errors import InputError, WorkError
from gapctl.spec.canonical import sha256_of

VERSION: Final = 2
"""Raised whenever the same model and shard would give other embeddings than before."""

Floats = NDArray[np.float32]


class Described(NamedTuple):
    """A sample beside its embeddings: what its labels can be found in."""

    key: str
    captions: list[str]
    about: dict[str, Any]


class EncodedShard(NamedTuple):
    """A shard's L2-normalised embeddings, its samples, and why others were left out, by key.

    Texts (M, D) are the captions of the first sample, then those of the second, and so on.
    """

    image_ND: Floats
    text_MD: Floats
    samples: Sequence[Described]
    skipped: Mapping[str, str]


def shard_key(
    model: str,
    weights_sha256: str,
    preprocess: Mapping[str, Any],
    device: str,
    shard_sha256: str,
    captions: CaptionRule,
    left_out: Collection[int] = (),
) -> str:
    """The address of a shard's embeddings; `left_out` are the places of samples that could be encoded and were not."""
    decides = {"weights": weights_sha256, "preprocess": preprocess, "device": device, "shard": shard_sha256}
    left = {"left_out": sorted(left_out)} if left_out else {}
    return sha256_of({"version": VERSION, "model": model, **decides, "captions": str(captions), **left})


class ShardCache:
    """A folder with a file per encoded shard; each appears whole or not at all."""

    def __init__(self, folder: Path) -> None:
        """Raises InputError where the folder cannot be made."""
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"{folder}: the cache of embeddings cannot be made ({error.strerror}). Set GAPCTL_CACHE to a folder "
                "that can be written to"
            ) from error

    def find(self, key: str) -> EncodedShard | None:
        """The embeddings under a key; None where there are none, or damaged ones."""
        try:
            with np.load(self._path(key), allow_pickle=False) as archive:
                samples, skipped = (json.loads(archive[name].tobytes()) for name in ("samples", "skipped"))
                found = EncodedShard(archive["image"], archive["text"], [Described(*each) for each in samples], skipped)
        except (OSError, ValueError, KeyError, EOFError, TypeError, zlib.error, zipfile.BadZipFile):
            return None
        captions = sum(len(sample.captions) for sample in found.samples)
        return found if (len(found.image_ND), len(found.text_MD)) == (len(found.samples), captions) else None

    def keep(self, key: str, shard: EncodedShard) -> None:
        """Writes a shard's embeddings; raises WorkError where that fails."""
        samples, skipped = _bytes(list(shard.samples)), _bytes(dict(shard.skipped))
        try:
            with appearing(self._path(key), self._folder) as temporary, temporary.open("wb") as file:
                np.savez(file, image=shard.image_ND, text=shard.text_MD, samples=samples, skipped=skipped)
        except OSError as error:
            raise WorkError(
                f"{self._folder}: the embeddings of a shard cannot be written ({error.strerror}). Free some space, or "
                "set GAPCTL_CACHE to another folder; finished shards are kept"
            ) from error

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.npz"


def _bytes(document: Any) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(document).encode(), np.uint8)
