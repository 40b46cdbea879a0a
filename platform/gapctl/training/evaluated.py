"""What an evaluation gives, whatever a trial is trained on."""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from open_clip.model import CLIP

from gapctl.metrics.class_prompts import ZeroShot, accuracies
from gapctl.metrics.effort import TRIAL
from gapctl.metrics.embedding_set import Embeddings, unit_rows
from gapctl.metrics.suite import measure


class Encoded(NamedTuple):
    """A model's view of the gallery: embeddings with all labels, prompts for every question, and the temperature."""

    embeddings: Embeddings
    zero_shot: ZeroShot
    temperature: dict[str, float]


class Evaluated(NamedTuple):
    """Every metric by its name, and the centroids of both modalities (D,), whose difference is the gap's vector."""

    metrics: dict[str, float]
    image_mean_D: NDArray[np.float64]
    text_mean_D: NDArray[np.float64]


class Evaluation(Protocol):
    """A frozen gallery that models are shown."""

    def encode(self, model: CLIP) -> Encoded:
        """What the metrics are computed from."""
        ...


def measured(encoded: Encoded) -> Evaluated:
    """What a trial logs of a model."""
    embeddings = encoded.embeddings
    found = measure(embeddings, TRIAL) | encoded.temperature | accuracies(embeddings.image_ND, encoded.zero_shot)
    means = (unit_rows(cloud_ND).mean(axis=0) for cloud_ND in (embeddings.image_ND, embeddings.text_MD))
    return Evaluated(found, *means)
