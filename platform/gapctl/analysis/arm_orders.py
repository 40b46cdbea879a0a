"""How often arms that are dealt anew give a correlation as strong: the same deal in every seed, within strata."""

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain, permutations, product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from gapctl.analysis.flips import RESAMPLING_SEED
from gapctl.analysis.kendall import norms, taus
from gapctl.analysis.paired import FloatArray

MOST_FITTED = 100
"""Arms up to which residuals are dealt: their order has less freedom than the normal variance counts on."""
MOST_DEALT = 12
"""With more arms tau is so nearly normal that its exact variance over all orders does as well."""
DEALS = 2_999
CHUNK = 500
IntArray = npt.NDArray[np.int64]
Strata = tuple[tuple[int, ...], ...]


class Tails(NamedTuple):
    """The shares of orders with a mean tau as high as found and as low as found."""

    above: float
    below: float


def tails(
    x_SII: FloatArray,
    y_SII: FloatArray,
    y_SA: FloatArray,
    strata: Sequence[Sequence[int]],
    makers_SAA: FloatArray | None = None,
) -> Tails:
    """Deals the arms' y anew: the whole row of all seeds at once, so that an arm's seeds are never taken apart.

    `x_SII` and `y_SII` are the sign matrices of x and of this y.
    All orders up to 5,040 (exact), else 2,999 random ones, and beyond 12 arms the normal distribution with the
    variance that tau has over all orders. `makers_SAA` take given metrics away again after each deal (Freedman and
    Lane 1983, J Bus Econ Stat 1:292-298).
    """
    if y_SA.shape[1] > (MOST_DEALT if makers_SAA is None else MOST_FITTED):
        return _normal_tails(x_SII, y_SII, strata)
    found = float(taus(x_SII, y_SII).mean())
    own_strata = tuple(map(tuple, strata))
    if makers_SAA is None:
        dealt_N = _dealt(x_SII, y_SII, own_strata)
    else:
        dealt_N = np.concatenate(list(_dealt_and_fitted(x_SII, y_SA, own_strata, makers_SAA)))
    exact = len(dealt_N) == orders_of(strata)
    own = 0 if exact else 1
    count = len(dealt_N) + own
    above, below = np.count_nonzero(dealt_N >= found - 1e-6), np.count_nonzero(dealt_N <= found + 1e-6)
    return Tails((above + own) / count, (below + own) / count)


def orders_of(strata: Sequence[Sequence[int]]) -> int:
    """How many orders there are."""
    return math.prod(math.factorial(len(arms)) for arms in strata)


@lru_cache(maxsize=8)
def _orders(strata: Strata) -> IntArray:
    places = list(chain.from_iterable(strata))
    if orders_of(strata) <= math.factorial(7):
        every = product(*(permutations(arms) for arms in strata))
        dealt = np.array([list(chain.from_iterable(order)) for order in every])
    else:
        rng = np.random.default_rng(RESAMPLING_SEED)
        dealt = np.hstack([rng.permuted(np.tile(arms, (DEALS, 1)), axis=1) for arms in strata])
    return np.asarray(dealt[:, np.argsort(places)])


@lru_cache(maxsize=8)
def _pairs(strata: Strata) -> tuple[IntArray, IntArray]:
    """The arms of each pair that may be compared."""
    arms = 1 + max(chain.from_iterable(strata))
    first_P, second_P = np.nonzero(np.triu(_mask(strata, arms), 1))
    return first_P, second_P


@lru_cache(maxsize=8)
def _dealt_cells(strata: Strata) -> IntArray:
    """Where in a flat sign matrix each order finds each pair."""
    orders_NA, (first_P, second_P) = _orders(strata), _pairs(strata)
    return np.asarray(orders_NA[:, first_P] * orders_NA.shape[1] + orders_NA[:, second_P])


def _dealt(x_SII: FloatArray, y_SII: FloatArray, strata: Strata) -> FloatArray:
    """The mean tau of each order; which pairs are tied does not depend on it."""
    first_P, second_P = _pairs(strata)
    weights_SP = 2 * x_SII[:, first_P, second_P] / norms(x_SII, y_SII)[:, None]
    cells_NP, flat_SK = _dealt_cells(strata), y_SII.reshape(len(y_SII), -1)
    taus_N = sum(signs[cells_NP] @ weights_P for signs, weights_P in zip(flat_SK, weights_SP, strict=True))
    return np.asarray(taus_N / len(x_SII))


def _dealt_and_fitted(
    x_SII: FloatArray, y_SA: FloatArray, strata: Strata, makers_SAA: FloatArray
) -> Iterator[FloatArray]:
    """The mean tau of each order once the given metrics are taken away again, a few hundred orders at a time."""
    orders_NA, (first_P, second_P) = _orders(strata), _pairs(strata)
    x_SP = x_SII[:, first_P, second_P]
    for start in range(0, len(orders_NA), CHUNK):
        y_SNA = y_SA[:, orders_NA[start : start + CHUNK]]
        y_SNA = np.round(y_SNA @ makers_SAA.transpose(0, 2, 1), 9)
        y_SNP = np.sign(y_SNA[:, :, first_P] - y_SNA[:, :, second_P])
        untied_SN = np.count_nonzero(y_SNP, axis=2) * np.count_nonzero(x_SP, axis=1)[:, None]
        agreement_SN = np.einsum("sp,snp->sn", x_SP, y_SNP)
        yield (agreement_SN / np.sqrt(np.maximum(untied_SN, 1))).mean(axis=0)


def _mask(strata: Sequence[Sequence[int]], arms: int) -> npt.NDArray[np.bool_]:
    same_AA = np.zeros((arms, arms), dtype=bool)
    for members in strata:
        same_AA[np.ix_(members, members)] = True
    return same_AA


def _normal_tails(x_SII: FloatArray, y_SII: FloatArray, strata: Sequence[Sequence[int]]) -> Tails:
    norms_S = norms(x_SII, y_SII)
    variance = sum(_variance(x_SII, y_SII, norms_S, arms) for arms in strata) / len(norms_S) ** 2
    pairs = sum(math.comb(len(arms), 2) for arms in strata)
    tau, error = float(taus(x_SII, y_SII).mean()), math.sqrt(variance)
    # tau moves in steps of 2 / pairs, of which half a step belongs to what was found.
    return Tails(float(stats.norm.sf((tau - 1 / pairs) / error)), float(stats.norm.cdf((tau + 1 / pairs) / error)))


def _variance(x_SII: FloatArray, y_SII: FloatArray, norms_S: FloatArray, arms: Sequence[int]) -> float:
    """The variance over all orders of one stratum of the seeds' summed taus.

    Kendall (Rank Correlation Methods, ch. 5) has it for one seed; here a seed's squares become products of seeds.
    """
    count = len(arms)
    if count < 2:
        return 0.0
    whole = count == x_SII.shape[1]
    inside = np.ix_(range(len(x_SII)), arms, arms)
    both = (x_SII, y_SII) if whole else (x_SII[inside], y_SII[inside])
    (x_rows_SS, x_cells_SS), (y_rows_SS, y_cells_SS) = map(_products, both)
    moments_SS = 2 * x_cells_SS * y_cells_SS / (count * (count - 1))
    if count > 2:
        moments_SS += 4 * (x_rows_SS - x_cells_SS) * (y_rows_SS - y_cells_SS) / (count * (count - 1) * (count - 2))
    return float((moments_SS / np.outer(norms_S, norms_S)).sum())


def _products(signs_SII: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Products of two seeds' row sums, and of their cells, summed."""
    rows_SI = signs_SII.sum(axis=2, dtype=float)
    cells = signs_SII.reshape(len(signs_SII), -1)
    return rows_SI @ rows_SI.T, (cells @ cells.T).astype(float)
