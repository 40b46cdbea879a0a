"""The reverse imbalance: what degraded images lose, and that they stay images of their size."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapctl.config.trial import AMOUNTS as RANGES
from gapctl.config.trial import TREATMENT_NAMES, Degrade, PairImages
from gapctl.data.treatments import DEGRADATIONS, GREY_LEVEL, TREATMENT_TABLE, PixelArray, degrade_image

AMOUNTS = {"none": 0.0, "blur": 2.0, "downscale": 4.0, "grey": 0.0, "patches": 0.5}


def noise(height: int, width: int) -> PixelArray:
    return np.random.Generator(np.random.Philox(height)).integers(0, 256, (height, width, 3)).astype(np.uint8)


@given(st.sampled_from(sorted(DEGRADATIONS)), st.integers(2, 70), st.integers(2, 70), st.integers(0, 9))
def test_every_degradation_keeps_the_shape_and_is_the_same_again(name: str, height: int, width: int, seed: int) -> None:
    rule, image_HWC = PairImages.model_validate({"degrade": name, "amount": AMOUNTS[name]}), noise(height, width)
    before = image_HWC.copy()
    first, second = (degrade_image(rule, image_HWC, seed, 1, 2) for _ in range(2))
    assert (first.shape, first.dtype) == (image_HWC.shape, np.uint8)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(image_HWC, before)


def test_a_share_of_the_patches_is_dropped_and_others_each_time() -> None:
    image_HWC = np.zeros((64, 48, 3), np.uint8)
    left = [degrade_image(PairImages(degrade="patches", amount=0.25), image_HWC, 0, epoch, 0) for epoch in range(2)]
    assert [int((image == GREY_LEVEL).all(axis=2).sum()) for image in left] == [3 * 16 * 16] * 2
    assert not np.array_equal(*left)


def test_grey_has_no_colour_and_smoothing_takes_detail() -> None:
    image_HWC = noise(64, 64)
    grey = degrade_image(PairImages(degrade="grey"), image_HWC, 0, 0, 0)
    assert (np.ptp(grey, axis=2) == 0).all()
    for name in ("blur", "downscale"):
        smooth = degrade_image(PairImages.model_validate({"degrade": name, "amount": 4.0}), image_HWC, 0, 0, 0)
        assert smooth.std() < image_HWC.std() / 2


@pytest.mark.parametrize(
    ("name", "amount"), [("blur", -1), ("downscale", 0.5), ("patches", 1.1), ("grey", 1), ("sepia", 0)]
)
def test_a_wrong_rule_is_refused(name: str, amount: float) -> None:
    with pytest.raises(ValueError, match=r"expected|should be"):
        PairImages.model_validate({"degrade": name, "amount": amount})


def test_a_sweep_file_takes_what_can_be_done_to_captions_and_images() -> None:
    assert set(TREATMENT_NAMES) == set(TREATMENT_TABLE)
    assert set(get_args(Degrade)) == set(DEGRADATIONS) == set(RANGES)
