"""How many directions a cloud uses, and the angle between two clouds' subspaces, where the answer is known."""

import numpy as np
import pytest
from clouds import Rows, random_rows
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import subspace_angles

from gapctl.metrics.geometry import SecondMoments, effective_rank, smallest_principal_angle


def in_plane(basis_RD: Rows, count: int, seed: int) -> Rows:
    return random_rows(count, len(basis_RD), seed) @ basis_RD


@given(st.integers(1, 8), st.integers(0, 2**32))
def test_equal_spread_over_some_directions_has_their_number_as_rank(directions: int, seed: int) -> None:
    turn_DD = np.linalg.qr(np.random.Generator(np.random.Philox(seed)).normal(size=(12, 12)))[0]
    cloud_ND = np.tile(turn_DD[:directions], (5, 1))

    assert effective_rank(SecondMoments.of(cloud_ND)) == pytest.approx(directions, rel=1e-9)


@given(st.integers(5, 40), st.integers(2, 10), st.integers(0, 2**32))
def test_rank_is_the_exponential_of_the_entropy_of_singular_values(count: int, width: int, seed: int) -> None:
    cloud_ND = random_rows(count, width, seed)
    singular = np.linalg.svd(cloud_ND, compute_uv=False)
    share = singular / singular.sum()

    assert effective_rank(SecondMoments.of(cloud_ND)) == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-6)


@pytest.mark.parametrize("degrees", [90.0, 60.0, 30.0, 1.0, 1e-4])
def test_the_angle_between_two_planes_is_found_however_small(degrees: float) -> None:
    axis = np.eye(8)
    tilt = np.radians(degrees)
    tilted = np.stack([np.cos(tilt) * axis[0] + np.sin(tilt) * axis[4], axis[5]])
    image, text = in_plane(axis[:2], 300, 1), in_plane(tilted, 300, 2)

    found = smallest_principal_angle(SecondMoments.of(image), SecondMoments.of(text))
    assert found == pytest.approx(degrees, rel=1e-6)
    assert found == pytest.approx(np.degrees(subspace_angles(axis[:2].T, tilted.T).min()), rel=1e-4)


def test_subspaces_that_cannot_but_meet_have_no_angle() -> None:
    image, text = random_rows(200, 6, 1), random_rows(200, 6, 2)

    assert smallest_principal_angle(SecondMoments.of(image), SecondMoments.of(text)) == 0


def test_added_moments_equal_the_whole() -> None:
    cloud_ND = random_rows(50, 7)

    parts = SecondMoments.of(cloud_ND[30:]) + SecondMoments.of(cloud_ND[:30])
    assert effective_rank(parts) == pytest.approx(effective_rank(SecondMoments.of(cloud_ND)), rel=1e-12)
