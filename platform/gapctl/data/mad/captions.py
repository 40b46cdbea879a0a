"""MAD's captions: the main factor's value and `attributes` of the other five, as tokens and as text.

A token stands for one factor value. The end token is the highest number, as open_clip's text pooling expects.

Index letters: B samples, 6 factors in the order of `FACTORS`, 5 the factors besides the main one in that
order, L the tokens of a caption.
"""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from gapctl.data.mad.factors import FACTOR_NAMES, VALUES, factor_index, first_value

Order = Literal["shuffled", "canonical"]

PAD_TOKEN: Final = 0
START_TOKEN: Final = 1
FIRST_VALUE_TOKEN: Final = 2
END_TOKEN: Final = FIRST_VALUE_TOKEN + len(VALUES)
VOCAB_SIZE: Final = END_TOKEN + 1
CONTEXT_LENGTH: Final = len(FACTOR_NAMES) + 2

_FIRST_TOKENS: Final = np.array([FIRST_VALUE_TOKEN + first_value(name) for name in FACTOR_NAMES], np.int64)


@dataclass(frozen=True)
class CaptionRule:
    """What captions say; raises ValueError for an unknown factor or order and a number outside 0 to 5."""

    main_factor: str
    attributes: int
    order: Order

    def __post_init__(self) -> None:
        if self.main_factor not in FACTOR_NAMES:
            raise ValueError(f"main_factor is {self.main_factor!r}, expected one of {', '.join(FACTOR_NAMES)}")
        if not 0 <= self.attributes <= 5:
            raise ValueError(f"attributes is {self.attributes}, expected 0 to 5")
        if self.order not in ("shuffled", "canonical"):
            raise ValueError(f"order is {self.order!r}, expected 'shuffled' or 'canonical'")


def write_captions(
    rule: CaptionRule,
    labels_B6: NDArray[np.int64],
    priority_B6: NDArray[np.float64],
    place_B6: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Return tokens int64 (B, 8): start, the values said, end, padding.

    Of each sample's factors the main one and the `attributes` others of lowest priority are said: with the
    same priorities, a caption with more attributes says all that one with fewer says. Shuffled captions have
    them in the order of `place_B6`, canonical ones in the order of `FACTORS`.
    """
    said_BK = _factors_said(rule, priority_B6)
    if rule.order == "shuffled":
        places = np.take_along_axis(place_B6, said_BK, axis=1)
        said_BK = np.take_along_axis(said_BK, np.argsort(places, axis=1), axis=1)
    else:
        said_BK = np.sort(said_BK, axis=1)
    tokens = np.full((len(labels_B6), CONTEXT_LENGTH), PAD_TOKEN, dtype=np.int64)
    count = said_BK.shape[1]
    tokens[:, 0] = START_TOKEN
    tokens[:, 1 : 1 + count] = np.take_along_axis(labels_B6, said_BK, axis=1) + _FIRST_TOKENS[said_BK]
    tokens[:, 1 + count] = END_TOKEN
    return tokens


def _factors_said(rule: CaptionRule, priority_B6: NDArray[np.float64]) -> NDArray[np.int64]:
    priority = priority_B6.copy()
    priority[:, factor_index(rule.main_factor)] = -np.inf
    return np.argsort(priority, axis=1)[:, : 1 + rule.attributes]


def caption_text(tokens_BL: NDArray[np.int64]) -> list[str]:
    """Return the captions as people read them, such as `3-thickening-red`."""
    return ["-".join(VALUES[token - FIRST_VALUE_TOKEN] for token in row if _is_value(token)) for row in tokens_BL]


def _is_value(token: np.int64) -> bool:
    return bool(FIRST_VALUE_TOKEN <= token < END_TOKEN)
