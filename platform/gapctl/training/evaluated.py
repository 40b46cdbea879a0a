"""What an evaluation gives, whatever a trial is trained on.

Index letters: N pairs, D embedding.
"""

from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from open_clip.model import CLIP

from gapctl.errors import InputError
from gapctl.metrics.axis import axis_of
from gapctl.metrics.class_prompts import ZeroShot, accuracies
from gapctl.metrics.effort import TRIAL
from gapctl.metrics.embedding_set import Embeddings, unit_rows
from gapctl.metrics.suite import measure

Floats = NDArray[np.float32]

FITTED_ON: Final = 4_096
"""Training pairs that an intervention is fitted on; so many give a mean of unit rows to about 1/64."""


class TrainingPairs(NamedTuple):
    """Embeddings of matched training images and texts, both (N, D) and L2-normalised."""

    image_ND: Floats
    text_ND: Floats


class Encoded(NamedTuple):
    """A model's view of the gallery: embeddings with all labels, prompts for every question, and the temperature."""

    embeddings: Embeddings
    zero_shot: ZeroShot
    temperature: dict[str, float]


class Evaluated(NamedTuple):
    """Every metric by its name, and the centroids of both modalities (D,), whose difference is the gap's vector.

    Each pair's image and text projected on that vector, at unit length (N,), say how it lies to what is shown. So do
    images projected on their own mean, which knows no text. `label_N` is what each image shows, 0 where nobody says.
    """

    metrics: dict[str, float]
    image_mean_D: NDArray[np.float64]
    text_mean_D: NDArray[np.float64]
    image_on_axis_N: NDArray[np.float64]
    text_on_axis_N: NDArray[np.float64]
    image_on_mean_N: NDArray[np.float64]
    label_N: NDArray[np.int64]


class Evaluation(Protocol):
    """A frozen gallery that models are shown."""

    def encode(self, model: CLIP) -> Encoded:
        """What the metrics are computed from."""
        ...


class FittingEvaluation(Evaluation, Protocol):
    """One that also shows models a frozen draw of the pairs that are trained on."""

    def training_pairs(self, model: CLIP) -> TrainingPairs:
        """`FITTED_ON` of them: the same for every seed, captions as training reads them."""
        ...


def measured(encoded: Encoded) -> Evaluated:
    """What a trial logs of a model. Raises ArithmeticError where the model's embeddings have no direction any more."""
    embeddings = encoded.embeddings
    try:
        measures = measure(embeddings, TRIAL)
    except InputError as error:
        raise ArithmeticError(f"the model's embeddings cannot be measured: {error}") from error
    found = measures | encoded.temperature | accuracies(embeddings.image_ND, encoded.zero_shot)
    image_ND, text_ND = unit_rows(embeddings.image_ND), unit_rows(embeddings.text_MD)
    image_mean_D, text_mean_D = image_ND.mean(axis=0), text_ND.mean(axis=0)
    axis_D = axis_of(image_mean_D, text_mean_D)
    mean_axis_D = axis_of(image_mean_D, np.zeros_like(image_mean_D))
    return Evaluated(
        found,
        image_mean_D,
        text_mean_D,
        image_on_axis_N=image_ND @ axis_D,
        text_on_axis_N=text_ND @ axis_D,
        image_on_mean_N=image_ND @ mean_axis_D,
        label_N=np.zeros(len(image_ND), np.int64) if embeddings.labels_N is None else embeddings.labels_N,
    )
