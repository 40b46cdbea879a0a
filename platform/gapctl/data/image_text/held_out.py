"""Choose the held-out pairs that every trial on a source is evaluated on, and read their answers to questions."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.data.image_text.index import parse_metadata
from gapctl.data.image_text.manifest import Manifest
from gapctl.data.image_text.questions import PromptSet, read_labels
from gapctl.data.image_text.source import TrialPairs
from gapctl.data.image_text.storage import ShardReader
from gapctl.data.rng import Purpose, make_generator
from gapctl.errors import WorkError

GALLERY_SEED: Final = 2404_07983


class SampleMetadata(NamedTuple):
    """A sample and the content of its JSON."""

    key: str
    about: Mapping[str, Any]


def choose_gallery_rows(pairs: TrialPairs, size: int) -> NDArray[np.int64]:
    """Return `size` of the held-out rows in the manifest's order, or all if there are fewer.

    The same for every seed.
    """
    return choose_rows(pairs.held_out_rows, size)


def choose_rows(row_N: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Return `size` of these rows in rising order, or all if there are fewer: always the same ones."""
    order_N = make_generator(Purpose.GALLERY, GALLERY_SEED).permutation(len(row_N))
    chosen_S: NDArray[np.int64] = np.sort(row_N[order_N[:size]])
    return chosen_S


def read_answers(
    manifest: Manifest, row_N: NDArray[np.int64], questions: Mapping[str, PromptSet]
) -> dict[str, NDArray[np.int64]]:
    """Return each row's class by question. Raise InputError for a sample without a class of a question."""
    samples = _read_metadata(manifest, row_N) if questions else []
    return {
        key: read_labels("data.classes", samples, key, tuple(question.prompts)).label_N
        for key, question in questions.items()
    }


def _read_metadata(manifest: Manifest, row_N: NDArray[np.int64]) -> list[SampleMetadata]:
    columns = manifest.samples[row_N].select("shard", "key", "json_offset", "json_bytes").iter_rows()
    try:
        with ShardReader() as opened:
            return [
                SampleMetadata(key, parse_metadata(opened.read(shard, start, size)))
                for shard, key, start, size in columns
            ]
    except OSError as error:
        raise WorkError(f"held-out pairs cannot be read ({error}); `gapctl data verify` says what is wrong") from error
