"""Model presets as plain numbers, so that a plan can count their cost without importing torch."""

from typing import NamedTuple


class Tower(NamedTuple):
    """A transformer: `width` channels, `layers` blocks, `heads` attention heads, `tokens` positions."""

    width: int
    layers: int
    heads: int
    tokens: int

    def forward_flops(self) -> int:
        """Floating-point operations of one sample's forward pass (a multiply-add counts two)."""
        products = 12 * self.width**2 * 2 * self.tokens
        attention = 2 * 2 * self.tokens**2 * self.width
        return self.layers * (products + attention)


class Preset(NamedTuple):
    """An image tower on square images of `image_size` cut into `patch_size` patches, and a text tower."""

    image: Tower
    text: Tower
    image_size: int
    patch_size: int
    dataset: str

    def training_flops(self, embed_dim: int) -> int:
        """Floating-point operations of training on one pair: forward once, backward twice that."""
        patches = 2 * 3 * self.image_size**2 * self.image.width
        heads = 2 * embed_dim * (self.image.width + self.text.width)
        return 3 * (self.image.forward_flops() + self.text.forward_flops() + patches + heads)


PRESETS: dict[str, Preset] = {
    "mad-tiny": Preset(
        image=Tower(width=64, layers=4, heads=2, tokens=17),
        text=Tower(width=64, layers=2, heads=2, tokens=8),
        image_size=28,
        patch_size=7,
        dataset="mad",
    ),
    "pairs-small": Preset(
        image=Tower(width=128, layers=4, heads=2, tokens=65),
        text=Tower(width=128, layers=3, heads=2, tokens=77),
        image_size=64,
        patch_size=8,
        dataset="cc12m",
    ),
}
