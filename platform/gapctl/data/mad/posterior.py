"""Compute what a model that knows MAD's world would be unsure of in a gallery: the entropy of its softmax.

`measure_posterior_entropies` is the entry. It counts equal images and equal captions once.

Index letters: N pairs, I different images, C different captions, 6 factors in the order of `FACTORS`.
"""

import numpy as np
from numpy.typing import NDArray

from gapctl.config.trial import MadData
from gapctl.data.mad.rows import compare_with_chance
from gapctl.data.mad.sampler import Integers, parse_captions

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
    ratio_IC = compare_with_chance(image_I6, caption_C6, about.captions.noise)
    return {
        "entropy/i2t_posterior_nats": _average_entropy(ratio_IC, images_I, captions_C),
        "entropy/t2i_posterior_nats": _average_entropy(ratio_IC.T, captions_C, images_I),
    }


def _average_entropy(ratio_QG: Array, queries_Q: Integers, candidates_G: Integers) -> float:
    """Return the mean entropy of queries over candidates, of each of which there are so many."""
    share_QG = ratio_QG / (ratio_QG @ candidates_G)[:, None]
    surprise_QG = -np.log(np.where(share_QG > 0, share_QG, 1.0))
    return float(((share_QG * surprise_QG) @ candidates_G) @ queries_Q / queries_Q.sum())
