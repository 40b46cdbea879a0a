"""Write MAD's captions: the main factor's value and `attributes` of the other five, as tokens and as text.

A token stands for one factor value. The end token is the highest number, as open_clip's text pooling expects.

Index letters: B samples, 6 factors in the order of `FACTORS`, 5 the factors besides the main one in that order, K
values of a factor, T templates, L the tokens of a caption.
"""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.config.trial import MadData
from gapctl.data.mad.factors import FACTOR_NAMES, FACTORS, VALUES, find_factor_index, find_first_value
from gapctl.data.rng import Purpose, make_generator
from gapctl.errors import InputError

PAD_TOKEN: Final = 0
START_TOKEN: Final = 1
FIRST_VALUE_TOKEN: Final = 2
END_TOKEN: Final = FIRST_VALUE_TOKEN + len(VALUES)
VOCAB_SIZE: Final = END_TOKEN + 1
CONTEXT_LENGTH: Final = len(FACTOR_NAMES) + 2

_FIRST_TOKENS: Final = np.array([FIRST_VALUE_TOKEN + find_first_value(name) for name in FACTOR_NAMES], np.int64)


def build_caption_tokens(
    about: MadData,
    attributes: int,
    labels_B6: NDArray[np.int64],
    priority_B6: NDArray[np.float64],
    place_B6: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Return tokens int64 (B, 8): start, the named values, end, padding.

    A caption names the main factor and the `attributes` others of lowest priority. With the same priorities, a caption
    with more attributes names all that one with fewer names. Shuffled captions have them in the order of `place_B6`,
    canonical ones in the order of `FACTORS`.
    """
    priority_B6 = priority_B6.copy()
    priority_B6[:, find_factor_index(about.main_factor)] = -np.inf
    factor_BK = np.argsort(priority_B6, axis=1)[:, : 1 + attributes]
    if about.captions.order == "shuffled":
        places = np.take_along_axis(place_B6, factor_BK, axis=1)
        factor_BK = np.take_along_axis(factor_BK, np.argsort(places, axis=1), axis=1)
    else:
        factor_BK = np.sort(factor_BK, axis=1)
    tokens = np.full((len(labels_B6), CONTEXT_LENGTH), PAD_TOKEN, dtype=np.int64)
    count = factor_BK.shape[1]
    tokens[:, 0] = START_TOKEN
    tokens[:, 1 : 1 + count] = np.take_along_axis(labels_B6, factor_BK, axis=1) + _FIRST_TOKENS[factor_BK]
    tokens[:, 1 + count] = END_TOKEN
    return tokens


def format_captions(tokens_BL: NDArray[np.int64]) -> list[str]:
    """Return the captions as readable text, such as `3-thickening-red`."""
    return [
        "-".join(VALUES[token - FIRST_VALUE_TOKEN] for token in row if FIRST_VALUE_TOKEN <= token < END_TOKEN)
        for row in tokens_BL
    ]


def parse_caption_texts(captions: Sequence[str]) -> NDArray[np.int64]:
    """Return the tokens int64 (B, 8) of captions as `format_captions` writes them.

    Raise InputError for a value that no factor has, with the nearest one, and for more than six values.
    """
    from gapctl.config.base import did_you_mean

    tokens = np.full((len(captions), CONTEXT_LENGTH), PAD_TOKEN, dtype=np.int64)
    for row, caption in enumerate(captions):
        values = caption.split("-")
        for value in values:
            if value not in VALUES:
                close = did_you_mean(value, VALUES)
                raise InputError(f"caption {caption!r}: no factor of MAD has the value {value!r}{close}")
        if len(values) > len(FACTOR_NAMES):
            raise InputError(f"caption {caption!r}: {len(values)} values; expected at most {len(FACTOR_NAMES)}")
        tokens[row, 0] = START_TOKEN
        tokens[row, 1 : 1 + len(values)] = [FIRST_VALUE_TOKEN + VALUES.index(value) for value in values]
        tokens[row, 1 + len(values)] = END_TOKEN
    return tokens


def build_prompt_tokens(factor: str, about: MadData, n_templates: int, seed: int = 0) -> NDArray[np.int64]:
    """Return tokens int64 (K, T, 8): for each value of `factor`, an ensemble of captions that name it.

    For the main factor: its value and as many others at random as captions name. For another factor: a random main
    value, the factor's value, and further random ones up to that number (at least the factor itself). The templates of
    all values differ in that value alone. Raise ValueError for an unknown factor.
    """
    asked = find_factor_index(factor)
    attributes = max(about.captions.attributes, int(factor != about.main_factor))
    draws = make_generator(Purpose.PROMPTS, seed)
    sizes = np.array([len(each.values) for each in FACTORS])
    labels_T6 = (draws.random((n_templates, 6)) * sizes).astype(np.int64)
    priority_T6, place_T6 = draws.random((n_templates, 6)), draws.random((n_templates, 6))
    priority_T6[:, asked] = -1.0
    prompts = []
    for value in range(sizes[asked]):
        labels_T6[:, asked] = value
        prompts.append(build_caption_tokens(about, attributes, labels_T6, priority_T6, place_T6))
    return np.stack(prompts)


class CaptionInformation(NamedTuple):
    """Bits that image and caption share and do not share, and the number of captions without regard to order.

    `shared` is I(image; caption), `imbalance` is H(image's factors given the caption). `subset` and `order` are the
    caption's own information: which factors it names, and in which order.
    """

    attributes: int
    shared: float
    imbalance: float
    captions: int
    subset: float
    order: float


def list_caption_information(
    main_factor: str = "digit", order: Literal["shuffled", "canonical"] = "shuffled"
) -> list[CaptionInformation]:
    """Return the information of captions with 0 to 5 attributes. Raise ValueError for an unknown factor."""
    main = find_factor_index(main_factor)
    sizes = [len(factor.values) for index, factor in enumerate(FACTORS) if index != main]
    main_size = len(FACTORS[main].values)
    listed = []
    for attributes in range(len(FACTORS)):
        subsets = [math.prod(chosen) for chosen in combinations(sizes, attributes)]
        shared = math.log2(main_size) + sum(map(math.log2, subsets)) / len(subsets)
        listed.append(
            CaptionInformation(
                attributes=attributes,
                shared=shared,
                imbalance=math.log2(main_size * math.prod(sizes)) - shared,
                captions=main_size * sum(subsets),
                subset=math.log2(len(subsets)),
                order=math.log2(math.factorial(attributes + 1)) if order == "shuffled" else 0.0,
            )
        )
    return listed
