"""Write MAD's captions: the main factor's value and `attributes` of the other five, as tokens and as text.

1. `build_caption_tokens` chooses the factors, puts them in order and writes their values' words as tokens.
2. `find_named_values` reads the tokens back; `format_captions` and `convert_captions_to_tokens` are for people.
3. `build_prompt_tokens` writes the captions that zero-shot classes are asked by.

`config/information.py` counts their bits.

A token stands for one word of one factor value. Values have one word each, or `captions.synonyms`: the further words'
tokens follow the end token.

Index letters: B samples, 6 factors in the order of `FACTORS`, 5 the factors besides the main one in that order, K
values of a factor, T templates, L the tokens of a caption.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gapctl.config.trial import MadData
from gapctl.data.mad.factors import FACTOR_NAMES, FACTORS, VALUES, find_factor_index, find_first_value_index
from gapctl.data.rng import Purpose, make_generator
from gapctl.errors import InputError

PAD_TOKEN: Final = 0
START_TOKEN: Final = 1
FIRST_VALUE_TOKEN: Final = 2
END_TOKEN: Final = FIRST_VALUE_TOKEN + len(VALUES)
VOCAB_SIZE: Final = END_TOKEN + 1
CONTEXT_LENGTH: Final = len(FACTOR_NAMES) + 2

PROMPT_TEMPLATES: Final = 32
PROMPT_SEED: Final = 2404_07983
"""The zero-shot prompts of each value, the same for every trial."""

_SYNONYM_MARK: Final = "~"
_FIRST_TOKENS: Final = np.array([FIRST_VALUE_TOKEN + find_first_value_index(name) for name in FACTOR_NAMES], np.int64)


def count_added_tokens(about: MadData) -> int:
    """Return the number of tokens that synonyms add to the vocabulary of `VOCAB_SIZE`."""
    return len(VALUES) * (about.captions.synonyms - 1)


def build_caption_tokens(
    about: MadData,
    attributes: int,
    labels_B6: NDArray[np.int64],
    priority_B6: NDArray[np.float64],
    place_B6: NDArray[np.float64],
    chance_B6: NDArray[np.float64] | None = None,
) -> NDArray[np.int64]:
    """Return tokens int64 (B, 8): start, the named values, end, padding.

    A caption names the main factor and the `attributes` others of lowest priority, in [0, 1), those that are fixed
    before others. With the same priorities, a caption with more attributes names all that one with fewer names.
    Shuffled captions have them in the order of `place_B6`, canonical ones in the order of `FACTORS`. With synonyms,
    `chance_B6` in [0, 1) chooses each value's word.
    """
    priority_B6 = priority_B6.copy()
    priority_B6[:, [find_factor_index(name) for name in about.captions.fixed]] -= 1.0
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
    named_BK = np.take_along_axis(labels_B6, factor_BK, axis=1) + _FIRST_TOKENS[factor_BK]
    if about.captions.synonyms > 1 and chance_B6 is not None:
        chance_BK = np.take_along_axis(chance_B6, factor_BK, axis=1)
        word_BK = (chance_BK * about.captions.synonyms).astype(np.int64)
        named_BK += np.where(word_BK > 0, word_BK * len(VALUES) + 1, 0)  # the end token is skipped
    tokens[:, 1 : 1 + count] = named_BK
    tokens[:, 1 + count] = END_TOKEN
    return tokens


def find_named_values(tokens_BL: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the place in `VALUES` of each token's value (B, L), and -1 for tokens that name none."""
    word_BL = np.where(tokens_BL > END_TOKEN, tokens_BL - 1, tokens_BL) - FIRST_VALUE_TOKEN
    return np.where((word_BL >= 0) & (tokens_BL != END_TOKEN), word_BL % len(VALUES), -1)


def format_captions(tokens_BL: NDArray[np.int64]) -> list[str]:
    """Return the captions as readable text, such as `3-thickening-red`; the second word for red is `red~2`."""
    value_BL = find_named_values(tokens_BL)
    return [
        "-".join(_name_word(value, token) for value, token in zip(values, tokens, strict=True) if value >= 0)
        for values, tokens in zip(value_BL.tolist(), tokens_BL.tolist(), strict=True)
    ]


def _name_word(value: int, token: int) -> str:
    synonym = (token - END_TOKEN - 1) // len(VALUES) + 2
    return VALUES[value] if token < END_TOKEN else f"{VALUES[value]}{_SYNONYM_MARK}{synonym}"


def convert_captions_to_tokens(captions: Sequence[str], synonyms: int = 1) -> NDArray[np.int64]:
    """Return the tokens int64 (B, 8) of captions as `format_captions` writes them.

    Raise InputError for a word that no value has, with the nearest one, and for more than six values.
    """
    from gapctl.config.base import format_word_suggestion

    words = [
        *VALUES,
        *(f"{value}{_SYNONYM_MARK}{number}" for number in range(2, 1 + synonyms) for value in VALUES),
    ]
    token_of_word = {word: FIRST_VALUE_TOKEN + at + (at >= len(VALUES)) for at, word in enumerate(words)}
    tokens = np.full((len(captions), CONTEXT_LENGTH), PAD_TOKEN, dtype=np.int64)
    for row, caption in enumerate(captions):
        values = caption.split("-")
        for value in values:
            if value not in token_of_word:
                close = format_word_suggestion(value, token_of_word)
                raise InputError(f"caption {caption!r}: no factor of MAD has the value {value!r}{close}")
        if len(values) > len(FACTOR_NAMES):
            raise InputError(f"caption {caption!r}: {len(values)} values; expected at most {len(FACTOR_NAMES)}")
        tokens[row, 0] = START_TOKEN
        tokens[row, 1 : 1 + len(values)] = [token_of_word[value] for value in values]
        tokens[row, 1 + len(values)] = END_TOKEN
    return tokens


def build_prompt_tokens(factor: str, about: MadData, n_templates: int, seed: int = 0) -> NDArray[np.int64]:
    """Return tokens int64 (K, T, 8): for each value of `factor`, an ensemble of captions that name it.

    For the main factor: its value and as many others at random as captions name. For another factor: a random main
    value, the factor's value, and further random ones up to that number (at least the factor itself). Where captions
    name fixed factors, so do prompts, and an asked factor that is not among them stands in a random one's place. The
    templates of all values differ in that value alone. Raise ValueError for an unknown factor.
    """
    (tokens_KTL,) = _build_prompts_of_main_values(factor, about, n_templates, seed, mains=(None,))
    return tokens_KTL


def build_pair_prompt_tokens(factor: str, about: MadData, n_templates: int, seed: int = 0) -> NDArray[np.int64]:
    """Return tokens int64 (O, K, T, 8): for each main value with each value of another factor, captions that name both.

    They are as `build_prompt_tokens` says. The templates of all pairs differ in these two values alone. Raise
    ValueError for an unknown factor.
    """
    mains = range(len(FACTORS[find_factor_index(about.main_factor)].values))
    return np.stack(_build_prompts_of_main_values(factor, about, n_templates, seed, mains))


def _build_prompts_of_main_values(
    factor: str, about: MadData, n_templates: int, seed: int, mains: Sequence[int | None]
) -> list[NDArray[np.int64]]:
    """Return tokens (K, T, 8) for each main value, where None is a random one in each template."""
    asked = find_factor_index(factor)
    attributes = max(about.captions.attributes, int(factor != about.main_factor))
    draws = make_generator(Purpose.PROMPTS, seed)
    sizes = np.array([len(each.values) for each in FACTORS])
    labels_T6 = (draws.random((n_templates, 6)) * sizes).astype(np.int64)
    priority_T6, place_T6 = draws.random((n_templates, 6)), draws.random((n_templates, 6))
    priority_T6[:, asked] = -2.0
    chance_T6 = draws.random((n_templates, 6)) if about.captions.synonyms > 1 else None
    found = []
    for main in mains:
        if main is not None:
            labels_T6[:, find_factor_index(about.main_factor)] = main
        prompts = []
        for value in range(sizes[asked]):
            labels_T6[:, asked] = value
            prompts.append(build_caption_tokens(about, attributes, labels_T6, priority_T6, place_T6, chance_T6))
        found.append(np.stack(prompts))
    return found
