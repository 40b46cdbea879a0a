"""A two-tower contrastive model on open_clip, initialised by a seed and nothing else."""

import math
from typing import NamedTuple

import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

from gapctl.spec.presets import PRESETS, Preset
from gapctl.spec.trial import TrialConfig

SIGLIP_INITIAL_BIAS = -10.0
"""Where SigLIP's logit bias starts (arXiv 2303.15343, sec. 3.2)."""


class Vocabulary(NamedTuple):
    """How captions are encoded: `size` token ids, `context` positions, and the ids that pad and end a caption."""

    size: int
    context: int
    pad: int
    end: int


def build_model(config: TrialConfig, vocabulary: Vocabulary, seed: int) -> CLIP:
    """A model for one trial; arms that share a seed, preset and widths start from the same weights.

    Its forward gives L2-normalised features (N, embed_dim) twice and the logit scale, and the bias for SigLIP.
    """
    preset = PRESETS[config.model.preset]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CLIP(
            embed_dim=config.model.embed_dim,
            vision_cfg=_vision(preset),
            text_cfg=_text(preset, vocabulary),
            init_logit_scale=math.log(1 / config.temperature.init),
            init_logit_bias=SIGLIP_INITIAL_BIAS if config.loss.kind == "siglip" else None,
        )
    model.logit_scale.requires_grad_(config.temperature.mode == "learned")
    return model


def _vision(preset: Preset) -> CLIPVisionCfg:
    return CLIPVisionCfg(
        layers=preset.image.layers,
        width=preset.image.width,
        head_width=preset.image.width // preset.image.heads,
        patch_size=preset.patch_size,
        image_size=preset.image_size,
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
