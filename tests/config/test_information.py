"""Bits and Bayes losses of MAD's captions: against tables that are counted out, and the values that are known."""

import math
from itertools import combinations, permutations, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gapctl.config import information
from gapctl.config.information import compute_bayes_loss, compute_caption_bits, find_bayes_loss, find_caption_bits
from gapctl.config.trial import FACTOR_VALUES, MadData, TrialConfig

SMALL = {"digit": 3, "thickness": 2, "swelling": 2, "fracture": 2, "scale": 2, "colour": 2}
"""The values of a world that can be counted out."""
Joint = NDArray[np.float64]

TREATMENTS: list[dict[str, Any]] = [
    {"captions": {"attributes": 0}},
    {"captions": {"attributes": 1}},
    {"captions": {"attributes": 4, "order": "canonical"}},
    {"captions": {"attributes": 5}},
    {"captions": {"fixed": ["scale"]}},
    {"captions": {"fixed": ["thickness", "colour"], "synonyms": 2, "order": "canonical"}},
    {"captions": {"attributes": 1, "noise": 0.3}},
    {"captions": {"fixed": ["colour"], "noise": 0.6}, "main_factor": "scale"},
    {"captions": {"attributes": 2}, "main_factor": "colour"},
    {"captions": {"attributes": 1, "noise": 0.2}, "sides": "image_image"},
    {"captions": {"fixed": ["swelling", "fracture"]}, "sides": "image_image"},
]


@pytest.fixture
def small_world(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(information, "FACTOR_VALUES", SMALL)
    for cached in (information._list_ratios, compute_bayes_loss):
        cached.cache_clear()
        monkeypatch.setattr(information, cached.__name__, cached.__wrapped__)


def count_out(about: dict[str, Any], *, worded: bool) -> Joint:
    """The table p(image, caption), by drawing every image, choice, order, word and error there is.

    Without `worded` captions are told apart by the values that they name alone.
    """
    data = MadData.model_validate(about)
    captions, names = data.captions, list(SMALL)
    images = list(product(*(range(count) for count in SMALL.values())))
    others = [name for name in names if name != data.main_factor]
    chosen = [captions.fixed] if captions.fixed else list(combinations(others, captions.attributes))
    table: dict[tuple[int, object], float] = {}
    for row, image in enumerate(images):
        for subset in chosen:
            named = [names.index(name) for name in (data.main_factor, *subset)]
            for values in product(*(range(SMALL[names[at]]) for at in named)):
                chance = 1 / len(images) / len(chosen)
                for at, value in zip(named, values, strict=True):
                    wrong = captions.noise / (SMALL[names[at]] - 1)
                    chance *= 1 - captions.noise if value == image[at] else wrong
                said = tuple(sorted(zip(named, values, strict=True)))
                if not chance:
                    continue
                if data.sides == "image_image":
                    free = [
                        [value] if (value := dict(said).get(at)) is not None else range(SMALL[names[at]])
                        for at in range(6)
                    ]
                    shown = list(product(*free))
                elif worded:
                    orders = list(permutations(said)) if captions.order == "shuffled" else [said]
                    words = list(product(range(captions.synonyms), repeat=len(said)))
                    shown = list(product(orders, words))
                else:
                    shown = [said]
                for caption in shown:
                    table[row, caption] = table.get((row, caption), 0.0) + chance / len(shown)
    columns = {caption: place for place, caption in enumerate(dict.fromkeys(caption for _, caption in table))}
    joint = np.zeros((len(images), len(columns)))
    for (row, caption), chance in table.items():
        joint[row, columns[caption]] += chance
    return joint


def entropy(chances: Joint) -> float:
    positive = chances[chances > 0]
    return float(-(positive * np.log2(positive)).sum())


@pytest.mark.usefixtures("small_world")
@pytest.mark.parametrize("about", TREATMENTS, ids=str)
def test_bits_are_those_of_the_counted_out_table(about: dict[str, Any]) -> None:
    if about["captions"].get("attributes", 0) > 4:
        about = {"captions": {**about["captions"], "order": "canonical"}}  # 720 orders take long
    joint = count_out(about, worded=True)
    whole, image, caption = entropy(joint), entropy(joint.sum(axis=1)), entropy(joint.sum(axis=0))

    assert joint.sum() == pytest.approx(1)
    assert tuple(compute_caption_bits(MadData.model_validate(about))) == pytest.approx(
        (whole - caption, whole - image, image + caption - whole), abs=1e-9
    )


def softmax_loss(joint: Joint, candidates: int) -> float:
    """The expected loss of rows that seek their column among so many, by all batches of them that there are."""
    column = joint.sum(axis=0)
    with np.errstate(divide="ignore"):
        score = np.log(joint / joint.sum(axis=1, keepdims=True) / column)
    loss = 0.0
    for row, own in zip(*np.nonzero(joint), strict=True):
        sums, chances = np.exp(score[row, own : own + 1]), np.ones(1)
        for _ in range(candidates - 1):
            sums = np.add.outer(sums, np.exp(score[row])).ravel()
            chances = np.multiply.outer(chances, column).ravel()
        loss += joint[row, own] * float(chances @ np.log(sums) - score[row, own])
    return loss


@pytest.mark.usefixtures("small_world")
@pytest.mark.parametrize("candidates", [2, 3])
@pytest.mark.parametrize("about", TREATMENTS, ids=str)
def test_the_bayes_loss_is_that_of_all_batches(about: dict[str, Any], candidates: int) -> None:
    joint = count_out(about, worded=False)
    expected = (softmax_loss(joint, candidates) + softmax_loss(joint.T, candidates)) / 2

    assert compute_bayes_loss(MadData.model_validate(about), "clip", candidates) == pytest.approx(expected, abs=1e-10)


@pytest.mark.usefixtures("small_world")
@pytest.mark.parametrize("about", TREATMENTS, ids=str)
def test_siglips_bayes_loss_is_that_of_the_best_logit_of_each_pair(about: dict[str, Any]) -> None:
    joint, size = count_out(about, worded=False), 5
    apart = np.outer(joint.sum(axis=1), joint.sum(axis=0)) * (size - 1)
    matched = joint / (joint + apart)
    expected = -(joint * np.log(np.where(joint > 0, matched, 1))).sum() - (apart * np.log(1 - matched)).sum()

    assert compute_bayes_loss(MadData.model_validate(about), "siglip", size) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize(("attributes", "loss"), enumerate([2.586, 1.65, 0.88, 0.39, 0.15, 0.05]))
def test_bayes_losses_of_drawn_attributes_at_a_batch_of_128_are_the_known_ones(attributes: int, loss: float) -> None:
    data = MadData.model_validate({"captions": {"attributes": attributes}})

    assert compute_bayes_loss(data, "clip", 128) == pytest.approx(loss, abs=0.02)


# Bits of drawn attributes: shared, unsaid, and hidden by which attributes are named and in which order.
TABLE = [
    (3.32, 7.39, 0, 0),
    (4.80, 5.91, 2.32, 1.00),
    (6.28, 4.44, 3.32, 2.58),
    (7.76, 2.96, 3.32, 4.58),
    (9.24, 1.48, 2.32, 6.91),
    (10.71, 0, 0, 9.49),
]


@pytest.mark.parametrize(("attributes", "known"), enumerate(TABLE))
def test_bits_of_drawn_attributes_are_the_known_ones(attributes: int, known: tuple[float, ...]) -> None:
    shuffled, canonical = (
        compute_caption_bits(MadData.model_validate({"captions": {"attributes": attributes, "order": order}}))
        for order in ("shuffled", "canonical")
    )
    shared, unsaid, choice, order = known

    assert shuffled.shared == canonical.shared == pytest.approx(shared, abs=0.006)
    assert shuffled.image_given_caption == pytest.approx(unsaid, abs=0.006)
    assert canonical.caption_given_image == pytest.approx(choice, abs=0.006)
    assert shuffled.caption_given_image == pytest.approx(choice + order, abs=0.012)


@pytest.mark.parametrize("main", ["digit", "scale", "colour"])
def test_what_a_caption_tells_and_what_it_leaves_out_make_the_whole_image(main: str) -> None:
    for attributes in range(6):
        bits = compute_caption_bits(
            MadData.model_validate({"main_factor": main, "captions": {"attributes": attributes}})
        )
        assert bits.shared + bits.image_given_caption == pytest.approx(math.log2(1680))


def test_two_pictures_that_share_a_digit_have_the_loss_of_captions_that_name_it() -> None:
    of_pictures = MadData.model_validate({"sides": "image_image", "captions": {"attributes": 0}})
    of_captions = MadData.model_validate({"captions": {"attributes": 0}})

    assert compute_bayes_loss(of_pictures, "clip", 128) == pytest.approx(2.586, abs=0.02)
    assert compute_bayes_loss(of_pictures, "clip", 128) == pytest.approx(compute_bayes_loss(of_captions, "clip", 128))


@settings(max_examples=25, deadline=None)
@given(
    attributes=st.integers(0, 5),
    noise=st.floats(0, 1),
    batch=st.integers(2, 4096),
    kind=st.sampled_from(["clip", "siglip"]),
)
def test_the_bayes_loss_lies_between_nothing_and_guessing(attributes: int, noise: float, batch: int, kind: str) -> None:
    loss = compute_bayes_loss(
        MadData.model_validate({"captions": {"attributes": attributes, "noise": noise}}), kind, batch
    )
    guessing = math.log(batch) + (kind == "siglip") * (batch - 1) * math.log(batch / (batch - 1))

    assert -1e-12 <= loss <= guessing + 1e-9


def test_a_caption_that_tells_nothing_leaves_the_loss_of_guessing() -> None:
    told = MadData.model_validate({"main_factor": "scale", "captions": {"fixed": ["fracture"], "noise": 0.5}})

    assert compute_bayes_loss(told, "clip", 64) == pytest.approx(math.log(64), abs=1e-9)
    assert compute_caption_bits(told).shared == pytest.approx(0, abs=1e-12)


def test_order_and_words_change_what_cannot_be_foreseen_and_not_the_loss() -> None:
    plain, worded = (
        MadData.model_validate({"captions": {"attributes": 3, "order": order, "synonyms": words}})
        for order, words in (("canonical", 1), ("shuffled", 4))
    )

    assert compute_bayes_loss(plain, "clip", 128) == compute_bayes_loss(worded, "clip", 128)
    assert compute_caption_bits(worded).caption_given_image - compute_caption_bits(
        plain
    ).caption_given_image == pytest.approx(8 + math.log2(24))


def test_bits_of_lists_are_the_logarithms_of_their_values() -> None:
    bits = compute_caption_bits(
        MadData.model_validate({"captions": {"fixed": ["thickness", "scale"], "order": "canonical"}})
    )

    assert bits.shared == pytest.approx(math.log2(60))
    assert bits.image_given_caption == pytest.approx(math.log2(28))
    assert bits.caption_given_image == 0


@pytest.mark.parametrize(
    ("captions", "unforeseeable"),
    [
        *(({"attributes": count}, math.log2(math.comb(5, count))) for count in range(6)),
        ({"fixed": ["thickness", "scale"]}, 0.0),
        ({"attributes": 1, "synonyms": 4}, math.log2(5)),
    ],
)
def test_the_order_and_words_of_a_table_s_captions_are_no_bits_of_theirs(
    captions: dict[str, object], unforeseeable: float
) -> None:
    table, encoders = (
        TrialConfig.model_validate({"data": {"captions": captions}, "model": {"preset": preset}})
        for preset in ("table", "mad-tiny")
    )
    bits, worded = find_caption_bits(table), find_caption_bits(encoders)

    assert bits is not None
    assert worded is not None
    assert bits.caption_given_image == pytest.approx(unforeseeable, abs=1e-12)
    assert (bits.shared, bits.image_given_caption) == (worded.shared, worded.image_given_caption)
    assert find_bayes_loss(table) == find_bayes_loss(encoders)


def test_nothing_is_known_of_natural_captions_and_of_other_losses() -> None:
    pairs = TrialConfig.model_validate({"data": {"dataset": "image_text"}, "model": {"preset": "pairs-small"}})

    assert find_caption_bits(pairs) is None
    assert find_bayes_loss(pairs) is None
    assert find_bayes_loss(TrialConfig()) == pytest.approx(compute_bayes_loss(MadData(), "clip", 256))
    assert sum(FACTOR_VALUES.values()) == 26


@pytest.mark.parametrize(("share", "is_known"), [(0.5, True), (0.999, False), (1.0, False)])
def test_the_bayes_loss_of_pairs_that_never_match_is_not_known(share: float, is_known: bool) -> None:
    hundred_steps = {"samples": 6_400, "batch_size": 64, "mismatched": share}

    assert (find_bayes_loss(TrialConfig.model_validate({"train": hundred_steps})) is not None) == is_known


def test_the_bayes_loss_of_a_share_of_the_digits_is_not_known() -> None:
    few = TrialConfig.model_validate({"data": {"share": 0.001}})

    assert find_bayes_loss(few) is None
    assert find_caption_bits(few) == find_caption_bits(TrialConfig())
