"""Number what a table has embeddings of: each combination of factors, and each caption by the values that it names.

1. `number_images` numbers images by their labels.
2. `number_captions` lists the captions that a training and its zero-shot prompts can show; `CaptionRows.find` numbers
   captions by it.
3. `compute_likelihood_ratios` returns how much an image raises the probability of each caption; `compare_with_chance`
  does so for any images and captions.

Captions that name the same values are one row: neither their order nor a word's synonym says more about the image.

Index letters: B samples, R and I images, N and C captions, 6 factors in the order of `FACTORS`, L tokens of a caption.
"""

from functools import lru_cache
from itertools import combinations
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.config.trial import MadData
from gapctl.data.mad.captions import (
    PROMPT_SEED,
    PROMPT_TEMPLATES,
    build_caption_tokens,
    build_pair_prompt_tokens,
    build_prompt_tokens,
)
from gapctl.data.mad.factors import FACTOR_NAMES, FACTORS, find_factor_index
from gapctl.data.mad.sampler import UNSPECIFIED, parse_captions

Integers = NDArray[np.int64]

_SIZES: Final = tuple(len(factor.values) for factor in FACTORS)
_KEY_SIZES: Final = tuple(size + 1 for size in _SIZES)
IMAGE_ROWS: Final = int(np.prod(_SIZES))
"""The combinations of factors that an image may have: 1,680."""
NO_ROW: Final = -1


def number_images(labels_B6: Integers) -> Integers:
    """Return the number of each image's combination of factors (B,), below `IMAGE_ROWS`."""
    return np.asarray(np.ravel_multi_index(tuple(labels_B6.T), _SIZES), np.int64)


class CaptionRows(NamedTuple):
    """The captions that have a row: `number` of them, of which the first `trained` are drawn in training.

    `row_by_key` maps every set of named values, as `_compute_keys` numbers them, to its row or `NO_ROW`. `named_N6` are
    the labels that each row names, or `UNSPECIFIED`.
    """

    number: int
    trained: int
    row_by_key: Integers
    named_N6: Integers

    def find(self, tokens_BL: Integers) -> Integers:
        """Return each caption's row (B,). Raise ValueError for a caption that has none."""
        row_B = self.row_by_key[_compute_keys(tokens_BL)]
        if (row_B == NO_ROW).any():
            raise ValueError("a caption is none of those that the training and its prompts can show")
        return row_B


@lru_cache(maxsize=64)
def number_captions(about: MadData) -> CaptionRows:
    """Return the rows of a data section's captions; prompts that no training caption equals come last."""
    image_NF = np.stack(np.unravel_index(np.arange(IMAGE_ROWS), _SIZES), axis=1)
    others = [index for index in range(len(FACTORS)) if index != find_factor_index(about.main_factor)]
    shown = []
    for named in combinations(others, about.captions.attributes):
        priority_N6 = np.full(image_NF.shape, 0.9)
        priority_N6[:, list(named)] = 0.0
        tokens_NL = build_caption_tokens(about, about.captions.attributes, image_NF, priority_N6, priority_N6)
        shown.append(_compute_keys(tokens_NL))
    trained = np.unique(np.concatenate(shown))
    asked = [build_prompt_tokens(factor, about, PROMPT_TEMPLATES, PROMPT_SEED) for factor in FACTOR_NAMES]
    pairs = [name for name in FACTOR_NAMES if name != about.main_factor]
    asked += [build_pair_prompt_tokens(factor, about, PROMPT_TEMPLATES, PROMPT_SEED) for factor in pairs]
    prompts = _compute_keys(np.concatenate([tokens.reshape(-1, tokens.shape[-1]) for tokens in asked]))
    keys = np.concatenate([trained, np.setdiff1d(prompts, trained)])
    row_by_key = np.full(int(np.prod(_KEY_SIZES)), NO_ROW, np.int64)
    row_by_key[keys] = np.arange(len(keys))
    row_by_key.setflags(write=False)
    named_N6 = np.stack(np.unravel_index(keys, _KEY_SIZES), axis=1) + UNSPECIFIED
    return CaptionRows(len(keys), len(trained), row_by_key, named_N6)


def compute_likelihood_ratios(about: MadData, digit_labels_N: Integers) -> NDArray[np.float32]:
    """Return p(caption | image) / p(caption) for all images by all captions (`IMAGE_ROWS`, rows of captions).

    `digit_labels_N` are those of the digits that training shows; all other factors are drawn evenly.
    """
    digits = np.bincount(digit_labels_N, minlength=_SIZES[0]) / len(digit_labels_N)
    image_R6 = np.stack(np.unravel_index(np.arange(IMAGE_ROWS), _SIZES), axis=1)
    named_N6 = number_captions(about).named_N6
    return compare_with_chance(image_R6, named_N6, about.captions.noise, digits).astype(np.float32)


def compare_with_chance(
    image_I6: Integers, named_C6: Integers, noise: float, digit_shares: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return p(caption | image) / p(caption) for images (I, 6) by what captions name (C, 6), or `UNSPECIFIED`.

    Factors are drawn evenly, digits by their shares where these are given. Which factors a caption names, in which
    order and by which words, says nothing of its image, so only the named values count. With noise, a named value is
    the image's, or with probability `noise` another of its factor.
    """
    ratio_IC = np.ones((len(image_I6), len(named_C6)))
    for factor, size in enumerate(_SIZES):
        said_by_label = np.full((size, size), noise / (size - 1))
        np.fill_diagonal(said_by_label, 1 - noise)
        share = digit_shares if factor == 0 and digit_shares is not None else np.full(size, 1 / size)
        said = share @ said_by_label
        ratio_by_label = np.ones((size, size + 1))  # the last column, that of `UNSPECIFIED`, is of unnamed factors
        ratio_by_label[:, :size] = np.divide(said_by_label, said, out=np.zeros((size, size)), where=said > 0)
        ratio_IC *= ratio_by_label[image_I6[:, factor, None], named_C6[None, :, factor]]
    return ratio_IC


def _compute_keys(tokens_BL: Integers) -> Integers:
    """Return a number for the values that each caption names (B,), whatever their order."""
    named_B6 = parse_captions(tokens_BL) - UNSPECIFIED
    return np.asarray(np.ravel_multi_index(tuple(named_B6.T), _KEY_SIZES), np.int64)
