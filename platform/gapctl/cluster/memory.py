"""What a trial needs of a GPU's memory, estimated before there is one."""

from typing import Final

from gapctl.spec.presets import PRESETS, Preset, Tower
from gapctl.spec.trial import Data, TrialConfig

GIB: Final = 2.0**30
VOCABULARY: Final = 49_408
"""Tokens of open_clip's tokenizer; presets with fewer need less than this says."""

BYTES_PER_PARAMETER: Final = 16
"""Weight, gradient and AdamW's two moments, 4 bytes each."""

RUNTIME: Final = 1.0 * GIB
"""CUDA's context and kernels, and what the allocator keeps."""

MAD_IMAGES: Final = 1.3e9
"""All of MNIST in 24 variants, which a trial keeps on the device; the bundled digits are a fourteenth."""


def trial_memory(config: TrialConfig, pack: int = 1) -> float:
    """Bytes of GPU memory for `pack` trials of one shape that train together.

    Per trial: 16 bytes a parameter; activations, layers x tokens x width x (34 + 5 heads tokens / width) bytes a sample
    and tower in 16 bits (arXiv 2205.05198, eq. 2) and twice that in float32; four matrices of logits in float32, batch
    by batch; the batch's pixels in float32. Once per GPU: the data set's images and 1 GiB for CUDA.
    """
    preset, batch = PRESETS[config.model.preset], config.train.batch_size
    wide = 2.0 if config.train.precision == "float32" else 1.0
    activations = wide * batch * (_activations(preset.image) + _activations(preset.text))
    logits = 4 * 4.0 * batch**2
    pixels = 4.0 * batch * 3 * preset.image_size**2
    state = BYTES_PER_PARAMETER * parameters(preset, config.model.embed_dim)
    return pack * (state + activations + logits + pixels) + _images(config.data) + RUNTIME


def parameters(preset: Preset, embed_dim: int) -> int:
    """Weights of both towers, their embeddings and projections; biases and norms left out."""
    both = (preset.image, preset.text)
    towers = sum(12 * tower.width**2 * tower.layers + tower.tokens * tower.width for tower in both)
    patches = 3 * preset.patch_size**2 * preset.image.width
    return towers + patches + VOCABULARY * preset.text.width + embed_dim * (preset.image.width + preset.text.width)


def _activations(tower: Tower) -> float:
    """Bytes that one sample's forward pass leaves for the backward pass, in 16 bits."""
    return tower.layers * tower.tokens * (34 * tower.width + 5 * tower.heads * tower.tokens)


def _images(data: Data) -> float:
    return MAD_IMAGES / 14 if data.source == "bundled" else MAD_IMAGES
