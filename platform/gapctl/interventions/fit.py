"""Fit interventions on embeddings: affine maps of both modalities that close or widen the gap.

Index letters: N images, M texts, D embedding, R rows of either, Q directions of the texts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Literal, NamedTuple

import numpy as np

from gapctl.errors import InputError
from gapctl.metrics.checks import Rows
from gapctl.metrics.classification import ZeroShotTasks
from gapctl.metrics.embedding_set import Embeddings, normalise_rows
from gapctl.metrics.gap import Array, find_leading_dimensions

LEAST_NORM = 1e-9
"""The smallest norm of a row after a map; a shorter row is rounding."""

LEAST_SPREAD = 1e-12
"""Smallest standard deviation that is scaled; below it a dimension is constant but for rounding, and only centred."""

LEADING_VARIANCE: Final = 0.9
"""Share of the texts' variance whose directions count as theirs.

Thousands of texts span every dimension: with all of their variance, nothing would be left to move by.
"""

InterventionFamily = Literal["shift", "centre", "standardise", "remove", "orthogonal", "translate", "ideal_words"]
IDEAL_WORDS: Final = "ideal_words"
"""The intervention that replaces texts (`ideal_words.py`) and fits no map."""
SHIFT_LAMBDAS: Final = (-0.5, 0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
"""From a wider gap to means that have changed places."""
REMOVAL_COUNTS: Final = (1, 3, 10, 30)
LARGEST_SHIFT: Final = 100.0
"""Largest lambda; beyond it the rows would be all shift."""


class EmbeddingClouds(NamedTuple):
    """The embeddings of both modalities: (N, D) and (M, D)."""

    image_ND: Array
    text_MD: Array


@dataclass(frozen=True)
class AffineMap:
    """Maps a row x to (x - offset) * scale, less its component along `without_D`, a unit vector, if given.

    With a `share` other than 1, rows move by that share of the way.
    """

    offset_D: Array
    scale_D: Array
    without_D: Array | None = None
    share: float = 1.0

    def move_rows(self, row_RD: Array) -> Array:
        """Return the mapped rows (R, D)."""
        moved_RD: Array = (row_RD - self.offset_D) * self.scale_D
        if self.without_D is not None:
            moved_RD -= np.outer(moved_RD @ self.without_D, self.without_D)
        return moved_RD if self.share == 1 else row_RD + self.share * (moved_RD - row_RD)


@dataclass(frozen=True)
class FittedIntervention:
    """An intervention with the maps that were fitted on the calibration split."""

    image: AffineMap
    text: AffineMap

    def scale_effect(self, share: float) -> "FittedIntervention":
        """Return the intervention at `share` of its way: 0 changes nothing, and half of `shift 1` is `shift 0.5`."""
        return FittedIntervention(replace(self.image, share=share), replace(self.text, share=share))

    def move_rows(self, image_ND: Array, text_MD: Array) -> EmbeddingClouds:
        """Return L2-normalised embeddings after the maps, without normalising them again."""
        return EmbeddingClouds(self.image.move_rows(image_ND), self.text.move_rows(text_MD))

    def apply(self, image_ND: Array, text_MD: Array) -> EmbeddingClouds:
        """Return embeddings after the maps, normalised. Raise InputError if a row is left without length."""
        return EmbeddingClouds(self.images(image_ND), self.texts(text_MD))

    def images(self, image_ND: Array) -> Array:
        """Apply the images' map to L2-normalised rows, and normalise them."""
        return normalise_moved_rows("image", self.image.move_rows(image_ND))

    def texts(self, text_MD: Array) -> Array:
        """Apply the texts' map to L2-normalised rows, such as class prompts, and normalise them."""
        return normalise_moved_rows("text", self.text.move_rows(text_MD))


def fit_nothing(image_ND: Array, text_MD: Array) -> FittedIntervention:
    """Return the intervention that changes nothing, for texts that were replaced."""
    return nothing(image_ND.shape[1])


def nothing(width: int) -> FittedIntervention:
    """Return the intervention that changes nothing."""
    return FittedIntervention(build_identity_map(width), build_identity_map(width))


def build_identity_map(width: int) -> AffineMap:
    """Return the map that changes nothing."""
    return AffineMap(np.zeros(width), np.ones(width))


def normalise_moved_rows(name: str, row_RD: Array) -> Array:
    """Return rows after a map with length 1. Raise InputError if one is left without length."""
    norm_R = np.linalg.norm(row_RD, axis=1)
    gone_R = np.flatnonzero(~np.isfinite(norm_R) | (norm_R < LEAST_NORM))
    if len(gone_R):
        raise InputError(
            f"{name} row {gone_R[0]} has no length left ({len(gone_R)} of {len(row_RD)} such rows), so it has no "
            "direction; the embeddings are too alike or too narrow for this intervention"
        )
    unit_RD: Array = row_RD / norm_R[:, None]
    return unit_RD


def transform_embeddings(fitted: FittedIntervention, embeddings: Embeddings) -> Embeddings:
    """Apply an intervention to a set of embeddings; class prompts move as texts do.

    Rows keep their number format, so that an intervention does not change rounding. Raise InputError if a row is left
    without length.
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


def transform_zero_shot_prompts(fitted: FittedIntervention, zero_shot: ZeroShotTasks) -> ZeroShotTasks:
    """Apply the texts' map to the prompts of zero-shot questions."""
    moved = {
        name: question._replace(prompt_CD=_transform_rows(fitted.texts, question.prompt_CD))
        for name, question in zero_shot.questions.items()
    }
    pairs = {}
    for name, pair in zero_shot.pairs.items():
        moved_PD = _transform_rows(fitted.texts, pair.prompt_OAD.reshape(-1, pair.prompt_OAD.shape[-1]))
        pairs[name] = pair._replace(prompt_OAD=moved_PD.reshape(pair.prompt_OAD.shape))
    return replace(zero_shot, questions=moved, pairs=pairs)


def _transform_rows(move: Callable[[Array], Array], row_RD: Rows) -> Rows:
    moved_RD: Rows = move(normalise_rows(row_RD)).astype(row_RD.dtype)
    return moved_RD


def fit_shift(image_ND: Array, text_MD: Array, amount: float) -> FittedIntervention:
    """Take half of `amount` times the mean difference from images, and add as much to texts (L2-normalised rows).

    At 0 nothing changes. At 1 the means of the calibration split meet, until rows are normalised again. Beyond 1 they
    pass each other, and below 0 the gap widens. All of these are in the paper's sweep.
    """
    half_D = amount / 2 * (image_ND.mean(axis=0) - text_MD.mean(axis=0))
    ones_D = np.ones_like(half_D)
    return FittedIntervention(AffineMap(half_D, ones_D), AffineMap(-half_D, ones_D))


def fit_centring(image_ND: Array, text_MD: Array) -> FittedIntervention:
    """Subtract each modality's mean, of L2-normalised rows (GR-CLIP, arXiv 2507.19054)."""
    ones_D = np.ones(image_ND.shape[1])
    return FittedIntervention(AffineMap(image_ND.mean(axis=0), ones_D), AffineMap(text_MD.mean(axis=0), ones_D))


def fit_standardisation(image_ND: Array, text_MD: Array) -> FittedIntervention:
    """Give each dimension of each modality mean zero and standard deviation one (after I0T, arXiv 2412.14384)."""
    return FittedIntervention(_fit_standardising_map(image_ND), _fit_standardising_map(text_MD))


def _fit_standardising_map(row_RD: Array) -> AffineMap:
    spread_D = row_RD.std(axis=0)
    return AffineMap(row_RD.mean(axis=0), 1 / np.where(spread_D > LEAST_SPREAD, spread_D, 1.0))


def fit_removal(image_ND: Array, text_MD: Array, count: int) -> FittedIntervention:
    """Set the `count` dimensions of the largest mean difference to zero (arXiv 2404.07983, sec. 4).

    Ties go in ascending order. Raise InputError unless some dimensions are removed and some are left.
    """
    width = image_ND.shape[1]
    if not 1 <= count < width:
        raise InputError(
            f"{count} dimensions to remove of {width}; expected 1 to {width - 1}, so that something is removed and "
            "something is left"
        )
    mask_D = np.ones(width)
    mask_D[find_leading_dimensions(image_ND.mean(axis=0) - text_MD.mean(axis=0), count)] = 0
    masking = AffineMap(np.zeros(width), mask_D)
    return FittedIntervention(masking, masking)


def fit_projection(image_ND: Array, text_MD: Array) -> FittedIntervention:
    """Project both modalities onto the complement of the direction of their mean difference.

    It closes the gap orthogonally: components across the gap's direction stay, with the cosines among them. arXiv
    2603.29080 finds that direction nearly orthogonal to all embeddings of a trained model, so that little else should
    be lost. Equal means change nothing.
    """
    difference_D = image_ND.mean(axis=0) - text_MD.mean(axis=0)
    length = float(np.linalg.norm(difference_D))
    width = len(difference_D)
    if length == 0:
        return nothing(width)
    across = AffineMap(np.zeros(width), np.ones(width), difference_D / length)
    return FittedIntervention(across, across)


def fit_translation(image_ND: Array, text_MD: Array) -> FittedIntervention:
    """Move images by the mean difference without its part along the texts' leading directions; leave texts alone.

    Along these directions the move is the same for all texts, so that an image's order of texts changes only by the
    texts' remaining directions. Rows are normalised again, as after every intervention.
    """
    difference_D = image_ND.mean(axis=0) - text_MD.mean(axis=0)
    _, size_Q, direction_QD = np.linalg.svd(text_MD - text_MD.mean(axis=0), full_matrices=False)
    variance_Q = np.cumsum(size_Q**2)
    leading = int(np.searchsorted(variance_Q, LEADING_VARIANCE * variance_Q[-1])) + 1 if variance_Q[-1] > 0 else 0
    leading_QD = direction_QD[:leading]
    across_D = difference_D - leading_QD.T @ (leading_QD @ difference_D)
    return FittedIntervention(AffineMap(across_D, np.ones_like(across_D)), build_identity_map(len(across_D)))


FitFunction = Callable[[Array, Array], FittedIntervention]


class InterventionCandidate(NamedTuple):
    """An intervention before fitting; `amount` is its lambda, or the number of dimensions to remove."""

    family: InterventionFamily
    amount: float | None
    fit: FitFunction

    @property
    def name(self) -> str:
        """A name such as `shift 0.5` or `centre`."""
        family = self.family.replace("_", " ")
        return family if self.amount is None else f"{family} {self.amount:g}"

    @property
    def replaces_texts(self) -> bool:
        """Whether texts are replaced by what they are made of, before anything is moved."""
        return self.family == IDEAL_WORDS


def list_candidates(
    lambdas: Sequence[float], removed: Sequence[int], *, ideal_words: bool = False
) -> tuple[InterventionCandidate, ...]:
    """Return all interventions, with the given lambdas and removal counts once each in rising order.

    Ideal words are among them where they are asked for, as few inputs have the pairs that they need.

    Raise InputError for a lambda that is not finite or larger than `LARGEST_SHIFT`.
    """
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
        *((InterventionCandidate(IDEAL_WORDS, None, fit_nothing),) if ideal_words else ()),
    )


def find_candidate(name: str) -> InterventionCandidate:
    """Return the intervention that a sweep file names: `shift` (with lambda 1), `centre`, `remove_3`."""
    if name == IDEAL_WORDS:
        return InterventionCandidate(IDEAL_WORDS, None, fit_nothing)
    kind, _, count = name.partition("_")
    whole = list_candidates([1.0], [int(count)] if count else [])
    # `translate` is for sweeps alone: one more intervention would widen the joint intervals of `gapctl intervene`.
    return next(
        each for each in (*whole, InterventionCandidate("translate", None, fit_translation)) if each.family == kind
    )


def list_default_removal_counts(width: int) -> tuple[int, ...]:
    """Return the default removal counts: those of at most half of the dimensions."""
    return tuple(count for count in REMOVAL_COUNTS if count <= width // 2)
