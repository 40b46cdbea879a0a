"""How many pairs of a permutation stand in the wrong order, for many permutations at once in L log L steps each.

The numbers of a row are parted by their highest bit, then each half by its next bit, and so on, always keeping the
order in which they stand. Two numbers are parted once, at their highest bit that differs, so it is enough to count
there how many with that bit set stand before one without. Groups of a few are counted pair by pair, which a vector
unit does faster than it parts them.

Index letters: K permutations, L places, P places with those that fill up to a power of two, G groups, W places in
one, N places of all groups.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int32]
FEW: Final = 128
AT_ONCE: Final = 1 << 16
"""Numbers that are parted together, so that they stay in the cache."""


def inversions(permutation_KL: NDArray[np.int64]) -> int:
    """The pairs i < j with the larger number at i, added up over all rows; each row holds 0 .. L - 1."""
    padded_KP = _filled_up(permutation_KL)
    rows = max(1, AT_ONCE // padded_KP.shape[1])
    return sum(_of_rows(padded_KP[start : start + rows]) for start in range(0, len(padded_KP), rows))


def _filled_up(permutation_KL: NDArray[np.int64]) -> Numbers:
    """Larger numbers at the end, which stand before nothing smaller."""
    count, length = permutation_KL.shape
    width = max(FEW, 1 << (length - 1).bit_length())
    padded_KP = np.empty((count, width), np.int32)
    padded_KP[:, :length] = permutation_KL
    padded_KP[:, length:] = np.arange(length, width)
    return padded_KP


def _of_rows(number_KP: Numbers) -> int:
    total, width = 0, number_KP.shape[1]
    while width > FEW:
        number_GW = number_KP.reshape(-1, width)
        found, number_KP = _parted(number_GW, width // 2)
        total += found
        width //= 2
    return total + _pair_by_pair(number_KP.reshape(-1, FEW))


def _parted(number_GW: Numbers, half: int) -> tuple[int, Numbers]:
    """The inversions between the halves of each group, and the groups' halves in their places' order.

    The r-th smaller number of a group has as many larger ones before it as its place is beyond r.
    """
    lower_GW = (number_GW & half) == 0
    place_N = np.flatnonzero(lower_GW)
    beyond = int((place_N & (2 * half - 1)).sum()) - len(number_GW) * half * (half - 1) // 2
    numbers = number_GW.reshape(-1)
    halves = [numbers[each_N].reshape(-1, half) for each_N in (place_N, np.flatnonzero(~lower_GW))]
    return beyond, np.stack(halves, axis=1).reshape(-1, half)


def _pair_by_pair(number_GW: Numbers) -> int:
    number_WG = np.ascontiguousarray(number_GW.T)
    return sum(int(np.count_nonzero(number_WG[:-apart] > number_WG[apart:])) for apart in range(1, FEW))
