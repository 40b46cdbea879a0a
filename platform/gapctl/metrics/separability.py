"""Whether a line tells images from texts: a logistic probe, judged on rows that it has not seen.

Index letters: N images, M texts, R rows of either, E embedding and a one for the intercept.
"""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.metrics.draws import Draw, permutation, some_rows
from gapctl.metrics.gap import Array
from gapctl.metrics.sampled import NORMAL_95, Sampled

RIDGE: Final = 1.0
STEPS: Final = 30
SETTLED: Final = 1e-8


class _Rows(NamedTuple):
    """Rows with a one at their end (R, E), whether each is an image (1.0, else 0.0), and its weight (R,)."""

    row_RE: Array
    image_R: Array
    weight_R: Array


def linear_separability(image_ND: NDArray[np.floating], text_MD: NDArray[np.floating], most: int) -> Sampled:
    """Held-out accuracy of a logistic probe that tells images from texts, 0.5 to 1 (arXiv 2203.02053; 2411.14517).

    Half of the rows train it and the other half judges, by a seeded draw that keeps matched pairs together. Both
    modalities count the same however many rows they have. Of each modality at most `most` rows are drawn. Its ridge
    is 1 against the summed loss of the unit rows. The interval is binomial, over the rows that judge.
    """
    image_seen, image_unseen = _halves(image_ND, most)
    text_seen, text_unseen = _halves(text_MD, most)
    weight_E = _fitted(_labelled(image_seen, text_seen))
    image_right = (image_unseen @ weight_E > 0).mean()
    text_right = (text_unseen @ weight_E < 0).mean()
    accuracy = float(image_right + text_right) / 2
    judged = len(image_unseen) + len(text_unseen)
    half = NORMAL_95 * math.sqrt(accuracy * (1 - accuracy) / judged)
    return Sampled(accuracy, accuracy - half, accuracy + half, judged, len(image_ND) + len(text_MD))


def _halves(cloud_ND: NDArray[np.floating], most: int) -> tuple[Array, Array]:
    """The rows that train and those that judge, each with a one at its end."""
    drawn_ND = cloud_ND[some_rows(Draw.PAIRS, len(cloud_ND), most)].astype(np.float64)
    row_NE = np.column_stack([drawn_ND, np.ones(len(drawn_ND))])
    order_N = permutation(Draw.HELD_OUT, len(row_NE))
    half = len(row_NE) // 2
    return row_NE[order_N[:half]], row_NE[order_N[half:]]


def _labelled(image_NE: Array, text_ME: Array) -> _Rows:
    sizes = (len(image_NE), len(text_ME))
    weights = [np.full(size, sum(sizes) / (2 * size)) for size in sizes]
    is_image = [np.ones(sizes[0]), np.zeros(sizes[1])]
    return _Rows(np.concatenate([image_NE, text_ME]), np.concatenate(is_image), np.concatenate(weights))


def _fitted(rows: _Rows) -> Array:
    """The weights (E,) of least penalised loss, by Newton's method; a step that overshoots is halved."""
    weight_E = np.zeros(rows.row_RE.shape[1])
    loss = _loss(rows, weight_E)
    step_E = _newton_step(rows, weight_E)
    for _ in range(STEPS):
        lower = _loss(rows, weight_E - step_E)
        if lower > loss:
            step_E = step_E / 2
            continue
        weight_E = weight_E - step_E
        if loss - lower <= SETTLED * loss:
            break
        loss, step_E = lower, _newton_step(rows, weight_E)
    return weight_E


def _loss(rows: _Rows, weight_E: Array) -> float:
    logit_R = rows.row_RE @ weight_E
    entropy_R = np.logaddexp(0, logit_R) - rows.image_R * logit_R
    return float(rows.weight_R @ entropy_R + RIDGE / 2 * np.square(weight_E[:-1]).sum())


def _newton_step(rows: _Rows, weight_E: Array) -> Array:
    """The gradient by the inverse curvature; the intercept has no penalty but what keeps the matrix regular."""
    ridge_E = np.append(np.full(len(weight_E) - 1, RIDGE), 1e-10)
    probability_R = np.exp(-np.logaddexp(0, -(rows.row_RE @ weight_E)))
    slope_E = rows.row_RE.T @ (rows.weight_R * (probability_R - rows.image_R)) + ridge_E * weight_E
    curvature_R = rows.weight_R * probability_R * (1 - probability_R)
    curvature_EE = (rows.row_RE * curvature_R[:, None]).T @ rows.row_RE
    step_E: Array = np.linalg.solve(curvature_EE + np.diag(ridge_E), slope_E)
    return step_E
