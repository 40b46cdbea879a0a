"""Ideal words take the embeddings of pairs apart into a word for each part, and their sums stand for texts again."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import gapctl
from gap_galleries import gallery, rng
from gapctl.errors import InputError
from gapctl.interventions.bootstrap import BiasStatistic
from gapctl.interventions.fit import find_candidate, list_candidates, nothing
from gapctl.interventions.ideal_words import average_pair_texts, fit_ideal_words, replace_by_ideal_words
from gapctl.interventions.judge import build_statistics, judge_interventions
from gapctl.metrics.bias import moad
from gapctl.metrics.classification import ClassPrompts, PairQuestion, ZeroShotTasks
from gapctl.metrics.embedding_set import Embeddings, normalise_rows
from gapctl.report.intervene_page import describe_ideal_words

IMAGES = 60
OBJECTS = np.arange(IMAGES) % 3
VALUES = np.arange(IMAGES) // 3 % 4


def circles(objects: int = 3, values: int = 4) -> NDArray[np.float64]:
    """Unit rows that are sums by construction: the object turns in one plane, the value of its attribute in another."""
    one_O, other_A = 2 * np.pi * np.arange(objects) / objects, 2 * np.pi * np.arange(values) / values + 1
    rows_OAD = np.zeros((objects, values, 4))
    rows_OAD[..., 0], rows_OAD[..., 1] = np.cos(one_O)[:, None], np.sin(one_O)[:, None]
    rows_OAD[..., 2], rows_OAD[..., 3] = np.cos(other_A), np.sin(other_A)
    return rows_OAD / np.sqrt(2)


def questions(pair_OAD: NDArray[np.float64], present_OA: NDArray[np.bool_] | None = None) -> ZeroShotTasks:
    """Prompts of objects, of values and of pairs, for the images of `OBJECTS` and `VALUES`."""
    drawn, shape = rng(1), pair_OAD.shape
    present = np.ones(shape[:2], bool) if present_OA is None else present_OA
    return ZeroShotTasks(
        {
            "shape": ClassPrompts(drawn.normal(size=(shape[0], shape[2])), OBJECTS),
            "colour": ClassPrompts(drawn.normal(size=(shape[1], shape[2])), VALUES),
        },
        "shape",
        {"colour": PairQuestion(pair_OAD, OBJECTS, VALUES, present)},
    )


def labelled(pair_OAD: NDArray[np.float64]) -> Embeddings:
    """Images at random, each with the text of its pair."""
    image_ND = normalise_rows(rng(2).normal(size=(IMAGES, pair_OAD.shape[2])))
    return Embeddings(image_ND, pair_OAD[OBJECTS, VALUES], labels_N=OBJECTS, attributes_NF=VALUES[:, None])


def test_the_words_of_two_objects_and_two_values_by_hand() -> None:
    """Pairs (3, 1), (1, 1), (0, 4), (0, 2): their mean is (1, 2), that of the first object (2, 1)."""
    words = fit_ideal_words({"colour": np.array([[[3.0, 1], [1, 1]], [[0, 4], [0, 2]]])})

    assert words.mean_D.tolist() == [1, 2]
    assert words.object_OD.tolist() == [[1, -1], [-1, 1]]
    assert words.value_AD["colour"].tolist() == [[0.5, 0.5], [-0.5, -0.5]]
    # What a pair has beyond the sum of its words is lost: (3, 1) becomes (1, 2) + (1, -1) + (0.5, 0.5).
    assert words.compose(np.array([0, 1]), {"colour": np.array([0, 1])}).tolist() == [[2.5, 1.5], [-0.5, 2.5]]


@given(st.integers(2, 7), st.integers(2, 7), st.integers(2, 9), st.integers(0, 2**32))
def test_pairs_that_are_sums_are_reproduced(objects: int, values: int, width: int, seed: int) -> None:
    drawn = rng(seed)
    pair_OAD = drawn.normal(size=(objects, 1, width)) + drawn.normal(size=(1, values, width))
    object_P, value_P = np.divmod(np.arange(objects * values), values)

    sum_PD = fit_ideal_words({"colour": pair_OAD}).compose(object_P, {"colour": value_P})

    np.testing.assert_allclose(sum_PD, pair_OAD.reshape(-1, width), atol=1e-12)


@given(st.integers(2, 6), st.integers(2, 6), st.integers(0, 2**32))
def test_words_add_up_to_nothing_and_sums_keep_the_mean(objects: int, values: int, seed: int) -> None:
    pair_OAD = rng(seed).normal(size=(objects, values, 5))
    object_P, value_P = np.divmod(np.arange(objects * values), values)

    words = fit_ideal_words({"colour": pair_OAD})

    np.testing.assert_allclose(words.object_OD.sum(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(words.value_AD["colour"].sum(axis=0), 0, atol=1e-12)
    sum_PD = words.compose(object_P, {"colour": value_P})
    np.testing.assert_allclose(sum_PD.mean(axis=0), pair_OAD.mean(axis=(0, 1)), atol=1e-12)


def test_a_text_gets_the_words_of_the_attributes_that_it_names() -> None:
    drawn = rng(3)
    objects_OD, colours_AD, sizes_AD = (drawn.normal(size=(count, 5)) for count in (3, 4, 2))
    words = fit_ideal_words({"colour": objects_OD[:, None] + colours_AD, "size": objects_OD[:, None] + sizes_AD})

    both, one = words.compose(np.array([1, 1]), {"colour": np.array([2, 2]), "size": np.array([1, -1])})

    centred = sizes_AD[1] - sizes_AD.mean(axis=0)
    np.testing.assert_allclose(both - one, centred, atol=1e-12)


def test_texts_that_are_sums_and_all_images_stay_as_they_are() -> None:
    found = labelled(circles())

    moved, asked = replace_by_ideal_words(found, questions(circles()))

    assert moved.image_ND is found.image_ND
    np.testing.assert_allclose(moved.text_MD, found.text_MD, atol=1e-12)
    np.testing.assert_allclose(asked.pairs["colour"].prompt_OAD, circles(), atol=1e-12)


def test_prompts_become_the_mean_and_one_word() -> None:
    pair_OAD = normalise_rows(rng(5).normal(size=(12, 6))).reshape(3, 4, 6)
    found = replace(labelled(pair_OAD), class_CD=rng(6).normal(size=(3, 6)).astype(np.float32))

    moved, asked = replace_by_ideal_words(found, questions(pair_OAD))

    np.testing.assert_allclose(asked.questions["shape"].prompt_CD, normalise_rows(pair_OAD.mean(axis=1)), atol=1e-12)
    np.testing.assert_allclose(asked.questions["colour"].prompt_CD, normalise_rows(pair_OAD.mean(axis=0)), atol=1e-12)
    assert moved.class_CD is not None
    assert moved.class_CD.dtype == np.float32
    np.testing.assert_allclose(moved.class_CD, asked.questions["shape"].prompt_CD, atol=1e-6)


def test_a_share_of_the_way_lies_between() -> None:
    pair_OAD = normalise_rows(rng(5).normal(size=(12, 6))).reshape(3, 4, 6)
    found, asked = labelled(pair_OAD), questions(pair_OAD)

    still, half = (replace_by_ideal_words(found, asked, share)[0].text_MD for share in (0.0, 0.5))
    words = fit_ideal_words({"colour": pair_OAD})
    sum_ND = words.compose(OBJECTS, {"colour": VALUES})

    np.testing.assert_allclose(still, found.text_MD, atol=1e-12)
    np.testing.assert_allclose(half, normalise_rows((found.text_MD + sum_ND) / 2), atol=1e-12)


def test_several_texts_of_an_image_become_the_sum_of_its_words() -> None:
    owner_M = np.repeat(np.arange(IMAGES), 2)
    found = replace(labelled(circles()), text_MD=rng(8).normal(size=(2 * IMAGES, 4)), text_to_image_M=owner_M)

    moved, _ = replace_by_ideal_words(found, questions(circles()))

    np.testing.assert_allclose(moved.text_MD, circles()[OBJECTS[owner_M], VALUES[owner_M]], atol=1e-12)


def test_labelled_texts_are_averaged_into_pairs() -> None:
    found = labelled(circles())
    found = replace(found, text_MD=found.text_MD * np.arange(1, IMAGES + 1)[:, None], labels_N=10 * OBJECTS)

    (question,) = average_pair_texts(found, ZeroShotTasks()).values()

    np.testing.assert_allclose(question.prompt_OAD, circles(), atol=1e-12)
    assert question.object_N.tolist() == OBJECTS.tolist()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"labels_N": None}, "found no `labels`; expected the object and the attribute of each image"),
        ({"attributes_NF": None}, "found no `attributes`"),
        ({"labels_N": np.full(IMAGES, 7)}, "labels has one value, 7; expected at least 2"),
        ({"attributes_NF": np.zeros((IMAGES, 1), int)}, "attribute has one value, 0; expected at least 2"),
        (
            {"attributes_NF": np.where((OBJECTS == 2) & (VALUES == 1), 3, VALUES)},
            r"no image has object 2 with attribute 1 \(1 of 12 pairs are missing\); expected every object with every",
        ),
    ],
)
def test_texts_without_all_pairs_are_refused(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        average_pair_texts(replace(labelled(circles()), **changes), ZeroShotTasks())  # type: ignore[arg-type]


def test_prompts_of_classes_name_no_attribute() -> None:
    found = Embeddings(
        gallery(40).image_ND,
        gallery(3).text_MD,
        prompt_of_N=np.arange(40) % 3,
        labels_N=np.arange(40) % 3,
        attributes_NF=np.arange(40) % 2,
    )

    with pytest.raises(InputError, match="found texts that are prompts of classes"):
        average_pair_texts(found, ZeroShotTasks())


def test_without_pairs_there_are_no_words() -> None:
    with pytest.raises(InputError, match="no prompts of an object with an attribute are known"):
        replace_by_ideal_words(labelled(circles()), ZeroShotTasks())


def test_a_pair_that_no_image_has_is_no_answer() -> None:
    """Its prompt is nearest to every image."""
    pair_OAD = normalise_rows(rng(9).normal(size=(20, 6))).reshape(4, 5, 6)
    present_OA = np.zeros((4, 5), bool)
    present_OA[OBJECTS, VALUES] = True
    found = replace(labelled(pair_OAD), image_ND=normalise_rows(pair_OAD[OBJECTS, VALUES] + 5 * pair_OAD[3, 4]))
    nearest_N = np.argmax(found.image_ND @ pair_OAD[:3, :4].reshape(12, 6).T, axis=1)

    _, items, *_ = build_statistics(found, questions(pair_OAD, present_OA), nothing(6))

    right = 100 * (nearest_N == 4 * OBJECTS + VALUES).mean()
    assert items.values(np.ones((1, IMAGES)))["quality/pair_accuracy"][0] == pytest.approx(right)
    assert right > 0


def test_the_bias_of_resampled_texts_is_that_of_texts_that_stand_as_often() -> None:
    text_ND = normalise_rows(rng(4).normal(size=(IMAGES, 5)))
    weight_N = rng(5).integers(0, 3, IMAGES)
    drawn_N = np.repeat(np.arange(IMAGES), weight_N)
    statistic = BiasStatistic(text_ND, (OBJECTS, VALUES))

    every = statistic.values(np.ones((1, IMAGES)))["bias/moad_text"]
    (resampled,) = statistic.values(weight_N[None].astype(float))["bias/moad_text"]

    assert every[0] == pytest.approx(moad(text_ND, OBJECTS, VALUES[:, None]).value)
    cosine_NN = text_ND[drawn_N] @ text_ND[drawn_N].T
    other_NN = drawn_N[:, None] != drawn_N  # a text that was drawn twice makes no pair with itself
    margins = []
    for label_N in (OBJECTS[drawn_N], VALUES[drawn_N]):
        same_NN = label_N[:, None] == label_N
        margins.append(cosine_NN[same_NN & other_NN].mean() - cosine_NN[~same_NN].mean())
    assert resampled == pytest.approx(margins[0] - margins[1])


def test_sums_of_words_are_judged_beside_other_interventions() -> None:
    pair_OAD = normalise_rows(rng(9).normal(size=(12, 6))).reshape(3, 4, 6)
    found = labelled(pair_OAD)
    asked = questions(pair_OAD)

    report = judge_interventions(found, asked, list_candidates([1.0], [1], ideal_words=True), 0.5, 0)

    (words,) = [each for each in report.judged if each.family == "ideal_words"]
    assert words.name == "ideal words"
    assert {"quality/pair_accuracy", "bias/moad_text", "quality/attribute_accuracy"} <= set(words.changes)
    held_out = report.held_out_images
    assert words.changes["bias/moad_text"].value != report.before["bias/moad_text"]
    said = describe_ideal_words(report)
    assert said.startswith("Ideal words change the zero-shot accuracy of the attributes by ")
    assert said.count(" points (") == 4  # attributes, object, pairs and the bias of texts, each with an interval
    assert describe_ideal_words(replace(report, judged=report.judged[:1])) == ""
    assert (words.changes["quality/pair_accuracy"].value * held_out / 100) % 1 == pytest.approx(0, abs=1e-9)


def test_pairs_that_are_sums_change_nothing_that_is_judged_of_texts() -> None:
    report = judge_interventions(
        labelled(circles()), questions(circles()), list_candidates([], [], ideal_words=True), 0.5, 0
    )

    (words,) = [each for each in report.judged if each.family == "ideal_words"]
    for key in ("gap/l2m", "gap/rmg", "bias/moad_text", "quality/pair_accuracy"):
        assert words.changes[key].change == pytest.approx(0, abs=1e-9)


def test_the_api_judges_labelled_texts_and_only_where_asked() -> None:
    found = labelled(normalise_rows(rng(9).normal(size=(12, 6))).reshape(3, 4, 6))
    arrays = (found.image_ND, found.text_MD, OBJECTS, VALUES)

    with_words = gapctl.intervene(*arrays, lambdas=[1], remove=[1], ideal_words=True).frame()
    without = gapctl.intervene(*arrays, lambdas=[1], remove=[1]).frame()

    assert "ideal words" in with_words["intervention"].to_list()
    assert "quality/pair_accuracy" in with_words["metric"].to_list()
    assert "ideal words" not in without["intervention"].to_list()
    assert not {"quality/pair_accuracy", "bias/moad_text"} & set(without["metric"].to_list())


def test_a_sweep_file_names_it() -> None:
    assert find_candidate("ideal_words").replaces_texts
    assert not find_candidate("shift").replaces_texts
