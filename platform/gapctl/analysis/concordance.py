"""Agreeing less disagreeing pairs of two rankings, of many at once, in n log n steps each.

Index letters: N rankings, A what is ranked.
"""

import math
from typing import Final

import numpy as np

from gapctl.analysis.ties import IntArray

BLOCK: Final = 8
"""Ranks that are compared pair by pair, which is faster than to sort so few."""


def agreement(first_NA: IntArray, second_NA: IntArray) -> IntArray:
    """Pairs that both rankings order alike less those that they order oppositely; ties count for neither.

    Ranks are whole numbers from 0; one first ranking (1, A) may stand against many. By sorting (Knight 1966, JASA
    61:436-439): in the order of the first ranking, each inversion of the second is a pair that disagrees.
    """
    tied_first_N = tied(first_NA)
    if len(first_NA) == 1 and not tied_first_N[0]:
        tied_both_N, ordered_NA = np.zeros_like(tied_first_N), second_NA[:, np.argsort(first_NA[0])]
    else:
        base = int(second_NA.max(initial=0)) + 1
        both_NA = np.sort(first_NA * base + second_NA, axis=1)
        tied_both_N, ordered_NA = _repeats(both_NA), both_NA % base
    untied_N = math.comb(first_NA.shape[1], 2) - tied_first_N - tied(second_NA) + tied_both_N
    return np.asarray(untied_N - 2 * _inversions(ordered_NA))


def tied(rank_NA: IntArray) -> IntArray:
    """The pairs of each row that have the same rank."""
    return _repeats(np.sort(rank_NA.astype(np.int32), axis=1))


def _repeats(sorted_NA: IntArray) -> IntArray:
    """How many pairs of places of a sorted row hold the same: each counts the places since its value began."""
    place_A = np.arange(sorted_NA.shape[1])
    begins_NA = np.ones(sorted_NA.shape, dtype=bool)
    np.not_equal(sorted_NA[:, 1:], sorted_NA[:, :-1], out=begins_NA[:, 1:])
    if begins_NA.all():
        return np.zeros(len(sorted_NA), dtype=np.int64)
    since_NA = place_A - np.maximum.accumulate(np.where(begins_NA, place_A, 0), axis=1)
    return np.asarray(since_NA.sum(axis=1))


def _inversions(rank_NA: IntArray) -> IntArray:
    """Pairs of each row whose earlier rank is the larger, counted in blocks, then while sorted blocks are merged."""
    rows, count = rank_NA.shape
    blocks = 1 << (-(-count // BLOCK) - 1).bit_length()
    merged_NA = np.full((rows, blocks * BLOCK), rank_NA.max(initial=0), dtype=np.int32)
    merged_NA[:, :count] = rank_NA
    block_NBW = merged_NA.reshape(rows, blocks, BLOCK)
    found_N, width = _compared(block_NBW), BLOCK
    block_NBW.sort(axis=-1)
    while blocks > 1:
        blocks //= 2
        halves_NBW = 2 * merged_NA.reshape(rows, blocks, 2 * width)
        halves_NBW[..., width:] += 1  # odd: from the later half, behind its equals of the earlier
        halves_NBW.sort(axis=-1)
        merged_NA = (halves_NBW >> 1).reshape(rows, -1)
        later_NA = (halves_NBW & 1).astype(np.float64).reshape(rows, -1)
        places_N = later_NA @ np.tile(np.arange(2.0 * width), blocks)
        # Where nothing is inverted, the later half stands at the last places of its merged block.
        found_N += blocks * (width * width + math.comb(width, 2)) - places_N.astype(np.int64)
        width *= 2
    return found_N


def _compared(block_NBW: IntArray) -> IntArray:
    """The same within short blocks, pair by pair."""
    gaps = range(1, block_NBW.shape[2])
    later = (block_NBW[..., :-gap] > block_NBW[..., gap:] for gap in gaps)
    return np.asarray(np.sum([np.count_nonzero(larger, axis=(1, 2)) for larger in later], axis=0, dtype=np.int64))
