"""A two-tower contrastive model on open_clip, initialised by a seed and nothing else."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

from gapctl.models.losses import LossKind
from gapctl.models.sharing import share_blocks
from gapctl.models.two_images import with_second_images
from gapctl.spec.data import MadData
from gapctl.spec.presets import PRESETS, PatchTower, Preset, ResNet
from gapctl.spec.trial import TrialConfig

SIGLIP_INITIAL_BIAS = -10.0
"""Where SigLIP's logit bias starts (arXiv 2303.15343, sec. 3.2)."""


class Vocabulary(NamedTuple):
    """How captions are encoded: `size` token ids, `context` positions, and the ids that pad and end a caption."""

    size: int
    context: int
    pad: int
    end: int


CLIP_VOCABULARY = Vocabulary(size=49_408, context=77, pad=0, end=49_407)
"""Of open_clip's SimpleTokenizer."""


@dataclass(frozen=True)
class Head:
    """Where both towers meet: the embedding's width, the temperature it starts with, and what its loss needs.

    `shared` towers have one set of blocks, last norm and projection. `images` says that both are image towers.
    """

    embed_dim: int
    temperature: float = 0.07
    learned: bool = True
    loss: LossKind = "clip"
    shared: bool = False
    images: bool = False


def build_model(config: TrialConfig, vocabulary: Vocabulary, seed: int) -> CLIP:
    """A model for one trial; arms that share a seed, preset and widths start from the same weights."""
    learned = config.temperature.mode == "learned"
    shared = config.model.shared == "blocks"
    images = isinstance(config.data, MadData) and config.data.sides == "image_image"
    head = Head(config.model.embed_dim, config.temperature.init, learned, config.loss.kind, shared, images)
    return build_clip(PRESETS[config.model.preset], head, vocabulary, seed)


def build_clip(preset: Preset, head: Head, vocabulary: Vocabulary, seed: int) -> CLIP:
    """open_clip's own class; a temperature that is not learned has no gradient.

    Its forward gives L2-normalised features (N, embed_dim) twice and the logit scale, and the bias for SigLIP.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _initial(preset, head, vocabulary)
        if head.images:  # the first encoder starts as it does beside texts, the second from the numbers after that
            with_second_images(model, _initial(preset, head, vocabulary))
    model.logit_scale.requires_grad_(head.learned)
    if head.shared:
        share_blocks(model)
    return model


def _initial(preset: Preset, head: Head, vocabulary: Vocabulary) -> CLIP:
    return CLIP(
        embed_dim=head.embed_dim,
        vision_cfg=_vision(preset.image),
        text_cfg=_text(preset, vocabulary),
        init_logit_scale=math.log(1 / head.temperature),
        init_logit_bias=SIGLIP_INITIAL_BIAS if head.loss == "siglip" else None,
    )


def _vision(image: PatchTower | ResNet) -> CLIPVisionCfg:
    if isinstance(image, ResNet):
        return CLIPVisionCfg(layers=image.layers, width=image.width, image_size=image.image_size)
    return CLIPVisionCfg(
        layers=image.layers,
        width=image.width,
        head_width=image.width // image.heads,
        patch_size=image.patch_size,
        image_size=image.image_size,
    )


def _text(preset: Preset, vocabulary: Vocabulary) -> CLIPTextCfg:
    return CLIPTextCfg(
        context_length=vocabulary.context,
        vocab_size=vocabulary.size,
        width=preset.text.width,
        heads=preset.text.heads,
        layers=preset.text.layers,
        pad_id=vocabulary.pad,
        eos_id=vocabulary.end,
        pool_type="eos",
    )
