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
from gapctl.metrics.classification import ZeroShot
from gapctl.metrics.embedding_set import Embeddings, unit_rows
from gapctl.metrics.gap import Array

VANISHED = 1e-9
"""A row whose norm is smaller has nothing left but rounding."""


class Clouds(NamedTuple):
    """The embeddings of both modalities: (N, D) and (M, D)."""

    image_ND: Array
    text_MD: Array


@dataclass(frozen=True)
class Affine:
    """Takes a row x to (x - offset) * scale, less its component along `without`, a unit vector, if there is one.

    With another `share` than 1 a row goes only so much of the way there.
    """

    offset_D: Array
    scale_D: Array
    without_D: Array | None = None
    share: float = 1.0

    def moved(self, row_RD: Array) -> Array:
        """The rows after the map, (R, D)."""
        moved_RD: Array = (row_RD - self.offset_D) * self.scale_D
        if self.without_D is not None:
            moved_RD -= np.outer(moved_RD @ self.without_D, self.without_D)
        return moved_RD if self.share == 1 else row_RD + self.share * (moved_RD - row_RD)


@dataclass(frozen=True)
class Fitted:
    """An intervention with all that it learned from the calibration split."""

    image: Affine
    text: Affine

    def partly(self, share: float) -> "Fitted":
        """The same, going only so much of the way: 0 changes nothing, and half of `shift 1` is `shift 0.5`."""
        return Fitted(replace(self.image, share=share), replace(self.text, share=share))

    def moved(self, image_ND: Array, text_MD: Array) -> Clouds:
        """L2-normalised embeddings after the maps, not normalised again."""
        return Clouds(self.image.moved(image_ND), self.text.moved(text_MD))

    def apply(self, image_ND: Array, text_MD: Array) -> Clouds:
        """L2-normalised embeddings after the maps, normalised; raises InputError where a row is left without length."""
        return Clouds(self.images(image_ND), self.texts(text_MD))

    def images(self, image_ND: Array) -> Array:
        """Images alone."""
        return _unit("image", self.image.moved(image_ND))

    def texts(self, text_MD: Array) -> Array:
        """Texts alone, class prompts for one."""
        return _unit("text", self.text.moved(text_MD))


def nothing(width: int) -> Fitted:
    """The intervention that changes nothing."""
    return Fitted(unchanged(width), unchanged(width))


def unchanged(width: int) -> Affine:
    """The map that takes a row to itself."""
    return Affine(np.zeros(width), np.ones(width))


def _unit(name: str, row_RD: Array) -> Array:
    norm_R = np.linalg.norm(row_RD, axis=1)
    gone_R = np.flatnonzero(~np.isfinite(norm_R) | (norm_R < VANISHED))
    if len(gone_R):
        raise InputError(
            f"{name} row {gone_R[0]} has no length left ({len(gone_R)} of {len(row_RD)} such rows), so it has no "
            "direction; the embeddings are too alike or too narrow for this intervention"
        )
    unit_RD: Array = row_RD / norm_R[:, None]
    return unit_RD


Floats = NDArray[np.floating]


def embeddings_after(fitted: Fitted, embeddings: Embeddings) -> Embeddings:
    """The same set with rows moved and normalised, prompts as texts are; raises InputError for one left without length.

    Rows keep their number format, so that rounding is no part of what an intervention changes.
    """
    return replace(
        embeddings,
        image_ND=_after(fitted.images, embeddings.image_ND),
        text_MD=_after(fitted.texts, embeddings.text_MD),
        class_CD=None if embeddings.class_CD is None else _after(fitted.texts, embeddings.class_CD),
        bias_image_ND=None if embeddings.bias_image_ND is None else _after(fitted.images, embeddings.bias_image_ND),
    )


def questions_after(fitted: Fitted, zero_shot: ZeroShot) -> ZeroShot:
    """The same questions, their prompts moved as texts are."""
    moved = {
        name: question._replace(prompt_CD=_after(fitted.texts, question.prompt_CD))
        for name, question in zero_shot.questions.items()
    }
    return ZeroShot(moved, zero_shot.main)


def _after(move: Callable[[Array], Array], row_RD: Floats) -> Floats:
    moved_RD: Floats = move(unit_rows(row_RD)).astype(row_RD.dtype)
    return moved_RD


def fit_shift(image_ND: Array, text_MD: Array, amount: float) -> Fitted:
    """Takes `amount` / 2 of the mean difference from images and adds as much to texts, of L2-normalised rows.

    At 0 nothing changes, at 1 the means of the calibration split meet (until rows are normalised again), beyond 1
    they have passed each other, and below 0 the gap is widened, all of which the paper's sweep has.
    """
    half_D = amount / 2 * (image_ND.mean(axis=0) - text_MD.mean(axis=0))
    ones_D = np.ones_like(half_D)
    return Fitted(Affine(half_D, ones_D), Affine(-half_D, ones_D))


NO_SPREAD = 1e-12
"""A dimension that varies less is constant but for rounding; it is centred and left at its scale."""


def fit_centring(image_ND: Array, text_MD: Array) -> Fitted:
    """Subtracts each modality's mean, of L2-normalised rows (GR-CLIP, arXiv 2507.19054)."""
    ones_D = np.ones(image_ND.shape[1])
    return Fitted(Affine(image_ND.mean(axis=0), ones_D), Affine(text_MD.mean(axis=0), ones_D))


def fit_standardisation(image_ND: Array, text_MD: Array) -> Fitted:
    """Gives each dimension of each modality mean zero and standard deviation one (after I0T, arXiv 2412.14384)."""
    return Fitted(_standardising(image_ND), _standardising(text_MD))


def _standardising(row_RD: Array) -> Affine:
    spread_D = row_RD.std(axis=0)
    return Affine(row_RD.mean(axis=0), 1 / np.where(spread_D > NO_SPREAD, spread_D, 1.0))


def fit_removal(image_ND: Array, text_MD: Array, count: int) -> Fitted:
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
    largest_D = np.argsort(-np.abs(_mean_difference_D(image_ND, text_MD)), kind="stable")
    kept_D = np.ones(width)
    kept_D[largest_D[:count]] = 0
    masking = Affine(np.zeros(width), kept_D)
    return Fitted(masking, masking)


def fit_projection(image_ND: Array, text_MD: Array) -> Fitted:
    """Projects both modalities onto the complement of the direction of their mean difference.

    The orthogonal way to close the gap: what lies across the gap's direction stays as it is, cosines within it
    included (arXiv 2603.29080 finds that direction nearly orthogonal to all embeddings of a trained model, so that
    little else should be lost). Changes nothing where the means are equal.
    """
    difference_D = _mean_difference_D(image_ND, text_MD)
    length = float(np.linalg.norm(difference_D))
    width = len(difference_D)
    if length == 0:
        return nothing(width)
    across = Affine(np.zeros(width), np.ones(width), difference_D / length)
    return Fitted(across, across)


def _mean_difference_D(image_ND: Array, text_MD: Array) -> Array:
    difference_D: Array = image_ND.mean(axis=0) - text_MD.mean(axis=0)
    return difference_D


HELD: Final = 0.9
"""The share of the texts' variance whose directions count as theirs. Thousands of texts span every dimension, so with
all of it nothing would be left to move by."""


def fit_translation(image_ND: Array, text_MD: Array) -> Fitted:
    """Move images by the mean difference, less what of it lies along the texts' leading directions; leave texts alone.

    What images move by is then the same to all texts along these directions, so that an image's order of texts changes
    by what is left of the texts alone. Rows are normalised again, as after every intervention.
    """
    difference_D = image_ND.mean(axis=0) - text_MD.mean(axis=0)
    _, size_Q, direction_QD = np.linalg.svd(text_MD - text_MD.mean(axis=0), full_matrices=False)
    variance_Q = np.cumsum(size_Q**2)
    leading = int(np.searchsorted(variance_Q, HELD * variance_Q[-1])) + 1 if variance_Q[-1] > 0 else 0
    leading_QD = direction_QD[:leading]
    across_D = difference_D - leading_QD.T @ (leading_QD @ difference_D)
    return Fitted(Affine(across_D, np.ones_like(across_D)), unchanged(len(across_D)))


Family = Literal["shift", "centre", "standardise", "remove", "orthogonal", "translate"]
Fit = Callable[[Array, Array], Fitted]

LAMBDAS: Final = (-0.5, 0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
"""From a wider gap to means that have changed places."""
REMOVED: Final = (1, 3, 10, 30)


class Candidate(NamedTuple):
    """An intervention that is still to be fitted; `amount` is its lambda, or how many dimensions it removes."""

    family: Family
    amount: float | None
    fit: Fit

    @property
    def name(self) -> str:
        """`shift 0.5`, `centre`."""
        return self.family if self.amount is None else f"{self.family} {self.amount:g}"


LARGEST_SHIFT: Final = 100.0
"""Beyond it nothing is left of the rows but the shift."""


def candidates(lambdas: Sequence[float], removed: Sequence[int]) -> tuple[Candidate, ...]:
    """Every intervention once, sweeps in rising order; raises InputError for a lambda that is no finite number."""
    for amount in lambdas:
        if not abs(amount) <= LARGEST_SHIFT:
            raise InputError(
                f"lambda {amount}: expected a finite number, at most {LARGEST_SHIFT:g} either way; 0 changes nothing "
                "and 1 closes the gap"
            )
    return (
        *(Candidate("shift", amount, partial(fit_shift, amount=amount)) for amount in sorted(set(lambdas))),
        Candidate("centre", None, fit_centring),
        Candidate("standardise", None, fit_standardisation),
        Candidate("orthogonal", None, fit_projection),
        *(Candidate("remove", count, partial(fit_removal, count=count)) for count in sorted(set(removed))),
    )


def named(name: str) -> Candidate:
    """The intervention that a sweep file calls by one word: `shift` (all the way), `centre`, `remove_3`."""
    kind, _, count = name.partition("_")
    whole = candidates([1.0], [int(count)] if count else [])
    # Of sweeps alone: intervals of `gapctl intervene` hold for all its interventions at once, and one more widens them.
    return next(each for each in (*whole, Candidate("translate", None, fit_translation)) if each.family == kind)


def usual_removals(width: int) -> tuple[int, ...]:
    """How many dimensions are removed where nobody says: at most half of them."""
    return tuple(count for count in REMOVED if count <= width // 2)
