"""What caption treatments keep: known answers of the paper's cuts, and properties that hold for any caption."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gapctl.config.trial import UNDRAWN_TREATMENTS, PairCaptions
from gapctl.data.treatments import TREATMENT_TABLE, treat_caption

WORDS = st.lists(st.text("abcdefg.,!-é", min_size=1, max_size=6), min_size=1, max_size=40)
PLACES = st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 50), st.integers(0, 2**40))
FREE = [name for name, treatment in TREATMENT_TABLE.items() if not treatment.needs]
DRAWN = [name for name in FREE if TREATMENT_TABLE[name].per_access]
SUBSETS = [name for name in FREE if name != "sentences"]


def kept(rule: str | PairCaptions, words: list[str], place: tuple[int, int, int] = (0, 0, 0)) -> list[str]:
    rule = rule if isinstance(rule, PairCaptions) else PairCaptions.model_validate({"keep": rule})
    found = treat_caption(rule, " ".join(words), {}, *place)
    assert found is not None
    return found.text.split(" ") if found.text else []


def all_parts(name: str, words: list[str]) -> set[str]:
    return {" ".join(kept(name, words, (0, 0, sample))) for sample in range(200)}


def test_a_half_is_one_of_two_and_a_quarter_one_of_four_cut_where_the_paper_cuts() -> None:
    words = list("abcdefghijk")
    assert all_parts("half", words) == {"a b c d e", "f g h i j k"}
    assert all_parts("quarter", words) == {"a b", "c d e", "f g h", "i j k"}


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["a"], {"", "a"}),
        (["a", "b"], {"", "a", "b"}),
        (["a", "b", "c"], {"", "a", "b", "c"}),
        (list("abcd"), set("abcd")),
    ],
)
def test_a_quarter_of_fewer_than_four_words_may_leave_nothing(words: list[str], parts: set[str]) -> None:
    assert all_parts("quarter", words) == parts


@given(WORDS)
def test_the_four_quarters_make_up_the_caption(words: list[str]) -> None:
    count = len(words)
    cuts = [0, int(count / 4), int(count / 2), int(3 * count / 4), count]
    expected = {" ".join(words[low:high]) for low, high in pairwise(cuts)}
    assert all_parts("quarter", words) == expected


@given(WORDS, PLACES)
def test_a_quarter_lies_within_the_half_of_the_same_draw(words: list[str], place: tuple[int, int, int]) -> None:
    quarter, half = " ".join(kept("quarter", words, place)), " ".join(kept("half", words, place))
    assert quarter in half


@given(WORDS, PLACES, st.floats(0, 1), st.floats(0, 1))
def test_words_kept_at_a_low_rate_are_kept_at_a_higher_one(
    words: list[str], place: tuple[int, int, int], one: float, other: float
) -> None:
    low, high = (kept(PairCaptions(keep="words", rate=rate), words, place) for rate in sorted((one, other)))
    remaining = iter(high)
    assert all(word in remaining for word in low)


@given(WORDS, PLACES, st.sampled_from(SUBSETS))
def test_nothing_is_said_that_the_caption_does_not_say(
    words: list[str], place: tuple[int, int, int], name: str
) -> None:
    assert not Counter(kept(name, words, place)) - Counter(words)


@given(WORDS, PLACES, st.sampled_from(FREE))
def test_the_same_sample_seed_and_epoch_read_the_same(words: list[str], place: tuple[int, int, int], name: str) -> None:
    assert kept(name, words, place) == kept(name, words, place)


@pytest.mark.parametrize("place", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_another_seed_epoch_or_sample_reads_otherwise(place: tuple[int, int, int]) -> None:
    words = [str(number) for number in range(40)]
    assert kept("words", words, place) != kept("words", words)


@given(WORDS, PLACES)
def test_a_shuffle_keeps_every_word(words: list[str], place: tuple[int, int, int]) -> None:
    assert sorted(kept("shuffled", words, place)) == sorted(words)


@given(WORDS, PLACES)
def test_length_matched_captions_are_as_long_as_the_shortest_quarter(
    words: list[str], place: tuple[int, int, int]
) -> None:
    assert len(kept("length_matched", words, place)) == len(words) // 4


def test_words_are_kept_at_the_rate_that_was_asked_for() -> None:
    shares = []
    for sample in range(400):
        treated = treat_caption(PairCaptions(keep="words", rate=0.3), " ".join("w" * 50), {}, 0, 0, sample)
        assert treated is not None
        shares.append(treated.kept / treated.words)
    assert sum(shares) / len(shares) == pytest.approx(0.3, abs=0.02)


def test_sentences_are_whole_and_in_their_order() -> None:
    caption, found = "A dog. A cat! Is it a bird? Yes.", set()
    for sample in range(100):
        treated = treat_caption(PairCaptions(keep="sentences", sentences=2), caption, {}, 0, 0, sample)
        assert treated is not None
        found.add(treated.text)
    assert "A dog. Yes." in found
    assert len(found) == 6
    assert not any(text.startswith("Yes.") for text in found)


PHOTO = "a red dog runs, two cats watch"
TAGS = ["DET", "ADJ", "NOUN", "VERB", "NUM", "NOUN", "VERB"]


@pytest.mark.parametrize(
    ("rule", "about", "expected"),
    [
        (PairCaptions(keep="full"), {}, PHOTO),
        (PairCaptions(keep="objects"), {"pos": TAGS, "keywords": ["red"]}, "dog cats"),
        (PairCaptions(keep="attributes"), {"pos": TAGS}, "red two"),
        (PairCaptions(keep="objects"), {"keywords": ["Dog", "two cats"]}, "dog two cats"),
        (PairCaptions(keep="objects"), {"pos": TAGS[:3]}, None),
        (PairCaptions(keep="objects"), {}, None),
        (PairCaptions(keep="attributes"), {"keywords": ["dog"]}, None),
        (PairCaptions(keep="keywords"), {"keywords": ["dog", " ", 7, "cats"]}, "dog, cats"),
        (PairCaptions(keep="keywords"), {"keywords": "dog"}, None),
        (PairCaptions(keep="enriched", field="long"), {"long": "It is sunny. "}, f"{PHOTO} It is sunny."),
        (PairCaptions(keep="enriched", field="long"), {"long": 3}, None),
        (PairCaptions(keep="keywords"), {"keywords": ["\ud800"]}, "?"),
    ],
)
def test_what_is_read_from_the_json_is_kept_or_said_to_lack(
    rule: PairCaptions, about: dict[str, object], expected: str | None
) -> None:
    found = treat_caption(rule, PHOTO, about, 0, 0, 0)
    assert (found.text if found else None) == expected


def test_bits_of_chance_are_those_of_the_choices() -> None:
    def bits(name: str, words: int, rate: float = 0.25) -> float:
        found = TREATMENT_TABLE[name].private_bits
        assert found is not None
        return found(words, PairCaptions.model_validate({"keep": name, "rate": rate}))

    assert bits("full", 9) == 0
    assert (bits("half", 9), bits("quarter", 9)) == (1, 2)
    assert bits("words", 10, 0.5) == pytest.approx(10)
    assert bits("words", 10, 1.0) == 0
    assert bits("shuffled", 3) == pytest.approx(2.585, abs=1e-3)
    assert bits("length_matched", 8) == pytest.approx(5.807, abs=1e-3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"keep": "qarter"}, "did you mean quarter"),
        ({"keep": "words", "rate": 1.5}, r"rate\n.*less than or equal to 1"),
        ({"keep": "words", "rate": float("nan")}, r"rate\n.*finite number"),
        ({"keep": "sentences", "sentences": 0}, r"sentences\n.*greater than or equal to 1"),
        ({"keep": "enriched"}, "expected the json key of the second caption"),
    ],
)
def test_a_wrong_rule_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PairCaptions.model_validate(fields)


@given(WORDS, PLACES, st.integers(0, 50), st.sampled_from(DRAWN))
def test_a_cut_that_is_drawn_once_is_the_first_epochs_in_every_epoch(
    words: list[str], place: tuple[int, int, int], epoch: int, name: str
) -> None:
    once = PairCaptions.model_validate({"keep": name, "draw": "once"})
    seed, _, sample = place

    assert kept(once, words, (seed, epoch, sample)) == kept(once, words, (seed, 0, sample))
    assert kept(once, words, (seed, epoch, sample)) == kept(name, words, (seed, 0, sample))


def test_the_treatments_that_draw_are_those_that_may_draw_once() -> None:
    assert tuple(name for name, line in TREATMENT_TABLE.items() if not line.per_access) == UNDRAWN_TREATMENTS


@pytest.mark.parametrize("name", UNDRAWN_TREATMENTS)
def test_a_treatment_that_draws_nothing_cannot_draw_once(name: str) -> None:
    with pytest.raises(
        ValidationError, match=f"found 'once' with keep {name}, which draws nothing; expected keep half"
    ):
        PairCaptions.model_validate({"keep": name, "field": "long", "draw": "once"})
