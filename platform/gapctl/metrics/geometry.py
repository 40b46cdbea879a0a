"""How many directions each modality uses, and the angle between the subspaces that they span (arXiv 2510.03268).

All of it follows from sums of products of coordinates, (D, D) whatever the number of rows.

Index letters: N embeddings, D embedding, R directions of a subspace.
"""

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from gapctl.metrics.bias import LabelSums
from gapctl.metrics.checks import check_keys, check_range, check_unit_rows, make_pairing_error
from gapctl.metrics.gap import Array
from gapctl.metrics.sampling import DrawPurpose, SampleEstimate, estimate_mean, sample_rows

CARRIED_SHARE: Final = 0.9
"""The share of a cloud's squared length that its subspace carries."""


@dataclass(frozen=True)
class SecondMoments:
    """The sum of x x' over the rows of one modality; add two to merge what two workers saw."""

    total_DD: Array

    @classmethod
    def of(cls, cloud_ND: NDArray[np.floating]) -> "SecondMoments":
        """The sums of some rows, in float64."""
        wide_ND = cloud_ND.astype(np.float64, copy=False)
        return cls(wide_ND.T @ wide_ND)

    def __add__(self, other: "SecondMoments") -> "SecondMoments":
        return SecondMoments(self.total_DD + other.total_DD)

    def compute_spectrum(self) -> tuple[Array, Array]:
        """Squared singular values of the cloud (D,), largest first, and their directions as columns (D, D).

        What rounding alone leaves where the rank is smaller is zero.
        """
        squared_D, direction_DD = np.linalg.eigh(self.total_DD)
        rounding = squared_D[-1] * len(squared_D) * np.finfo(np.float64).eps
        return np.where(squared_D > rounding, squared_D, 0.0)[::-1], direction_DD[:, ::-1]


def effective_rank(moments: SecondMoments) -> float:
    """exp of the entropy of the singular values as shares of their sum (Roy and Vetterli 2007), means not removed.

    1 where all rows are on one line, at most D.
    """
    singular_D = np.sqrt(moments.compute_spectrum()[0])
    share_D = singular_D[singular_D > 0] / singular_D.sum()
    return math.exp(-float(share_D @ np.log(share_D)))


def smallest_principal_angle(image: SecondMoments, text: SecondMoments) -> float:
    """The smallest angle between the modalities' subspaces, in degrees; 0 where they share a direction.

    A modality's subspace is spanned by the fewest of its singular directions that carry 90 % of its squared length
    (from the origin: the mean is in it). Two subspaces of together more than D directions always share one.
    """
    image_DR, text_DR = _select_basis(image), _select_basis(text)
    if image_DR.shape[1] + text_DR.shape[1] > len(image_DR):
        return 0.0
    cosine = np.linalg.svd(image_DR.T @ text_DR, compute_uv=False)[0]
    return math.degrees(_measure_angle(float(cosine), image_DR, text_DR))


def _measure_angle(cosine: float, image_DR: Array, text_DR: Array) -> float:
    """By its sine where it is small, since the cosine of a small angle is 1 to most of its digits."""
    if cosine < math.sqrt(0.5):
        return math.acos(cosine)
    fewer_DR, more_DR = sorted((image_DR, text_DR), key=lambda basis_DR: basis_DR.shape[1])
    outside_DR = fewer_DR - more_DR @ (more_DR.T @ fewer_DR)
    return math.asin(min(1.0, float(np.linalg.svd(outside_DR, compute_uv=False)[-1])))


def _select_basis(moments: SecondMoments) -> Array:
    squared_D, direction_DD = moments.compute_spectrum()
    carried_D = np.cumsum(squared_D) / squared_D.sum()
    return direction_DD[:, : int(np.searchsorted(carried_D, CARRIED_SHARE - 1e-12)) + 1]


UNIFORMITY_BLOCK = 64


def uniformity(cloud_ND: NDArray[np.floating], queries: int) -> SampleEstimate:
    """Over the pairs of different rows of one cloud, L2-normalised; exact for up to `queries` rows.

    Of larger clouds that many rows are drawn and compared with all others.
    """
    check_unit_rows(cloud=cloud_ND)
    own_N = np.arange(len(cloud_ND))
    return _measure_uniformity(cloud_ND, own_N, cloud_ND, own_N, queries)


def cross_uniformity(
    image_ND: NDArray[np.floating],
    image_key_N: NDArray[np.int64],
    text_MD: NDArray[np.floating],
    text_key_M: NDArray[np.int64],
    queries: int,
) -> SampleEstimate:
    """Over the pairs of an image and a text whose keys differ; matched pairs belong to alignment.

    Exact for up to `queries` images; of more that many are drawn and compared with all texts.
    """
    check_unit_rows(image=image_ND, text=text_MD)
    check_keys(image=(image_ND, image_key_N), text=(text_MD, text_key_M))
    return _measure_uniformity(image_ND, image_key_N, text_MD, text_key_M, queries)


def _measure_uniformity(
    query_ND: NDArray[np.floating],
    query_key_N: NDArray[np.int64],
    gallery_MD: NDArray[np.floating],
    gallery_key_M: NDArray[np.int64],
    queries: int,
) -> SampleEstimate:
    rows_Q = sample_rows(DrawPurpose.QUERIES, len(query_ND), queries)
    potential_Q, others_Q = _sum_potentials(query_ND[rows_Q], query_key_N[rows_Q], gallery_MD, gallery_key_M)
    others = others_Q.sum()
    if others == 0:
        return SampleEstimate(math.nan, math.nan, math.nan, len(rows_Q), len(query_ND))
    mean = estimate_mean(potential_Q * (len(rows_Q) / others), len(query_ND))
    return mean._replace(
        value=_log_or_infinity(mean.value), low=_log_or_infinity(mean.low), high=_log_or_infinity(mean.high)
    )


def _sum_potentials(
    query_QD: NDArray[np.floating],
    query_key_Q: NDArray[np.int64],
    gallery_MD: NDArray[np.floating],
    gallery_key_M: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Per query, the sum of exp(4 cosine - 4) over what has another key, and how much that is."""
    query, gallery_DM = torch.from_numpy(np.ascontiguousarray(query_QD)), torch.from_numpy(gallery_MD).T
    key_Q, key_M = torch.from_numpy(query_key_Q), torch.from_numpy(gallery_key_M)
    sums, counts = [], []
    for block_BD, key_B in zip(torch.split(query, UNIFORMITY_BLOCK), torch.split(key_Q, UNIFORMITY_BLOCK), strict=True):
        kernel_BM = ((4 * block_BD) @ gallery_DM).sub_(4).exp_()
        same_BM = key_B[:, None] == key_M
        sums.append(kernel_BM.masked_fill_(same_BM, 0).sum(dim=1, dtype=torch.float64))
        counts.append(len(gallery_MD) - same_BM.sum(dim=1))
    return torch.cat(sums).numpy(), torch.cat(counts).numpy()


def _log_or_infinity(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf if value <= 0 else math.nan


OVERLAP_BLOCK = 128
TIE_TOLERANCE = 1e-6
"""Cosines this close are equal: rounding alone would decide among the texts of one caption."""


def neighbor_overlap(
    image_ND: NDArray[np.floating], text_ND: NDArray[np.floating], neighbors: int, queries: int
) -> SampleEstimate:
    """Share of an image's `neighbors` nearest images whose texts are among the nearest texts of its own text.

    Rows are L2-normalised and match one to one. Where ties leave open who the last neighbours are (equal captions
    do), it is the mean over all ways to choose. Above `queries` pairs, that many are drawn and compared with all.
    Raises ValueError where a pair has fewer than `neighbors` others.
    """
    check_unit_rows(image=image_ND, text=text_ND)
    count = len(image_ND)
    if count != len(text_ND):
        raise make_pairing_error(count, len(text_ND))
    if count <= neighbors:
        raise ValueError(f"{count} pairs do not have {neighbors} neighbors each")
    rows_Q = torch.from_numpy(sample_rows(DrawPurpose.QUERIES, count, queries))
    image, text = _convert_rows(image_ND), _convert_rows(text_ND)
    overlaps = [_count_overlaps(rows_B, image, text, neighbors) for rows_B in torch.split(rows_Q, OVERLAP_BLOCK)]
    return estimate_mean(torch.cat(overlaps).numpy() / neighbors, count)


def chance_overlap(count: int, neighbors: int) -> float:
    """The mean overlap of neighbours drawn at random from `count` - 1 others."""
    return neighbors / (count - 1)


def _count_overlaps(
    rows_B: torch.Tensor, image_ND: torch.Tensor, text_ND: torch.Tensor, neighbors: int
) -> torch.Tensor:
    both_BN = _weigh_neighbors(rows_B, image_ND, neighbors) * _weigh_neighbors(rows_B, text_ND, neighbors)
    return both_BN.sum(dim=1, dtype=torch.float64)


def _weigh_neighbors(rows_B: torch.Tensor, cloud_ND: torch.Tensor, neighbors: int) -> torch.Tensor:
    """How likely each row is among a query's nearest: 1, 0, or its share of the places that ties leave open."""
    cosine_BN = cloud_ND[rows_B] @ cloud_ND.T
    cosine_BN.scatter_(1, rows_B[:, None], -2)
    last_B1 = torch.topk(cosine_BN, neighbors, dim=1).values[:, -1:]
    nearer_BN, near_BN = cosine_BN > last_B1 + TIE_TOLERANCE, cosine_BN >= last_B1 - TIE_TOLERANCE
    nearer_B1, near_B1 = nearer_BN.sum(dim=1, keepdim=True), near_BN.sum(dim=1, keepdim=True)
    open_B1 = ((neighbors - nearer_B1) / (near_B1 - nearer_B1)).to(cosine_BN.dtype)
    return torch.where(nearer_BN, 1.0, near_BN * open_B1)


def _convert_rows(rows_ND: NDArray[np.floating]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(rows_ND))


IntegerRows = NDArray[np.int32]
DIRECT_WIDTH: Final = 128
NUMBERS_AT_ONCE: Final = 1 << 16
"""Numbers that are parted together, so that they stay in the cache."""


def count_inversions(permutation_KL: NDArray[np.int64]) -> int:
    """The pairs i < j with the larger number at i, added up over all rows; each row holds 0 .. L - 1."""
    padded_KP = _pad_rows(permutation_KL)
    rows = max(1, NUMBERS_AT_ONCE // padded_KP.shape[1])
    return sum(_count_row_inversions(padded_KP[start : start + rows]) for start in range(0, len(padded_KP), rows))


def _pad_rows(permutation_KL: NDArray[np.int64]) -> IntegerRows:
    """Larger numbers at the end, which stand before nothing smaller."""
    count, length = permutation_KL.shape
    width = max(DIRECT_WIDTH, 1 << (length - 1).bit_length())
    padded_KP = np.empty((count, width), np.int32)
    padded_KP[:, :length] = permutation_KL
    padded_KP[:, length:] = np.arange(length, width)
    return padded_KP


def _count_row_inversions(number_KP: IntegerRows) -> int:
    total, width = 0, number_KP.shape[1]
    while width > DIRECT_WIDTH:
        number_GW = number_KP.reshape(-1, width)
        found, number_KP = _split_groups(number_GW, width // 2)
        total += found
        width //= 2
    return total + _compare_all_pairs(number_KP.reshape(-1, DIRECT_WIDTH))


def _split_groups(number_GW: IntegerRows, half: int) -> tuple[int, IntegerRows]:
    """The inversions between the halves of each group, and the groups' halves in their places' order.

    The r-th smaller number of a group has as many larger ones before it as its place is beyond r.
    """
    lower_GW = (number_GW & half) == 0
    place_N = np.flatnonzero(lower_GW)
    beyond = int((place_N & (2 * half - 1)).sum()) - len(number_GW) * half * (half - 1) // 2
    numbers = number_GW.reshape(-1)
    halves = [numbers[each_N].reshape(-1, half) for each_N in (place_N, np.flatnonzero(~lower_GW))]
    return beyond, np.stack(halves, axis=1).reshape(-1, half)


def _compare_all_pairs(number_GW: IntegerRows) -> int:
    number_WG = np.ascontiguousarray(number_GW.T)
    return sum(int(np.count_nonzero(number_WG[:-apart] > number_WG[apart:])) for apart in range(1, DIRECT_WIDTH))


ClassOrders = NDArray[np.int64]


class ClassOrderAgreement(NamedTuple):
    """Shares from 0 to 1, means over classes; `chance` is what `kendall` is for unrelated orders.

    For `discordance` that is exactly one half. NaN where there are too few classes to have an order.
    """

    kendall: float
    chance: float
    discordance: float


def compare_class_orders(
    image_ND: NDArray[np.floating], class_N: NDArray[np.int64], prompt_CD: Array
) -> ClassOrderAgreement:
    """Compares the two orders; rows are L2-normalised and `class_N` numbers each image's prompt.

    Classes without an image take no part.
    """
    check_unit_rows(image=image_ND, prompt=prompt_CD)
    check_keys(image=(image_ND, class_N))
    check_range("class", class_N, len(prompt_CD), "the row of a prompt")
    images = LabelSums.of(image_ND, class_N)
    present_K, mean_KD = images.label_K, images.total_KD / images.count_K[:, None]
    image_order_KK = _order_by_similarity(mean_KD @ mean_KD.T)
    text_order_KK = _order_by_similarity(prompt_CD[present_K] @ prompt_CD[present_K].T)
    return ClassOrderAgreement(
        _mean_inversion_share(_compose_orders(image_order_KK, text_order_KK)),
        compute_chance_kendall(len(present_K)),
        _mean_inversion_share(
            _compose_orders(
                _invert_orders(_drop_own_class(image_order_KK)), _invert_orders(_drop_own_class(text_order_KK))
            )
        ),
    )


def compute_chance_kendall(classes: int) -> float:
    """The mean of `kendall` where the other classes stand in unrelated orders and each class is nearest to itself.

    Both orders of class k then end in k, and a uniformly drawn pair of other classes lies on opposite sides of k
    with probability (K - 2) / (3 (K - 1)) on average over k; pairs that leave out the last rank change sides half
    the time. Weighted by how many pairs there are of each kind: (K - 2) (3 K + 1) / (6 K (K - 1)).
    """
    if classes < 2:
        return float("nan")
    return (classes - 2) * (3 * classes + 1) / (6 * classes * (classes - 1))


def _order_by_similarity(similarity_KK: Array) -> ClassOrders:
    """Of equally near classes the later one counts as nearer; only where there are such is the slow sort needed."""
    order_KK: ClassOrders = np.argsort(similarity_KK, axis=1)
    sorted_KK = np.take_along_axis(similarity_KK, order_KK, axis=1)
    ties = (sorted_KK[:, 1:] == sorted_KK[:, :-1]).any()
    return np.argsort(similarity_KK, axis=1, kind="stable") if ties else order_KK


def _drop_own_class(order_KK: ClassOrders) -> ClassOrders:
    """Each class's order without the class itself, the classes after it numbered one lower: (K, L = K - 1)."""
    own_K1 = np.arange(len(order_KK))[:, None]
    others_KL: ClassOrders = order_KK[order_KK != own_K1].reshape(len(order_KK), -1)
    others_KL -= others_KL > own_K1
    return others_KL


def _mean_inversion_share(permutation_KL: ClassOrders) -> float:
    """The mean over rows of the share of places i < j with the larger number at i."""
    length = permutation_KL.shape[1]
    if length < 2:
        return float("nan")
    pairs: int = len(permutation_KL) * length * (length - 1) // 2
    return count_inversions(permutation_KL) / pairs


def _invert_orders(order_KL: ClassOrders) -> ClassOrders:
    """At which place of its row a number stands: each row's permutation the other way round."""
    return _compose_orders(order_KL, np.broadcast_to(np.arange(order_KL.shape[1]), order_KL.shape))


def _compose_orders(one_KL: ClassOrders, other_KL: ClassOrders) -> ClassOrders:
    """The second permutation in the order of the first: where that has n, this stands at place n."""
    found_KL = np.empty_like(one_KL)
    np.put_along_axis(found_KL, one_KL, other_KL, axis=1)
    return found_KL
