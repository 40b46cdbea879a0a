"""How a sample of a shard becomes the arrays that a training reads."""

from dataclasses import dataclass

from gapctl.data.captions import TREATMENTS, KeepRule
from gapctl.data.degrade import DegradeRule
from gapctl.spec.presets import CLIP_CONTEXT


@dataclass(frozen=True)
class ReadRule:
    """The side of the images in pixels, what is kept of captions and images, and how images are cropped.

    `crop_scale` is the share of the picture's area that a training's crop takes, from and to; its default is
    open_clip's. `context` is how many tokens a caption has; longer ones are cut as open_clip cuts them. Raises
    ValueError for values outside their range.
    """

    image_size: int
    keep: KeepRule
    degrade: DegradeRule
    crop_scale: tuple[float, float] = (0.9, 1.0)
    context: int = CLIP_CONTEXT

    def __post_init__(self) -> None:
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise ValueError(f"crop_scale is {low} to {high}, expected shares above 0 and up to 1, in their order")
        if self.image_size < 1 or self.context < 3:
            raise ValueError(f"image_size {self.image_size}, context {self.context}; expected 1 and 3 or more")

    @property
    def needs_about(self) -> bool:
        """Whether the caption treatment looks at a sample's json."""
        return bool(TREATMENTS[self.keep.keep].needs)
