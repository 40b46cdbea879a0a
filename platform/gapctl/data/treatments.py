"""Treat captions and images: remove or add words, or degrade pixels, to choose the information imbalance of a pair.

1. `sample_caption` chooses among the captions of an image that has several.
2. `treat_caption` looks up the `Treatment` of a `PairCaptions` in `TREATMENT_TABLE` and applies it to the words.
3. `degrade_image` does the same for images, with the table of `Degradation`s.

Each treatment is a pure function of (sample, seed, epoch): the same sample in the same epoch of the same seed reads the
same on any machine. With `captions.draw: once` it reads the same in every epoch. Draws of related treatments are
nested: a quarter lies within the half, and words kept at a low rate are kept at a higher one. Arms that share a seed so
differ in as little as they can.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.config.trial import PairCaptions, PairImages
from gapctl.data.rng import Purpose, make_generator
from gapctl.extensions import Extension, ExtensionError, raise_as_extension_error, require_extension

OBJECT_TAGS: Final = ("NOUN", "PROPN")
ATTRIBUTE_TAGS: Final = ("ADJ", "NUM")
"""Universal part-of-speech tags (universaldependencies.org/u/pos)."""
_SENTENCE_END: Final = re.compile(r"(?<=[.!?])\s+")
_EDGE_PUNCTUATION: Final = re.compile(r"^\W+|\W+$")
_NEEDS_POS: Final = "`pos` in the json"
PixelArray = NDArray[np.uint8]

PATCH_PIXELS: Final = 16
"""Rows and columns of a dropped patch, those of the usual vision transformer."""
GREY_LEVEL: Final = 128


class TreatedCaption(NamedTuple):
    """A treated caption, which may be empty, and how many of the original `words` it keeps."""

    text: str
    kept: int
    words: int


@dataclass(frozen=True)
class _TreatmentInput:
    """The input of a treatment: the words, the sample's JSON, its settings and its random numbers."""

    caption: str
    words: Sequence[str]
    about: Mapping[str, object]
    rule: PairCaptions
    seed: int
    epoch: int
    sample: int

    @cached_property
    def draws(self) -> np.random.Generator:
        """The random generator, made on use: making it takes longer than a treatment without draws."""
        return make_generator(Purpose.CAPTION, self.seed, self.epoch, self.sample)


class Treatment(NamedTuple):
    """A row of the table of treatments.

    `removes` describes the change, `per_access` is whether each access to a sample draws anew. `private_bits(n, rule)`
    is the entropy of that draw for n words: information that only the text has; None if it depends on the caption. The
    bits about the image that a natural caption loses are unknown.
    """

    removes: str
    needs: str
    per_access: bool
    private_bits: Callable[[int, PairCaptions], float] | None
    apply: Callable[[_TreatmentInput], TreatedCaption | None]


def sample_caption(captions: Sequence[str], seed: int, epoch: int, sample: int) -> str:
    """Return the one of an image's captions that a training reads in this epoch, each with the same probability."""
    if len(captions) == 1:
        return captions[0]
    draws = make_generator(Purpose.CAPTION_CHOICE, seed, epoch, sample)
    return captions[int(draws.random() * len(captions))]


def treat_caption(
    rule: PairCaptions, caption: str, about: Mapping[str, object], seed: int, epoch: int, sample: int
) -> TreatedCaption | None:
    """Return the caption as a training reads it, or None if the sample lacks data that the treatment needs.

    `about` is the sample's JSON, `sample` its number in the data. Words are separated by single spaces, as in the
    paper's code. Where the rule draws once, every epoch cuts as the first does. Raise ValueError for a negative seed,
    epoch or sample if the treatment draws, and ExtensionError for a treatment of another package that raises an error
    or returns no text.
    """
    epoch = 0 if rule.draw == "once" else epoch
    return find_treatment(rule.keep).apply(
        _TreatmentInput(caption, caption.split(" "), about, rule, seed, epoch, sample)
    )


def _make_part_treatment(parts: int) -> Callable[[_TreatmentInput], TreatedCaption]:
    """Return one contiguous part of `parts`, cut at int(n * i / parts) as the paper cuts (arXiv 2404.07983, sec. 4)."""

    def cut(sample: _TreatmentInput) -> TreatedCaption:
        count = len(sample.words)
        chosen = int(sample.draws.random() * parts)
        return _select_words(sample, range(count * chosen // parts, count * (chosen + 1) // parts))

    return cut


def _drop_words(sample: _TreatmentInput) -> TreatedCaption:
    return _select_words(sample, np.flatnonzero(sample.draws.random(len(sample.words)) < sample.rule.rate).tolist())


def _match_length(sample: _TreatmentInput) -> TreatedCaption:
    # At a rate of 1/4 that is the length of the shortest quarter.
    return _select_words(sample, _draw_order(sample)[: int(len(sample.words) * sample.rule.rate)].tolist())


def _draw_order(sample: _TreatmentInput) -> NDArray[np.int64]:
    return np.argsort(sample.draws.random(len(sample.words)), kind="stable")


def _keep_sentences(sample: _TreatmentInput) -> TreatedCaption:
    sentences = _SENTENCE_END.split(sample.caption)
    chosen = np.sort(np.argsort(sample.draws.random(len(sentences)), kind="stable")[: sample.rule.sentences])
    text = " ".join(sentences[place] for place in chosen)
    return TreatedCaption(text, len(text.split(" ")), len(sample.words))


def _keep_keywords(sample: _TreatmentInput) -> TreatedCaption | None:
    words = _read_keywords(sample.about)
    text = ", ".join(words)
    return TreatedCaption(text, len(text.split(" ")), len(sample.words)) if words else None


def _read_keywords(about: Mapping[str, object]) -> list[str]:
    """Return the texts in the list `keywords` of a sample's JSON."""
    keywords = about.get("keywords")
    words = [word for word in keywords if isinstance(word, str)] if isinstance(keywords, list) else []
    return [text for word in words if (text := _replace_surrogates(word).strip())]


def _replace_surrogates(text: str) -> str:
    """Replace lone surrogates, which JSON can hold but no file can encode."""
    return text.encode("utf-8", "replace").decode()


def _keep_objects(sample: _TreatmentInput) -> TreatedCaption | None:
    if (tags := _read_tags(sample)) is not None:
        return _select_words(sample, [place for place, tag in enumerate(tags) if tag in OBJECT_TAGS])
    named = {_strip_punctuation(word) for keyword in _read_keywords(sample.about) for word in keyword.split()}
    places = [place for place, word in enumerate(sample.words) if _strip_punctuation(word) in named]
    return _select_words(sample, places) if named else None


def _keep_attributes(sample: _TreatmentInput) -> TreatedCaption | None:
    tags = _read_tags(sample)
    return None if tags is None else _select_words(sample, [at for at, tag in enumerate(tags) if tag in ATTRIBUTE_TAGS])


def _read_tags(sample: _TreatmentInput) -> list[object] | None:
    """Return the words' part-of-speech tags if the JSON has one for each."""
    tags = sample.about.get("pos")
    return tags if isinstance(tags, list) and len(tags) == len(sample.words) else None


def _strip_punctuation(word: str) -> str:
    return _EDGE_PUNCTUATION.sub("", word).casefold()


def _append_json_caption(sample: _TreatmentInput) -> TreatedCaption | None:
    more = sample.about.get(sample.rule.field)
    if not isinstance(more, str) or not more.strip():
        return None
    return TreatedCaption(f"{sample.caption} {_replace_surrogates(more).strip()}", len(sample.words), len(sample.words))


def _select_words(sample: _TreatmentInput, places: Sequence[int]) -> TreatedCaption:
    return TreatedCaption(" ".join(sample.words[place] for place in places), len(places), len(sample.words))


def _compute_rate_bits(words: int, rule: PairCaptions) -> float:
    return -words * sum(share * math.log2(share) for share in (rule.rate, 1 - rule.rate) if share)


def _compute_order_bits(words: int, kept: int) -> float:
    """Return the bits of the choice of `kept` words in some order."""
    return (math.lgamma(words + 1) - math.lgamma(words - kept + 1)) / math.log(2)


def _return_no_bits(words: int, rule: PairCaptions) -> float:
    return 0.0


TREATMENT_TABLE: Final[Mapping[str, Treatment]] = {
    "full": Treatment(
        "nothing",
        "",
        False,
        _return_no_bits,
        lambda sample: TreatedCaption(sample.caption, len(sample.words), len(sample.words)),
    ),
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
    "shuffled": Treatment(
        "the order of the words, and so the grammar",
        "",
        True,
        lambda words, rule: _compute_order_bits(words, words),
        lambda sample: _select_words(sample, _draw_order(sample).tolist()),
    ),
    "length_matched": Treatment(
        "all but a share of the words, and the order of these",
        "",
        True,
        lambda words, rule: _compute_order_bits(words, int(words * rule.rate)),
        _match_length,
    ),
    "enriched": Treatment(
        "nothing; a second caption is added",
        "the text `field` in the json",
        False,
        _return_no_bits,
        _append_json_caption,
    ),
}
"""gapctl's own treatments by their names in `data.captions.keep`."""


def find_treatment(name: str) -> Treatment:
    """Return a treatment by its name; raise InputError for a name that neither gapctl nor a package has."""
    return TREATMENT_TABLE[name] if name in TREATMENT_TABLE else _wrap_extension(require_extension("treatments", name))


@cache
def _wrap_extension(extension: Extension) -> Treatment:
    """Return another package's function as a treatment; its bits of chance are unknown."""

    def apply(sample: _TreatmentInput) -> TreatedCaption:
        with raise_as_extension_error(extension):
            text = extension.function(sample.caption, sample.draws)
        if not isinstance(text, str):
            raise ExtensionError(
                f"{extension.title} returned {text!r:.60} for sample {sample.sample:,}; expected a text, which may be "
                "empty"
            )
        kept = (Counter(sample.words) & Counter(text.split(" "))).total()
        return TreatedCaption(_replace_surrogates(text), kept, len(sample.words))

    return Treatment(extension.meaning or "not described", "", True, None, apply)


class Degradation(NamedTuple):
    """A degradation of images: its effect, the meaning of `amount`, and whether it is random at each access."""

    removes: str
    amount: str
    per_access: bool
    apply: Callable[[PixelArray, float, np.random.Generator], PixelArray]


def degrade_image(rule: PairImages, image_HWC: PixelArray, seed: int, epoch: int, sample: int) -> PixelArray:
    """Return the degraded image, of the same shape; a pure function of (sample, seed, epoch)."""
    draws = make_generator(Purpose.DEGRADATION, seed, epoch, sample)
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
"""All degradations by their names."""
