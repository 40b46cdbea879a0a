"""Each intervention does to the clouds it was fitted on what its definition says, and nothing else."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gap_galleries import galleries, gallery
from gapctl.config.trial import Evaluate
from gapctl.errors import InputError
from gapctl.interventions.fit import (
    LEADING_VARIANCE,
    SHIFT_LAMBDAS,
    find_candidate,
    fit_centring,
    fit_projection,
    fit_removal,
    fit_shift,
    fit_standardisation,
    fit_translation,
    list_candidates,
    list_default_removal_counts,
    nothing,
    transform_embeddings,
    transform_zero_shot_prompts,
)
from gapctl.metrics.classification import ClassPrompts, ZeroShotTasks
from gapctl.metrics.embedding_set import Embeddings, normalise_rows
from gapctl.metrics.gap import GapSums

TIGHT = {"rel": 1e-9, "abs": 1e-12}


def mean_difference(image_ND: NDArray[np.float64], text_ND: NDArray[np.float64]) -> NDArray[np.float64]:
    difference_D: NDArray[np.float64] = image_ND.mean(axis=0) - text_ND.mean(axis=0)
    return difference_D


@given(galleries())
def test_after_a_shift_by_one_the_means_meet_before_rows_are_normalised_again(found: Embeddings) -> None:
    moved = fit_shift(found.image_ND, found.text_MD, 1).move_rows(found.image_ND, found.text_MD)

    assert mean_difference(*moved) == pytest.approx(0, abs=1e-12)


@given(galleries(), st.floats(-2, 3))
def test_a_shift_leaves_the_part_of_the_gap_that_its_amount_says(found: Embeddings, amount: float) -> None:
    moved = fit_shift(found.image_ND, found.text_MD, amount).move_rows(found.image_ND, found.text_MD)

    expected = (1 - amount) * mean_difference(found.image_ND, found.text_MD)
    assert mean_difference(*moved) == pytest.approx(expected, **TIGHT)


@given(galleries(), st.floats(-2, 3))
def test_a_shift_moves_both_modalities_equally_far_and_neither_of_them_apart(found: Embeddings, amount: float) -> None:
    moved = fit_shift(found.image_ND, found.text_MD, amount).move_rows(found.image_ND, found.text_MD)

    steps_ND = np.concatenate([found.image_ND - moved.image_ND, moved.text_MD - found.text_MD])
    half_D = amount / 2 * mean_difference(found.image_ND, found.text_MD)
    assert steps_ND == pytest.approx(np.tile(half_D, (len(steps_ND), 1)), **TIGHT)


@given(galleries())
def test_a_translation_moves_images_alone_and_hardly_along_what_tells_texts_apart(found: Embeddings) -> None:
    moved = fit_translation(found.image_ND, found.text_MD).move_rows(found.image_ND, found.text_MD)
    step_ND = found.image_ND - moved.image_ND
    centred_MD = found.text_MD - found.text_MD.mean(axis=0)
    across_M = centred_MD @ step_ND[0]
    size_Q = np.linalg.svd(centred_MD, compute_uv=False)

    assert moved.text_MD == pytest.approx(found.text_MD, **TIGHT)
    assert step_ND == pytest.approx(np.tile(step_ND[0], (len(step_ND), 1)), **TIGHT)
    # The directions that are left to it hold at most a tenth of the texts' variance.
    assert (across_M**2).sum() <= (1 - LEADING_VARIANCE) * (size_Q**2).sum() * (step_ND[0] ** 2).sum() + 1e-9


def test_texts_in_a_plane_let_images_move_by_all_of_a_gap_that_lies_across_it() -> None:
    rng = np.random.default_rng(0)
    plane_MD = np.pad(rng.normal(size=(50, 2)), ((0, 0), (0, 3)))
    gap_D = np.array([0.0, 0.0, 1.0, 2.0, 0.0])

    moved = fit_translation(plane_MD + gap_D, plane_MD).move_rows(plane_MD + gap_D, plane_MD)

    assert moved.image_ND == pytest.approx(plane_MD, abs=1e-9)


def test_texts_that_are_all_alike_let_images_move_by_all_of_the_gap() -> None:
    text_MD, image_ND = np.tile([1.0, 0.0], (4, 1)), np.tile([0.0, 1.0], (3, 1))

    moved = fit_translation(image_ND, text_MD).move_rows(image_ND, text_MD)

    assert moved.image_ND == pytest.approx(np.tile([1.0, 0.0], (3, 1)))


@given(galleries())
def test_a_shift_by_zero_and_the_identity_change_nothing_at_all(found: Embeddings) -> None:
    for fitted in (fit_shift(found.image_ND, found.text_MD, 0), nothing(found.image_ND.shape[1])):
        moved = fitted.move_rows(found.image_ND, found.text_MD)

        assert np.array_equal(moved.image_ND, found.image_ND)
        assert np.array_equal(moved.text_MD, found.text_MD)


@given(galleries())
def test_centring_leaves_each_modality_without_a_mean(found: Embeddings) -> None:
    moved = fit_centring(found.image_ND, found.text_MD).move_rows(found.image_ND, found.text_MD)

    assert moved.image_ND.mean(axis=0) == pytest.approx(0, abs=1e-12)
    assert moved.text_MD.mean(axis=0) == pytest.approx(0, abs=1e-12)


def test_centring_closes_nearly_the_whole_gap_of_images_that_it_has_not_seen() -> None:
    every = gallery(6000, gap=2.0)
    seen, fresh = (Embeddings(every.image_ND[rows], every.text_MD[rows]) for rows in (slice(3000), slice(3000, None)))
    after = fit_centring(seen.image_ND, seen.text_MD).apply(fresh.image_ND, fresh.text_MD)

    assert GapSums.of(fresh.image_ND, fresh.text_MD).l2m() > 1
    assert GapSums.of(*after).l2m() < 0.1


@given(galleries())
def test_standardising_gives_every_dimension_of_each_modality_the_same_spread(found: Embeddings) -> None:
    moved = fit_standardisation(found.image_ND, found.text_MD).move_rows(found.image_ND, found.text_MD)

    for cloud_ND in moved:
        assert cloud_ND.mean(axis=0) == pytest.approx(0, abs=1e-9)
        assert cloud_ND.std(axis=0) == pytest.approx(1)


def test_standardising_takes_a_dimension_without_spread_to_zero_instead_of_dividing_by_it() -> None:
    found = gallery()
    image_ND = found.image_ND.copy()
    image_ND[:, 4] = 0.25

    moved = fit_standardisation(image_ND, found.text_MD).move_rows(image_ND, found.text_MD)
    assert moved.image_ND[:, 4] == pytest.approx(0, abs=1e-12)
    assert np.isfinite(moved.image_ND).all()


@given(galleries(), st.data())
def test_removal_takes_the_dimensions_that_carry_most_and_leaves_the_others_alone(
    found: Embeddings, data: st.DataObject
) -> None:
    width = found.image_ND.shape[1]
    count = data.draw(st.integers(1, width - 1))
    moved = fit_removal(found.image_ND, found.text_MD, count).move_rows(found.image_ND, found.text_MD)

    gone_D = ~moved.image_ND.any(axis=0)
    carried_D = np.abs(mean_difference(found.image_ND, found.text_MD))
    assert gone_D.sum() == count
    assert carried_D[gone_D].min() >= carried_D[~gone_D].max()
    assert np.array_equal(moved.text_MD[:, ~gone_D], found.text_MD[:, ~gone_D])
    assert not moved.text_MD[:, gone_D].any()


@pytest.mark.parametrize("count", [0, -1, 12, 13])
def test_removing_all_dimensions_or_none_is_refused(count: int) -> None:
    found = gallery(width=12)

    with pytest.raises(InputError, match=f"^{count} dimensions to remove of 12; expected 1 to 11"):
        fit_removal(found.image_ND, found.text_MD, count)


@given(galleries())
def test_the_projection_leaves_nothing_along_the_mean_difference_and_all_that_lies_across_it(found: Embeddings) -> None:
    moved = fit_projection(found.image_ND, found.text_MD).move_rows(found.image_ND, found.text_MD)

    difference_D = mean_difference(found.image_ND, found.text_MD)
    for before_ND, after_ND in zip((found.image_ND, found.text_MD), moved, strict=True):
        assert after_ND @ difference_D == pytest.approx(0, abs=1e-12)
        taken_ND = before_ND - after_ND
        along_N = before_ND @ difference_D / (difference_D @ difference_D)
        assert taken_ND == pytest.approx(np.outer(along_N, difference_D), **TIGHT)
    assert mean_difference(*moved) == pytest.approx(0, abs=1e-12)


def test_the_projection_changes_nothing_where_there_is_no_gap() -> None:
    image_ND = gallery().image_ND
    moved = fit_projection(image_ND, image_ND).move_rows(image_ND, image_ND)

    assert np.array_equal(moved.image_ND, image_ND)


@given(galleries())
def test_every_intervention_gives_rows_of_length_one(found: Embeddings) -> None:
    for candidate in list_candidates(SHIFT_LAMBDAS, list_default_removal_counts(found.image_ND.shape[1])):
        applied = candidate.fit(found.image_ND, found.text_MD).apply(found.image_ND, found.text_MD)

        assert [np.linalg.norm(cloud_ND, axis=1) for cloud_ND in applied] == [pytest.approx(1)] * 2


def test_a_row_that_an_intervention_takes_to_zero_is_named() -> None:
    image_ND = gallery().image_ND
    text_ND = np.tile(image_ND[:1], (len(image_ND), 1))

    with pytest.raises(InputError, match=r"^text row 0 has no length left \(200 of 200 such rows\)"):
        fit_centring(image_ND, text_ND).apply(image_ND, text_ND)


def test_candidates_are_named_by_what_they_do_and_each_is_there_once() -> None:
    names = [candidate.name for candidate in list_candidates((1.0, 0.5, 1.0), (3, 1, 3))]

    assert names == ["shift 0.5", "shift 1", "centre", "standardise", "orthogonal", "remove 1", "remove 3"]


@pytest.mark.parametrize("amount", [float("nan"), float("inf")])
def test_a_lambda_that_is_no_finite_number_is_refused(amount: float) -> None:
    with pytest.raises(InputError, match="expected a finite number"):
        list_candidates((0.5, amount), ())


def test_where_nobody_says_at_most_half_of_the_dimensions_are_removed() -> None:
    assert list_default_removal_counts(64) == (1, 3, 10, 30)
    assert list_default_removal_counts(8) == (1, 3)
    assert list_default_removal_counts(1) == ()


NAMED = get_args(Evaluate.model_fields["intervention"].annotation)
WORDS = [word for word in NAMED if word not in ("none", "ideal_words")]  # the last replaces texts, and moves no image


@pytest.mark.parametrize("word", WORDS)
def test_every_intervention_that_a_sweep_file_may_name_is_known(word: str) -> None:
    found = gallery(width=40)
    whole = find_candidate(word).fit(found.image_ND, found.text_MD)

    assert find_candidate(word).name == {"shift": "shift 1"}.get(word, word.replace("_", " "))
    moved = whole.scale_effect(0).move_rows(found.image_ND, found.text_MD)
    assert moved.image_ND == pytest.approx(found.image_ND, abs=1e-15)
    assert whole.scale_effect(1).move_rows(found.image_ND, found.text_MD).text_MD == pytest.approx(
        whole.move_rows(found.image_ND, found.text_MD).text_MD
    )
    assert not np.allclose(whole.images(found.image_ND), found.image_ND)


@given(galleries(), st.floats(-2, 3))
def test_a_part_of_the_whole_shift_is_the_shift_of_that_amount(found: Embeddings, share: float) -> None:
    part = find_candidate("shift").fit(found.image_ND, found.text_MD).scale_effect(share)
    expected = fit_shift(found.image_ND, found.text_MD, share)

    for ours, theirs in zip(
        part.move_rows(found.image_ND, found.text_MD), expected.move_rows(found.image_ND, found.text_MD), strict=True
    ):
        assert ours == pytest.approx(theirs, **TIGHT)


@given(galleries(), st.floats(0, 1))
def test_centring_a_part_of_the_way_leaves_the_rest_of_the_gap(found: Embeddings, share: float) -> None:
    part = find_candidate("centre").fit(found.image_ND, found.text_MD).scale_effect(share)

    expected = (1 - share) * mean_difference(found.image_ND, found.text_MD)
    assert mean_difference(*part.move_rows(found.image_ND, found.text_MD)) == pytest.approx(expected, **TIGHT)


def test_prompts_move_as_texts_do_and_numbers_keep_their_format() -> None:
    found = gallery()
    single = Embeddings(
        found.image_ND.astype(np.float32), 3 * found.text_MD.astype(np.float32), class_CD=found.text_MD[:5]
    )
    fitted = find_candidate("centre").fit(found.image_ND, found.text_MD)

    after = transform_embeddings(fitted, single)
    asked = transform_zero_shot_prompts(
        fitted, ZeroShotTasks({"digit": ClassPrompts(2 * found.text_MD[:5], np.arange(5))}, "digit")
    )

    assert after.image_ND.dtype == after.text_MD.dtype == np.float32
    assert after.class_CD is not None
    assert after.text_MD[:5] == pytest.approx(after.class_CD, abs=1e-6)
    assert asked.questions["digit"].prompt_CD == pytest.approx(after.class_CD)
    assert np.linalg.norm(normalise_rows(after.image_ND) - fitted.images(found.image_ND)) < 1e-4
