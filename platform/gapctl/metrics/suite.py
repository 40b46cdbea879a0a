"""Every measure that a set of embeddings allows, by its name in DESIGN section 6.

Index letters: N images, M texts, C classes, F attribute factors, D embedding.
"""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.metrics.checks import wrong
from gapctl.metrics.classification import flip_rate
from gapctl.metrics.clustering import clustered_by_label
from gapctl.metrics.embedding_set import (
    Embeddings,
    match_keys,
    one_text_each,
    partner_keys,
    single_unit_rows,
    text_labels,
    unit_rows,
)
from gapctl.metrics.entropy import calibrated_entropy, mean_entropy
from gapctl.metrics.geometry import chance_overlap, cross_uniformity, neighbor_overlap, neighborhood, uniformity
from gapctl.metrics.retrieval import Keyed, mixed_ndcg, recalls
from gapctl.metrics.sampling import THOROUGH, Effort, Sampled
from gapctl.metrics.separability import linear_separability
from gapctl.metrics.streaming import Classes, classes_of, sums_of

GALLERY_SIZES: Final = (100, 1000)
"""Sizes at which entropies are measured whatever the gallery's own size is."""
NEIGHBORS: Final = 10
DEPTH: Final = 10
MOST_DOUBLES: Final = 1 << 28
"""Coordinates of both modalities (2 GiB in float64) above which rows are compared in float32."""

NAMES: Final = ("image", "text")

Cloud = NDArray[np.floating]


class Measured(NamedTuple):
    """Each measure by its name, and for those that may come from a sample, how large it was and the interval."""

    values: dict[str, float]
    samples: dict[str, Sampled]


def measure(embeddings: Embeddings, effort: Effort = THOROUGH) -> dict[str, float]:
    """The measures by name; those that need labels, classes or a logit scale are there where the input has them."""
    return measured(embeddings, effort).values


def measured(embeddings: Embeddings, effort: Effort = THOROUGH) -> Measured:
    """The measures by name, and the samples that some of them are taken from."""
    image_ND, text_MD = clouds_of(embeddings, effort)
    values = sums_of(embeddings).metrics()
    if (text_ND := one_text_each(embeddings, text_MD)) is not None and len(text_ND) > NEIGHBORS:
        values[f"geometry/neighbor_overlap_{NEIGHBORS}_chance"] = chance_overlap(len(text_ND), NEIGHBORS)
    if (classes := classes_of(embeddings)) is not None:
        values |= _class_order_metrics(image_ND, classes)
    samples = _sampled(embeddings, image_ND, text_MD, effort)
    if embeddings.logit_scale is not None:
        values["entropy/gallery"] = float(len(text_MD))
        samples |= _entropies(embeddings, image_ND, text_MD, embeddings.logit_scale, effort)
    return Measured(values | {key: sampled.value for key, sampled in samples.items()}, samples)


def clouds_of(embeddings: Embeddings, effort: Effort) -> tuple[Cloud, Cloud]:
    """Unit rows of both modalities, as what compares rows with each other takes them."""
    clouds = (embeddings.image_ND, embeddings.text_MD)
    for name, cloud_ND in zip(NAMES, clouds, strict=True):
        if len(cloud_ND) < 2:
            raise wrong(name, "a single row", "at least 2, since the gap is measured against distances within")
    single = effort.single or sum(cloud_ND.size for cloud_ND in clouds) > MOST_DOUBLES
    normalise = single_unit_rows if single else unit_rows
    image_ND, text_MD = (normalise(cloud_ND, name) for name, cloud_ND in zip(NAMES, clouds, strict=True))
    return image_ND, text_MD


def _class_order_metrics(image_ND: Cloud, classes: Classes) -> dict[str, float]:
    """How alike the two modalities order the classes."""
    order = neighborhood(image_ND, classes.class_N, classes.prompt_CD)
    return {
        "geometry/neighborhood_kendall": order.kendall,
        "geometry/neighborhood_kendall_chance": order.chance,
        "geometry/neighborhood_discordance": order.discordance,
    }


def _sampled(embeddings: Embeddings, image_ND: Cloud, text_MD: Cloud, effort: Effort) -> dict[str, Sampled]:
    """The measures that look at no more than the effort allows, entropies apart."""
    image_key_N, text_key_M = partner_keys(embeddings)
    separability = linear_separability(image_ND, image_key_N, text_MD, text_key_M, effort.pairs)
    found = {"gap/linear_separability": separability}
    found |= _uniformities(embeddings, image_ND, text_MD, effort)
    found |= _pair_measures(embeddings, image_ND, text_MD, effort)
    if embeddings.labels_N is not None:
        label_M = text_labels(embeddings, embeddings.labels_N)
        found["quality/v_measure"] = clustered_by_label(image_ND, embeddings.labels_N, text_MD, label_M, effort.pairs)
    if (classes := classes_of(embeddings)) is not None:
        prompt_CD = classes.prompt_CD.astype(image_ND.dtype)
        found["quality/flip_rate"] = flip_rate(image_ND, prompt_CD, effort.queries)
    return found


def _uniformities(embeddings: Embeddings, image: Cloud, text: Cloud, effort: Effort) -> dict[str, Sampled]:
    image_key_N, text_key_M = partner_keys(embeddings)
    queries = effort.some_against(max(len(image), len(text)))
    return {
        "geometry/uniformity_image": uniformity(image, queries),
        "geometry/uniformity_text": uniformity(text, queries),
        "geometry/uniformity_cross": cross_uniformity(image, image_key_N, text, text_key_M, queries),
    }


def _pair_measures(embeddings: Embeddings, image: Cloud, text: Cloud, effort: Effort) -> dict[str, Sampled]:
    """What needs a text for each image rather than class prompts."""
    text_ND = one_text_each(embeddings, text)
    if text_ND is None:
        return {}
    image_key_N, text_key_M = match_keys(embeddings)
    queries = effort.some_against(len(image) + len(text))
    mixed = mixed_ndcg(Keyed(image, image_key_N), Keyed(text, text_key_M), DEPTH, queries)
    found = {f"quality/mixed_ndcg_{DEPTH}": mixed, **_recalls(embeddings, image, text, effort)}
    if len(image) > NEIGHBORS:
        overlap = neighbor_overlap(image, text_ND, NEIGHBORS, queries)
        found[f"geometry/neighbor_overlap_{NEIGHBORS}"] = overlap
    return found


def _recalls(embeddings: Embeddings, image: Cloud, text: Cloud, effort: Effort) -> dict[str, Sampled]:
    """Recall at 1, 5, 10 both ways; float32, whose rounding moves no rank that means anything."""
    image_key_N, text_key_M = match_keys(embeddings)
    image, text = (rows_ND.astype(np.float32, copy=False) for rows_ND in (image, text))
    forward = recalls(image, text, image_key_N, text_key_M, effort.against(len(text)))
    backward = recalls(text, image, text_key_M, image_key_N, effort.against(len(image)))
    return {
        **{f"quality/i2t_recall_{depth}": value for depth, value in forward.items()},
        **{f"quality/t2i_recall_{depth}": value for depth, value in backward.items()},
    }


def _entropies(
    embeddings: Embeddings, image_ND: Cloud, text_MD: Cloud, scale: float, effort: Effort
) -> dict[str, Sampled]:
    """Entropies both ways at one logit scale: over the whole gallery, and over galleries of fixed sizes."""
    forward = mean_entropy(image_ND, text_MD, scale, effort.against(len(text_MD)))
    found = {
        "entropy/i2t_nats": forward,
        "entropy/t2i_nats": mean_entropy(text_MD, image_ND, scale, effort.against(len(image_ND))),
        "entropy/i2t_normalized": forward.scaled(1 / math.log(len(text_MD))),
    }
    text_ND = one_text_each(embeddings, text_MD)
    return found if text_ND is None else found | _calibrated(image_ND, text_ND, scale, effort)


def _calibrated(image_ND: Cloud, text_ND: Cloud, scale: float, effort: Effort) -> dict[str, Sampled]:
    """Entropies both ways over galleries of each fixed size that there are enough pairs for."""
    found = {}
    for size in (size for size in GALLERY_SIZES if size <= len(image_ND)):
        most = max(1, effort.galleries * max(GALLERY_SIZES) // size)
        found[f"entropy/i2t_nats_at_{size}"] = calibrated_entropy(image_ND, text_ND, scale, size, most)
        found[f"entropy/t2i_nats_at_{size}"] = calibrated_entropy(text_ND, image_ND, scale, size, most)
    return found


def entropies_by_scale(embeddings: Embeddings, scales: Sequence[float], effort: Effort = THOROUGH) -> Measured:
    """Entropies at each logit scale; where there are several, each name but the gallery's ends in its scale."""
    clouds = clouds_of(embeddings, effort)
    samples = {}
    for scale, ending in zip(scales, _endings(scales), strict=True):
        for key, sampled in _entropies(embeddings, *clouds, scale, effort).items():
            samples[key + ending] = sampled
    gallery = {"entropy/gallery": float(len(embeddings.text_MD))}
    return Measured(gallery | {key: sampled.value for key, sampled in samples.items()}, samples)


def _endings(scales: Sequence[float]) -> list[str]:
    """None for a single scale; else six digits, or as many as it takes to tell the scales apart."""
    if len(scales) == 1:
        return [""]
    short = [f"_scale_{scale:g}" for scale in scales]
    return short if len(set(short)) == len(scales) else [f"_scale_{scale!r}" for scale in scales]
