"""Which digit, variant, colour and caption a training sample has: pure functions of (seed, epoch, index).

Index letters: B samples of a batch, N digits, 6 factors in the order of `FACTORS`, L tokens of a caption.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.data.mad.captions import CaptionRule, Order, write_captions
from gapctl.data.mad.draws import Purpose, generator
from gapctl.data.mad.factors import COLOURS, FACTORS, VARIANTS, factor_labels

Integers = NDArray[np.int64]


class Samples(NamedTuple):
    """A batch: which image (digit, variant, colour), its caption, and its label within each factor."""

    digit_B: Integers
    variant_B: Integers
    colour_B: Integers
    tokens_BL: Integers
    labels_B6: Integers


_VALUES_6 = np.array([len(factor.values) for factor in FACTORS])
EPOCHS_KEPT = 2
"""By each sampler: a batch may lie across the border between two epochs."""
EPOCHS_SHARED = 4
"""Between samplers of one seed, such as a sweep's arms."""


class _Epoch(NamedTuple):
    digit_N: Integers
    variant_N: Integers
    colour_N: Integers
    priority_N6: NDArray[np.float64]
    place_N6: NDArray[np.float64]


class _Mistakes(NamedTuple):
    """Numbers below 1 that decide whether a value is wrong, and by how many values of its factor, at least one."""

    whether_N6: NDArray[np.float64]
    farther_N6: Integers


class MadSampler:
    """The endless sequence of samples of one training; position p is index p mod N of epoch p // N.

    An epoch shows each digit once, as one of its 24 variants, in one of 7 colours. Trials with the same seed
    see the same images in the same order whatever their captions say, and captions with more attributes say
    all that those with fewer say. With more noise, values that were wrong stay so, and others become wrong too.
    """

    def __init__(
        self,
        seed: int,
        digit_labels_N: Integers,
        main_factor: str,
        attributes: int,
        order: Order,
        noise: float = 0.0,
    ) -> None:
        """Take the digits' labels, what captions say, and how often (0 to 1) a value that they say is wrong.

        Raises ValueError as `CaptionRule` does.
        """
        self.seed = seed
        self.noise = noise
        self.rule = CaptionRule(main_factor, attributes, order)
        self._digit_labels_N = np.asarray(digit_labels_N, dtype=np.int64)
        self._kept: dict[int, _Epoch] = {}

    @property
    def epoch_length(self) -> int:
        """How many samples an epoch has: one per digit."""
        return len(self._digit_labels_N)

    def samples(self, position_B: Integers) -> Samples:
        """Return the samples at these positions (int64, not negative), in any number and any order."""
        epochs, indices = np.divmod(np.asarray(position_B, dtype=np.int64), self.epoch_length)
        parts = [(int(epoch), np.flatnonzero(epochs == epoch)) for epoch in np.unique(epochs)]
        found = [self._in_epoch(epoch, indices[rows]) for epoch, rows in parts]
        if len(found) == 1:
            return found[0]
        back = np.argsort(np.concatenate([rows for _, rows in parts]))
        return Samples(*(np.concatenate(columns)[back] for columns in zip(*found, strict=True)))

    def _draws(self, epoch: int) -> _Epoch:
        """An epoch's draws, kept: as many trials with as many seeds may take turns in one process."""
        if epoch not in self._kept:
            while len(self._kept) >= EPOCHS_KEPT:
                del self._kept[min(self._kept)]
            self._kept[epoch] = _epoch(self.seed, epoch, self.epoch_length)
        return self._kept[epoch]

    def _in_epoch(self, epoch: int, index_B: Integers) -> Samples:
        draws = self._draws(epoch)
        digit, variant, colour = draws.digit_N[index_B], draws.variant_N[index_B], draws.colour_N[index_B]
        labels = factor_labels(self._digit_labels_N[digit], variant, colour)
        said = self._with_mistakes(labels, epoch, index_B) if self.noise else labels
        tokens = write_captions(self.rule, said, draws.priority_N6[index_B], draws.place_N6[index_B])
        return Samples(digit, variant, colour, tokens, labels)

    def _with_mistakes(self, labels_B6: Integers, epoch: int, index_B: Integers) -> Integers:
        """The labels as captions say them: where a draw is below `noise`, another value of the factor."""
        draws = _mistakes(self.seed, epoch, self.epoch_length)
        wrong_B6, farther_B6 = draws.whether_N6[index_B] < self.noise, draws.farther_N6[index_B]
        return np.where(wrong_B6, (labels_B6 + farther_B6) % _VALUES_6, labels_B6)


@lru_cache(maxsize=EPOCHS_SHARED)
def _mistakes(seed: int, epoch: int, count: int) -> _Mistakes:
    whether_N6 = generator(Purpose.NOISE, seed, epoch).random((count, 6))
    other_N6 = generator(Purpose.OTHER_VALUE, seed, epoch).random((count, 6))
    return _Mistakes(whether_N6, 1 + (other_N6 * (_VALUES_6 - 1)).astype(np.int64))


@lru_cache(maxsize=EPOCHS_SHARED)
def _epoch(seed: int, epoch: int, count: int) -> _Epoch:
    return _Epoch(
        generator(Purpose.DIGIT_ORDER, seed, epoch).permutation(count),
        _below(len(VARIANTS), generator(Purpose.VARIANT, seed, epoch).random(count)),
        _below(len(COLOURS), generator(Purpose.COLOUR, seed, epoch).random(count)),
        generator(Purpose.WHICH_FACTORS, seed, epoch).random((count, 6)),
        generator(Purpose.PLACES, seed, epoch).random((count, 6)),
    )


def _below(count: int, uniform: NDArray[np.float64]) -> Integers:
    return (uniform * count).astype(np.int64)
