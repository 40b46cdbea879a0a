"""Build a two-tower contrastive model on open_clip, initialised by a seed alone.

Index letters: S samples, C colours, H and W pixels, N patches of all samples, I values of a patch, P pixels of a patch.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from torch import Tensor, empty_like, nn

from gapctl.config.presets import Colour, PatchTower, Preset
from gapctl.config.trial import LOSSES, MadData, Model, TrialConfig
from gapctl.extensions import require_extension
from gapctl.models.fused import WeightMap, cut_patches
from gapctl.models.losses import SIGLIP_INITIAL_BIAS, LossKind
from gapctl.models.table import EmbeddingTable

ContrastiveModel: TypeAlias = CLIP | EmbeddingTable
"""A model that a trial trains: two encoders, or a table."""
SECOND_ENCODER: Final = "second"
"""The module name of an image-image model's second encoder."""
_TEXT_MODULES: Final = ("transformer", "token_embedding", "positional_embedding", "ln_final", "text_projection")
MAX_LOG_SCALE = math.log(100.0)
"""CLIP's upper bound of the log of the logit scale (arXiv 2103.00020, sec. 2.5)."""


def replace_text_encoder(model: CLIP, other: CLIP) -> None:
    """Replace the model's text encoder with the image encoder of another model."""
    for name in _TEXT_MODULES:
        delattr(model, name)
    model.add_module(SECOND_ENCODER, other.visual)


def is_image_image(model: nn.Module) -> bool:
    """Return whether both encoders of the model take images."""
    return any(name == SECOND_ENCODER for name, _ in model.named_children())


def share_blocks(model: CLIP) -> None:
    """Tie the second encoder's blocks, last norm and projection to the image encoder's.

    A text tower with fewer blocks gets the image encoder's last ones.
    """
    own = model.visual.transformer.resblocks
    if is_image_image(model):
        second = model.get_submodule(SECOND_ENCODER)
        second.transformer.resblocks, second.ln_post, second.proj = own, model.visual.ln_post, model.visual.proj
        return
    text = model.transformer
    text.resblocks = nn.ModuleList(list(own)[len(own) - len(text.resblocks) :])
    model.ln_final = model.visual.ln_post
    model.text_projection = model.visual.proj


def map_tied_parameter_names(model: nn.Module) -> dict[str, str]:
    """Map each further name of a tied parameter to its first name."""
    first = {id(value): name for name, value in model.named_parameters()}
    every = model.named_parameters(remove_duplicate=False)
    return {name: first[id(value)] for name, value in every if first[id(value)] != name}


class TiedGradients:
    """Separate gradients for the second uses of tied parameters, since a backward pass overwrites rather than adds."""

    def __init__(self, weights: WeightMap, names: Mapping[str, str]) -> None:
        """Make gradients for tied weights.

        `names` maps second names to first ones, as `map_tied_parameter_names` returns them.
        """
        used = {name: first for name, first in names.items() if first in weights}
        self._of_first = [(weights[first].grad, empty_like(weights[first].grad)) for first in used.values()]
        seconds = zip(used.items(), self._of_first, strict=True)
        self.weights: WeightMap = {name: weights[first]._replace(grad=grad) for (name, first), (_, grad) in seconds}

    def add(self) -> None:
        """Add the second uses' gradients to the first's; call it after both backward passes."""
        for total, second in self._of_first:
            total.add_(second)


class TokenVocabulary(NamedTuple):
    """The encoding of captions: `size` token ids, `context` positions, and the ids that pad and end a caption.

    `added` more ids follow, whose embeddings are drawn last, so that models with and without them start alike.
    """

    size: int
    context: int
    pad: int
    end: int
    added: int = 0


CLIP_VOCABULARY = TokenVocabulary(size=49_408, context=77, pad=0, end=49_407)
"""The vocabulary of open_clip's SimpleTokenizer."""


@dataclass(frozen=True)
class EmbeddingHead:
    """The part that joins both towers: the embedding's width, the initial temperature, and the kind of loss.

    `shared` towers have one set of blocks, last norm and projection. `images` means that both are image towers.
    """

    embed_dim: int
    temperature: float = 0.07
    learned: bool = True
    loss: LossKind = "clip"
    shared: bool = False
    images: bool = False


def build_model(config: TrialConfig, vocabulary: TokenVocabulary, seed: int) -> CLIP:
    """Return the model of a trial; arms with the same seed, preset and widths start from the same weights."""
    assert isinstance(config.model, Model)
    learned = config.temperature.mode == "learned"
    shared = config.model.shared == "blocks"
    images = isinstance(config.data, MadData) and config.data.sides == "image_image"
    head = EmbeddingHead(config.model.embed_dim, config.temperature.init, learned, config.loss.kind, shared, images)
    return build_clip(config.model.towers, head, vocabulary, seed)


def build_clip(preset: Preset, head: EmbeddingHead, vocabulary: TokenVocabulary, seed: int) -> CLIP:
    """Return an open_clip CLIP; a temperature that is not learned has no gradient.

    Its forward returns L2-normalised features (N, embed_dim) of both sides, the logit scale, and SigLIP's bias.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _initialise_clip(preset, head, vocabulary)
        if head.images:  # after the first encoder, which so starts as it does in an image-text model
            replace_text_encoder(model, _initialise_clip(preset, head, vocabulary))
        if vocabulary.added:
            _add_token_embeddings(model, vocabulary.added)
    model.logit_scale.requires_grad_(head.learned)
    if head.shared:
        share_blocks(model)
    return model


def _initialise_clip(preset: Preset, head: EmbeddingHead, vocabulary: TokenVocabulary) -> CLIP:
    image, text = preset.image, preset.text
    vision = CLIPVisionCfg(layers=image.layers, width=image.width, image_size=image.image_size)
    if isinstance(image, PatchTower):
        vision.head_width, vision.patch_size = image.width // image.heads, image.patch_size
    return CLIP(
        embed_dim=head.embed_dim,
        vision_cfg=vision,
        text_cfg=CLIPTextCfg(
            context_length=vocabulary.context,
            vocab_size=vocabulary.size,
            width=text.width,
            heads=text.heads,
            layers=text.layers,
            pad_id=vocabulary.pad,
            eos_id=vocabulary.end,
            pool_type="eos",
        ),
        init_logit_scale=math.log(1 / head.temperature),
        init_logit_bias=_find_initial_bias(head.loss),
    )


@torch.no_grad()
def _add_token_embeddings(model: CLIP, count: int) -> None:
    """Append embeddings of `count` more tokens, drawn as open_clip draws all."""
    own = model.token_embedding.weight
    model.token_embedding = nn.Embedding(len(own) + count, own.shape[1])
    nn.init.normal_(model.token_embedding.weight, std=0.02)
    model.token_embedding.weight[: len(own)] = own
    model.vocab_size = len(own) + count


def _find_initial_bias(loss: LossKind) -> float | None:
    """Return where the logit bias of a loss starts, None for a loss without one."""
    if loss in LOSSES:
        return SIGLIP_INITIAL_BIAS if loss == "siglip" else None
    return require_extension("losses", loss).initial_bias


@torch.no_grad()
def set_scheduled_temperature(model: ContrastiveModel, temperature: float) -> None:
    """Set a scheduled temperature. Raise ValueError if it is learned, since the optimiser would move it."""
    if model.logit_scale.requires_grad:
        raise ValueError("a learned temperature cannot be set: build the model with one that is not learned")
    model.logit_scale.fill_(-math.log(temperature))


def set_scheduled_temperatures(models: Sequence[ContrastiveModel], temperatures: Sequence[float | None]) -> None:
    """Set the models' scheduled temperatures; None leaves one as it is, and no temperatures leave all as they are."""
    for model, temperature in zip(models, temperatures, strict=bool(temperatures)):
        if temperature is not None:
            set_scheduled_temperature(model, temperature)


@torch.no_grad()
def clamp_temperature(model: CLIP) -> None:
    """Clamp a learned logit scale to [1, 100]; leave a fixed one as it is."""
    if model.logit_scale.requires_grad:
        model.logit_scale.clamp_(0.0, MAX_LOG_SCALE)


def get_temperature_metrics(model: ContrastiveModel) -> dict[str, float]:
    """Return the model's temperature, its logit scale and, for SigLIP, its bias, by metric name."""
    scale = math.exp(float(model.logit_scale.detach()))
    metrics = {"temperature/tau": 1 / scale, "temperature/logit_scale": scale}
    if model.logit_bias is not None:
        metrics["temperature/bias"] = float(model.logit_bias.detach())
    return metrics


class OpenClipNormaliser:
    """Computes what torchvision's ToTensor and Normalize do, operation by operation."""

    def __init__(self, mean: Colour, std: Colour, device: torch.device) -> None:
        self._mean_C11, self._std_C11 = (torch.tensor(each).view(-1, 1, 1).to(device) for each in (mean, std))

    def images(self, image_SCHW: Tensor) -> Tensor:
        """Return normalised float32 images of the uint8 ones."""
        return image_SCHW.float().div(255).sub_(self._mean_C11).div_(self._std_C11)


class PixelNormaliser:
    """Computes (x / 255 - mean) / std for each colour, as one division and one subtraction."""

    def __init__(self, mean: Colour, std: Colour, device: torch.device) -> None:
        mean_C, std_C = torch.tensor((mean, std), dtype=torch.float64)
        self._divisor_C1 = (255.0 * std_C).float().view(-1, 1).to(device)
        self._offset_C1 = (mean_C / std_C).float().view(-1, 1).to(device)

    def images(self, image_SCHW: Tensor) -> Tensor:
        """Return normalised float32 images of the same shape and memory format as the uint8 ones."""
        return image_SCHW.float().div_(self._divisor_C1.unsqueeze(2)).sub_(self._offset_C1.unsqueeze(2))

    def cut_normalised_patches(self, image_SCHW: Tensor, size: int) -> Tensor:
        """Return normalised square patches (N, I); they are cut as bytes, which are fewer to move."""
        patch_NI = cut_patches(image_SCHW, size)
        value_NCP = patch_NI.float().view(len(patch_NI), len(self._divisor_C1), size * size)
        return value_NCP.div_(self._divisor_C1).sub_(self._offset_C1).view(patch_NI.shape)
