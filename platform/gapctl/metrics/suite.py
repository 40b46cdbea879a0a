"""Every measure that a set of embeddings allows, by its name in DESIGN section 6.

Index letters: N images, M texts, F attribute factors, D embedding.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gapctl.metrics.bias import moad
from gapctl.metrics.dimensions import dimensions_for, top_share
from gapctl.metrics.entropy import mean_entropy_nats
from gapctl.metrics.gap import Array, CloudSums, GapSums, MatchedSums
from gapctl.metrics.neighborhood import neighborhood
from gapctl.metrics.retrieval import recalls
from gapctl.metrics.zeroshot import zero_shot_accuracy


@dataclass(frozen=True)
class Embeddings:
    """Images (N, D) and texts (M, D), normalised here, and whatever else is known of them.

    `text_to_image_M` gives each text's image (text j belongs to image j if left out); `text_group_M` numbers
    texts so that equal captions are equal; `labels_N` are objects, `attributes_NF` attribute labels by factor.
    Where the texts are class prompts, `prompt_of_N` gives each image's; `bias_image_ND` (N, D) are the embeddings
    whose object bias is meant, if not the images'.
    """

    image_ND: NDArray[np.floating]
    text_MD: NDArray[np.floating]
    text_to_image_M: NDArray[np.int64] | None = None
    text_group_M: NDArray[np.int64] | None = None
    prompt_of_N: NDArray[np.int64] | None = None
    labels_N: NDArray[np.int64] | None = None
    attributes_NF: NDArray[np.int64] | None = None
    bias_image_ND: NDArray[np.floating] | None = None
    logit_scale: float | None = None


def measure(embeddings: Embeddings) -> dict[str, float]:
    """The measures by name; those that need labels or a logit scale are there where the input has them."""
    image_ND, text_MD = unit_rows(embeddings.image_ND), unit_rows(embeddings.text_MD)
    found = gap_metrics(_gap_sums(embeddings, image_ND, text_MD))
    if embeddings.logit_scale is not None:
        found |= entropy_metrics(image_ND, text_MD, embeddings.logit_scale)
    found |= _bias(embeddings, image_ND, text_MD)
    if embeddings.prompt_of_N is not None:
        return found | class_metrics(image_ND, embeddings.prompt_of_N, text_MD)
    return found | retrieval_metrics(embeddings, image_ND, text_MD)


def _gap_sums(embeddings: Embeddings, image_ND: Array, text_MD: Array) -> GapSums:
    if embeddings.prompt_of_N is None:
        return GapSums.of(image_ND, text_MD, embeddings.text_to_image_M)
    matched = MatchedSums.of(image_ND, text_MD[embeddings.prompt_of_N])
    return GapSums(CloudSums.of(image_ND), CloudSums.of(text_MD), matched)


def _bias(embeddings: Embeddings, image_ND: Array, text_MD: Array) -> dict[str, float]:
    """Object bias of the images, and of the texts where row i of them belongs to image i."""
    labels_N, attributes_NF = embeddings.labels_N, embeddings.attributes_NF
    if labels_N is None or attributes_NF is None:
        return {}
    if embeddings.bias_image_ND is not None:
        return bias_metrics("image", unit_rows(embeddings.bias_image_ND), labels_N, attributes_NF)
    found = bias_metrics("image", image_ND, labels_N, attributes_NF)
    if embeddings.text_to_image_M is None and embeddings.prompt_of_N is None:
        found |= bias_metrics("text", text_MD, labels_N, attributes_NF)
    return found


def gap_metrics(sums: GapSums) -> dict[str, float]:
    """The gap's measures and the dimensions that carry it."""
    difference_D = sums.mean_difference_D
    return {
        "gap/l2m": sums.l2m(),
        "gap/l2i": sums.l2i(),
        "gap/rmg": sums.rmg(),
        "gap/rmg_with_diagonal": sums.rmg_with_diagonal(),
        "gap/centroid_share": sums.centroid_share(),
        **{f"gap/top{count}_share": top_share(difference_D, count) for count in (1, 3, 10)},
        "gap/dims_for_half": float(dimensions_for(difference_D, 0.5)),
        "gap/dims_for_90": float(dimensions_for(difference_D, 0.9)),
    }


def entropy_metrics(image_ND: Array, text_MD: Array, scale: float) -> dict[str, float]:
    """Entropies both ways at one logit scale."""
    forward = mean_entropy_nats(image_ND, text_MD, scale)
    return {
        "entropy/i2t_nats": forward,
        "entropy/t2i_nats": mean_entropy_nats(text_MD, image_ND, scale),
        "entropy/i2t_normalized": forward / math.log(len(text_MD)),
        "entropy/gallery": float(len(text_MD)),
    }


def entropies_by_scale(embeddings: Embeddings, scales: Sequence[float]) -> dict[str, float]:
    """Entropies at each logit scale; where there are several, each name but the gallery's ends in its scale."""
    image_ND, text_MD = unit_rows(embeddings.image_ND), unit_rows(embeddings.text_MD)
    if len(scales) == 1:
        return entropy_metrics(image_ND, text_MD, scales[0])
    found = {}
    for scale, written in zip(scales, _written(scales), strict=True):
        for key, value in entropy_metrics(image_ND, text_MD, scale).items():
            found[key if key == "entropy/gallery" else f"{key}_scale_{written}"] = value
    return found


def _written(scales: Sequence[float]) -> list[str]:
    """Six digits, or as many as it takes to tell the scales apart."""
    short = [f"{scale:g}" for scale in scales]
    return short if len(set(short)) == len(scales) else [repr(scale) for scale in scales]


def class_metrics(image_ND: Array, class_N: NDArray[np.int64], prompt_CD: Array) -> dict[str, float]:
    """Zero-shot accuracy, and how alike the two modalities order the classes."""
    order = neighborhood(image_ND, class_N, prompt_CD)
    return {
        "quality/object_accuracy": zero_shot_accuracy(image_ND, class_N, prompt_CD),
        "geometry/neighborhood_kendall": order.kendall,
        "geometry/neighborhood_kendall_chance": order.chance,
        "geometry/neighborhood_discordance": order.discordance,
    }


def bias_metrics(
    side: str, embedding_ND: Array, labels_N: NDArray[np.int64], attributes_NF: NDArray[np.int64]
) -> dict[str, float]:
    """Object bias of one modality with its four parts."""
    bias = moad(embedding_ND, labels_N, attributes_NF)
    return {
        f"bias/moad_{side}": bias.value,
        f"bias/object_same_{side}": bias.object.same,
        f"bias/object_different_{side}": bias.object.different,
        f"bias/attribute_same_{side}": bias.attribute.same,
        f"bias/attribute_different_{side}": bias.attribute.different,
    }


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
    image_key_N = np.arange(len(embeddings.image_ND))
    return image_key_N, image_key_N if embeddings.text_to_image_M is None else embeddings.text_to_image_M
