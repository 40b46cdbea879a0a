"""The shapes of MAD agree with the official generator and with the public definitions of each operation."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from skimage import morphology, transform

from gapctl.data.mad.factors import SHAPE_FACTORS, VARIANTS
from gapctl.data.mad.morphology import (
    apply_variants_to_digits,
    build_keep_table,
    compute_change_radius,
    enlarge_digits,
    find_medial_axis,
    list_set_pixels,
    measure_stroke,
    reduce_masks,
    shrink_images,
    thicken_stroke,
    thin_in_place,
    thin_stroke,
)

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def digits() -> NDArray[np.uint8]:
    with np.load(GOLDEN / "mnist_t10k_first_300.npz") as arrays:
        return arrays["images"]


@pytest.fixture(scope="module")
def shapes(digits: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return apply_variants_to_digits(digits, 0, key=2)


@pytest.mark.parametrize(
    ("variant", "name"),
    [(0, "no_thickthinning"), (8, "thickening"), (16, "thinning")],
    ids=lambda value: str(value),
)
def test_plain_thick_and_thin_digits_are_those_of_the_official_generator(
    shapes: NDArray[np.uint8], variant: int, name: str
) -> None:
    with np.load(GOLDEN / "mad_deterministic.npz") as golden:
        expected, indices = golden[name].astype(int), golden["digit_index"]
    close = np.abs(shapes[indices, variant].astype(int) - expected) <= 2
    assert np.mean(close.mean(axis=(1, 2)) >= 0.99) >= 0.97


def test_every_variant_has_the_official_mean_intensity(shapes: NDArray[np.uint8]) -> None:
    rows = json.loads((GOLDEN / "mad_statistics.json").read_text())["rows"]
    found = shapes.mean(axis=(0, 2, 3)) / 255
    for variant, row, mean in zip(VARIANTS, rows, found, strict=True):
        assert [row[factor.name] for factor in SHAPE_FACTORS] == [
            factor.values[label] for factor, label in zip(SHAPE_FACTORS, variant, strict=True)
        ]
        assert mean == pytest.approx(row["mean_intensity"], rel=0.03)


def test_every_variant_falls_into_as_many_pieces_as_the_official_ones(shapes: NDArray[np.uint8]) -> None:
    rows = json.loads((GOLDEN / "mad_statistics.json").read_text())["rows"]
    eight = np.ones((3, 3))
    for images, row in zip(shapes.swapaxes(0, 1), rows, strict=True):
        pieces = np.mean([ndimage.label(image > 127, eight)[1] for image in images])
        assert pieces == pytest.approx(row["mean_components"], rel=0.08)


def test_resampling_is_that_of_image_pyramids(digits: NDArray[np.uint8]) -> None:
    for digit in digits[:10]:
        large = (255 * transform.pyramid_expand(digit, upscale=4, order=3)).astype(np.uint8)
        mask = enlarge_digits(digit[None])[0]
        assert np.mean(mask == (large >= large.max() / 2)) > 0.999
        small = (255 * transform.pyramid_reduce(mask, downscale=4, order=3)).astype(int)
        assert np.abs(reduce_masks(mask[None])[0] - small).max() <= 1
        three_quarters = transform.rescale(digit.astype(np.float32) / 255, 0.75, anti_aliasing=False)
        assert np.abs(shrink_images(digit[None])[0] - (255 * three_quarters).astype(int)).max() <= 1


def test_thickening_and_thinning_are_dilation_and_erosion_with_a_disk(digits: NDArray[np.uint8]) -> None:
    for mask in enlarge_digits(digits[:20]):
        stroke = measure_stroke(mask)
        disk = morphology.disk(compute_change_radius(stroke))
        np.testing.assert_array_equal(thicken_stroke(stroke), morphology.dilation(mask, disk))
        np.testing.assert_array_equal(thin_stroke(stroke), morphology.erosion(mask, disk))


def ranks(mask_HW: NDArray[np.bool_], seed: int) -> NDArray[np.int64]:
    """Rank pixels as scikit-image's public medial axis does with `rng=seed`."""
    ties = np.zeros(mask_HW.shape, np.int64)
    ties[mask_HW] = np.random.default_rng(seed).permutation(np.arange(mask_HW.sum()))
    return ties


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_medial_axis_is_the_public_one_whatever_the_order_of_ties(seed: int) -> None:
    noise = np.random.default_rng(seed).random((40, 50))
    mask = ndimage.gaussian_filter(noise, 2.5) > 0.5
    expected, distance = morphology.medial_axis(mask, return_distance=True, rng=seed)
    np.testing.assert_array_equal(find_medial_axis(mask, distance, ranks(mask, seed)), expected)


def test_the_compiled_and_the_python_peeling_agree(digits: NDArray[np.uint8]) -> None:
    mask = enlarge_digits(digits[:1])[0]
    distance = np.asarray(ndimage.distance_transform_edt(mask))
    ties = np.arange(mask.size).reshape(mask.shape)
    rows, columns = list_set_pixels(mask)
    corner = 9 - ndimage.convolve(mask.astype(int), np.ones((3, 3), int), mode="constant")[rows, columns]
    order = np.lexsort((ties[rows, columns], corner, distance[rows, columns])).astype(np.int32)
    peeled = mask.astype(np.uint8)
    thin_in_place(peeled, rows, columns, order, build_keep_table())
    np.testing.assert_array_equal(find_medial_axis(mask, distance, ties), peeled.astype(bool))


def test_a_fractured_digit_has_less_ink_and_a_swollen_one_reaches_no_farther_than_the_image(
    shapes: NDArray[np.uint8],
) -> None:
    names = {tuple(variant): index for index, variant in enumerate(VARIANTS)}
    whole, broken = shapes[:, names[0, 0, 0, 0]], shapes[:, names[0, 0, 1, 0]]
    assert (broken.sum(axis=(1, 2), dtype=int) < whole.sum(axis=(1, 2), dtype=int)).all()
    assert not np.array_equal(shapes[:, names[0, 1, 0, 0]], whole)


def test_small_digits_keep_clear_of_the_border_and_lie_at_four_places(digits: NDArray[np.uint8]) -> None:
    same = np.repeat(digits[:1], 24, axis=0)
    small = apply_variants_to_digits(same, 0, key=5)[:, 1]
    assert not small[:, :3].any()
    assert not small[:, -3:].any()
    assert len(np.unique(small, axis=0)) == 4


@pytest.mark.parametrize("level", [0, 128, 255])
def test_an_image_without_contrast_gives_blank_variants(level: int) -> None:
    blank = np.full((1, 28, 28), level, np.uint8)
    assert not apply_variants_to_digits(blank, 0, key=1).any()


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), share=st.sampled_from([0.003, 0.1, 0.5, 0.97]))
def test_any_image_has_variants_even_if_it_is_no_digit(seed: int, share: float) -> None:
    noise = (np.random.default_rng(seed).random((1, 28, 28)) < share).astype(np.uint8) * 255
    assert apply_variants_to_digits(noise, 0, key=1).shape == (1, 24, 28, 28)
