"""Whether a line tells images from texts: a logistic probe, judged on rows that it has not seen.

Index letters: N images, M texts, R rows of either, J rows that judge, E embedding and a one for the intercept.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.metrics.draws import Draw, permutation, some_rows
from gapctl.metrics.gap import Array
from gapctl.metrics.sampled import Sampled, wilson

RIDGE: Final = 1.0
STEPS: Final = 30
SETTLED: Final = 1e-8


class _Rows(NamedTuple):
    """Rows with a one at their end (R, E), whether each is an image (1.0, else 0.0), and its weight (R,)."""

    row_RE: Array
    image_R: Array
    weight_R: Array


class Told(NamedTuple):
    """The rows that judged a probe, by their numbers, and whether each was taken for what it is."""

    image_J: NDArray[np.int64]
    image_right_J: NDArray[np.bool_]
    text_J: NDArray[np.int64]
    text_right_J: NDArray[np.bool_]


def linear_separability(image_ND: NDArray[np.floating], text_MD: NDArray[np.floating], most: int) -> Sampled:
    """Held-out accuracy of a logistic probe that tells images from texts, 0.5 to 1 (arXiv 2203.02053; 2411.14517).

    Half of the rows train it and the other half judges, by a seeded draw that keeps matched pairs together. Both
    modalities count the same however many rows they have. Of each modality at most `most` rows are drawn. Its ridge
    is 1 against the summed loss of the unit rows. The interval is Wilson's, over the rows that judge.
    """
    told = told_apart(image_ND, text_MD, most)
    accuracy = float(told.image_right_J.mean() + told.text_right_J.mean()) / 2
    images, texts = len(told.image_J), len(told.text_J)
    # As many draws as give the mean of both modalities' shares its variance.
    numbers = 4 / (1 / images + 1 / texts)
    return Sampled(accuracy, *wilson(accuracy, numbers), images + texts, len(image_ND) + len(text_MD))


def told_apart(image_ND: NDArray[np.floating], text_MD: NDArray[np.floating], most: int) -> Told:
    """What the probe of `linear_separability` says of each row that it was not trained on."""
    image, text = _halves(image_ND, most), _halves(text_MD, most)
    weight_E = _fitted(_labelled(image.seen_RE, text.seen_RE))
    image_right_J, text_right_J = image.unseen_JE @ weight_E > 0, text.unseen_JE @ weight_E < 0
    return Told(image.unseen_J, image_right_J, text.unseen_J, text_right_J)


class _Halves(NamedTuple):
    """The rows that train and those that judge, each with a one at its end, and the numbers of the latter."""

    seen_RE: Array
    unseen_JE: Array
    unseen_J: NDArray[np.int64]


def _halves(cloud_ND: NDArray[np.floating], most: int) -> _Halves:
    drawn_R = some_rows(Draw.PAIRS, len(cloud_ND), most)
    row_RE = np.column_stack([cloud_ND[drawn_R].astype(np.float64), np.ones(len(drawn_R))])
    order_R = permutation(Draw.HELD_OUT, len(row_RE))
    half = len(row_RE) // 2
    return _Halves(row_RE[order_R[:half]], row_RE[order_R[half:]], drawn_R[order_R[half:]])


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
