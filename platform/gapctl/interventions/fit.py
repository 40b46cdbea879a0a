"""Which interventions are tried, and what each is called.

Index letters: N images, M texts, D embedding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.errors import InputError
from gapctl.metrics.classification import ZeroShotTasks
from gapctl.metrics.embedding_set import Embeddings, normalise_rows
from gapctl.metrics.gap import Array

LEAST_NORM = 1e-9
"""A row whose norm is smaller has nothing left but rounding."""


class EmbeddingClouds(NamedTuple):
    """The embeddings of both modalities: (N, D) and (M, D)."""

    image_ND: Array
    text_MD: Array


@dataclass(frozen=True)
class AffineMap:
    """Takes a row x to (x - offset) * scale, less its component along `without`, a unit vector, if there is one.

    With another `share` than 1 a row goes only so much of the way there.
    """

    offset_D: Array
    scale_D: Array
    without_D: Array | None = None
    share: float = 1.0

    def move_rows(self, row_RD: Array) -> Array:
        """The rows after the map, (R, D)."""
        moved_RD: Array = (row_RD - self.offset_D) * self.scale_D
        if self.without_D is not None:
            moved_RD -= np.outer(moved_RD @ self.without_D, self.without_D)
        return moved_RD if self.share == 1 else row_RD + self.share * (moved_RD - row_RD)


@dataclass(frozen=True)
class FittedIntervention:
    """An intervention with all that it learned from the calibration split."""

    image: AffineMap
    text: AffineMap

    def scale_effect(self, share: float) -> "FittedIntervention":
        """The same, going only so much of the way: 0 changes nothing, and half of `shift 1` is `shift 0.5`."""
        return FittedIntervention(replace(self.image, share=share), replace(self.text, share=share))

    def move_rows(self, image_ND: Array, text_MD: Array) -> EmbeddingClouds:
        """L2-normalised embeddings after the maps, not normalised again."""
        return EmbeddingClouds(self.image.move_rows(image_ND), self.text.move_rows(text_MD))

    def apply(self, image_ND: Array, text_MD: Array) -> EmbeddingClouds:
        """L2-normalised embeddings after the maps, normalised; raises InputError where a row is left without length."""
        return EmbeddingClouds(self.images(image_ND), self.texts(text_MD))

    def images(self, image_ND: Array) -> Array:
        """Images alone."""
        return _normalise_rows("image", self.image.move_rows(image_ND))

    def texts(self, text_MD: Array) -> Array:
        """Texts alone, class prompts for one."""
        return _normalise_rows("text", self.text.move_rows(text_MD))


def nothing(width: int) -> FittedIntervention:
    """The intervention that changes nothing."""
    return FittedIntervention(build_identity_map(width), build_identity_map(width))


def build_identity_map(width: int) -> AffineMap:
    """The map that takes a row to itself."""
    return AffineMap(np.zeros(width), np.ones(width))


def _normalise_rows(name: str, row_RD: Array) -> Array:
    norm_R = np.linalg.norm(row_RD, axis=1)
    gone_R = np.flatnonzero(~np.isfinite(norm_R) | (norm_R < LEAST_NORM))
    if len(gone_R):
        raise InputError(
            f"{name} row {gone_R[0]} has no length left ({len(gone_R)} of {len(row_RD)} such rows), so it has no "
            "direction; the embeddings are too alike or too narrow for this intervention"
        )
    unit_RD: Array = row_RD / norm_R[:, None]
    return unit_RD


FloatArray = NDArray[np.floating]


def transform_embeddings(fitted: FittedIntervention, embeddings: Embeddings) -> Embeddings:
    """The same set with rows moved and normalised, prompts as texts are; raises InputError for one left without length.

    Rows keep their number format, so that rounding is no part of what an intervention changes.
    """
    return replace(
        embeddings,
        image_ND=_transform_rows(fitted.images, embeddings.image_ND),
        text_MD=_transform_rows(fitted.texts, embeddings.text_MD),
        class_CD=None if embeddings.class_CD is None else _transform_rows(fitted.texts, embeddings.class_CD),
        bias_image_ND=None
        if embeddings.bias_image_ND is None
        else _transform_rows(fitted.images, embeddings.bias_image_ND),
    )


def transform_questions(fitted: FittedIntervention, zero_shot: ZeroShotTasks) -> ZeroShotTasks:
    """The same questions, their prompts moved as texts are."""
    moved = {
        name: question._replace(prompt_CD=_transform_rows(fitted.texts, question.prompt_CD))
        for name, question in zero_shot.questions.items()
    }
    return ZeroShotTasks(moved, zero_shot.main)


def _transform_rows(move: Callable[[Array], Array], row_RD: FloatArray) -> FloatArray:
    moved_RD: FloatArray = move(normalise_rows(row_RD)).astype(row_RD.dtype)
    return moved_RD


def fit_shift(image_ND: Array, text_MD: Array, amount: float) -> FittedIntervention:
    """Takes `amount` / 2 of the mean difference from images and adds as much to texts, of L2-normalised rows.

    At 0 nothing changes, at 1 the means of the calibration split meet (until rows are normalised again), beyond 1
    they have passed each other, and below 0 the gap is widened, all of which the paper's sweep has.
    """
    half_D = amount / 2 * (image_ND.mean(axis=0) - text_MD.mean(axis=0))
    ones_D = np.ones_like(half_D)
    return FittedIntervention(AffineMap(half_D, ones_D), AffineMap(-half_D, ones_D))


LEAST_SPREAD = 1e-12
"""A dimension that varies less is constant but for rounding; it is centred and left at its scale."""


def fit_centring(image_ND: Array, text_MD: Array) -> FittedIntervention:
    """Subtracts each modality's mean, of L2-normalised rows (GR-CLIP, arXiv 2507.19054)."""
    ones_D = np.ones(image_ND.shape[1])
    return FittedIntervention(AffineMap(image_ND.mean(axis=0), ones_D), AffineMap(text_MD.mean(axis=0), ones_D))


def fit_standardisation(image_ND: Array, text_MD: Array) -> FittedIntervention:
    """Gives each dimension of each modality mean zero and standard deviation one (after I0T, arXiv 2412.14384)."""
    return FittedIntervention(_fit_standardising_map(image_ND), _fit_standardising_map(text_MD))


def _fit_standardising_map(row_RD: Array) -> AffineMap:
    spread_D = row_RD.std(axis=0)
    return AffineMap(row_RD.mean(axis=0), 1 / np.where(spread_D > LEAST_SPREAD, spread_D, 1.0))


def fit_removal(image_ND: Array, text_MD: Array, count: int) -> FittedIntervention:
    """Sets the `count` dimensions of the largest mean difference to zero (arXiv 2404.07983, sec. 4).

    Dimensions that carry equally much go in their order. Raises InputError unless some dimensions are removed and
    some are left.
    """
    width = image_ND.shape[1]
    if not 1 <= count < width:
        raise InputError(
            f"{count} dimensions to remove of {width}; expected 1 to {width - 1}, so that something is removed and "
            "something is left"
        )
    largest_D = np.argsort(-np.abs(_compute_mean_difference_D(image_ND, text_MD)), kind="stable")
    kept_D = np.ones(width)
    kept_D[largest_D[:count]] = 0
    masking = AffineMap(np.zeros(width), kept_D)
    return FittedIntervention(masking, masking)


def fit_projection(image_ND: Array, text_MD: Array) -> FittedIntervention:
    """Projects both modalities onto the complement of the direction of their mean difference.

    The orthogonal way to close the gap: what lies across the gap's direction stays as it is, cosines within it
    included (arXiv 2603.29080 finds that direction nearly orthogonal to all embeddings of a trained model, so that
    little else should be lost). Changes nothing where the means are equal.
    """
    difference_D = _compute_mean_difference_D(image_ND, text_MD)
    length = float(np.linalg.norm(difference_D))
    width = len(difference_D)
    if length == 0:
        return nothing(width)
    across = AffineMap(np.zeros(width), np.ones(width), difference_D / length)
    return FittedIntervention(across, across)


def _compute_mean_difference_D(image_ND: Array, text_MD: Array) -> Array:
    difference_D: Array = image_ND.mean(axis=0) - text_MD.mean(axis=0)
    return difference_D


LEADING_VARIANCE: Final = 0.9
"""The share of the texts' variance whose directions count as theirs. Thousands of texts span every dimension, so with
all of it nothing would be left to move by."""


def fit_translation(image_ND: Array, text_MD: Array) -> FittedIntervention:
    """Move images by the mean difference, less what of it lies along the texts' leading directions; leave texts alone.

    What images move by is then the same to all texts along these directions, so that an image's order of texts changes
    by what is left of the texts alone. Rows are normalised again, as after every intervention.
    """
    difference_D = image_ND.mean(axis=0) - text_MD.mean(axis=0)
    _, size_Q, direction_QD = np.linalg.svd(text_MD - text_MD.mean(axis=0), full_matrices=False)
    variance_Q = np.cumsum(size_Q**2)
    leading = int(np.searchsorted(variance_Q, LEADING_VARIANCE * variance_Q[-1])) + 1 if variance_Q[-1] > 0 else 0
    leading_QD = direction_QD[:leading]
    across_D = difference_D - leading_QD.T @ (leading_QD @ difference_D)
    return FittedIntervention(AffineMap(across_D, np.ones_like(across_D)), build_identity_map(len(across_D)))


InterventionFamily = Literal["shift", "centre", "standardise", "remove", "orthogonal", "translate"]
FitFunction = Callable[[Array, Array], FittedIntervention]

SHIFT_LAMBDAS: Final = (-0.5, 0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
"""From a wider gap to means that have changed places."""
REMOVAL_COUNTS: Final = (1, 3, 10, 30)


class InterventionCandidate(NamedTuple):
    """An intervention that is still to be fitted; `amount` is its lambda, or how many dimensions it removes."""

    family: InterventionFamily
    amount: float | None
    fit: FitFunction

    @property
    def name(self) -> str:
        """`shift 0.5`, `centre`."""
        return self.family if self.amount is None else f"{self.family} {self.amount:g}"


LARGEST_SHIFT: Final = 100.0
"""Beyond it nothing is left of the rows but the shift."""


def list_candidates(lambdas: Sequence[float], removed: Sequence[int]) -> tuple[InterventionCandidate, ...]:
    """Every intervention once, sweeps in rising order; raises InputError for a lambda that is no finite number."""
    for amount in lambdas:
        if not abs(amount) <= LARGEST_SHIFT:
            raise InputError(
                f"lambda {amount}: expected a finite number, at most {LARGEST_SHIFT:g} either way; 0 changes nothing "
                "and 1 closes the gap"
            )
    return (
        *(InterventionCandidate("shift", amount, partial(fit_shift, amount=amount)) for amount in sorted(set(lambdas))),
        InterventionCandidate("centre", None, fit_centring),
        InterventionCandidate("standardise", None, fit_standardisation),
        InterventionCandidate("orthogonal", None, fit_projection),
        *(InterventionCandidate("remove", count, partial(fit_removal, count=count)) for count in sorted(set(removed))),
    )


def find_candidate(name: str) -> InterventionCandidate:
    """The intervention that a sweep file calls by one word: `shift` (all the way), `centre`, `remove_3`."""
    kind, _, count = name.partition("_")
    whole = list_candidates([1.0], [int(count)] if count else [])
    # Of sweeps alone: intervals of `gapctl intervene` hold for all its interventions at once, and one more widens them.
    return next(
        each for each in (*whole, InterventionCandidate("translate", None, fit_translation)) if each.family == kind
    )


def choose_removals(width: int) -> tuple[int, ...]:
    """How many dimensions are removed where nobody says: at most half of them."""
    return tuple(count for count in REMOVAL_COUNTS if count <= width // 2)
