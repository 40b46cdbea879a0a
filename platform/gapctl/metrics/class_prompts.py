"""Zero-shot questions: what a picture may show, a prompt embedding for each answer, and the right answers.

Index letters: N images, C classes, D embedding.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.metrics.zeroshot import zero_shot_accuracy


class ClassPrompts(NamedTuple):
    """One question: a prompt embedding per class (C, D), of any norm, and each image's class (N,)."""

    prompt_CD: NDArray[np.floating]
    class_N: NDArray[np.int64]


@dataclass(frozen=True)
class ZeroShot:
    """Questions by name; `main` is the one about the object, all others are about attributes."""

    questions: Mapping[str, ClassPrompts] = field(default_factory=dict)
    main: str | None = None


def accuracies(image_ND: NDArray[np.floating], zero_shot: ZeroShot) -> dict[str, float]:
    """Percent of images, of any norm, that are classed right: by question, of the object, and over the attributes."""
    by_name = {
        name: zero_shot_accuracy(image_ND, asked.class_N, asked.prompt_CD)
        for name, asked in zero_shot.questions.items()
    }
    found = {f"quality/accuracy_{name}": value for name, value in by_name.items()}
    if zero_shot.main in by_name:
        found["quality/object_accuracy"] = by_name[zero_shot.main]
    attributes = [value for name, value in by_name.items() if name != zero_shot.main]
    return found | ({"quality/attribute_accuracy": sum(attributes) / len(attributes)} if attributes else {})
