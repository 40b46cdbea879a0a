"""Small models of open_clip's kinds and pairs for them, in one process or two."""

from dataclasses import replace

import torch
from open_clip.model import CLIP
from torch import Tensor

from gapctl.config.presets import PRESETS, PatchTower, Preset, ResNet, Tower
from gapctl.models.build import EmbeddingHead, TokenVocabulary, build_clip
from gapctl.models.losses import NO_TERMS, LossKind, LossTerms
from gapctl.training.step_options import Precision, StepOptions, build_preset_options

CPU = torch.device("cpu")
VOCABULARY = TokenVocabulary(size=60, context=12, pad=0, end=59)
TEXT = Tower(width=32, layers=2, heads=2, tokens=VOCABULARY.context)
TINY = PRESETS["pairs-small"]._replace(
    image=PatchTower(width=32, layers=2, heads=2, image_size=16, patch_size=8), text=TEXT, embed_dim=24
)
TINY_RESNET = PRESETS["rn50-cc12m"]._replace(
    image=ResNet(width=16, layers=(1, 1, 1, 1), image_size=32), text=TEXT, embed_dim=24
)


def tiny_model(preset: Preset, loss: LossKind = "clip", *, learned: bool = True, seed: int = 0) -> CLIP:
    """With every parameter away from 0 and 1, where a mistake in a gradient could hide."""
    head = EmbeddingHead(preset.embed_dim, learned=learned, loss=loss)
    model = build_clip(preset, head, VOCABULARY, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("logit"):
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def tiny_rule(
    preset: Preset,
    loss: LossKind = "clip",
    micro_batches: int = 1,
    precision: Precision = "float32",
    terms: LossTerms = NO_TERMS,
    temperature_speed: float = 1.0,
) -> StepOptions:
    rule = build_preset_options(preset, loss, precision, weight_decay=0.1)
    return replace(rule, micro_batches=micro_batches, terms=terms, temperature_speed=temperature_speed)


def pairs(preset: Preset, number: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images uint8 (N, 3, H, W) and captions (N, L) of unequal lengths."""
    generator = torch.Generator().manual_seed(seed)
    side = preset.image_size
    image_NCHW = torch.randint(0, 256, (number, 3, side, side), generator=generator, dtype=torch.uint8)
    token_NL = torch.randint(1, VOCABULARY.end, (number, VOCABULARY.context), generator=generator)
    for row, end in enumerate(torch.randint(2, VOCABULARY.context - 2, (number,), generator=generator).tolist()):
        token_NL[row, end], token_NL[row, end + 1 :] = VOCABULARY.end, VOCABULARY.pad
    return image_NCHW, token_NL
