"""Compute what a model that knows MAD's world would be unsure of in a gallery: the entropy of its softmax.

1. `measure_posterior_entropies` is the entry. It counts equal images and equal captions once.
2. `_compute_ratios` gives how much likelier each caption is with each image than with any.

Index letters: N pairs, I different images, C different captions, 6 factors in the order of `FACTORS`.
"""

import numpy as np
from numpy.typing import NDArray

from gapctl.config.information import compute_ratio
from gapctl.config.trial import MadData
from gapctl.data.mad.factors import FACTORS
from gapctl.data.mad.sampler import UNSPECIFIED, Integers, parse_captions

Array = NDArray[np.float64]


def measure_posterior_entropies(about: MadData, labels_N6: Integers, tokens_NL: Integers) -> dict[str, float]:
    """Return the mean entropies over a gallery's pairs, by metric name, in nats.

    The model is the best critic of the training's captions, their noise included. Where both sides are images, the
    gallery does not tell what a picture has in common with its image, and nothing is returned.
    """
    if about.sides == "image_image":
        return {}
    image_I6, images_I = np.unique(labels_N6, axis=0, return_counts=True)
    caption_C6, captions_C = np.unique(parse_captions(tokens_NL), axis=0, return_counts=True)
    ratio_IC = _compute_ratios(about, image_I6, caption_C6)
    return {
        "entropy/i2t_posterior_nats": _average_entropy(ratio_IC, images_I, captions_C),
        "entropy/t2i_posterior_nats": _average_entropy(ratio_IC.T, captions_C, images_I),
    }


def _compute_ratios(about: MadData, image_I6: Integers, caption_C6: Integers) -> Array:
    """Return p(image, caption) / (p(image) p(caption)) for images by their labels and captions by what they name."""
    ratio_IC = np.ones((len(image_I6), len(caption_C6)))
    for place, factor in enumerate(FACTORS):
        right, wrong = (compute_ratio(len(factor.values), same, about.captions.noise) for same in (True, False))
        told_IC = np.where(image_I6[:, place, None] == caption_C6[:, place], right, wrong)
        ratio_IC *= np.where(caption_C6[:, place] == UNSPECIFIED, 1.0, told_IC)
    return ratio_IC


def _average_entropy(ratio_QG: Array, queries_Q: Integers, candidates_G: Integers) -> float:
    """Return the mean entropy of queries over candidates, of each of which there are so many."""
    share_QG = ratio_QG / (ratio_QG @ candidates_G)[:, None]
    surprise_QG = -np.log(np.where(share_QG > 0, share_QG, 1.0))
    return float(((share_QG * surprise_QG) @ candidates_G) @ queries_Q / queries_Q.sum())
