"""A metric, a treatment, a loss and an evaluation set of one's own, which sweep files name as they name gapctl's."""

import os
from typing import TYPE_CHECKING, Any

import gapctl

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from gapctl.metrics.embedding_set import Embeddings

MARGIN = 0.2


@gapctl.metrics.register("spread/mean_norm", unit="length")
def measure_mean_norm(embeddings: "Embeddings") -> float:
    """Length of the mean image embedding: 1 where all images are alike, near 0 where they fill the sphere.

    Rows have length 1 when a metric is called.
    """
    import numpy as np

    return float(np.linalg.norm(embeddings.image_ND.mean(axis=0)))


@gapctl.treatments.register("every_other")
def keep_every_other_word(caption: str, rng: "np.random.Generator") -> str:
    """Every other word, beginning with the first or the second."""
    return " ".join(caption.split(" ")[int(rng.integers(2)) :: 2])


@gapctl.losses.register("margin")
def compute_margin_loss(
    image_features: "Tensor", text_features: "Tensor", logit_scale: "Tensor", logit_bias: "Tensor | None"
) -> "Tensor":
    """Mean hinge of unmatched cosines that come within a margin of the matched one (arXiv 1707.05612)."""
    cosine = image_features @ text_features.T
    matched = cosine.diagonal()
    of_images = (MARGIN + cosine - matched[:, None]).clamp(min=0)
    of_texts = (MARGIN + cosine - matched[None, :]).clamp(min=0)
    return (of_images + of_texts).fill_diagonal_(0).mean() / 2


@gapctl.evaluation_sets.register("squares")
def define_squares() -> "dict[str, Any]":
    """Coloured squares and bars, in the folder that SQUARES names."""
    return {
        "kind": "composition",
        "source": os.environ.get("SQUARES", "squares"),
        "prompts": {"pair": "a {attribute} {object}", "object": "a {object}", "attribute": "something {attribute}"},
    }
