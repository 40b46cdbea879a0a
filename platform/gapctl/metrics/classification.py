"""Measure zero-shot classification: the class with the nearest prompt embedding, and its stability under noise.

Index letters: N images, C classes, O objects, A values of an attribute, F attributes, D embedding, S sampled images, B
a block of images.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.metrics.checks import (
    Integers,
    Rows,
    check_embedding_shape,
    check_integer_keys,
    check_row_norms,
    check_unit_rows,
)
from gapctl.metrics.gap import Sums
from gapctl.metrics.sampling import (
    DrawPurpose,
    SampleEstimate,
    estimate_mean,
    make_metric_generator,
    sample_row_numbers,
)

NOISE_LENGTH: Final = 0.1
"""The noise's length (root mean square) in `flip_rate`, for embeddings of length 1."""
NOISE_DRAWS: Final = 4
IMAGE_BLOCK: Final = 8192
"""Images that are classified together."""


@dataclass(frozen=True)
class AccuracyCount(Sums):
    """The number of correctly classified images and of all images."""

    right: int
    count: int

    @classmethod
    def of(cls, image_ND: Rows, label_N: Integers, class_CD: Rows) -> "AccuracyCount":
        """Return the counts over images (N, D) with labels (N,) and class embeddings (C, D) of any norm."""
        return cls(int((_find_nearest_class(image_ND, _normalise_classes(class_CD)) == label_N).sum()), len(image_ND))

    def percent(self) -> float:
        """Return the percentage of images whose nearest class is their own."""
        return 100 * float(np.float64(self.right) / self.count)


def zero_shot_accuracy(image_ND: Rows, label_N: Integers, class_CD: Rows) -> float:
    """Return the percentage of images whose nearest class embedding (normalised here) is their label's."""
    check_embedding_shape("image", image_ND)
    check_row_norms("image", image_ND)
    check_embedding_shape("class", class_CD, image_ND.shape[1])
    check_row_norms("class", class_CD)
    check_integer_keys(image=(image_ND, label_N))
    return AccuracyCount.of(image_ND, label_N, class_CD).percent()


class FlipShares(NamedTuple):
    """The sampled images' rows (S,), and for each the share of noise draws that changed its class (S,)."""

    image_S: Integers
    share_S: NDArray[np.float64]


def flip_rate(image_ND: Rows, class_CD: Rows, most: int, noise: float = NOISE_LENGTH) -> SampleEstimate:
    """Estimate the share of zero-shot predictions that noise on the image changes (arXiv 2603.29080).

    Rows are L2-normalised. The noise is Gaussian with standard deviation `noise` / sqrt(D) in each dimension, so that
    `noise` is its length relative to the embedding's; there are four seeded draws per image. At most `most` images are
    drawn.
    """
    check_unit_rows(image=image_ND)
    check_embedding_shape("class", class_CD, image_ND.shape[1])
    check_row_norms("class", class_CD)
    return estimate_mean(measure_flips(image_ND, class_CD, most, noise).share_S, len(image_ND))


def measure_flips(image_ND: Rows, class_CD: Rows, most: int, noise: float = NOISE_LENGTH) -> FlipShares:
    """Return the flip shares of the sampled images, whose mean is `flip_rate`."""
    row_S = sample_row_numbers(DrawPurpose.QUERIES, len(image_ND), most)
    image_SD, unit_CD = image_ND[row_S], _normalise_classes(class_CD)
    before_S = _find_nearest_class(image_SD, unit_CD)
    rng = make_metric_generator(DrawPurpose.NOISE)
    deviation = noise / np.sqrt(image_SD.shape[1])
    flips_S = np.zeros(len(row_S))
    for _ in range(NOISE_DRAWS):
        noise_SD = rng.standard_normal(image_SD.shape, dtype=np.float32)
        flips_S += _find_nearest_class(image_SD + deviation.astype(np.float32) * noise_SD, unit_CD) != before_S
    return FlipShares(row_S, flips_S / NOISE_DRAWS)


def _normalise_classes(class_CD: Rows) -> Rows:
    unit_CD: Rows = class_CD / np.linalg.norm(class_CD, axis=1, keepdims=True)
    return unit_CD


def _find_nearest_class(image_ND: Rows, unit_CD: Rows) -> Integers:
    blocks = (image_ND[start : start + IMAGE_BLOCK] for start in range(0, len(image_ND), IMAGE_BLOCK))
    nearest_N: Integers = np.concatenate([np.argmax(block_BD @ unit_CD.T, axis=1) for block_BD in blocks])
    return nearest_N


class ClassPrompts(NamedTuple):
    """One zero-shot question: a prompt embedding of any norm per class (C, D), and each image's class (N,)."""

    prompt_CD: Rows
    class_N: Integers


def measure_class_accuracies(image_ND: Rows, question: ClassPrompts) -> tuple[float, float]:
    """Return the percentage of images whose nearest class is their own: over all images, and averaged over classes.

    Rows are L2-normalised. Classes that no image has do not count.
    """
    right_N = _find_nearest_class(image_ND, _normalise_classes(question.prompt_CD)) == question.class_N
    count_C = np.bincount(question.class_N)
    share_C = np.bincount(question.class_N, weights=right_N)[count_C > 0] / count_C[count_C > 0]
    return 100 * float(right_N.mean()), 100 * float(share_C.mean())


class PairQuestion(NamedTuple):
    """Prompts of each object with each value of one attribute (O, A, D), and each image's object and value (N,).

    `present_OA` says which pairs are answers: those that some image has.
    """

    prompt_OAD: Rows
    object_N: Integers
    value_N: Integers
    present_OA: NDArray[np.bool_]


@dataclass(frozen=True)
class ZeroShotTasks:
    """Zero-shot questions by name. `main` asks for the object, all others for attributes.

    `pairs` asks for the object with one attribute, by the attribute's name, where that was encoded. `named_NF` says
    which of these attributes the text of an image names; without it, all.
    """

    questions: Mapping[str, ClassPrompts] = field(default_factory=dict)
    main: str | None = None
    pairs: Mapping[str, PairQuestion] = field(default_factory=dict)
    named_NF: NDArray[np.bool_] | None = None


def measure_accuracies(image_ND: Rows, zero_shot: ZeroShotTasks) -> dict[str, float]:
    """Return zero-shot accuracies in percent: by question, of the object, and the mean over the attributes."""
    by_name = {
        name: zero_shot_accuracy(image_ND, question.class_N, question.prompt_CD)
        for name, question in zero_shot.questions.items()
    }
    metrics = {f"quality/accuracy_{name}": value for name, value in by_name.items()}
    if zero_shot.main in by_name:
        metrics["quality/object_accuracy"] = by_name[zero_shot.main]
    attributes = [value for name, value in by_name.items() if name != zero_shot.main]
    return metrics | ({"quality/attribute_accuracy": sum(attributes) / len(attributes)} if attributes else {})
