"""Measure the shape of both modalities: directions used, uniformity, shared neighbours and the order of classes.

Index letters: N embeddings, M texts, D embedding, R directions of a subspace, Q queries, B a block of queries, K
classes, L places of an order, P places after padding, G groups of places, W places of a group.
"""

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.metrics.bias import LabelSums
from gapctl.metrics.checks import (
    Integers,
    Rows,
    check_index_range,
    check_integer_keys,
    check_unit_rows,
    make_pairing_error,
)
from gapctl.metrics.comparisons import compute_neighbor_overlaps, sum_gaussian_potentials
from gapctl.metrics.gap import Array, Sums
from gapctl.metrics.sampling import DrawPurpose, SampleEstimate, estimate_mean, sample_row_numbers

CARRIED_SHARE: Final = 0.9
"""The share of a cloud's squared length that its subspace must carry."""


IntegerRows = NDArray[np.int32]
DIRECT_WIDTH: Final = 128
"""Places whose pairs are compared one by one rather than split further."""
NUMBERS_AT_ONCE: Final = 1 << 16
"""Numbers that are split together, so that they stay in the cache."""


@dataclass(frozen=True)
class SecondMoments(Sums):
    """The sum of x x' over the rows of one modality (D, D), whatever their number."""

    total_DD: Array

    @classmethod
    def of(cls, cloud_ND: Rows) -> "SecondMoments":
        """Return the sums of the rows (N, D), in float64."""
        wide_ND = cloud_ND.astype(np.float64, copy=False)
        return cls(wide_ND.T @ wide_ND)

    def compute_spectrum(self) -> tuple[Array, Array]:
        """Return the cloud's squared singular values (D,), largest first, and their directions as columns (D, D).

        Values that are rounding, beyond the cloud's rank, are set to zero.
        """
        squared_D, direction_DD = np.linalg.eigh(self.total_DD)
        rounding = squared_D[-1] * len(squared_D) * np.finfo(np.float64).eps
        return np.where(squared_D > rounding, squared_D, 0.0)[::-1], direction_DD[:, ::-1]


def effective_rank(moments: SecondMoments) -> float:
    """Return exp of the entropy of the singular values as shares of their sum (Roy and Vetterli 2007), uncentred.

    It is 1 if all rows lie on one line, and at most D.
    """
    singular_D = np.sqrt(moments.compute_spectrum()[0])
    share_D = singular_D[singular_D > 0] / singular_D.sum()
    return math.exp(-float(share_D @ np.log(share_D)))


def smallest_principal_angle(image: SecondMoments, text: SecondMoments) -> float:
    """Return the smallest angle between the modalities' subspaces in degrees (arXiv 2510.03268); 0 if they meet.

    A modality's subspace is spanned by the fewest of its singular directions that carry 90 % of its squared length,
    measured from the origin, so that the mean is in it. Two subspaces of together more than D directions always share
    one.
    """
    image_DR, text_DR = _select_basis(image), _select_basis(text)
    if image_DR.shape[1] + text_DR.shape[1] > len(image_DR):
        return 0.0
    cosine = float(np.linalg.svd(image_DR.T @ text_DR, compute_uv=False)[0])
    if cosine < math.sqrt(0.5):
        return math.degrees(math.acos(cosine))
    # A small angle comes from its sine, as its cosine is 1 to most digits.
    fewer_DR, more_DR = sorted((image_DR, text_DR), key=lambda basis_DR: basis_DR.shape[1])
    outside_DR = fewer_DR - more_DR @ (more_DR.T @ fewer_DR)
    return math.degrees(math.asin(min(1.0, float(np.linalg.svd(outside_DR, compute_uv=False)[-1]))))


def _select_basis(moments: SecondMoments) -> Array:
    squared_D, direction_DD = moments.compute_spectrum()
    carried_D = np.cumsum(squared_D) / squared_D.sum()
    return direction_DD[:, : int(np.searchsorted(carried_D, CARRIED_SHARE - 1e-12)) + 1]


def uniformity(cloud_ND: Rows, queries: int) -> SampleEstimate:
    """Estimate ln of the mean of exp(-2 |x - y|^2) over pairs of different rows of one L2-normalised cloud (N, D).

    At most `queries` rows are drawn, and each is compared with all others (arXiv 2005.10242, sec. 4.1.2).
    """
    check_unit_rows(cloud=cloud_ND)
    own_N = np.arange(len(cloud_ND))
    return _measure_uniformity(cloud_ND, own_N, cloud_ND, own_N, queries)


def cross_uniformity(
    image_ND: Rows, image_key_N: Integers, text_MD: Rows, text_key_M: Integers, queries: int
) -> SampleEstimate:
    """Estimate the same over pairs of an image and a text whose keys differ; matched pairs belong to alignment.

    At most `queries` images are drawn, and each is compared with all texts.
    """
    check_unit_rows(image=image_ND, text=text_MD)
    check_integer_keys(image=(image_ND, image_key_N), text=(text_MD, text_key_M))
    return _measure_uniformity(image_ND, image_key_N, text_MD, text_key_M, queries)


def _measure_uniformity(
    query_ND: Rows, query_key_N: Integers, gallery_MD: Rows, gallery_key_M: Integers, queries: int
) -> SampleEstimate:
    rows_Q = sample_row_numbers(DrawPurpose.QUERIES, len(query_ND), queries)
    potential_Q, others_Q = sum_gaussian_potentials(query_ND[rows_Q], query_key_N[rows_Q], gallery_MD, gallery_key_M)
    return estimate_uniformity(potential_Q, others_Q, len(query_ND))


def estimate_uniformity(potential_Q: Array, others_Q: Integers, population: int) -> SampleEstimate:
    """Estimate uniformity from each query's sum of potentials and the number of rows that it was compared with."""
    others = others_Q.sum()
    if others == 0:
        return SampleEstimate(math.nan, math.nan, math.nan, len(potential_Q), population)
    mean = estimate_mean(potential_Q * (len(potential_Q) / others), population)
    value, low, high = map(_log_or_infinity, mean[:3])
    return mean._replace(value=value, low=low, high=high)


def _log_or_infinity(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf if value <= 0 else math.nan


def neighbor_overlap(image_ND: Rows, text_ND: Rows, neighbors: int, queries: int) -> SampleEstimate:
    """Estimate the share of an image's nearest images whose texts are among the nearest texts of its own text.

    Rows are L2-normalised and match one to one. If ties leave open which neighbours are last (equal captions do), the
    overlap is the mean over all choices. At most `queries` pairs are drawn and compared with all. Raise ValueError if a
    pair has fewer than `neighbors` others.
    """
    check_unit_rows(image=image_ND, text=text_ND)
    count = len(image_ND)
    if count != len(text_ND):
        raise make_pairing_error(count, len(text_ND))
    if count <= neighbors:
        raise ValueError(f"{count} pairs do not have {neighbors} neighbors each")
    rows_Q = sample_row_numbers(DrawPurpose.QUERIES, count, queries)
    return estimate_mean(compute_neighbor_overlaps(image_ND, text_ND, rows_Q, neighbors) / neighbors, count)


def compute_chance_overlap(count: int, neighbors: int) -> float:
    """Return the mean overlap of neighbours drawn at random from `count` - 1 others."""
    return neighbors / (count - 1)


def count_inversions(permutation_KL: Integers) -> int:
    """Return the number of pairs i < j with the larger number at i, over all rows; each row holds 0 .. L - 1."""
    count, length = permutation_KL.shape
    width = max(DIRECT_WIDTH, 1 << (length - 1).bit_length())
    padded_KP = np.empty((count, width), np.int32)
    padded_KP[:, :length] = permutation_KL
    padded_KP[:, length:] = np.arange(length, width)  # larger numbers at the end add no inversions
    rows = max(1, NUMBERS_AT_ONCE // width)
    return sum(_count_row_inversions(padded_KP[start : start + rows]) for start in range(0, count, rows))


def _count_row_inversions(number_KP: IntegerRows) -> int:
    total, width = 0, number_KP.shape[1]
    while width > DIRECT_WIDTH:
        inversions, number_KP = _split_groups(number_KP.reshape(-1, width), width // 2)
        total += inversions
        width //= 2
    number_WG = np.ascontiguousarray(number_KP.reshape(-1, DIRECT_WIDTH).T)
    pairs = (np.count_nonzero(number_WG[:-apart] > number_WG[apart:]) for apart in range(1, DIRECT_WIDTH))
    return total + sum(map(int, pairs))


def _split_groups(number_GW: IntegerRows, half: int) -> tuple[int, IntegerRows]:
    """Return the inversions between the halves of each group, and the halves, each in its order of places.

    The r-th smaller number of a group has as many larger ones before it as its place exceeds r.
    """
    lower_GW = (number_GW & half) == 0
    place_N = np.flatnonzero(lower_GW)
    beyond = int((place_N & (2 * half - 1)).sum()) - len(number_GW) * half * (half - 1) // 2
    numbers = number_GW.reshape(-1)
    halves = [numbers[each_N].reshape(-1, half) for each_N in (place_N, np.flatnonzero(~lower_GW))]
    return beyond, np.stack(halves, axis=1).reshape(-1, half)


class ClassOrderAgreement(NamedTuple):
    """The disagreement of two orders of classes: shares from 0 to 1, means over classes.

    `chance` is the value of `kendall` for unrelated orders; for `discordance` it is one half. NaN for too few classes.
    """

    kendall: float
    chance: float
    discordance: float


def compare_class_orders(image_ND: Rows, class_N: Integers, prompt_CD: Rows) -> ClassOrderAgreement:
    """Compare the orders of classes by similarity among class means of images and among prompts.

    Rows are L2-normalised, and `class_N` numbers each image's prompt. Classes without an image are left out.
    """
    check_unit_rows(image=image_ND, prompt=prompt_CD)
    check_integer_keys(image=(image_ND, class_N))
    check_index_range("class", class_N, len(prompt_CD), "the row of a prompt")
    images = LabelSums.of(image_ND, class_N)
    present_K, mean_KD = images.label_K, images.total_KD / images.count_K[:, None]
    image_order_KK = _order_by_similarity(mean_KD @ mean_KD.T)
    text_order_KK = _order_by_similarity(prompt_CD[present_K] @ prompt_CD[present_K].T)
    image_rank_KL, text_rank_KL = (_rank_other_classes(order_KK) for order_KK in (image_order_KK, text_order_KK))
    return ClassOrderAgreement(
        _mean_inversion_share(_compose_orders(image_order_KK, text_order_KK)),
        compute_chance_kendall(len(present_K)),
        _mean_inversion_share(_compose_orders(image_rank_KL, text_rank_KL)),
    )


def compute_chance_kendall(classes: int) -> float:
    """Return the mean of `kendall` for unrelated orders in which each class is nearest to itself.

    Both orders of class k then end in k, and a uniformly drawn pair of other classes lies on opposite sides of k with
    probability (K - 2) / (3 (K - 1)) on average over k; pairs that leave out the last rank change sides half the time.
    Weighted by how many pairs there are of each kind: (K - 2) (3 K + 1) / (6 K (K - 1)).
    """
    if classes < 2:
        return float("nan")
    return (classes - 2) * (3 * classes + 1) / (6 * classes * (classes - 1))


def _order_by_similarity(similarity_KK: Rows) -> Integers:
    """Sort classes by similarity, the later of equal ones as nearer; only ties need the slow stable sort."""
    order_KK: Integers = np.argsort(similarity_KK, axis=1)
    sorted_KK = np.take_along_axis(similarity_KK, order_KK, axis=1)
    ties = (sorted_KK[:, 1:] == sorted_KK[:, :-1]).any()
    return np.argsort(similarity_KK, axis=1, kind="stable") if ties else order_KK


def _rank_other_classes(order_KK: Integers) -> Integers:
    """Return the place of each class in each class's order without itself, later ones renumbered: (K, L = K - 1)."""
    own_K1 = np.arange(len(order_KK))[:, None]
    others_KL: Integers = order_KK[order_KK != own_K1].reshape(len(order_KK), -1)
    others_KL -= others_KL > own_K1
    return _compose_orders(others_KL, np.broadcast_to(np.arange(others_KL.shape[1]), others_KL.shape))


def _mean_inversion_share(permutation_KL: Integers) -> float:
    """Return the mean over rows of the share of places i < j with the larger number at i."""
    length = permutation_KL.shape[1]
    if length < 2:
        return float("nan")
    pairs: int = len(permutation_KL) * length * (length - 1) // 2
    return count_inversions(permutation_KL) / pairs


def _compose_orders(one_KL: Integers, other_KL: Integers) -> Integers:
    """Return the second permutation in the order of the first: other[i] at place one[i]."""
    found_KL = np.empty_like(one_KL)
    np.put_along_axis(found_KL, one_KL, other_KL, axis=1)
    return found_KL
