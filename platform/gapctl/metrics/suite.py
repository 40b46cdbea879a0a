"""Every measure that a set of embeddings allows, by its name in DESIGN section 6.

Index letters: N images, M texts, C classes, F attribute factors, D embedding.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.metrics.bias import BiasSums
from gapctl.metrics.clustering import clustered_by_label
from gapctl.metrics.effort import THOROUGH, Effort
from gapctl.metrics.entropy import calibrated_entropy, mean_entropy_nats
from gapctl.metrics.gap import Array, CloudSums, GapSums, MatchedSums
from gapctl.metrics.mixed_search import Keyed, mixed_ndcg
from gapctl.metrics.neighbor_overlap import chance_overlap, neighbor_overlap
from gapctl.metrics.neighborhood import neighborhood
from gapctl.metrics.retrieval import recalls
from gapctl.metrics.sampled import Sampled
from gapctl.metrics.separability import linear_separability
from gapctl.metrics.subspace import SecondMoments
from gapctl.metrics.sums import EmbeddingSums
from gapctl.metrics.uniformity import cross_uniformity, uniformity
from gapctl.metrics.zeroshot import AccuracyCount, flip_rate

GALLERY_SIZES: Final = (100, 1000)
"""Sizes at which entropies are measured whatever the gallery's own size is."""
NEIGHBORS: Final = 10
DEPTH: Final = 10


@dataclass(frozen=True)
class Embeddings:
    """Images (N, D) and texts (M, D), normalised here, and whatever else is known of them.

    `text_to_image_M` gives each text's image (text j belongs to image j if left out); `text_group_M` numbers
    texts so that equal captions are equal; `labels_N` are objects, `attributes_NF` attribute labels by factor.
    Where the texts are class prompts, `prompt_of_N` gives each image's; where they are captions, `class_CD` may give
    a prompt embedding for each object label. `bias_image_ND` (N, D) are the embeddings whose object bias is meant, if
    not the images'.
    """

    image_ND: NDArray[np.floating]
    text_MD: NDArray[np.floating]
    text_to_image_M: NDArray[np.int64] | None = None
    text_group_M: NDArray[np.int64] | None = None
    prompt_of_N: NDArray[np.int64] | None = None
    labels_N: NDArray[np.int64] | None = None
    attributes_NF: NDArray[np.int64] | None = None
    class_CD: NDArray[np.floating] | None = None
    bias_image_ND: NDArray[np.floating] | None = None
    logit_scale: float | None = None


class Measured(NamedTuple):
    """Each measure by its name, and for those that may come from a sample, how large it was and the interval."""

    values: dict[str, float]
    samples: dict[str, Sampled]


class _Classes(NamedTuple):
    """Each image's class (N,) and each class's unit prompt embedding (C, D)."""

    class_N: NDArray[np.int64]
    prompt_CD: Array


def measure(embeddings: Embeddings, effort: Effort = THOROUGH) -> dict[str, float]:
    """The measures by name; those that need labels, classes or a logit scale are there where the input has them."""
    return measured(embeddings, effort).values


def measured(embeddings: Embeddings, effort: Effort = THOROUGH) -> Measured:
    """The measures by name, and the samples that some of them are taken from."""
    image_ND, text_MD = unit_rows(embeddings.image_ND), unit_rows(embeddings.text_MD)
    values = sums_of(embeddings, image_ND, text_MD).metrics()
    if embeddings.logit_scale is not None:
        numbers = (_numbers(rows_ND, effort) for rows_ND in (image_ND, text_MD))
        values |= entropy_metrics(*numbers, embeddings.logit_scale)
    if embeddings.prompt_of_N is None:
        values |= retrieval_metrics(embeddings, image_ND, text_MD)
    if (text_ND := _one_text_each(embeddings, text_MD)) is not None and len(text_ND) > NEIGHBORS:
        values[f"geometry/neighbor_overlap_{NEIGHBORS}_chance"] = chance_overlap(len(text_ND), NEIGHBORS)
    if (classes := _classes(embeddings, text_MD)) is not None:
        values |= _class_order_metrics(image_ND, classes)
    samples = _sampled(embeddings, image_ND, text_MD, effort)
    return Measured(values | {key: sampled.value for key, sampled in samples.items()}, samples)


def sums_of(embeddings: Embeddings, image_ND: Array, text_MD: Array) -> EmbeddingSums:
    """The sums over unit rows (N, D) and (M, D), by all that is known of them."""
    image_bias, text_bias = _bias(embeddings, image_ND, text_MD)
    classes = _classes(embeddings, text_MD)
    return EmbeddingSums(
        gap=_gap_sums(embeddings, image_ND, text_MD),
        image_moments=SecondMoments.of(image_ND),
        text_moments=SecondMoments.of(text_MD),
        image_bias=image_bias,
        text_bias=text_bias,
        accuracy=AccuracyCount.of(image_ND, classes.class_N, classes.prompt_CD) if classes else None,
    )


def _gap_sums(embeddings: Embeddings, image_ND: Array, text_MD: Array) -> GapSums:
    if embeddings.prompt_of_N is None:
        return GapSums.of(image_ND, text_MD, embeddings.text_to_image_M)
    matched = MatchedSums.of(image_ND, text_MD[embeddings.prompt_of_N])
    return GapSums(CloudSums.of(image_ND), CloudSums.of(text_MD), matched)


def _bias(embeddings: Embeddings, image_ND: Array, text_MD: Array) -> tuple[BiasSums | None, BiasSums | None]:
    """The images' sums by label, and the texts' where row i of them belongs to image i."""
    labels_N, attributes_NF = embeddings.labels_N, embeddings.attributes_NF
    if labels_N is None or attributes_NF is None:
        return None, None
    if embeddings.bias_image_ND is not None:
        return BiasSums.of(unit_rows(embeddings.bias_image_ND), labels_N, attributes_NF), None
    image = BiasSums.of(image_ND, labels_N, attributes_NF)
    if embeddings.text_to_image_M is None and embeddings.prompt_of_N is None:
        return image, BiasSums.of(text_MD, labels_N, attributes_NF)
    return image, None


def _classes(embeddings: Embeddings, text_MD: Array) -> _Classes | None:
    if embeddings.prompt_of_N is not None:
        return _Classes(embeddings.prompt_of_N, text_MD)
    if embeddings.class_CD is not None and embeddings.labels_N is not None:
        return _Classes(embeddings.labels_N, unit_rows(embeddings.class_CD))
    return None


def _class_order_metrics(image_ND: Array, classes: _Classes) -> dict[str, float]:
    """How alike the two modalities order the classes."""
    order = neighborhood(image_ND, classes.class_N, classes.prompt_CD)
    return {
        "geometry/neighborhood_kendall": order.kendall,
        "geometry/neighborhood_kendall_chance": order.chance,
        "geometry/neighborhood_discordance": order.discordance,
    }


def _sampled(embeddings: Embeddings, image_ND: Array, text_MD: Array, effort: Effort) -> dict[str, Sampled]:
    """The measures that look at no more than the effort allows."""
    image, text = _numbers(image_ND, effort), _numbers(text_MD, effort)
    found = {"gap/linear_separability": linear_separability(image_ND, text_MD, effort.pairs)}
    found |= _uniformities(embeddings, image, text, effort)
    found |= _pair_measures(embeddings, image, text, effort)
    if embeddings.labels_N is not None:
        label_M = _text_labels(embeddings, embeddings.labels_N)
        found["quality/v_measure"] = clustered_by_label(image, embeddings.labels_N, text, label_M, effort.pairs)
    if (classes := _classes(embeddings, text_MD)) is not None:
        found["quality/flip_rate"] = flip_rate(image, _numbers(classes.prompt_CD, effort), effort.queries)
    return found


def _numbers(rows_ND: Array, effort: Effort) -> NDArray[np.floating]:
    return rows_ND.astype(np.float32) if effort.single else rows_ND


def _uniformities(
    embeddings: Embeddings, image: NDArray[np.floating], text: NDArray[np.floating], effort: Effort
) -> dict[str, Sampled]:
    image_key_N, text_key_M = _partner_keys(embeddings)
    return {
        "geometry/uniformity_image": uniformity(image, effort.queries),
        "geometry/uniformity_text": uniformity(text, effort.queries),
        "geometry/uniformity_cross": cross_uniformity(image, image_key_N, text, text_key_M, effort.queries),
    }


def _pair_measures(
    embeddings: Embeddings, image: NDArray[np.floating], text: NDArray[np.floating], effort: Effort
) -> dict[str, Sampled]:
    """What needs a text for each image rather than class prompts."""
    text_ND = _one_text_each(embeddings, text)
    if text_ND is None:
        return {}
    image_key_N, text_key_M = match_keys(embeddings)
    mixed = mixed_ndcg(Keyed(image, image_key_N), Keyed(text, text_key_M), DEPTH, effort.queries)
    found = {f"quality/mixed_ndcg_{DEPTH}": mixed}
    if len(image) > NEIGHBORS:
        overlap = neighbor_overlap(image, text_ND, NEIGHBORS, effort.queries)
        found[f"geometry/neighbor_overlap_{NEIGHBORS}"] = overlap
    if embeddings.logit_scale is not None:
        found |= _calibrated(image, text_ND, embeddings.logit_scale, effort)
    return found


def entropy_metrics(image_ND: NDArray[np.floating], text_MD: NDArray[np.floating], scale: float) -> dict[str, float]:
    """Entropies both ways at one logit scale."""
    forward = mean_entropy_nats(image_ND, text_MD, scale)
    return {
        "entropy/i2t_nats": forward,
        "entropy/t2i_nats": mean_entropy_nats(text_MD, image_ND, scale),
        "entropy/i2t_normalized": forward / math.log(len(text_MD)),
        "entropy/gallery": float(len(text_MD)),
    }


def _calibrated(
    image_ND: NDArray[np.floating], text_ND: NDArray[np.floating], scale: float, effort: Effort
) -> dict[str, Sampled]:
    """Entropies both ways over galleries of each fixed size that there are enough pairs for."""
    found = {}
    for size in (size for size in GALLERY_SIZES if size <= len(image_ND)):
        most = max(1, effort.galleries * max(GALLERY_SIZES) // size)
        found[f"entropy/i2t_nats_at_{size}"] = calibrated_entropy(image_ND, text_ND, scale, size, most)
        found[f"entropy/t2i_nats_at_{size}"] = calibrated_entropy(text_ND, image_ND, scale, size, most)
    return found


def entropies_by_scale(embeddings: Embeddings, scales: Sequence[float], effort: Effort = THOROUGH) -> dict[str, float]:
    """Entropies at each logit scale; where there are several, each name but the gallery's ends in its scale."""
    image_ND, text_MD = unit_rows(embeddings.image_ND), unit_rows(embeddings.text_MD)
    found = {}
    for scale, ending in zip(scales, _endings(scales), strict=True):
        for key, value in _all_entropies(embeddings, image_ND, text_MD, scale, effort).items():
            found[key if key == "entropy/gallery" else key + ending] = value
    return found


def _all_entropies(
    embeddings: Embeddings, image_ND: Array, text_MD: Array, scale: float, effort: Effort
) -> dict[str, float]:
    found = entropy_metrics(image_ND, text_MD, scale)
    if (text_ND := _one_text_each(embeddings, text_MD)) is not None:
        found |= {key: each.value for key, each in _calibrated(image_ND, text_ND, scale, effort).items()}
    return found


def _endings(scales: Sequence[float]) -> list[str]:
    """None for a single scale; else six digits, or as many as it takes to tell the scales apart."""
    if len(scales) == 1:
        return [""]
    short = [f"_scale_{scale:g}" for scale in scales]
    return short if len(set(short)) == len(scales) else [f"_scale_{scale!r}" for scale in scales]


def retrieval_metrics(embeddings: Embeddings, image_ND: Array, text_MD: Array) -> dict[str, float]:
    """Recall at 1, 5, 10 both ways; float32, whose rounding moves no rank that means anything."""
    image_key_N, text_key_M = match_keys(embeddings)
    image, text = image_ND.astype(np.float32), text_MD.astype(np.float32)
    forward = recalls(image, text, image_key_N, text_key_M)
    backward = recalls(text, image, text_key_M, image_key_N)
    return {
        **{f"quality/i2t_recall_{depth}": value for depth, value in forward.items()},
        **{f"quality/t2i_recall_{depth}": value for depth, value in backward.items()},
    }


def unit_rows(rows_ND: NDArray[np.floating]) -> Array:
    """Float64 rows of norm one."""
    wide_ND = rows_ND.astype(np.float64)
    unit_ND: Array = wide_ND / np.linalg.norm(wide_ND, axis=1, keepdims=True)
    return unit_ND


def match_keys(embeddings: Embeddings) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A key per image and per text, equal where they match: the caption's group, or else the image's number."""
    if embeddings.text_group_M is not None and embeddings.text_to_image_M is None:
        return embeddings.text_group_M, embeddings.text_group_M
    return _partner_keys(embeddings)


def _partner_keys(embeddings: Embeddings) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A key per image and per text, equal where one was given for the other, whatever other captions say."""
    if embeddings.prompt_of_N is not None:
        return embeddings.prompt_of_N, np.arange(len(embeddings.text_MD))
    image_key_N = np.arange(len(embeddings.image_ND))
    return image_key_N, image_key_N if embeddings.text_to_image_M is None else embeddings.text_to_image_M


def _text_labels(embeddings: Embeddings, labels_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each text's label: its own class where it is a prompt, else its image's."""
    if embeddings.prompt_of_N is not None:
        return np.arange(len(embeddings.text_MD))
    return labels_N if embeddings.text_to_image_M is None else labels_N[embeddings.text_to_image_M]


def _one_text_each(embeddings: Embeddings, text_MD: NDArray[np.floating]) -> NDArray[np.floating] | None:
    """A text for each image, row by row: the first of several; None where texts are class prompts."""
    if embeddings.prompt_of_N is not None:
        return None
    if embeddings.text_to_image_M is None:
        return text_MD
    return text_MD[np.unique(embeddings.text_to_image_M, return_index=True)[1]]
