"""How many weights a preset has, counted from its numbers; biases and norms are left out."""

from typing import Final

from gapctl.spec.presets import PatchTower, Preset, ResNet, Tower

TOKENS: Final = {"clip": 49_408, "mad": 64}
"""The size of each vocabulary: CLIP's tokenizer's, and at most MAD's."""


def parameters(preset: Preset, embed_dim: int) -> int:
    """Weights of both towers, their embeddings and projections."""
    text = _blocks(preset.text) + preset.text.width * (preset.text.tokens + TOKENS[preset.vocabulary] + embed_dim)
    image = preset.image
    if isinstance(image, ResNet):
        return text + _resnet(image, embed_dim)
    patches = 3 * image.patch_size**2 * image.width
    return text + _blocks(image) + patches + image.width * (image.tokens + embed_dim)


def _blocks(tower: Tower | PatchTower) -> int:
    return 12 * tower.width**2 * tower.layers


def _resnet(tower: ResNet, embed_dim: int) -> int:
    """Stem, groups of bottlenecks, and the attention that pools (arXiv 2103.00020, sec. 2.4)."""
    half, width, wide = tower.width // 2, tower.width, tower.width * 32
    found = 9 * (3 * half + half * half + half * width)
    entering = width
    for group, blocks in enumerate(tower.layers):
        narrow, leaving = width << group, 4 * (width << group)
        found += entering * narrow + 9 * narrow**2 + narrow * leaving + entering * leaving
        found += (blocks - 1) * (2 * leaving * narrow + 9 * narrow**2)
        entering = leaving
    tokens = (tower.image_size // 32) ** 2 + 1
    return found + 3 * wide**2 + wide * embed_dim + tokens * wide
