"""What a trial needs of a GPU's memory, estimated before there is one."""

from typing import Final

from gapctl.plan.weights import parameters
from gapctl.spec.data import Data, MadData
from gapctl.spec.presets import PRESETS, PatchTower, ResNet, Tower
from gapctl.spec.trial import TrialConfig

GIB: Final = 2.0**30
BYTES_PER_PARAMETER: Final = 16
"""Weight, gradient and AdamW's two moments, 4 bytes each."""

RUNTIME: Final = 1.0 * GIB
"""CUDA's context and kernels, and what the allocator keeps."""

MAD_IMAGES: Final = 1.3e9
"""All of MNIST in 24 variants, which a trial keeps on the device; the bundled digits are a fourteenth."""


def trial_memory(config: TrialConfig, pack: int = 1, workers: int = 1) -> float:
    """Bytes of one GPU's memory for `pack` trials of one shape that train together, or one of a trial's `workers`.

    Per trial: 16 bytes a parameter; activations of a worker's part of the batch, or of one of its micro-batches; four
    matrices of logits in float32, that part by the whole batch; its pixels in float32. Once per GPU: MAD's images and
    1 GiB for CUDA. Activations in 16 bits, twice that in float32: of a transformer's layer tokens x width x (34 + 5
    heads tokens / width) bytes a sample (arXiv 2205.05198, eq. 2); of a ResNet 6 bytes for every output of its
    convolutions, which are kept, as are their norms and ReLUs.
    """
    preset, batch = PRESETS[config.model.preset], config.train.batch_size
    part = batch / workers
    wide = 2.0 if config.train.precision == "float32" else 1.0
    at_once = part / config.train.micro_batches
    activations = wide * at_once * (_activations(preset.image) + _activations(preset.text))
    logits = 4 * 4.0 * part * batch
    pixels = 4.0 * part * 3 * preset.image_size**2
    state = BYTES_PER_PARAMETER * parameters(preset, config.model.embed_dim)
    return pack * (state + activations + logits + pixels) + _images(config.data) + RUNTIME


def _activations(tower: Tower | PatchTower | ResNet) -> float:
    """Bytes that one sample's forward pass leaves for the backward pass, in 16 bits."""
    if isinstance(tower, ResNet):
        return 6.0 * _convolved(tower)
    return tower.layers * tower.tokens * (34 * tower.width + 5 * tower.heads * tower.tokens)


def _convolved(tower: ResNet) -> int:
    """Outputs of all convolutions for one image: stem and groups of bottlenecks (arXiv 2103.00020, sec. 2.4)."""
    found = (tower.image_size // 2) ** 2 * 2 * tower.width
    for group, blocks in enumerate(tower.layers):
        narrow, side = tower.width << group, tower.image_size // (4 << group)
        entering = side if group == 0 else 2 * side
        found += 2 * entering**2 * narrow + 2 * side**2 * 4 * narrow  # the first, which has a branch beside it
        found += (blocks - 1) * side**2 * (2 * narrow + 4 * narrow)
    return found


def _images(data: Data) -> float:
    if not isinstance(data, MadData):
        return 0.0
    return MAD_IMAGES / 14 if data.source == "bundled" else MAD_IMAGES
