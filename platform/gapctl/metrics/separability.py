"""Measure whether a plane separates images from texts: a logistic probe, judged on held-out rows.

Index letters: N images, M texts, R rows of either, U keys, J rows that judge, E embedding and a one for the intercept.
"""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.metrics.checks import Integers, RowSource, check_integer_keys, check_unit_rows
from gapctl.metrics.gap import Array
from gapctl.metrics.sampling import (
    DrawPurpose,
    SampleEstimate,
    permute_row_numbers,
    sample_row_numbers,
    wilson_interval,
)

RIDGE: Final = 1.0
NEWTON_STEPS: Final = 30
LOSS_TOLERANCE: Final = 1e-8


class _ProbeRows(NamedTuple):
    """Rows with a one appended (R, E), whether each is an image (1.0 or 0.0), and its weight (R,)."""

    row_RE: Array
    image_R: Array
    weight_R: Array


class ProbePredictions(NamedTuple):
    """The held-out rows' numbers, and whether the probe recognised each one's modality."""

    image_J: Integers
    image_right_J: NDArray[np.bool_]
    text_J: Integers
    text_right_J: NDArray[np.bool_]


def linear_separability(
    image_ND: RowSource, image_key_N: Integers, text_MD: RowSource, text_key_M: Integers, most: int
) -> SampleEstimate:
    """Estimate the held-out accuracy of a logistic probe of the modality, 0.5 to 1 (arXiv 2203.02053; 2411.14517).

    A seeded draw gives half of the keys to training and half to judging. Rows of one key stay on one side, so that no
    held-out image, caption or, with class prompts, class was trained on. Both modalities have the same weight whatever
    their number of rows. At most `most` rows of each modality are drawn, texts from those of the drawn images. The
    ridge is 1 against the summed loss of the unit rows. The interval is Wilson's, over the keys that judge. NaN if all
    images have one key.
    """
    check_unit_rows(image=image_ND, text=text_MD)
    check_integer_keys(image=(image_ND, image_key_N), text=(text_MD, text_key_M))
    total = len(image_ND) + len(text_MD)
    if len(np.unique(image_key_N)) < 2:
        return SampleEstimate(math.nan, math.nan, math.nan, total, total)
    judged = predict_modalities(image_ND, image_key_N, text_MD, text_key_M, most)
    accuracy = float(judged.image_right_J.mean() + judged.text_right_J.mean()) / 2
    images, texts = (
        len(np.unique(key_A[row_J])) for key_A, row_J in ((image_key_N, judged.image_J), (text_key_M, judged.text_J))
    )
    # The number of draws for which one share has the variance of the mean of both modalities' shares.
    numbers = 4 / (1 / images + 1 / texts)
    return SampleEstimate(
        accuracy, *wilson_interval(accuracy, numbers), len(judged.image_J) + len(judged.text_J), total
    )


def predict_modalities(
    image_ND: RowSource, image_key_N: Integers, text_MD: RowSource, text_key_M: Integers, most: int
) -> ProbePredictions:
    """Return the predictions of `linear_separability`'s probe for each held-out row."""
    image_R = sample_row_numbers(DrawPurpose.PAIRS, len(image_ND), most)
    text_R = np.flatnonzero(np.isin(text_key_M, image_key_N[image_R]))
    text_R = text_R[sample_row_numbers(DrawPurpose.PAIRS, len(text_R), most)]
    key_U = np.unique(image_key_N[image_R])
    image, text = (
        _split_by_key(image_ND, image_R, image_key_N, key_U),
        _split_by_key(text_MD, text_R, text_key_M, key_U),
    )
    weight_E = _fit_probe(_label_modalities(image.seen_RE, text.seen_RE))
    image_right_J, text_right_J = image.unseen_JE @ weight_E > 0, text.unseen_JE @ weight_E < 0
    return ProbePredictions(image.unseen_J, image_right_J, text.unseen_J, text_right_J)


class _HeldOutSplit(NamedTuple):
    """The training rows and the judging rows, each with a one appended, and the numbers of the latter."""

    seen_RE: Array
    unseen_JE: Array
    unseen_J: Integers


def _split_by_key(cloud_ND: RowSource, drawn_R: Integers, key_N: Integers, key_U: Integers) -> _HeldOutSplit:
    """Return the drawn rows in the random order of their keys, cut where half of the keys have come."""
    place_U = np.argsort(permute_row_numbers(DrawPurpose.HELD_OUT, len(key_U)))
    place_R = place_U[np.searchsorted(key_U, key_N[drawn_R])]
    order_R = np.argsort(place_R, kind="stable")
    row_RE = np.column_stack([cloud_ND[drawn_R].astype(np.float64), np.ones(len(drawn_R))])
    seen = int((place_R < len(key_U) // 2).sum())
    return _HeldOutSplit(row_RE[order_R[:seen]], row_RE[order_R[seen:]], drawn_R[order_R[seen:]])


def _label_modalities(image_NE: Array, text_ME: Array) -> _ProbeRows:
    sizes = (len(image_NE), len(text_ME))
    weights = [np.full(size, sum(sizes) / (2 * size)) for size in sizes]
    is_image = [np.ones(sizes[0]), np.zeros(sizes[1])]
    return _ProbeRows(np.concatenate([image_NE, text_ME]), np.concatenate(is_image), np.concatenate(weights))


def _fit_probe(rows: _ProbeRows) -> Array:
    """Return the weights (E,) of the least penalised loss, by Newton's method; a step that overshoots is halved."""
    weight_E = np.zeros(rows.row_RE.shape[1])
    loss = _compute_loss(rows, weight_E)
    step_E = _compute_newton_step(rows, weight_E)
    for _ in range(NEWTON_STEPS):
        lower = _compute_loss(rows, weight_E - step_E)
        if lower > loss:
            step_E = step_E / 2
            continue
        weight_E = weight_E - step_E
        if loss - lower <= LOSS_TOLERANCE * loss:
            break
        loss, step_E = lower, _compute_newton_step(rows, weight_E)
    return weight_E


def _compute_loss(rows: _ProbeRows, weight_E: Array) -> float:
    logit_R = rows.row_RE @ weight_E
    entropy_R = np.logaddexp(0, logit_R) - rows.image_R * logit_R
    return float(rows.weight_R @ entropy_R + RIDGE / 2 * np.square(weight_E[:-1]).sum())


def _compute_newton_step(rows: _ProbeRows, weight_E: Array) -> Array:
    """Return the inverse curvature times the gradient (E,); the intercept has no penalty beyond regularity's need."""
    ridge_E = np.append(np.full(len(weight_E) - 1, RIDGE), 1e-10)
    probability_R = np.exp(-np.logaddexp(0, -(rows.row_RE @ weight_E)))
    slope_E = rows.row_RE.T @ (rows.weight_R * (probability_R - rows.image_R)) + ridge_E * weight_E
    curvature_R = rows.weight_R * probability_R * (1 - probability_R)
    curvature_EE = (rows.row_RE * curvature_R[:, None]).T @ rows.row_RE
    step_E: Array = np.linalg.solve(curvature_EE + np.diag(ridge_E), slope_E)
    return step_E
