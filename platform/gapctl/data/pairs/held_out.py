"""The held-out pairs that every trial on a source is measured on, and the answers to questions about them."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.data.mad.draws import Purpose, generator
from gapctl.data.pairs.labels import labels_of
from gapctl.data.pairs.manifest import Manifest
from gapctl.data.pairs.questions import Question
from gapctl.data.pairs.samples import about_of
from gapctl.data.pairs.source import Pairs
from gapctl.data.pairs.stored import OpenShards
from gapctl.errors import WorkError

GALLERY_SEED: Final = 2404_07983


class Told(NamedTuple):
    """A sample, and what its JSON says of it."""

    key: str
    about: Mapping[str, Any]


def gallery_rows(pairs: Pairs, size: int) -> NDArray[np.int64]:
    """`size` of the held-out rows, or all where there are fewer: the same for every seed, in the manifest's order."""
    return some_rows(pairs.held_out_rows, size)


def some_rows(row_N: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """`size` of these rows, or all where there are fewer, in rising order: always the same ones."""
    order_N = generator(Purpose.GALLERY, GALLERY_SEED).permutation(len(row_N))
    chosen_S: NDArray[np.int64] = np.sort(row_N[order_N[:size]])
    return chosen_S


def answers(
    manifest: Manifest, row_N: NDArray[np.int64], questions: Mapping[str, Question]
) -> dict[str, NDArray[np.int64]]:
    """Each row's class by question; raises InputError for a sample that no class of a question fits."""
    told = _told(manifest, row_N) if questions else []
    return {
        key: labels_of("data.classes", told, key, tuple(question.prompts)).label_N
        for key, question in questions.items()
    }


def _told(manifest: Manifest, row_N: NDArray[np.int64]) -> list[Told]:
    columns = manifest.samples[row_N].select("shard", "key", "json_offset", "json_bytes").iter_rows()
    try:
        with OpenShards() as opened:
            return [Told(key, about_of(opened.read(shard, start, size))) for shard, key, start, size in columns]
    except OSError as error:
        raise WorkError(f"held-out pairs cannot be read ({error}); `gapctl data verify` says what is wrong") from error
