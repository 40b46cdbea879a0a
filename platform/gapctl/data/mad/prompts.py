"""Zero-shot prompts: captions as the trial's own training captions are, made to name one value.

Index letters: K values of a factor, T templates, 6 factors, L tokens of a caption.
"""

import numpy as np
from numpy.typing import NDArray

from gapctl.data.mad.captions import CaptionRule, Order, write_captions
from gapctl.data.mad.draws import Purpose, generator
from gapctl.data.mad.factors import FACTORS, factor_index


def prompts(
    factor: str, main_factor: str, attributes: int, order: Order, n_templates: int, seed: int = 0
) -> NDArray[np.int64]:
    """Return tokens int64 (K, T, 8): per value of `factor`, an ensemble of captions that name it.

    For the main factor: its value and `attributes` others at random. For another factor: a random main value,
    the factor's value, and further random ones up to `attributes` (at least the factor itself). The templates
    are the same for each value but for the value. Raises ValueError for an unknown factor.
    """
    asked = factor_index(factor)
    rule = CaptionRule(main_factor, attributes if factor == main_factor else max(attributes, 1), order)
    draws = generator(Purpose.PROMPTS, seed)
    sizes = np.array([len(each.values) for each in FACTORS])
    labels_T6 = (draws.random((n_templates, 6)) * sizes).astype(np.int64)
    priority_T6, place_T6 = draws.random((n_templates, 6)), draws.random((n_templates, 6))
    priority_T6[:, asked] = -1.0
    return np.stack([_naming(rule, labels_T6, asked, k, priority_T6, place_T6) for k in range(sizes[asked])])


def _naming(
    rule: CaptionRule,
    labels_T6: NDArray[np.int64],
    asked: int,
    value: int,
    priority_T6: NDArray[np.float64],
    place_T6: NDArray[np.float64],
) -> NDArray[np.int64]:
    labels = labels_T6.copy()
    labels[:, asked] = value
    return write_captions(rule, labels, priority_T6, place_T6)
