"""Zero-shot questions: what a picture may show, a prompt embedding for each answer, and the right answers.

Index letters: N images, C classes, D embedding.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.metrics.neighborhood import neighborhood
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


def class_order(image_ND: NDArray[np.floating], zero_shot: ZeroShot) -> dict[str, float]:
    """How alike images and the main question's prompts order its classes; nothing where there is no such question."""
    if zero_shot.main is None:
        return {}
    asked = zero_shot.questions[zero_shot.main]
    order = neighborhood(_unit(image_ND), asked.class_N, _unit(asked.prompt_CD))
    return {
        "geometry/neighborhood_kendall": order.kendall,
        "geometry/neighborhood_kendall_chance": order.chance,
        "geometry/neighborhood_discordance": order.discordance,
    }


def _unit(rows: NDArray[np.floating]) -> NDArray[np.float64]:
    wide = rows.astype(np.float64)
    unit: NDArray[np.float64] = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return unit
