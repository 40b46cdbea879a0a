"""Whether images and class prompts put the classes in the same order (arXiv 2404.07983, Table 2).

Each class ranks all classes, itself included, by how similar they are to it: images by the mean cosine between
the two classes' images, texts by the cosine of the two prompts. Two distances compare such ranks:

* `kendall` is what the official code computes and the paper's table holds. It takes each list of ranks for a list
  of classes, so it counts the pairs of ranks whose holders change sides by class number. Zero for equal orders, but
  how far from zero it is otherwise depends on how the classes happen to be numbered.
* `discordance` is Kendall's distance in the textbook's sense: the share of pairs of other classes of which images
  find the one nearer and prompts the other.

Index letters: N images, C prompts, K the classes that have images, D embedding.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.metrics.bias import LabelSums
from gapctl.metrics.checks import check_keys, check_range, check_unit_rows
from gapctl.metrics.gap import Array
from gapctl.metrics.inversions import inversions

Orders = NDArray[np.int64]


class Neighborhood(NamedTuple):
    """Shares from 0 to 1, means over classes; `chance` is what `kendall` is for unrelated orders.

    For `discordance` that is exactly one half. NaN where there are too few classes to have an order.
    """

    kendall: float
    chance: float
    discordance: float


def neighborhood(image_ND: NDArray[np.floating], class_N: NDArray[np.int64], prompt_CD: Array) -> Neighborhood:
    """Compares the two orders; rows are L2-normalised and `class_N` numbers each image's prompt.

    Classes without an image take no part.
    """
    check_unit_rows(image=image_ND, prompt=prompt_CD)
    check_keys(image=(image_ND, class_N))
    check_range("class", class_N, len(prompt_CD), "the row of a prompt")
    images = LabelSums.of(image_ND, class_N)
    present_K, mean_KD = images.label_K, images.total_KD / images.count_K[:, None]
    image_order_KK = _nearest_last(mean_KD @ mean_KD.T)
    text_order_KK = _nearest_last(prompt_CD[present_K] @ prompt_CD[present_K].T)
    return Neighborhood(
        _mean_inverted(_relabelled(image_order_KK, text_order_KK)),
        chance_kendall(len(present_K)),
        _mean_inverted(_relabelled(_places(_others(image_order_KK)), _places(_others(text_order_KK)))),
    )


def chance_kendall(classes: int) -> float:
    """The mean of `kendall` where the other classes stand in unrelated orders and each class is nearest to itself.

    Both orders of class k then end in k, and a uniformly drawn pair of other classes lies on opposite sides of k
    with probability (K - 2) / (3 (K - 1)) on average over k; pairs that leave out the last rank change sides half
    the time. Weighted by how many pairs there are of each kind: (K - 2) (3 K + 1) / (6 K (K - 1)).
    """
    if classes < 2:
        return float("nan")
    return (classes - 2) * (3 * classes + 1) / (6 * classes * (classes - 1))


def _nearest_last(similarity_KK: Array) -> Orders:
    """Of equally near classes the later one counts as nearer; only where there are such is the slow sort needed."""
    order_KK: Orders = np.argsort(similarity_KK, axis=1)
    sorted_KK = np.take_along_axis(similarity_KK, order_KK, axis=1)
    ties = (sorted_KK[:, 1:] == sorted_KK[:, :-1]).any()
    return np.argsort(similarity_KK, axis=1, kind="stable") if ties else order_KK


def _others(order_KK: Orders) -> Orders:
    """Each class's order without the class itself, the classes after it numbered one lower: (K, L = K - 1)."""
    own_K1 = np.arange(len(order_KK))[:, None]
    others_KL: Orders = order_KK[order_KK != own_K1].reshape(len(order_KK), -1)
    others_KL -= others_KL > own_K1
    return others_KL


def _mean_inverted(permutation_KL: Orders) -> float:
    """The mean over rows of the share of places i < j with the larger number at i."""
    length = permutation_KL.shape[1]
    if length < 2:
        return float("nan")
    pairs: int = len(permutation_KL) * length * (length - 1) // 2
    return inversions(permutation_KL) / pairs


def _places(order_KL: Orders) -> Orders:
    """At which place of its row a number stands: each row's permutation the other way round."""
    return _relabelled(order_KL, np.broadcast_to(np.arange(order_KL.shape[1]), order_KL.shape))


def _relabelled(one_KL: Orders, other_KL: Orders) -> Orders:
    """The second permutation in the order of the first: where that has n, this stands at place n."""
    found_KL = np.empty_like(one_KL)
    np.put_along_axis(found_KL, one_KL, other_KL, axis=1)
    return found_KL
