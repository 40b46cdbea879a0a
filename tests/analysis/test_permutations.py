"""p-values without a distribution: flipped signs and shuffled levels."""

from itertools import permutations, product

import numpy as np
import pytest

from gapctl.analysis.estimates import compute_shuffled_levels_p, compute_sign_flip_p, compute_slope_weights


@pytest.mark.parametrize(("direction", "p"), [("decreasing", 1 / 8), ("increasing", 1.0), ("either", 1 / 4)])
def test_three_seeds_that_all_fall_have_one_sign_in_eight(direction: str, p: float) -> None:
    assert compute_sign_flip_p(np.array([-0.2, -0.3, -0.25]), direction) == pytest.approx(p)  # type: ignore[arg-type]


def test_flipped_signs_are_counted() -> None:
    effects = np.array([0.5, -0.1, 0.3, 0.2, 0.05])
    flipped = [np.mean(np.array(signs) * effects) for signs in product((-1, 1), repeat=5)]

    assert compute_sign_flip_p(effects, "increasing") == pytest.approx(
        np.mean(np.array(flipped) >= effects.mean() - 1e-12)
    )


def test_shuffled_levels_come_near_the_count_of_all_orders() -> None:
    rng = np.random.default_rng(3)
    values, weights = rng.standard_normal((2, 4)) + np.linspace(0, 1, 4), compute_slope_weights(np.arange(4.0))
    every = [
        values[0, list(a)] @ weights + values[1, list(b)] @ weights
        for a in permutations(range(4))
        for b in permutations(range(4))
    ]
    exact = np.mean(np.array(every) >= (values @ weights).sum() - 1e-12)

    assert compute_shuffled_levels_p(values, weights, "increasing") == pytest.approx(exact, abs=0.015)


def test_one_seed_has_neither() -> None:
    assert np.isnan(compute_sign_flip_p(np.array([0.1]), "either"))
    assert np.isnan(compute_shuffled_levels_p(np.ones((1, 3)), compute_slope_weights(np.arange(3.0)), "increasing"))
