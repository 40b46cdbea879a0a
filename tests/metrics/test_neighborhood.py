"""How images and class prompts order the classes, and what that is worth against chance."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gapctl.metrics.embedding_set import normalise_rows
from gapctl.metrics.geometry import ClassOrderAgreement, compare_class_orders, compute_chance_kendall

Rows = NDArray[np.float64]


def random_rows(count: int, width: int, seed: int) -> Rows:
    return normalise_rows(np.random.Generator(np.random.Philox(seed)).normal(size=(count, width)))


def written_out(image_ND: Rows, class_N: NDArray[np.int64], prompt_CD: Rows) -> ClassOrderAgreement:
    """Both distances by loops over pairs: by rank holders for `kendall`, by classes for `discordance`."""
    classes = range(len(prompt_CD))
    by_rank, by_class = [], []
    for one in classes:
        image = [float((image_ND[class_N == one] @ image_ND[class_N == other].T).mean()) for other in classes]
        text = [float(prompt_CD[one] @ prompt_CD[other]) for other in classes]
        image_order, text_order = np.argsort(image), np.argsort(text)
        pairs = list(itertools.combinations(classes, 2))
        by_rank.append(np.mean([crossed(image_order, text_order, *pair) for pair in pairs]))
        by_class.append(np.mean([crossed(image, text, *pair) for pair in pairs if one not in pair]))
    return ClassOrderAgreement(
        float(np.mean(by_rank)), compute_chance_kendall(len(prompt_CD)), float(np.mean(by_class))
    )


def crossed(left: object, right: object, i: int, j: int) -> bool:
    return bool((left[i] - left[j]) * (right[i] - right[j]) < 0)  # type: ignore[index]


@given(st.integers(3, 9), st.integers(0, 2**32))
def test_both_distances_equal_loops_over_all_pairs(classes: int, seed: int) -> None:
    class_N = np.arange(classes * 3) % classes
    image_ND, prompt_CD = random_rows(len(class_N), 6, seed), random_rows(classes, 6, seed + 1)

    found = compare_class_orders(image_ND, class_N, prompt_CD)
    assert found == pytest.approx(written_out(image_ND, class_N, prompt_CD))


@given(st.integers(2, 9), st.integers(0, 2**32))
def test_prompts_that_equal_the_class_means_order_the_classes_alike(classes: int, seed: int) -> None:
    prompt_CD = random_rows(classes, 6, seed)
    found = compare_class_orders(prompt_CD, np.arange(classes), prompt_CD)

    assert found.kendall == 0
    assert found.discordance == 0 if classes > 2 else np.isnan(found.discordance)


@given(st.integers(0, 2**32))
def test_discordance_does_not_depend_on_how_classes_are_numbered(seed: int) -> None:
    image_ND, prompt_CD, class_N = random_rows(40, 6, seed), random_rows(8, 6, seed + 1), np.arange(40) % 8
    renumbered = np.random.Generator(np.random.Philox(seed)).permutation(8)
    prompt_of_new_number = np.empty_like(prompt_CD)
    prompt_of_new_number[renumbered] = prompt_CD

    before = compare_class_orders(image_ND, class_N, prompt_CD)
    after = compare_class_orders(image_ND, renumbered[class_N], prompt_of_new_number)
    assert after.discordance == pytest.approx(before.discordance)


@given(st.integers(3, 9), st.integers(0, 2**32))
def test_prompts_in_the_opposite_order_are_wholly_discordant(classes: int, seed: int) -> None:
    image_CD = random_rows(classes, 12, seed)
    reversed_CC = -(image_CD @ image_CD.T) + 2 * classes * np.eye(classes)
    prompt_CC = normalise_rows(np.linalg.cholesky(reversed_CC))
    as_wide = np.pad(prompt_CC, ((0, 0), (0, 12 - classes)))

    assert compare_class_orders(image_CD, np.arange(classes), as_wide).discordance == 1


def test_unrelated_clouds_are_as_far_apart_as_chance_says() -> None:
    found = [
        compare_class_orders(random_rows(600, 32, seed), np.arange(600) % 60, random_rows(60, 32, seed + 100))
        for seed in range(10)
    ]

    assert np.mean([one.kendall for one in found]) == pytest.approx(found[0].chance, abs=0.01)
    assert np.mean([one.discordance for one in found]) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("classes", [3, 4, 5])
def test_chance_is_the_mean_over_all_orders_in_which_each_class_comes_last_with_itself(classes: int) -> None:
    distances = []
    for own in range(classes):
        others = [other for other in range(classes) if other != own]
        orders = [np.array([*order, own]) for order in itertools.permutations(others)]
        pairs = list(itertools.combinations(range(classes), 2))
        distances += [np.mean([crossed(left, right, *pair) for pair in pairs]) for left in orders for right in orders]

    assert compute_chance_kendall(classes) == pytest.approx(np.mean(distances))


def test_chance_nears_one_half_with_many_classes_and_is_undefined_for_one() -> None:
    assert compute_chance_kendall(1000) == pytest.approx(0.5, abs=0.001)
    assert compute_chance_kendall(2) == 0
    assert np.isnan(compute_chance_kendall(1))


def test_a_class_without_images_takes_no_part() -> None:
    prompt_CD = random_rows(6, 5, 1)
    class_N = np.array([0, 1, 2, 4, 5] * 3)
    image_ND = random_rows(15, 5, 2)

    found = compare_class_orders(image_ND, class_N, prompt_CD)
    packed = compare_class_orders(image_ND, np.array([0, 1, 2, 3, 4] * 3), np.delete(prompt_CD, 3, axis=0))
    assert found == packed
