"""Treatments of captions: how much of what a caption says is kept, so that the imbalance with its image is chosen.

Each is a pure function of (sample, seed, epoch): the same sample in the same epoch of the same seed reads the same on
any machine, and draws of one treatment are nested in another's where that makes sense: a quarter lies within the half,
and words kept at a low rate are kept at a higher one, so arms that share a seed differ in as little as they can.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.config.base import did_you_mean
from gapctl.config.trial import AMOUNTS
from gapctl.data.rng import Purpose, make_sample_generator

OBJECT_TAGS: Final = ("NOUN", "PROPN")
ATTRIBUTE_TAGS: Final = ("ADJ", "NUM")
"""Universal part-of-speech tags (universaldependencies.org/u/pos)."""
_SENTENCE_END: Final = re.compile(r"(?<=[.!?])\s+")
_EDGE_PUNCTUATION: Final = re.compile(r"^\W+|\W+$")


@dataclass(frozen=True)
class KeepRule:
    """What of a caption is kept: a name of `TREATMENTS`, and the settings of those that have any.

    `rate` is the share of words that `words` and `length_matched` keep, `sentences` how many of them `sentences`
    keeps, `field` the key of the sample's json that `enriched` adds. Raises ValueError for values outside their range.
    """

    keep: str
    rate: float = 0.25
    sentences: int = 1
    field: str = ""

    def __post_init__(self) -> None:
        if self.keep not in TREATMENTS:
            close = did_you_mean(self.keep, TREATMENTS)
            raise ValueError(f"keep is {self.keep!r}, expected one of {', '.join(TREATMENTS)}{close}")
        if not 0 <= self.rate <= 1:
            raise ValueError(f"rate is {self.rate}, expected 0 to 1")
        if self.sentences < 1:
            raise ValueError(f"sentences is {self.sentences}, expected 1 or more")
        if self.keep == "enriched" and not self.field:
            raise ValueError("keep is 'enriched' and field is empty, expected the json key of the second caption")


class TreatedCaption(NamedTuple):
    """A treated caption, and how many of the `words` of the original it keeps; it may be empty."""

    text: str
    kept: int
    words: int


@dataclass(frozen=True)
class _TreatmentInput:
    """What a treatment looks at: the words, the sample's json, its settings and its random numbers."""

    caption: str
    words: Sequence[str]
    about: Mapping[str, Any]
    rule: KeepRule
    seed: int
    epoch: int
    sample: int

    @cached_property
    def draws(self) -> np.random.Generator:
        """Made where it is used: it takes longer than a treatment that draws nothing."""
        return make_sample_generator(Purpose.CAPTION, self.seed, self.epoch, self.sample)


class Treatment(NamedTuple):
    """A line of the table of treatments.

    `removes` says what is taken away or put in, `per_access` whether another choice is made each time that a sample is
    seen. `private_bits(n, rule)` is the entropy of that choice for n words: information that only the text has, and
    None where it depends on the caption. How many bits about the image are lost is not known for natural captions.
    """

    removes: str
    needs: str
    per_access: bool
    private_bits: Callable[[int, KeepRule], float] | None
    apply: Callable[[_TreatmentInput], TreatedCaption | None]


def treat_caption(
    rule: KeepRule, caption: str, about: Mapping[str, Any], seed: int, epoch: int, sample: int
) -> TreatedCaption | None:
    """The caption as a training reads it; None where the sample lacks what the treatment needs.

    `about` is the sample's json, `sample` its number in the data. Words are what single spaces separate, as in the
    paper's code. Raises ValueError for a negative seed, epoch or sample where the treatment draws.
    """
    return TREATMENTS[rule.keep].apply(_TreatmentInput(caption, caption.split(" "), about, rule, seed, epoch, sample))


def _keep_all(given: _TreatmentInput) -> TreatedCaption:
    return TreatedCaption(given.caption, len(given.words), len(given.words))


def _make_part_treatment(parts: int) -> Callable[[_TreatmentInput], TreatedCaption]:
    """One contiguous part of `parts`, cut at int(n * i / parts) as the paper cuts (arXiv 2404.07983, sec. 4)."""

    def cut(given: _TreatmentInput) -> TreatedCaption:
        count = len(given.words)
        chosen = int(given.draws.random() * parts)
        return _select_words(given, range(count * chosen // parts, count * (chosen + 1) // parts))

    return cut


def _drop_words(given: _TreatmentInput) -> TreatedCaption:
    kept = np.flatnonzero(given.draws.random(len(given.words)) < given.rule.rate)
    return _select_words(given, kept.tolist())


def _shuffle_words(given: _TreatmentInput) -> TreatedCaption:
    return _select_words(given, _draw_order(given).tolist())


def _match_length(given: _TreatmentInput) -> TreatedCaption:
    return _select_words(given, _draw_order(given)[: count_matched_words(len(given.words), given.rule.rate)].tolist())


def count_matched_words(words: int, rate: float) -> int:
    """How many words `length_matched` keeps; with 1/4, as many as the shortest quarter has."""
    return int(words * rate)


def _draw_order(given: _TreatmentInput) -> NDArray[np.int64]:
    return np.argsort(given.draws.random(len(given.words)), kind="stable")


def _keep_sentences(given: _TreatmentInput) -> TreatedCaption:
    found = _SENTENCE_END.split(given.caption)
    chosen = np.sort(np.argsort(given.draws.random(len(found)), kind="stable")[: given.rule.sentences])
    text = " ".join(found[place] for place in chosen)
    return TreatedCaption(text, len(text.split(" ")), len(given.words))


def _keep_keywords(given: _TreatmentInput) -> TreatedCaption | None:
    words = read_keywords(given.about)
    text = ", ".join(words)
    return TreatedCaption(text, len(text.split(" ")), len(given.words)) if words else None


def read_keywords(about: Mapping[str, Any]) -> list[str]:
    """The sample's keywords: the texts in the list `keywords` of its json."""
    found = about.get("keywords")
    texts = (
        (_replace_surrogates(word).strip() for word in found if isinstance(word, str))
        if isinstance(found, list)
        else ()
    )
    return [text for text in texts if text]


def _replace_surrogates(text: str) -> str:
    """JSON can hold half a character, which nothing can write."""
    return text.encode("utf-8", "replace").decode()


def _keep_objects(given: _TreatmentInput) -> TreatedCaption | None:
    if (tags := _read_tags(given)) is not None:
        return _select_words(given, [place for place, tag in enumerate(tags) if tag in OBJECT_TAGS])
    named = {_strip_punctuation(word) for keyword in read_keywords(given.about) for word in keyword.split()}
    return (
        _select_words(given, [place for place, word in enumerate(given.words) if _strip_punctuation(word) in named])
        if named
        else None
    )


def _keep_attributes(given: _TreatmentInput) -> TreatedCaption | None:
    if (tags := _read_tags(given)) is None:
        return None
    return _select_words(given, [place for place, tag in enumerate(tags) if tag in ATTRIBUTE_TAGS])


def _read_tags(given: _TreatmentInput) -> list[Any] | None:
    """The tags of the words, where the json has one for each."""
    tags = given.about.get("pos")
    return tags if isinstance(tags, list) and len(tags) == len(given.words) else None


def _strip_punctuation(word: str) -> str:
    return _EDGE_PUNCTUATION.sub("", word).casefold()


def _append_caption(given: _TreatmentInput) -> TreatedCaption | None:
    more = given.about.get(given.rule.field)
    if not isinstance(more, str) or not more.strip():
        return None
    return TreatedCaption(f"{given.caption} {_replace_surrogates(more).strip()}", len(given.words), len(given.words))


def _select_words(given: _TreatmentInput, places: Sequence[int]) -> TreatedCaption:
    return TreatedCaption(" ".join(given.words[place] for place in places), len(places), len(given.words))


def _compute_rate_bits(words: int, rule: KeepRule) -> float:
    rate = rule.rate
    return -words * sum(share * math.log2(share) for share in (rate, 1 - rate) if share)


def _compute_order_bits(words: int, rule: KeepRule) -> float:
    return math.lgamma(words + 1) / math.log(2)


def _compute_matched_bits(words: int, rule: KeepRule) -> float:
    left = words - count_matched_words(words, rule.rate)
    return _compute_order_bits(words, rule) - _compute_order_bits(left, rule)


def _return_no_bits(words: int, rule: KeepRule) -> float:
    return 0.0


_NEEDS_POS: Final = "`pos` in the json"

TREATMENTS: Final[Mapping[str, Treatment]] = {
    "full": Treatment("nothing", "", False, _return_no_bits, _keep_all),
    "half": Treatment("one of two contiguous halves", "", True, lambda words, rule: 1.0, _make_part_treatment(2)),
    "quarter": Treatment("all but one contiguous quarter", "", True, lambda words, rule: 2.0, _make_part_treatment(4)),
    "words": Treatment("each word with probability 1 - rate", "", True, _compute_rate_bits, _drop_words),
    "sentences": Treatment("all but some sentences", "", True, None, _keep_sentences),
    "keywords": Treatment(
        "the sentence around the keywords", "`keywords` in the json", False, _return_no_bits, _keep_keywords
    ),
    "objects": Treatment(
        "all but nouns, or but keywords", f"{_NEEDS_POS}, else `keywords`", False, _return_no_bits, _keep_objects
    ),
    "attributes": Treatment("all but adjectives and numerals", _NEEDS_POS, False, _return_no_bits, _keep_attributes),
    "shuffled": Treatment("the order of the words, and so the grammar", "", True, _compute_order_bits, _shuffle_words),
    "length_matched": Treatment(
        "all but a share of the words, and the order of these", "", True, _compute_matched_bits, _match_length
    ),
    "enriched": Treatment(
        "nothing; a second caption is added", "the text `field` in the json", False, _return_no_bits, _append_caption
    ),
}
"""Every treatment by the name that `data.captions.keep` takes."""


PixelArray = NDArray[np.uint8]

PATCH_PIXELS: Final = 16
"""Rows and columns of a patch that is dropped, those of the usual vision transformer."""
GREY_LEVEL: Final = 128


@dataclass(frozen=True)
class DegradeRule:
    """How images are impoverished, and by how much; raises ValueError for values outside their range."""

    degrade: str
    amount: float = 0.0

    def __post_init__(self) -> None:
        if self.degrade not in DEGRADATIONS:
            close = did_you_mean(self.degrade, DEGRADATIONS)
            raise ValueError(f"degrade is {self.degrade!r}, expected one of {', '.join(DEGRADATIONS)}{close}")
        low, high = AMOUNTS[self.degrade]
        if not low <= self.amount <= high:
            raise ValueError(f"amount is {self.amount}, expected {low:g} to {high:g} for {self.degrade}")


class Degradation(NamedTuple):
    """A line of the table: what is removed, what `amount` means, and whether each access draws anew."""

    removes: str
    amount: str
    per_access: bool
    apply: Callable[[PixelArray, float, np.random.Generator], PixelArray]


def degrade_image(rule: DegradeRule, image_HWC: PixelArray, seed: int, epoch: int, sample: int) -> PixelArray:
    """The image as a training sees it, of the same shape; a pure function of (sample, seed, epoch)."""
    draws = make_sample_generator(Purpose.DEGRADATION, seed, epoch, sample)
    return DEGRADATIONS[rule.degrade].apply(image_HWC, rule.amount, draws)


def _blur_image(image_HWC: PixelArray, amount: float, draws: np.random.Generator) -> PixelArray:
    from PIL import Image, ImageFilter

    return np.asarray(Image.fromarray(image_HWC).filter(ImageFilter.GaussianBlur(amount)))


def _reduce_resolution(image_HWC: PixelArray, amount: float, draws: np.random.Generator) -> PixelArray:
    from PIL import Image

    height, width = image_HWC.shape[:2]
    small = (max(1, round(width / amount)), max(1, round(height / amount)))
    shrunk = Image.fromarray(image_HWC).resize(small, Image.Resampling.BOX)
    return np.asarray(shrunk.resize((width, height), Image.Resampling.BICUBIC))


def _remove_colour(image_HWC: PixelArray, amount: float, draws: np.random.Generator) -> PixelArray:
    from PIL import Image

    return np.asarray(Image.fromarray(image_HWC).convert("L").convert("RGB"))


def _drop_patches(image_HWC: PixelArray, amount: float, draws: np.random.Generator) -> PixelArray:
    rows, columns = (-(-side // PATCH_PIXELS) for side in image_HWC.shape[:2])
    order = np.argsort(draws.random(rows * columns), kind="stable")
    dropped = order[: round(amount * rows * columns)]
    left = image_HWC.copy()
    for row, column in zip(*np.divmod(dropped, columns), strict=True):
        left[row * PATCH_PIXELS : (row + 1) * PATCH_PIXELS, column * PATCH_PIXELS : (column + 1) * PATCH_PIXELS] = (
            GREY_LEVEL
        )
    return left


DEGRADATIONS: Final[Mapping[str, Degradation]] = {
    "none": Degradation("nothing", "", False, lambda image_HWC, amount, draws: image_HWC),
    "blur": Degradation("detail finer than the blur", "standard deviation, pixels", False, _blur_image),
    "downscale": Degradation("all but 1 / amount^2 of the pixels", "factor of each side", False, _reduce_resolution),
    "grey": Degradation("colour", "", False, _remove_colour),
    "patches": Degradation(f"patches of {PATCH_PIXELS} x {PATCH_PIXELS} pixels", "share of them", True, _drop_patches),
}
"""Every degradation by its name."""


@dataclass
class CaptionTally:
    """Sums over samples, so that tallies of many processes add up."""

    samples: int = 0
    words: int = 0
    kept: int = 0
    empty: int = 0
    lacking: int = 0

    def add(self, treated: TreatedCaption | None) -> None:
        """Counts a sample; None is one that lacks what its treatment needs."""
        self.samples += 1
        if treated is None:
            self.lacking += 1
            return
        self.words += treated.words
        self.kept += treated.kept
        self.empty += not treated.text

    def merge(self, other: "CaptionTally") -> None:
        """Adds what another process counted."""
        self.samples += other.samples
        self.words += other.words
        self.kept += other.kept
        self.empty += other.empty
        self.lacking += other.lacking

    def metrics(self) -> dict[str, float]:
        """Words kept per treated caption, their share of all words, and shares of empty and of untreatable samples."""
        treated = self.samples - self.lacking
        return {
            "captions/words_kept": self.kept / treated if treated else 0.0,
            "captions/share_kept": self.kept / self.words if self.words else 0.0,
            "captions/empty": self.empty / treated if treated else 0.0,
            "captions/lacking": self.lacking / self.samples if self.samples else 0.0,
        }
