"""Which sample comes when is a pure function of seed, epoch and index; captions say what they should."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gapctl.config.trial import MadData
from gapctl.data.mad.captions import (
    CONTEXT_LENGTH,
    END_TOKEN,
    FIRST_VALUE_TOKEN,
    PAD_TOKEN,
    START_TOKEN,
    VOCAB_SIZE,
    build_pair_prompt_tokens,
    build_prompt_tokens,
    format_captions,
)
from gapctl.data.mad.factors import (
    COLOURS,
    FACTOR_NAMES,
    FACTORS,
    VALUES,
    VARIANTS,
    compute_factor_labels,
    find_first_value_index,
)
from gapctl.data.mad.sampler import UNSPECIFIED, MadSampler, MadSamples, parse_captions, sample_gallery
from gapctl.errors import InputError

LABELS = np.arange(50) % 10
MAIN_FACTORS = st.sampled_from(FACTOR_NAMES)
ORDERS = st.sampled_from(["shuffled", "canonical"])
ATTRIBUTES = st.integers(0, 5)


def naming(main: str, attributes: int, order: str = "shuffled", noise: float = 0.0) -> MadData:
    captions = {"attributes": attributes, "order": order, "noise": noise}
    return MadData.model_validate({"main_factor": main, "captions": captions})


def sampler(seed: int = 1, main: str = "digit", attributes: int = 3, order: str = "shuffled") -> MadSampler:
    return MadSampler(seed, LABELS, naming(main, attributes, order))


def assert_equal(first: MadSamples, second: MadSamples) -> None:
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def said(tokens_L: NDArray[np.int64]) -> list[int]:
    return [int(token) - FIRST_VALUE_TOKEN for token in tokens_L if START_TOKEN < token < END_TOKEN]


def test_the_table_has_26_words_of_which_no_two_are_alike_and_24_shapes() -> None:
    assert len(VALUES) == len(set(VALUES)) == 26
    assert VOCAB_SIZE == 29
    assert len(VARIANTS) == 24
    assert VARIANTS[0] == (0, 0, 0, 0)
    assert VARIANTS[-1] == (2, 1, 1, 1)


def test_labels_follow_from_digit_variant_and_colour() -> None:
    labels = compute_factor_labels(np.array([7]), np.array([VARIANTS.index((2, 0, 1, 1))]), np.array([4]))
    assert [factor.values[label] for factor, label in zip(FACTORS, labels[0], strict=True)] == [
        "7",
        "thinning",
        "no swelling",
        "fracture",
        "small",
        "cyan",
    ]


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**40),
    positions=st.lists(st.integers(0, 5 * len(LABELS)), min_size=1, max_size=40),
    attributes=ATTRIBUTES,
    order=ORDERS,
)
def test_a_sample_does_not_depend_on_the_batch_it_is_drawn_in(
    seed: int, positions: list[int], attributes: int, order: str
) -> None:
    drawn = sampler(seed, attributes=attributes, order=order).samples(np.array(positions))
    for row, position in enumerate(positions):
        alone = sampler(seed, attributes=attributes, order=order).samples(np.array([position]))
        assert_equal(alone, MadSamples(*(column[row : row + 1] for column in drawn)))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), main=MAIN_FACTORS, fewer=ATTRIBUTES, more=ATTRIBUTES)
def test_arms_of_one_seed_see_the_same_images_and_nested_captions(seed: int, main: str, fewer: int, more: int) -> None:
    fewer, more = sorted((fewer, more))
    positions = np.arange(60)
    poor = sampler(seed, main, fewer).samples(positions)
    rich = sampler(seed, main, more).samples(positions)
    assert_equal(poor._replace(tokens_BL=rich.tokens_BL), rich)
    for poor_tokens, rich_tokens in zip(poor.tokens_BL, rich.tokens_BL, strict=True):
        assert set(said(poor_tokens)) <= set(said(rich_tokens))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), main=MAIN_FACTORS, attributes=ATTRIBUTES, order=ORDERS)
def test_a_caption_says_the_main_factor_and_as_many_others_as_asked_all_true(
    seed: int, main: str, attributes: int, order: str
) -> None:
    drawn = sampler(seed, main, attributes, order).samples(np.arange(30))
    starts = [find_first_value_index(name) for name in FACTOR_NAMES]
    for tokens, labels in zip(drawn.tokens_BL, drawn.labels_B6, strict=True):
        words = said(tokens)
        true = [start + label for start, label in zip(starts, labels, strict=True)]
        assert len(set(words)) == 1 + attributes
        assert set(words) <= set(true)
        assert true[FACTOR_NAMES.index(main)] in words
        assert order == "shuffled" or words == sorted(words)


def test_tokens_are_framed_and_padded() -> None:
    tokens = sampler(attributes=2).samples(np.arange(20)).tokens_BL
    assert tokens.shape == (20, CONTEXT_LENGTH)
    assert tokens.dtype == np.int64
    assert (tokens[:, 0] == START_TOKEN).all()
    assert (tokens.argmax(axis=1) == 4).all()
    assert (tokens[:, 4] == END_TOKEN).all()
    assert (tokens[:, 5:] == PAD_TOKEN).all()


def test_captions_read_as_values_joined_by_hyphens() -> None:
    drawn = sampler(attributes=5, order="canonical").samples(np.arange(3))
    for text, labels in zip(format_captions(drawn.tokens_BL), drawn.labels_B6, strict=True):
        assert text == "-".join(factor.values[label] for factor, label in zip(FACTORS, labels, strict=True))


def test_an_epoch_shows_each_digit_once_in_an_order_of_its_own() -> None:
    count = len(LABELS)
    first = sampler().samples(np.arange(count))
    second = sampler().samples(np.arange(count, 2 * count))
    assert sorted(first.digit_B) == sorted(second.digit_B) == list(range(count))
    assert not np.array_equal(first.digit_B, second.digit_B)
    assert not np.array_equal(first.digit_B, sampler(seed=2).samples(np.arange(count)).digit_B)


def test_shapes_colours_factors_and_positions_are_drawn_uniformly() -> None:
    many = np.zeros(40_000, np.int64)
    drawn = MadSampler(3, many, naming("digit", 2)).samples(np.arange(len(many)))
    assert np.bincount(drawn.variant_B, minlength=24) == pytest.approx(len(many) / 24, rel=0.1)
    assert np.bincount(drawn.colour_B, minlength=7) == pytest.approx(len(many) / 7, rel=0.05)
    place_of_digit = (drawn.tokens_BL == FIRST_VALUE_TOKEN).argmax(axis=1)
    assert np.bincount(place_of_digit, minlength=4)[1:4] == pytest.approx(len(many) / 3, rel=0.05)
    named = [
        np.mean(
            [
                find_first_value_index(n) <= w < find_first_value_index(n) + len(f.values)
                for t in drawn.tokens_BL[:4000]
                for w in said(t)
            ]
        )
        * 3
        for n, f in zip(FACTOR_NAMES[1:], FACTORS[1:], strict=True)
    ]
    assert named == pytest.approx([2 / 5] * 5, abs=0.04)


@pytest.mark.parametrize(
    ("main", "attributes", "order", "message"),
    [
        ("shape", 1, "shuffled", r"main_factor\n.*'digit', 'thickness'.*input_value='shape'"),
        ("digit", 6, "shuffled", r"attributes\n.*less than or equal to 5"),
        ("digit", 1, "random", r"order\n.*'shuffled' or 'canonical'"),
    ],
)
def test_captions_that_cannot_be_are_refused(main: str, attributes: int, order: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sampler(main=main, attributes=attributes, order=order)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        sampler(seed=-1).samples(np.arange(2))


@pytest.mark.parametrize("size", [1, 49, 50, 173, 50 * 168])
def test_the_gallery_holds_different_images_with_each_digit_equally_often(size: int) -> None:
    gallery = sample_gallery(LABELS, size, naming("digit", 3))
    assert len(set(zip(*(column.tolist() for column in gallery[:3]), strict=True))) == size
    often = np.bincount(gallery.digit_B, minlength=len(LABELS))
    assert often.max() - often.min() <= 1


def test_the_gallery_is_the_same_for_every_trial_and_starts_the_same_for_every_size() -> None:
    poor = sample_gallery(LABELS, 200, naming("digit", 0))
    rich = sample_gallery(LABELS, 200, naming("colour", 5, "canonical"))
    for column in ("digit_B", "variant_B", "colour_B", "labels_B6"):
        np.testing.assert_array_equal(getattr(poor, column), getattr(rich, column))
    np.testing.assert_array_equal(sample_gallery(LABELS, 60, naming("digit", 0)).digit_B, poor.digit_B[:60])


def words_of(samples: MadSamples) -> NDArray[np.int64]:
    """The values that complete captions say, in the order of the factors (B, 6)."""
    starts = [find_first_value_index(name) for name in FACTOR_NAMES]
    return np.array([sorted(said(tokens)) for tokens in samples.tokens_BL]) - starts


def noisy(noise: float) -> MadSamples:
    return MadSampler(1, np.arange(5000) % 10, naming("digit", 5, noise=noise)).samples(np.arange(5000))


def test_noise_says_other_values_of_the_same_factor_as_often_as_asked() -> None:
    wrong = words_of(noisy(0.3)) != noisy(0.3).labels_B6

    assert np.all(np.abs(wrong.mean(axis=0) - 0.3) < 0.02)
    assert np.all(words_of(noisy(1.0)) != noisy(1.0).labels_B6)
    assert all(len(set(column)) == len(FACTORS[place].values) for place, column in enumerate(words_of(noisy(1.0)).T))


def test_noise_changes_captions_alone_and_more_of_it_keeps_what_less_changed() -> None:
    none, some, more = noisy(0.0), noisy(0.1), noisy(0.4)
    for column in ("digit_B", "variant_B", "colour_B", "labels_B6"):
        np.testing.assert_array_equal(getattr(none, column), getattr(more, column))
    np.testing.assert_array_equal(words_of(none), none.labels_B6)

    changed = words_of(some) != words_of(none)
    np.testing.assert_array_equal(words_of(some)[changed], words_of(more)[changed])


@pytest.mark.parametrize("size", [0, 50 * 168 + 1])
def test_a_gallery_larger_than_the_test_split_is_refused(size: int) -> None:
    with pytest.raises(InputError, match=r"evaluate\.gallery is \d+, but the test split has 50 digits and so 8400"):
        sample_gallery(LABELS, size, naming("digit", 3))


@settings(max_examples=40, deadline=None)
@given(factor=MAIN_FACTORS, main=MAIN_FACTORS, attributes=ATTRIBUTES, order=ORDERS, seed=st.integers(0, 100))
def test_prompts_are_captions_that_name_the_value(
    factor: str, main: str, attributes: int, order: str, seed: int
) -> None:
    tokens = build_prompt_tokens(factor, naming(main, attributes, order), 6, seed)
    size, start = len(FACTORS[FACTOR_NAMES.index(factor)].values), find_first_value_index(factor)
    length = 1 + (attributes if factor == main else max(attributes, 1))
    assert tokens.shape == (size, 6, CONTEXT_LENGTH)
    for value in range(size):
        for caption in tokens[value]:
            assert start + value in said(caption)
            assert len(said(caption)) == length
    other = [[[word for word in said(c) if not start <= word < start + size] for c in row] for row in tokens]
    assert all(row == other[0] for row in other)


@settings(max_examples=20, deadline=None)
@given(factor=MAIN_FACTORS, main=MAIN_FACTORS, attributes=ATTRIBUTES, order=ORDERS, seed=st.integers(0, 100))
def test_prompts_of_pairs_are_captions_that_name_both_values_and_differ_in_nothing_else(
    factor: str, main: str, attributes: int, order: str, seed: int
) -> None:
    if factor == main:
        return
    tokens = build_pair_prompt_tokens(factor, naming(main, attributes, order), 4, seed)
    sizes = [len(FACTORS[FACTOR_NAMES.index(each)].values) for each in (main, factor)]
    starts = [find_first_value_index(each) for each in (main, factor)]
    assert tokens.shape == (*sizes, 4, CONTEXT_LENGTH)
    others = set()
    for one in range(sizes[0]):
        for value in range(sizes[1]):
            pair = {starts[0] + one, starts[1] + value}
            assert all(pair <= set(said(caption)) for caption in tokens[one, value])
            others.add(
                tuple(tuple(word for word in said(caption) if word not in pair) for caption in tokens[one, value])
            )
    assert len(others) == 1


@settings(max_examples=20, deadline=None)
@given(main=MAIN_FACTORS, attributes=ATTRIBUTES, order=ORDERS)
def test_captions_tell_which_factors_they_name(main: str, attributes: int, order: str) -> None:
    drawn = sample_gallery(LABELS, 40, naming(main, attributes, order))

    named = parse_captions(drawn.tokens_BL) != UNSPECIFIED

    assert named[:, FACTOR_NAMES.index(main)].all()
    assert (named.sum(axis=1) == 1 + attributes).all()
    first = np.array([find_first_value_index(name) for name in FACTOR_NAMES])
    for row, caption in enumerate(drawn.tokens_BL):
        assert set(said(caption)) == set((first + drawn.labels_B6[row])[named[row]])


def test_colours_are_seven() -> None:
    assert COLOURS == ("gray", "red", "green", "blue", "cyan", "magenta", "yellow")
