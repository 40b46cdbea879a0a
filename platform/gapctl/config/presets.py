"""Model presets as plain numbers, so that a plan can count their cost without importing torch.

Where a preset is also one of open_clip's models, its parameters have the same names and shapes as there.
"""

from typing import Final, Literal, NamedTuple

VocabularyName = Literal["mad", "clip"]
Colour = tuple[float, float, float]

OPENAI_MEAN: Colour = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD: Colour = (0.26862954, 0.26130258, 0.27577711)
"""Of CLIP's training images (arXiv 2103.00020); open_clip uses these for all its models."""

CLIP_CONTEXT = 77
"""The length, in tokens, to which CLIP's tokenizer pads a caption."""


class Tower(NamedTuple):
    """A transformer: `width` channels, `layers` blocks, `heads` attention heads, `tokens` positions."""

    width: int
    layers: int
    heads: int
    tokens: int

    def count_forward_flops(self) -> int:
        """Return the floating-point operations of one sample's forward pass (a multiply-add counts two)."""
        products = 12 * self.width**2 * 2 * self.tokens
        attention = 2 * 2 * self.tokens**2 * self.width
        return self.layers * (products + attention)


class PatchTower(NamedTuple):
    """A vision transformer with a class token on square images of `image_size`, cut into `patch_size` patches."""

    width: int
    layers: int
    heads: int
    image_size: int
    patch_size: int

    @property
    def tokens(self) -> int:
        """Positions: one for each patch, and the class token."""
        return (self.image_size // self.patch_size) ** 2 + 1

    def count_forward_flops(self, embed_dim: int) -> int:
        """Return the floating-point operations of one image's forward pass, projection included."""
        blocks = Tower(self.width, self.layers, self.heads, self.tokens).count_forward_flops()
        return blocks + 2 * 3 * self.image_size**2 * self.width + 2 * embed_dim * self.width


class ResNet(NamedTuple):
    """CLIP's ResNet (arXiv 2103.00020, sec. 2.4).

    A stem of three convolutions, four groups of `layers` bottlenecks that begin with `width` channels, and attention
    pooling.
    """

    width: int
    layers: tuple[int, int, int, int]
    image_size: int

    @property
    def heads(self) -> int:
        """Heads of the attention pooling, of 64 channels each."""
        return self.width * 32 // 64

    def count_forward_flops(self, embed_dim: int) -> int:
        """Return the floating-point operations of one image: convolutions and attention pooling."""
        half, side = self.width // 2, self.image_size // 2
        stem = 2 * 9 * side**2 * (3 * half + half * half + half * self.width)
        groups = sum(self._count_group_flops(index) for index in range(4))
        wide, tokens = self.width * 32, (self.image_size // 32) ** 2 + 1
        pooling = 2 * tokens * wide * (3 * wide + embed_dim) + 2 * 2 * tokens**2 * wide
        return stem + groups + pooling

    def _count_group_flops(self, index: int) -> int:
        """Count one group; its first bottleneck's first two convolutions still run at the size of the group before."""
        narrow = self.width << index
        wide = 4 * narrow
        side = self.image_size // (4 << index)
        before, entering = (self.width, side) if index == 0 else (wide // 2, 2 * side)
        first = entering**2 * (before * narrow + 9 * narrow**2) + side**2 * (narrow * wide + before * wide)
        other = side**2 * (2 * narrow * wide + 9 * narrow**2)
        return 2 * (first + (self.layers[index] - 1) * other)


class Preset(NamedTuple):
    """Two towers, and the settings that belong to them.

    These are the captions' vocabulary, the pixels' mean and deviation (of values from 0 to 1), the shared embedding's
    usual width, and AdamW's betas and epsilon.
    """

    vocabulary: VocabularyName
    image: PatchTower | ResNet
    text: Tower
    embed_dim: int
    mean: Colour = OPENAI_MEAN
    std: Colour = OPENAI_STD
    betas: tuple[float, float] = (0.9, 0.98)
    epsilon: float = 1e-6

    @property
    def image_size(self) -> int:
        """The side of an image in pixels."""
        return self.image.image_size

    @property
    def dataset(self) -> Literal["mad", "cc12m"]:
        """The value of `data.dataset` whose captions the preset reads."""
        return "mad" if self.vocabulary == "mad" else "cc12m"

    @property
    def has_shareable_blocks(self) -> bool:
        """Whether the text encoder can share the image encoder's last blocks: equal widths and heads, enough layers."""
        image, text = self.image, self.text
        if not isinstance(image, PatchTower):
            return False
        return (image.width, image.heads) == (text.width, text.heads) and image.layers >= text.layers

    def count_training_flops(self, embed_dim: int, *, images_twice: bool = False) -> int:
        """Return the floating-point operations of training on one pair: forward once, backward twice that."""
        image = self.image.count_forward_flops(embed_dim)
        text = self.text.count_forward_flops() + 2 * embed_dim * self.text.width
        return 3 * (image + (image if images_twice else text))


PRESETS: dict[str, Preset] = {
    "mad-tiny": Preset(
        vocabulary="mad",
        image=PatchTower(width=64, layers=4, heads=2, image_size=28, patch_size=7),
        text=Tower(width=64, layers=2, heads=2, tokens=8),
        embed_dim=64,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    ),
    "mad-patch4": Preset(
        vocabulary="mad",
        image=PatchTower(width=64, layers=2, heads=2, image_size=28, patch_size=4),
        text=Tower(width=64, layers=1, heads=2, tokens=8),
        embed_dim=64,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    ),
    "pairs-small": Preset(
        vocabulary="clip",
        image=PatchTower(width=128, layers=3, heads=2, image_size=64, patch_size=8),
        text=Tower(width=128, layers=2, heads=2, tokens=CLIP_CONTEXT),
        embed_dim=128,
    ),
    "rn50-cc12m": Preset(
        vocabulary="clip",
        image=ResNet(width=64, layers=(3, 4, 6, 3), image_size=224),
        text=Tower(width=512, layers=12, heads=8, tokens=CLIP_CONTEXT),
        embed_dim=1024,
        betas=(0.9, 0.999),
        epsilon=1e-8,
    ),
    "vit-b-32": Preset(
        vocabulary="clip",
        image=PatchTower(width=768, layers=12, heads=12, image_size=224, patch_size=32),
        text=Tower(width=512, layers=12, heads=8, tokens=CLIP_CONTEXT),
        embed_dim=512,
    ),
}


TABLE: Final = "table"
"""The preset without encoders: an embedding of its own for each factor combination and each caption of MAD."""
TABLE_BETAS: Final = (0.9, 0.999)
TABLE_EPSILON: Final = 1e-8
"""AdamW's, for the rows that a batch shows."""
TABLE_EVALUATION_FLOPS: Final = 20_000_000_000
"""A table's two evaluations, half a second of a core; its steps are too cheap to leave these out."""
TABLE_ROWS: Final = 5_000
"""An upper bound of a table's rows, for estimates: 1,680 combinations of factors and 3,320 captions."""


def count_table_flops(embed_dim: int, batch_size: int) -> int:
    """Return the operations of training a table on one pair: three products, and what takes the time of operations.

    That is softmax both ways, and the rows' way out of the table, through AdamW and back. Measured on a CPU.
    """
    products = 3 * 2 * batch_size * embed_dim
    return products + 600 * batch_size + 150 * embed_dim
