"""All that measures need which reduce to sums over samples, and these measures by their names.

Index letters: N images, M texts, F attribute factors, C classes, D embedding.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from gapctl.metrics.bias import BiasSums
from gapctl.metrics.dimensions import dimensions_for, top_share
from gapctl.metrics.gap import GapSums
from gapctl.metrics.subspace import SecondMoments, effective_rank, smallest_principal_angle
from gapctl.metrics.zeroshot import AccuracyCount

Part = TypeVar("Part", GapSums, SecondMoments, BiasSums, AccuracyCount)


@dataclass(frozen=True)
class EmbeddingSums:
    """The sums of one set of embeddings; what its input does not tell is None. Add two to merge, in any order."""

    gap: GapSums
    image_moments: SecondMoments | None = None
    text_moments: SecondMoments | None = None
    image_bias: BiasSums | None = None
    text_bias: BiasSums | None = None
    accuracy: AccuracyCount | None = None

    def __add__(self, other: "EmbeddingSums") -> "EmbeddingSums":
        """Raises ValueError where one knows labels, classes or second moments that the other does not."""
        return EmbeddingSums(
            self.gap + other.gap,
            _added("second moments", self.image_moments, other.image_moments),
            _added("second moments", self.text_moments, other.text_moments),
            _added("labels of images", self.image_bias, other.image_bias),
            _added("labels of texts", self.text_bias, other.text_bias),
            _added("classes", self.accuracy, other.accuracy),
        )

    def metrics(self) -> dict[str, float]:
        """Each measure by its name."""
        found = gap_metrics(self.gap)
        if self.image_moments is not None and self.text_moments is not None:
            found |= subspace_metrics(self.image_moments, self.text_moments)
        if self.image_bias is not None:
            found |= bias_metrics("image", self.image_bias)
        if self.text_bias is not None:
            found |= bias_metrics("text", self.text_bias)
        if self.image_bias is not None and self.text_bias is not None:
            found["bias/moad_image_less_text"] = found["bias/moad_image"] - found["bias/moad_text"]
        if self.accuracy is not None:
            found["quality/object_accuracy"] = self.accuracy.percent()
        return found


def gap_metrics(sums: GapSums) -> dict[str, float]:
    """The gap's measures and the dimensions that carry it."""
    difference_D = sums.mean_difference_D
    return {
        "gap/l2m": sums.l2m(),
        "gap/l2i": sums.l2i(),
        "gap/rmg": sums.rmg(),
        "gap/rmg_with_diagonal": sums.rmg_with_diagonal(),
        "gap/centroid_share": sums.centroid_share(),
        **{f"gap/top{count}_share": top_share(difference_D, count) for count in (1, 3, 10)},
        "gap/dims_for_half": float(dimensions_for(difference_D, 0.5)),
        "gap/dims_for_90": float(dimensions_for(difference_D, 0.9)),
        "geometry/alignment": sums.alignment(),
    }


def subspace_metrics(image: SecondMoments, text: SecondMoments) -> dict[str, float]:
    """How many directions each modality uses, and the angle between their subspaces."""
    return {
        "geometry/effective_rank_image": effective_rank(image),
        "geometry/effective_rank_text": effective_rank(text),
        "geometry/principal_angle_min": smallest_principal_angle(image, text),
    }


def bias_metrics(side: str, sums: BiasSums) -> dict[str, float]:
    """Object bias of one modality with its four parts."""
    bias = sums.moad()
    return {
        f"bias/moad_{side}": bias.value,
        f"bias/object_same_{side}": bias.object.same,
        f"bias/object_different_{side}": bias.object.different,
        f"bias/attribute_same_{side}": bias.attribute.same,
        f"bias/attribute_different_{side}": bias.attribute.different,
    }


def _added(what: str, one: Part | None, other: Part | None) -> Part | None:
    if one is None and other is None:
        return None
    if one is None or other is None:
        raise ValueError(f"one of two sums has no {what}, so that they cannot be added; give both the same inputs")
    add: Callable[[Part], Part] = one.__add__
    return add(other)
