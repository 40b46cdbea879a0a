"""A gallery is split by image into disjoint halves; texts, labels and questions go with their images."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gap_galleries import gallery, rng
from gapctl.errors import InputError
from gapctl.interventions.judge import label_caption_units, select_images, select_questions, split_images
from gapctl.metrics.classification import ClassPrompts, ZeroShotTasks
from gapctl.metrics.embedding_set import Embeddings


@given(st.integers(20, 300), st.floats(0.4, 0.6), st.integers(0, 2**32))
def test_every_image_is_on_exactly_one_side_and_the_share_is_kept(count: int, share: float, seed: int) -> None:
    found = split_images(gallery(count), share, seed)

    assert sorted([*found.calibration_S, *found.held_out_S]) == list(range(count))
    assert len(found.calibration_S) == pytest.approx(share * count, abs=1)
    assert found.dealt == "images"


def test_the_same_seed_gives_the_same_sides_and_another_seed_others() -> None:
    one, again, other = (split_images(gallery(), 0.5, seed).held_out_S for seed in (1, 1, 2))

    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_images_of_one_caption_stay_together() -> None:
    caption_M = rng(5).integers(0, 100, 400)
    found = split_images(replace(gallery(400), text_group_M=caption_M), 0.5, 0)

    assert found.dealt == "captions"
    assert not set(caption_M[found.calibration_S]) & set(caption_M[found.held_out_S])
    assert len(found.held_out_S) == pytest.approx(200, abs=5)


def test_captions_that_too_many_images_share_are_on_both_sides() -> None:
    caption_M = np.arange(400) % 10
    found = split_images(replace(gallery(400), text_group_M=caption_M), 0.5, 0)

    assert found.dealt == "images"
    assert set(caption_M[found.calibration_S]) == set(caption_M[found.held_out_S]) == set(range(10))


def test_images_are_joined_through_any_of_their_captions() -> None:
    found = Embeddings(
        gallery(5).image_ND,
        gallery(7).text_MD,
        text_to_image_M=np.array([0, 0, 1, 1, 2, 3, 4]),
        text_group_M=np.array([9, 8, 8, 7, 6, 5, 7]),
    )
    unit_N = label_caption_units(found)

    assert unit_N[0] == unit_N[1] == unit_N[4]
    assert len(set(unit_N)) == 3


def test_texts_go_with_their_images_and_keep_pointing_at_them() -> None:
    image_of_text_M = np.array([2, 0, 1, 2, 0, 3])
    found = Embeddings(gallery(4).image_ND, gallery(6).text_MD, text_to_image_M=image_of_text_M)
    taken = select_images(found, np.array([3, 0]))

    assert np.array_equal(taken.image_ND, found.image_ND[[3, 0]])
    assert np.array_equal(taken.text_MD, found.text_MD[[1, 4, 5]])
    assert taken.text_to_image_M is not None
    assert taken.text_to_image_M.tolist() == [1, 1, 0]


def test_row_matched_texts_labels_and_questions_are_taken_with_their_images() -> None:
    label_N = np.arange(40) % 4
    found = replace(
        gallery(40), labels_N=label_N, attributes_NF=np.stack([label_N, label_N + 1], axis=1), text_group_M=label_N
    )
    image_S = np.array([7, 2, 30])
    taken = select_images(found, image_S)

    assert np.array_equal(taken.text_MD, found.text_MD[image_S])
    for array in (taken.labels_N, taken.text_group_M):
        assert array is not None
        assert array.tolist() == [3, 2, 2]
    assert taken.attributes_NF is not None
    assert taken.attributes_NF.tolist() == [[3, 4], [2, 3], [2, 3]]
    asked = select_questions(ZeroShotTasks({"object": ClassPrompts(np.eye(4), label_N)}, "object"), image_S)
    assert asked.questions["object"].class_N.tolist() == [3, 2, 2]
    assert asked.main == "object"


def test_class_prompts_stay_on_both_sides() -> None:
    found = Embeddings(gallery(30).image_ND, gallery(3).text_MD, prompt_of_N=np.arange(30) % 3)
    taken = select_images(found, np.array([1, 5]))

    assert np.array_equal(taken.text_MD, found.text_MD)
    assert taken.prompt_of_N is not None
    assert taken.prompt_of_N.tolist() == [1, 2]


@pytest.mark.parametrize("share", [0, 1, -0.5, 1.5, float("nan"), float("inf")])
def test_a_share_that_is_not_between_zero_and_one_is_refused(share: float) -> None:
    with pytest.raises(InputError, match="expected a number between 0 and 1"):
        split_images(gallery(), share, 0)


@pytest.mark.parametrize(("count", "share"), [(15, 0.5), (2, 0.5), (200, 0.01), (200, 0.99)])
def test_too_few_images_on_a_side_are_refused(count: int, share: float) -> None:
    with pytest.raises(InputError, match=f"^{count} images, split into .*expected at least 8 on each side"):
        split_images(gallery(count), share, 0)
