"""A two-tower contrastive model on open_clip, initialised by a seed and nothing else."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from torch import Tensor, empty_like, nn

from gapctl.config.presets import PRESETS, Colour, PatchTower, Preset, ResNet
from gapctl.config.trial import MadData, TrialConfig
from gapctl.models.fused import WeightMap, cut_patches
from gapctl.models.losses import LossKind

SECOND_ENCODER: Final = "second"
"""What such a model calls its second image encoder."""
_TEXT_MODULES: Final = ("transformer", "token_embedding", "positional_embedding", "ln_final", "text_projection")


def replace_text_encoder(model: CLIP, other: CLIP) -> None:
    """The model gives up its text encoder for the image encoder of another one."""
    for name in _TEXT_MODULES:
        delattr(model, name)
    model.add_module(SECOND_ENCODER, other.visual)


def is_image_image(model: CLIP) -> bool:
    """Whether its second side is images."""
    return any(name == SECOND_ENCODER for name, _ in model.named_children())


def share_blocks(model: CLIP) -> None:
    """The second encoder's blocks, last norm and projection become the image encoder's last ones, as they are now."""
    own = model.visual.transformer.resblocks
    if is_image_image(model):
        second = model.get_submodule(SECOND_ENCODER)
        second.transformer.resblocks, second.ln_post, second.proj = own, model.visual.ln_post, model.visual.proj
        return
    text = model.transformer
    text.resblocks = nn.ModuleList(list(own)[len(own) - len(text.resblocks) :])
    model.ln_final = model.visual.ln_post
    model.text_projection = model.visual.proj


def find_tied_names(model: nn.Module) -> dict[str, str]:
    """Each name under which a parameter is used once more, and the name that it has first."""
    first = {id(value): name for name, value in model.named_parameters()}
    every = model.named_parameters(remove_duplicate=False)
    return {name: first[id(value)] for name, value in every if first[id(value)] != name}


class TiedGradients:
    """Gradients of parameters' second uses, apart from those of the first, which a backward pass overwrites."""

    def __init__(self, weights: WeightMap, names: Mapping[str, str]) -> None:
        """Takes the weights by their first names, and those names by the second."""
        used = {name: first for name, first in names.items() if first in weights}
        self._of_first = [(weights[first].grad, empty_like(weights[first].grad)) for first in used.values()]
        seconds = zip(used.items(), self._of_first, strict=True)
        self.weights: WeightMap = {name: weights[first]._replace(grad=grad) for (name, first), (_, grad) in seconds}

    def add(self) -> None:
        """To be called after both backward passes: a parameter's gradient is the sum over its uses."""
        for total, second in self._of_first:
            total.add_(second)


SIGLIP_INITIAL_BIAS = -10.0
"""Where SigLIP's logit bias starts (arXiv 2303.15343, sec. 3.2)."""


class TokenVocabulary(NamedTuple):
    """How captions are encoded: `size` token ids, `context` positions, and the ids that pad and end a caption."""

    size: int
    context: int
    pad: int
    end: int


CLIP_VOCABULARY = TokenVocabulary(size=49_408, context=77, pad=0, end=49_407)
"""Of open_clip's SimpleTokenizer."""


@dataclass(frozen=True)
class EmbeddingHead:
    """Where both towers meet: the embedding's width, the temperature it starts with, and what its loss needs.

    `shared` towers have one set of blocks, last norm and projection. `images` says that both are image towers.
    """

    embed_dim: int
    temperature: float = 0.07
    learned: bool = True
    loss: LossKind = "clip"
    shared: bool = False
    images: bool = False


def build_model(config: TrialConfig, vocabulary: TokenVocabulary, seed: int) -> CLIP:
    """A model for one trial; arms that share a seed, preset and widths start from the same weights."""
    learned = config.temperature.mode == "learned"
    shared = config.model.shared == "blocks"
    images = isinstance(config.data, MadData) and config.data.sides == "image_image"
    head = EmbeddingHead(config.model.embed_dim, config.temperature.init, learned, config.loss.kind, shared, images)
    return build_clip(PRESETS[config.model.preset], head, vocabulary, seed)


def build_clip(preset: Preset, head: EmbeddingHead, vocabulary: TokenVocabulary, seed: int) -> CLIP:
    """open_clip's own class; a temperature that is not learned has no gradient.

    Its forward gives L2-normalised features (N, embed_dim) twice and the logit scale, and the bias for SigLIP.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _initialise_clip(preset, head, vocabulary)
        if head.images:  # the first encoder starts as it does beside texts, the second from the numbers after that
            replace_text_encoder(model, _initialise_clip(preset, head, vocabulary))
    model.logit_scale.requires_grad_(head.learned)
    if head.shared:
        share_blocks(model)
    return model


def _initialise_clip(preset: Preset, head: EmbeddingHead, vocabulary: TokenVocabulary) -> CLIP:
    return CLIP(
        embed_dim=head.embed_dim,
        vision_cfg=_make_vision_config(preset.image),
        text_cfg=_make_text_config(preset, vocabulary),
        init_logit_scale=math.log(1 / head.temperature),
        init_logit_bias=SIGLIP_INITIAL_BIAS if head.loss == "siglip" else None,
    )


def _make_vision_config(image: PatchTower | ResNet) -> CLIPVisionCfg:
    if isinstance(image, ResNet):
        return CLIPVisionCfg(layers=image.layers, width=image.width, image_size=image.image_size)
    return CLIPVisionCfg(
        layers=image.layers,
        width=image.width,
        head_width=image.width // image.heads,
        patch_size=image.patch_size,
        image_size=image.image_size,
    )


def _make_text_config(preset: Preset, vocabulary: TokenVocabulary) -> CLIPTextCfg:
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


MAX_LOG_SCALE = math.log(100.0)
"""CLIP's clamp (arXiv 2103.00020, sec. 2.5)."""


@torch.no_grad()
def set_temperature(model: CLIP, temperature: float) -> None:
    """For one that is scheduled; ValueError where it is learned, since the optimiser would move it from there."""
    if model.logit_scale.requires_grad:
        raise ValueError("a learned temperature cannot be set: build the model with one that is not learned")
    model.logit_scale.fill_(-math.log(temperature))


@torch.no_grad()
def clamp_temperature(model: CLIP) -> None:
    """Keeps a learned logit scale within [1, 100]; a fixed one is left as it is."""
    if model.logit_scale.requires_grad:
        model.logit_scale.clamp_(0.0, MAX_LOG_SCALE)


def measure_temperature(model: CLIP) -> dict[str, float]:
    """The temperature as the model has it; the bias is there for SigLIP alone."""
    scale = math.exp(float(model.logit_scale.detach()))
    found = {"temperature/tau": 1 / scale, "temperature/logit_scale": scale}
    if model.logit_bias is not None:
        found["temperature/bias"] = float(model.logit_bias.detach())
    return found


class PixelNormaliser:
    """(x / 255 - mean) / std for each colour, as one division and one subtraction."""

    def __init__(self, mean: Colour, std: Colour, device: torch.device) -> None:
        mean_C, std_C = torch.tensor((mean, std), dtype=torch.float64)
        self._divisor_C1 = (255.0 * std_C).float().view(-1, 1).to(device)
        self._offset_C1 = (mean_C / std_C).float().view(-1, 1).to(device)

    def images(self, image_SCHW: Tensor) -> Tensor:
        """uint8 to float32, of the same shape and memory format."""
        return image_SCHW.float().div_(self._divisor_C1.unsqueeze(2)).sub_(self._offset_C1.unsqueeze(2))

    def normalise_patches(self, image_SCHW: Tensor, size: int) -> Tensor:
        """Normalised square patches (N, I), cut while they are bytes because those are the fewest to move."""
        patch_NI = cut_patches(image_SCHW, size)
        value_NCP = patch_NI.float().view(len(patch_NI), len(self._divisor_C1), size * size)
        return value_NCP.div_(self._divisor_C1).sub_(self._offset_C1).view(patch_NI.shape)
