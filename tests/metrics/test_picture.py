"""What a report draws of embeddings is true to them."""

import numpy as np
import pytest

from gapctl.metrics.embedding_set import Embeddings
from gapctl.metrics.plot_data import PLOT_POINTS, sample_plot_data


def clouds(count: int = 200, width: int = 6, apart: float = 3.0) -> Embeddings:
    image, text = np.random.Generator(np.random.Philox(3)).normal(size=(2, count, width))
    image[:, 2] += apart
    text[:, 2] -= apart
    return Embeddings(image, text)


def test_modalities_that_lie_apart_are_apart_along_the_first_axis() -> None:
    plane = sample_plot_data(clouds()).plane

    assert plane.image_P2[:, 0].min() > plane.text_P2[:, 0].max()
    assert plane.shares[0] > 0.5 > plane.shares[1] > 0


def test_the_largest_mean_difference_is_that_of_the_dimension_that_was_moved() -> None:
    difference_D = sample_plot_data(clouds()).difference_D

    assert np.argmax(np.abs(difference_D)) == 2
    assert difference_D[2] > 1


def test_equal_pairs_are_all_in_the_last_bin() -> None:
    image = clouds().image_ND
    found = sample_plot_data(Embeddings(image, image)).similarities

    assert found.matched_B[-1] == pytest.approx(1)
    assert found.other_B.sum() == pytest.approx(1)
    assert found.other_B[-1] < 0.1


def test_with_two_pairs_all_others_are_drawn_and_no_match_is_among_them() -> None:
    found = sample_plot_data(Embeddings(np.eye(2), np.eye(2))).similarities

    assert found.other_B[0] == pytest.approx(1)
    assert found.matched_B[-1] == pytest.approx(1)


def test_more_rows_than_can_be_seen_are_sampled_the_same_way_each_time() -> None:
    one, other = sample_plot_data(clouds(PLOT_POINTS + 50)).plane, sample_plot_data(clouds(PLOT_POINTS + 50)).plane

    assert len(one.image_P2) == PLOT_POINTS
    np.testing.assert_array_equal(one.image_P2, other.image_P2)


def test_class_prompts_are_matched_by_label() -> None:
    label_N = np.array([0, 1, 1, 0])
    found = sample_plot_data(Embeddings(np.eye(3)[label_N], np.eye(3)[:2], prompt_of_N=label_N)).similarities

    assert found.matched_B[-1] == pytest.approx(1)
    assert found.other_B[0] == pytest.approx(1)
