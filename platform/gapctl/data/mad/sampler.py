"""Draw the digit, variant, colour and caption of each MAD sample, as pure functions of (seed, epoch, index).

1. `MadSampler.samples` turns positions into epochs and indices, and looks up the epoch's draws (`_draw_epoch`).
2. Caption noise may replace factor values, `draw_words` chooses among synonyms, and `captions.build_caption_tokens`
   writes the tokens.
3. `CaptionImageSampler` draws the pictures that take the captions' place in an image-image training.
4. `sample_gallery` draws the frozen gallery that all trials are evaluated on.

Index letters: B samples of a batch, N digits, R rounds over the digits, S values named by captions, 6 factors in the
order of `FACTORS`, L tokens of a caption.
"""

from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.config.trial import MadData
from gapctl.data.mad.captions import build_caption_tokens, find_named_values
from gapctl.data.mad.factors import COLOURS, FACTORS, SHAPE_FACTORS, VARIANTS, compute_factor_labels
from gapctl.data.rng import Purpose, make_generator
from gapctl.errors import InputError

Integers = NDArray[np.int64]
CACHED_EPOCHS = 2
"""Epochs cached by each sampler; a batch may cross the border between two."""
SHARED_EPOCHS = 4
"""Epochs cached for samplers of one seed, such as those of a sweep's arms."""

UNSPECIFIED: Final = -1
_SIZES_6: Final = np.array([len(factor.values) for factor in FACTORS])
_VARIANT_SHAPE: Final = tuple(len(factor.values) for factor in SHAPE_FACTORS)
_FACTOR_OF_VALUE: Final = np.repeat(np.arange(len(FACTORS)), _SIZES_6)
_PLACE_OF_VALUE: Final = np.concatenate([np.arange(size) for size in _SIZES_6])
GALLERY_SEED: Final = 20240407
_LOOKS: Final = len(VARIANTS) * len(COLOURS)


class MadSamples(NamedTuple):
    """A batch of samples: digit, variant and colour of the image, its caption, and its label within each factor."""

    digit_B: Integers
    variant_B: Integers
    colour_B: Integers
    tokens_BL: Integers
    labels_B6: Integers


class _MadEpochDraws(NamedTuple):
    digit_N: Integers
    variant_N: Integers
    colour_N: Integers
    priority_N6: NDArray[np.float64]
    place_N6: NDArray[np.float64]


class MadSampler:
    """The endless sequence of samples of one training; position p is index p mod N of epoch p // N.

    An epoch shows each digit once, as one of its 24 variants, in one of 7 colours. Trials with the same seed see the
    same images in the same order, whatever their captions name. Captions with more attributes name all that those with
    fewer name. With more noise, wrong values stay wrong, and others become wrong too.
    """

    def __init__(self, seed: int, digit_labels_N: Integers, about: MadData) -> None:
        """Take the digits' labels (N,), and the data section that says what captions name."""
        self._seed = seed
        self._about = about
        self._digit_labels_N = np.asarray(digit_labels_N, dtype=np.int64)
        self._kept: dict[int, _MadEpochDraws] = {}

    def samples(self, position_B: Integers) -> MadSamples:
        """Return the samples at these positions (int64, not negative), in any number and any order."""
        epochs, indices = np.divmod(np.asarray(position_B, dtype=np.int64), len(self._digit_labels_N))
        parts = [(int(epoch), np.flatnonzero(epochs == epoch)) for epoch in np.unique(epochs)]
        selected = [self._select_samples(epoch, indices[rows]) for epoch, rows in parts]
        if len(selected) == 1:
            return selected[0]
        back = np.argsort(np.concatenate([rows for _, rows in parts]))
        return MadSamples(*(np.concatenate(columns)[back] for columns in zip(*selected, strict=True)))

    def _select_samples(self, epoch: int, index_B: Integers) -> MadSamples:
        # A cache of the sampler's own besides that of `_draw_epoch`: trials with other seeds may take turns.
        if epoch not in self._kept:
            while len(self._kept) >= CACHED_EPOCHS:
                del self._kept[min(self._kept)]
            self._kept[epoch] = _draw_epoch(self._seed, epoch, len(self._digit_labels_N))
        draws = self._kept[epoch]
        digit, variant, colour = draws.digit_N[index_B], draws.variant_N[index_B], draws.colour_N[index_B]
        labels = compute_factor_labels(self._digit_labels_N[digit], variant, colour)
        named, captions = labels, self._about.captions
        if captions.noise:
            chance_N6, distance_N6 = _draw_caption_noise(self._seed, epoch, len(self._digit_labels_N))
            wrong = chance_N6[index_B] < captions.noise
            named = np.where(wrong, (labels + distance_N6[index_B]) % _SIZES_6, labels)
        chance_B6 = draw_words(self._about, self._seed, epoch, len(self._digit_labels_N), index_B, digit)
        tokens = build_caption_tokens(
            self._about, captions.attributes, named, draws.priority_N6[index_B], draws.place_N6[index_B], chance_B6
        )
        return MadSamples(digit, variant, colour, tokens, labels)


def draw_words(
    about: MadData, seed: int, epoch: int, count: int, index_B: Integers, digit_B: Integers
) -> NDArray[np.float64] | None:
    """Return numbers in [0, 1) that choose the word of each factor's value (B, 6); None where each has one word.

    They belong to the place in the epoch of `count` samples, or, where words are drawn once, to the digit.
    """
    if about.captions.synonyms == 1:
        return None
    if about.captions.synonym_draw == "once":
        return _draw_word_chances(Purpose.WORD_OF_DIGIT, seed, 0, count)[digit_B]
    return _draw_word_chances(Purpose.WORD, seed, epoch, count)[index_B]


@lru_cache(maxsize=SHARED_EPOCHS)
def _draw_word_chances(purpose: Purpose, seed: int, epoch: int, count: int) -> NDArray[np.float64]:
    return make_generator(purpose, seed, epoch).random((count, len(FACTORS)))


@lru_cache(maxsize=SHARED_EPOCHS)
def _draw_caption_noise(seed: int, epoch: int, count: int) -> tuple[NDArray[np.float64], Integers]:
    """Return numbers below 1 that decide whether a value is wrong, and its distance from the right value, 1 or more."""
    chance_N6 = make_generator(Purpose.NOISE, seed, epoch).random((count, 6))
    other_N6 = make_generator(Purpose.OTHER_VALUE, seed, epoch).random((count, 6))
    return chance_N6, 1 + (other_N6 * (_SIZES_6 - 1)).astype(np.int64)


@lru_cache(maxsize=SHARED_EPOCHS)
def _draw_epoch(seed: int, epoch: int, count: int) -> _MadEpochDraws:
    return _MadEpochDraws(
        make_generator(Purpose.DIGIT_ORDER, seed, epoch).permutation(count),
        (make_generator(Purpose.VARIANT, seed, epoch).random(count) * len(VARIANTS)).astype(np.int64),
        (make_generator(Purpose.COLOUR, seed, epoch).random(count) * len(COLOURS)).astype(np.int64),
        make_generator(Purpose.WHICH_FACTORS, seed, epoch).random((count, 6)),
        make_generator(Purpose.PLACES, seed, epoch).random((count, 6)),
    )


class ImageIndices(NamedTuple):
    """Images by digit, variant and colour."""

    digit_B: Integers
    variant_B: Integers
    colour_B: Integers


class CaptionImageSampler:
    """Draws pictures that fit captions, from a split's digits; those of a training by its seed and positions."""

    def __init__(self, digit_labels_N: Integers) -> None:
        """Take each digit's class (N,)."""
        self._by_class_N = np.argsort(digit_labels_N, kind="stable")
        self._counts = np.bincount(digit_labels_N, minlength=_SIZES_6[0])
        self._starts = np.cumsum(self._counts) - self._counts

    def sample_training_images(self, seed: int, position_B: Integers, tokens_BL: Integers) -> ImageIndices:
        """Return pictures of the captions at these positions of a training, as pure functions of (seed, position)."""
        count = len(self._by_class_N)
        epochs, indices = np.divmod(position_B, count)
        chance_B6 = np.empty((len(position_B), len(FACTORS)))
        for epoch in np.unique(epochs):
            rows = np.flatnonzero(epochs == epoch)
            chance_B6[rows] = _draw_chances(seed, int(epoch), count)[indices[rows]]
        return self.pictures(tokens_BL, chance_B6)

    def pictures(self, tokens_BL: Integers, chance_B6: NDArray[np.float64]) -> ImageIndices:
        """Return a picture for each caption.

        `chance_B6` in [0, 1) chooses its digit and the factors that are not named. Raise InputError if a caption names
        a digit that the split lacks.
        """
        named_B6 = parse_captions(tokens_BL)
        label_B6 = np.where(named_B6 == UNSPECIFIED, (chance_B6 * _SIZES_6).astype(np.int64), named_B6)
        variant_B = np.ravel_multi_index(tuple(label_B6[:, 1:5].T), _VARIANT_SHAPE)
        return ImageIndices(
            self._choose_digits(named_B6[:, 0], chance_B6[:, 0]), variant_B.astype(np.int64), label_B6[:, 5]
        )

    def _choose_digits(self, class_B: Integers, chance_B: NDArray[np.float64]) -> Integers:
        anyone_B = class_B == UNSPECIFIED
        count_B = np.where(anyone_B, len(self._by_class_N), self._counts[class_B])
        if not count_B.all():
            lacking = sorted({int(digit) for digit in class_B[count_B == 0]})
            raise InputError(
                f"data.sides is image_image, but a split of data.source has no digit {lacking[0]} to draw pictures of; "
                "expected some of each class, or sides: image_text"
            )
        place_B = np.where(anyone_B, 0, self._starts[class_B]) + (chance_B * count_B).astype(np.int64)
        digit_B: Integers = self._by_class_N[place_B]
        return digit_B


def parse_captions(tokens_BL: Integers) -> Integers:
    """Return the label that each caption names within each factor (B, 6), or `UNSPECIFIED`."""
    value_BL = find_named_values(tokens_BL)
    row_S, place_S = np.nonzero(value_BL >= 0)
    value_S = value_BL[row_S, place_S]
    named_B6 = np.full((len(tokens_BL), len(FACTORS)), UNSPECIFIED, dtype=np.int64)
    named_B6[row_S, _FACTOR_OF_VALUE[value_S]] = _PLACE_OF_VALUE[value_S]
    return named_B6


@lru_cache(maxsize=4)
def _draw_chances(seed: int, epoch: int, count: int) -> NDArray[np.float64]:
    return make_generator(Purpose.PICTURE, seed, epoch).random((count, len(FACTORS)))


def sample_images_of_captions(digit_labels_N: Integers, tokens_BL: Integers, seed: int) -> ImageIndices:
    """Return pictures of a gallery's captions, drawn from its own split and the same for every trial."""
    chance_B6 = make_generator(Purpose.PICTURE, seed).random((len(tokens_BL), len(FACTORS)))
    return CaptionImageSampler(digit_labels_N).pictures(tokens_BL, chance_B6)


def sample_gallery(digit_labels_N: Integers, size: int, about: MadData) -> MadSamples:
    """Return `size` different images with captions; the images are the same for every trial.

    Captions name the factors of the arm's own captions, or all factors if held-out captions are full. They have no
    noise, and words of their own draw. Digits are taken in rounds, so each occurs as often as any other, or once more.
    Raise InputError if there are fewer than `size` different images: digits x 24 variants x 7 colours.
    """
    count = len(digit_labels_N)
    check_gallery_size(size, count)
    rounds = -(-size // count)
    digit_RN = np.tile(make_generator(Purpose.DIGIT_ORDER, GALLERY_SEED).permutation(count), (rounds, 1))
    looks = make_generator(Purpose.GALLERY, GALLERY_SEED).random((count, _LOOKS))
    look_NR = np.argsort(looks, axis=1)[:, :rounds]
    digit = digit_RN.reshape(-1)[:size]
    variant, colour = np.divmod(look_NR.T[np.arange(rounds)[:, None], digit_RN].reshape(-1)[:size], len(COLOURS))
    labels = compute_factor_labels(np.asarray(digit_labels_N, dtype=np.int64)[digit], variant, colour)
    priority = make_generator(Purpose.WHICH_FACTORS, GALLERY_SEED).random((size, 6))
    place = make_generator(Purpose.PLACES, GALLERY_SEED).random((size, 6))
    attributes = len(FACTORS) - 1 if about.captions.held_out == "full" else about.captions.attributes
    chance = draw_words(about, GALLERY_SEED, 0, max(count, size), np.arange(size), digit)
    tokens = build_caption_tokens(about, attributes, labels, priority, place, chance)
    return MadSamples(digit, variant, colour, tokens, labels)


def check_gallery_size(size: int, digits: int) -> None:
    """Raise InputError if a test split of `digits` digits has fewer than `size` different images."""
    most = digits * _LOOKS
    if not 1 <= size <= most:
        raise InputError(
            f"evaluate.gallery is {size}, but the test split has {digits} digits and so {most} "
            f"different images. Set evaluate.gallery to 1 .. {most}."
        )
