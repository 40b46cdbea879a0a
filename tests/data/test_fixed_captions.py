"""Captions that always name the same factors, and values that have several words: `fixed`, `synonyms`."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gapctl.config.trial import FACTOR_VALUES, MadCaptions, MadData
from gapctl.data.mad.captions import (
    END_TOKEN,
    VALUES,
    VOCAB_SIZE,
    build_prompt_tokens,
    convert_captions_to_tokens,
    count_added_tokens,
    find_named_values,
    format_captions,
)
from gapctl.data.mad.factors import FACTOR_NAMES
from gapctl.data.mad.sampler import UNSPECIFIED, MadSampler, parse_captions, sample_gallery
from gapctl.errors import InputError

LABELS = np.arange(40) % 10
EPOCHS = np.arange(3 * len(LABELS))
SUBSETS = [
    (main, fixed)
    for main in FACTOR_NAMES
    for count in range(1, 6)
    for fixed in combinations([name for name in FACTOR_NAMES if name != main], count)
]


def about(main: str = "digit", **captions: Any) -> MadData:
    return MadData.model_validate({"main_factor": main, "captions": captions})


def name_factors(tokens_BL: NDArray[np.int64]) -> set[frozenset[str]]:
    """The sets of factors that captions name."""
    named_B6 = parse_captions(tokens_BL) != UNSPECIFIED
    return {frozenset(np.array(FACTOR_NAMES)[row]) for row in named_B6}


@pytest.mark.parametrize(("main", "fixed"), SUBSETS, ids=["-".join([main, *fixed]) for main, fixed in SUBSETS])
def test_every_caption_names_the_listed_factors_and_no_others(main: str, fixed: tuple[str, ...]) -> None:
    data = about(main, fixed=list(fixed))
    training = MadSampler(3, LABELS, data).samples(EPOCHS)
    gallery = sample_gallery(LABELS, 90, data)
    expected = {frozenset({main, *fixed})}

    assert name_factors(training.tokens_BL) == name_factors(gallery.tokens_BL) == expected
    np.testing.assert_array_equal(
        parse_captions(training.tokens_BL), np.where(_is_named(expected), training.labels_B6, UNSPECIFIED)
    )
    for factor in (main, *fixed):
        assert name_factors(build_prompt_tokens(factor, data, 8).reshape(-1, 8)) == expected
    for factor in set(FACTOR_NAMES) - {main, *fixed}:
        asked = name_factors(build_prompt_tokens(factor, data, 8).reshape(-1, 8))
        assert all({main, factor} <= names <= {main, factor, *fixed} for names in asked)
        assert {len(names) for names in asked} == {1 + len(fixed)}


def _is_named(expected: set[frozenset[str]]) -> NDArray[np.bool_]:
    (names,) = expected
    return np.array([name in names for name in FACTOR_NAMES])


@settings(max_examples=30, deadline=None)
@given(subset=st.sampled_from(SUBSETS), order=st.sampled_from(["shuffled", "canonical"]), seed=st.integers(0, 99))
def test_a_fixed_list_changes_the_captions_alone(subset: tuple[str, tuple[str, ...]], order: str, seed: int) -> None:
    main, fixed = subset
    listed = MadSampler(seed, LABELS, about(main, fixed=list(fixed), order=order)).samples(EPOCHS)
    drawn = MadSampler(seed, LABELS, about(main, attributes=len(fixed), order=order)).samples(EPOCHS)

    for one, other in zip(listed._replace(tokens_BL=drawn.tokens_BL), drawn, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_caption_is_the_same_at_each_access_of_an_image() -> None:
    samples = MadSampler(0, LABELS, about(fixed=["swelling"], order="canonical")).samples(EPOCHS)
    captions: dict[tuple[int, ...], set[str]] = {}
    for labels, caption in zip(samples.labels_B6.tolist(), format_captions(samples.tokens_BL), strict=True):
        captions.setdefault((labels[0], labels[2]), set()).add(caption)

    assert len(captions) < len(EPOCHS)
    assert all(len(found) == 1 for found in captions.values())


def test_all_five_attributes_fixed_are_all_five_drawn() -> None:
    listed = [name for name in FACTOR_NAMES if name != "digit"]
    fixed, drawn = (MadSampler(1, LABELS, data).samples(EPOCHS) for data in (about(fixed=listed), about()))

    np.testing.assert_array_equal(fixed.tokens_BL, drawn.tokens_BL)


def test_full_held_out_captions_name_all_whatever_is_fixed() -> None:
    shown = sample_gallery(LABELS, 50, about(fixed=["colour"], held_out="full"))

    assert name_factors(shown.tokens_BL) == {frozenset(FACTOR_NAMES)}


def test_a_list_gives_the_number_of_attributes_and_has_one_order_and_one_form() -> None:
    listed = MadCaptions.model_validate({"fixed": ["colour", "scale"]})

    assert listed.attributes == 2
    assert listed.fixed == ("scale", "colour")
    for written in ("colour, scale", "scale,colour", ["scale", "colour"]):
        assert MadCaptions.model_validate({"fixed": written}) == listed
    for none in ("none", [], ()):
        assert MadCaptions.model_validate({"fixed": none}) == MadCaptions()


@settings(max_examples=25, deadline=None)
@given(
    synonyms=st.integers(2, 4),
    attributes=st.integers(0, 5),
    seed=st.integers(0, 99),
    draw=st.sampled_from(["each_access", "once"]),
)
def test_synonyms_change_words_and_not_what_is_said(synonyms: int, attributes: int, seed: int, draw: str) -> None:
    plain = MadSampler(seed, LABELS, about(attributes=attributes)).samples(EPOCHS)
    data = about(attributes=attributes, synonyms=synonyms, synonym_draw=draw)
    worded = MadSampler(seed, LABELS, data).samples(EPOCHS)

    np.testing.assert_array_equal(find_named_values(worded.tokens_BL), find_named_values(plain.tokens_BL))
    np.testing.assert_array_equal(worded.labels_B6, plain.labels_B6)
    assert worded.tokens_BL.max() < VOCAB_SIZE + count_added_tokens(data)
    np.testing.assert_array_equal(
        convert_captions_to_tokens(format_captions(worded.tokens_BL), synonyms), worded.tokens_BL
    )


def test_each_word_of_a_value_is_as_frequent_as_any_other() -> None:
    samples = MadSampler(0, np.zeros(6_000, np.int64), about(attributes=0, synonyms=3)).samples(np.arange(6_000))
    words, counts = np.unique(samples.tokens_BL[:, 1], return_counts=True)

    assert format_captions(np.array([[1, word, END_TOKEN] for word in words])) == ["0", "0~2", "0~3"]
    assert counts == pytest.approx([2_000] * 3, abs=150)


def test_words_drawn_once_belong_to_a_digit_and_others_to_the_access() -> None:
    once, anew = (
        MadSampler(5, LABELS, about(attributes=0, synonyms=4, synonym_draw=draw)).samples(EPOCHS)
        for draw in ("once", "each_access")
    )
    words_once, words_anew = (
        [len(set(samples.tokens_BL[samples.digit_B == digit, 1].tolist())) for digit in range(len(LABELS))]
        for samples in (once, anew)
    )

    assert words_once == [1] * len(LABELS)
    assert max(words_anew) > 1
    assert len(set(once.tokens_BL[:, 1].tolist())) > 20


def test_a_digits_words_are_its_own_in_the_gallery_too() -> None:
    gallery = sample_gallery(LABELS, 120, about(attributes=0, synonyms=4, synonym_draw="once"))

    assert all(len(set(gallery.tokens_BL[gallery.digit_B == digit, 1].tolist())) == 1 for digit in range(len(LABELS)))


def test_a_sample_with_synonyms_does_not_depend_on_its_batch() -> None:
    data = about(synonyms=3)
    together = MadSampler(2, LABELS, data).samples(EPOCHS)

    for position in (0, 39, 40, 119):
        alone = MadSampler(2, LABELS, data).samples(np.array([position]))
        np.testing.assert_array_equal(alone.tokens_BL[0], together.tokens_BL[position])


def test_templates_of_a_question_differ_in_the_value_alone_with_synonyms_too() -> None:
    tokens_KTL = build_prompt_tokens("colour", about(synonyms=3), 5)
    words_KTL = find_named_values(tokens_KTL.reshape(-1, 8)).reshape(tokens_KTL.shape)
    differ_TL = (words_KTL != words_KTL[:1]).any(axis=0)

    assert (differ_TL.sum(axis=1) == 1).all()
    assert len(np.unique(tokens_KTL)) > 30


@pytest.mark.parametrize(
    ("captions", "key", "said"),
    [
        ({"fixed": ["color"]}, "fixed", "found 'color'; did you mean colour?"),
        ({"fixed": "colour, size"}, "fixed", "found 'size'"),
        ({"fixed": ["colour", "colour"]}, "fixed", "found 'colour' 2 times; expected each factor once"),
        ({"fixed": [3]}, "fixed", "found 3; expected one of thickness"),
        ({"fixed": ["colour"], "attributes": 2}, "attributes", "found 2; expected 1, as many as captions.fixed lists"),
        ({"fixed": ["digit"]}, "captions.fixed", "found 'digit', the main factor"),
        ({"synonyms": 5}, "synonyms", "less than or equal to 4"),
        ({"synonym_draw": "once"}, "synonym_draw", "found 'once' with synonyms 1"),
    ],
)
def test_wrong_captions_are_answered_with_what_was_expected(captions: dict[str, Any], key: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"captions|fixed") as caught:
        about(**captions)
    (error,) = caught.value.errors()  # type: ignore[attr-defined]
    place = ".".join(map(str, error["loc"]))

    assert said in error["msg"]
    assert key in (place.rpartition(".")[2], getattr(error.get("ctx", {}).get("error"), "key", ""))


def test_a_wrong_name_is_answered_with_every_factor_but_the_main_one() -> None:
    with pytest.raises(ValueError, match=r"Expected one of digit, thickness, swelling, fracture, scale, several in"):
        about("colour", fixed=["digits"])


def test_pictures_have_no_words() -> None:
    with pytest.raises(ValueError, match=r"found image_image with captions\.synonyms 2; pictures have no words"):
        MadData.model_validate({"sides": "image_image", "captions": {"synonyms": 2}})


def test_a_word_that_no_value_has_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"no factor of MAD has the value 'red~2'; did you mean red\?"):
        convert_captions_to_tokens(["3-red~2"])
    assert convert_captions_to_tokens(["3-red~2"], 2)[0, 2] == END_TOKEN + 1 + VALUES.index("red")


def test_the_factors_of_captions_are_those_of_the_table() -> None:
    assert tuple(FACTOR_VALUES) == FACTOR_NAMES
