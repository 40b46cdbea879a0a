"""How much of an image a caption tells, in bits, for uniform factors (the data of arXiv 2404.07983)."""

import math
from itertools import combinations
from typing import NamedTuple

from gapctl.data.mad.captions import CaptionRule, Order
from gapctl.data.mad.factors import FACTORS, factor_index


class Information(NamedTuple):
    """Bits that image and caption share and do not share, and how many captions there are.

    `shared` is I(image; caption), `imbalance` is H(image's factors given the caption); `subset` and `order`
    are what only the caption has: which factors it says, and in which order it says them.
    """

    attributes: int
    shared: float
    imbalance: float
    captions: int
    subset: float
    order: float


def information(attributes: int, main_factor: str = "digit", order: Order = "shuffled") -> Information:
    """Return what captions with this many attributes tell; `captions` counts them without regard to order.

    Raises ValueError as `CaptionRule` does.
    """
    rule = CaptionRule(main_factor, attributes, order)
    main = factor_index(rule.main_factor)
    sizes = [len(factor.values) for index, factor in enumerate(FACTORS) if index != main]
    main_size = len(FACTORS[main].values)
    subsets = [math.prod(chosen) for chosen in combinations(sizes, attributes)]
    shared = math.log2(main_size) + sum(map(math.log2, subsets)) / len(subsets)
    return Information(
        attributes=attributes,
        shared=shared,
        imbalance=math.log2(main_size * math.prod(sizes)) - shared,
        captions=main_size * sum(subsets),
        subset=math.log2(len(subsets)),
        order=math.log2(math.factorial(attributes + 1)) if order == "shuffled" else 0.0,
    )


def information_table(main_factor: str = "digit", order: Order = "shuffled") -> tuple[Information, ...]:
    """Return `information` for 0 to 5 attributes; raises ValueError for an unknown factor."""
    return tuple(information(attributes, main_factor, order) for attributes in range(len(FACTORS)))
