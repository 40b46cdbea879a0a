"""V-measure equals its definition, k-means finds clusters that are there, and a gap spoils them."""

import math
from collections import Counter

import numpy as np
import pytest
from clouds import random_rows
from hypothesis import given
from hypothesis import strategies as st

from gapctl.metrics.clustering import estimate_clustering_v_measure, k_means, v_measure
from gapctl.metrics.embedding_set import normalise_rows

ALL = 10_000
Labels = st.lists(st.tuples(st.integers(0, 3), st.integers(-2, 2)), min_size=2, max_size=40)


def conditional_entropy(of: list[int], given_R: list[int]) -> float:
    together, alone, rows = Counter(zip(of, given_R, strict=True)), Counter(given_R), len(of)
    return -sum(count / rows * math.log(count / alone[known]) for (_, known), count in together.items())


@given(Labels)
def test_v_measure_is_the_harmonic_mean_of_homogeneity_and_completeness(rows: list[tuple[int, int]]) -> None:
    cluster, label = map(list, zip(*rows, strict=True))
    nothing = [0] * len(rows)
    of_label, of_cluster = conditional_entropy(label, nothing), conditional_entropy(cluster, nothing)
    found = v_measure(np.array(cluster), np.array(label))
    if of_label == 0:
        assert math.isnan(found)
        return
    homogeneity = 1 - conditional_entropy(label, cluster) / of_label
    completeness = 1 - conditional_entropy(cluster, label) / of_cluster if of_cluster else 1.0
    total = homogeneity + completeness
    assert found == pytest.approx(2 * homogeneity * completeness / total if total > 1e-9 else 0, abs=1e-9)


def blobs(gap: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    label_N = np.arange(200) % 4
    centre_ND = 2 * np.eye(10)[label_N]
    push_D = gap * np.eye(10)[9]
    image_ND = normalise_rows(centre_ND + 0.3 * random_rows(200, 10, 1) + push_D)
    return image_ND, normalise_rows(centre_ND + 0.3 * random_rows(200, 10, 2) - push_D), label_N


def test_clusters_of_both_modalities_are_found_and_a_gap_splits_them_by_modality() -> None:
    values = []
    for gap in (0.0, 8.0):
        image_ND, text_ND, label_N = blobs(gap)
        values.append(estimate_clustering_v_measure(image_ND, label_N, text_ND, label_N, ALL).value)

    assert values[0] == pytest.approx(1)
    assert values[1] < 0.8


def test_clusters_do_not_depend_on_what_ran_before() -> None:
    image_ND, _, _ = blobs(0.0)
    first = k_means(image_ND, 4)
    np.random.Generator(np.random.Philox(1)).normal()

    assert (k_means(image_ND, 4).cluster_R == first.cluster_R).all()


def test_more_clusters_than_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="3 rows do not make 4 clusters"):
        k_means(random_rows(3, 4), 4)


def test_half_precision_is_clustered_as_single_precision_however_many_rows_there_are() -> None:
    """Sums in half precision stand still from 2,048 on: the centres would be too short, and then overflow."""
    images, texts, label_N = blobs(gap=0.0)
    few = np.concatenate([images, texts])
    half = np.tile(few, (200, 1)).astype(np.float16)
    clusters, expected = k_means(half, 4), k_means(half.astype(np.float32), 4)

    np.testing.assert_array_equal(clusters.cluster_R, expected.cluster_R)
    assert clusters.spread == expected.spread
    assert v_measure(clusters.cluster_R, np.tile(label_N, 400)) == pytest.approx(1)
