"""Which dimensions carry the gap, whether two models agree on them, and what is left as they are removed."""

from itertools import combinations

import numpy as np
import pytest
from clouds import Rows, matched_rows, random_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from gapctl.metrics.gap import GapSums, find_leading_dimensions, measure_dimension_overlap
from gapctl.metrics.plot_data import find_nearest_after_removal, measure_gap_after_removal, measure_recall_after_removal

TIGHT = {"rel": 1e-9, "abs": 1e-11}


def without(rows_ND: Rows, removed: np.ndarray) -> Rows:
    """Rows with some dimensions zeroed, normalised anew; a row of which nothing is left stays zero."""
    left_ND = rows_ND.copy()
    left_ND[:, removed] = 0
    norm_N = np.linalg.norm(left_ND, axis=1, keepdims=True)
    return np.divide(left_ND, norm_N, out=np.zeros_like(left_ND), where=norm_N > 1e-12)


def test_the_dimensions_with_the_largest_difference_of_either_sign_lead() -> None:
    assert find_leading_dimensions(np.array([0.1, -3.0, 2.0, 2.0]), 3).tolist() == [1, 2, 3]


def test_two_models_share_the_dimensions_that_both_have_in_front() -> None:
    one_D, other_D = np.array([5.0, 4, 3, 0, 0, 0]), np.array([0, 4.0, 3, 5, 0, 0])
    found = measure_dimension_overlap(one_D, other_D, 3)

    assert found.share == pytest.approx(2 / 3)
    assert found.chance == pytest.approx(0.5)


@pytest.mark.parametrize("shared", [0, 1, 2, 3])
def test_the_chance_of_an_overlap_is_counted_over_all_choices(shared: int) -> None:
    width, count = 7, 3
    one_D, other_D = np.zeros(width), np.zeros(width)
    one_D[:count] = 1
    other_D[count - shared : 2 * count - shared] = 1
    overlaps = [len(set(choice) & set(range(count))) for choice in combinations(range(width), count)]

    found = measure_dimension_overlap(one_D, other_D, count)
    assert found.share == shared / count
    assert found.chance == pytest.approx(np.mean(overlaps) / count)
    assert found.p == pytest.approx(np.mean([overlap >= shared for overlap in overlaps]))


def test_models_of_different_widths_do_not_compare() -> None:
    with pytest.raises(ValueError, match="of 4 and of 5"):
        measure_dimension_overlap(np.ones(4), np.ones(5), 2)


@given(st.integers(2, 30), st.integers(2, 9), st.integers(0, 2**32))
@settings(max_examples=40)
def test_every_step_of_removal_has_the_gap_that_measuring_anew_would_find(count: int, width: int, seed: int) -> None:
    image_ND, text_ND = matched_rows(count, width, seed, gap=0.5)
    whole = GapSums.of(image_ND, text_ND)
    order_D = find_leading_dimensions(whole.mean_difference_D, width)

    steps = measure_gap_after_removal(image_ND, text_ND, order_D)
    assert len(steps) == width
    for removed, step in enumerate(steps):
        anew = GapSums.of(without(image_ND, order_D[:removed]), without(text_ND, order_D[:removed]))
        if anew.l2i() > 1e-6:  # below it the official floor of RMG's numerator decides
            assert step.rmg() == pytest.approx(anew.rmg(), rel=1e-6)
        assert step.l2i() == pytest.approx(anew.l2i(), rel=1e-9, abs=1e-7)
        assert step.mean_difference_D == pytest.approx(anew.mean_difference_D, **TIGHT)


def test_removal_knows_which_image_each_of_several_captions_belongs_to() -> None:
    image_ND, text_MD, owner_M = random_rows(5, 4), random_rows(10, 4, 1), np.arange(10) % 5
    order_D = np.array([2, 0, 3, 1])

    last = measure_gap_after_removal(image_ND, text_MD, order_D, owner_M)[2]
    anew = GapSums.of(without(image_ND, order_D[:2]), without(text_MD, order_D[:2]), owner_M)
    assert last.rmg() == pytest.approx(anew.rmg(), **TIGHT)


def test_a_row_of_which_nothing_is_left_counts_as_zero() -> None:
    image_ND, text_ND = np.eye(3), np.array([[0, 1.0, 0], [0, 1, 0], [0, 0, 1]])
    step = measure_gap_after_removal(image_ND, text_ND, np.arange(3))[1]

    assert step.image.total_D == pytest.approx([0, 1, 1])
    assert step.matched.cosine == pytest.approx(2)


@given(st.integers(2, 25), st.integers(2, 8), st.integers(0, 2**32))
@settings(max_examples=40)
def test_every_step_of_removal_has_the_neighbors_that_searching_anew_would_find(
    count: int, width: int, seed: int
) -> None:
    query_QD, gallery_GD = random_rows(count, width, seed), random_rows(count + 3, width, seed + 1)
    order_D = np.random.Generator(np.random.Philox(seed)).permutation(width)

    steps = list(find_nearest_after_removal(query_QD, gallery_GD, order_D))
    assert [step.removed for step in steps] == list(range(width - 1, -1, -1))
    for step in steps:
        cosine_QG = (
            query_QD
            @ np.diag(~np.isin(np.arange(width), order_D[: step.removed]))
            @ (without(gallery_GD, order_D[: step.removed]).T)
        )
        found_Q = cosine_QG[np.arange(count), step.nearest_Q]
        assert found_Q == pytest.approx(cosine_QG.max(axis=1), **TIGHT)


def test_recall_survives_the_removal_of_what_carries_the_gap_and_dies_with_the_rest() -> None:
    image_ND, text_ND = matched_rows(200, 16, gap=1.0)
    order_D = find_leading_dimensions(GapSums.of(image_ND, text_ND).mean_difference_D, 16)
    key_N = np.arange(200)

    recall_T = measure_recall_after_removal(image_ND, text_ND, key_N, key_N, order_D)

    anew = (image_ND @ text_ND.T).argmax(axis=1)
    assert recall_T[0] == pytest.approx(np.mean(anew == key_N))
    assert recall_T[1] >= recall_T[0] - 0.05
    assert recall_T[-1] < 0.05


def test_removing_the_dimension_that_carries_the_gap_removes_it() -> None:
    image_ND, text_ND = matched_rows(300, 16, gap=1.0)
    order_D = find_leading_dimensions(GapSums.of(image_ND, text_ND).mean_difference_D, 16)
    steps = measure_gap_after_removal(image_ND, text_ND, order_D)

    assert order_D[0] == 0
    assert steps[0].l2m() > 1.2
    assert steps[1].l2m() < 0.1
