"""Public models as trials: what decides their numbers, the model itself, and the pixels that it is shown.

1. `fingerprint_model` says, when a plan is made, what decides a public model's numbers: open_clip's configuration, the
   image settings, and the sha256 of the weights, of which a hub need send no more than the name.
2. `build_public_model` builds it, with the seed's weights, and `load_public_weights` loads the public ones.
3. `get_model_input` returns pixels, context and optimiser settings of any trial's model, a preset's too.
"""

import math
import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import torch
from open_clip import CLIP, CoCa, CustomTextCLIP
from open_clip.transform import PreprocessCfg

from gapctl.config.architectures import LOCAL_FOLDER, Architecture, HubTokenizer, fingerprint_model_parts
from gapctl.config.base import flatten_document
from gapctl.config.presets import OPENAI_MEAN, OPENAI_STD, TABLE_BETAS, TABLE_EPSILON, Colour
from gapctl.config.trial import Model, OpenClipModel, TrialConfig, has_logit_bias
from gapctl.errors import InputError, UnknownWeightsError, first_line_of_error, require_transformers
from gapctl.extensions import find_extension
from gapctl.folders import expand_home
from gapctl.models.losses import SIGLIP_INITIAL_BIAS
from gapctl.models.sources import (
    find_config_folder,
    find_or_download_weights,
    find_sha256,
    get_tag_image_settings,
    has_own_weights,
    hash_tokenizer_files,
    read_config,
)
from gapctl.models.weights import load_weights
from gapctl.text import join_or

IMAGE_SETTINGS: Final = ("mean", "std", "interpolation", "resize_mode")
RESIZE_MODES: Final = ("shortest", "squash")
INTERPOLATIONS: Final = ("bicubic", "bilinear")

Answer = TypeVar("Answer")


class PublicModel(NamedTuple):
    """open_clip's configuration, with what a tag or a repository changes of it, and its settings of images."""

    configuration: dict[str, Any]
    images: dict[str, Any]


class ModelInput(NamedTuple):
    """What a model is shown: the side of an image, its colours' mean and deviation, and the tokens of a caption.

    `resize` and `interpolation` are how open_clip resizes held-out images for a public model; None for a preset, whose
    held-out images are resized as its training's are. `betas` and `epsilon` are AdamW's. `tokenizer` is None for
    open_clip's own.
    """

    image_size: int
    context: int
    mean: Colour
    std: Colour
    betas: tuple[float, float]
    epsilon: float
    resize: str | None = None
    interpolation: str | None = None
    tokenizer: HubTokenizer | None = None


def fingerprint_model(model: OpenClipModel) -> str:
    """Return what stands in a trial's id for a public model.

    Raises InputError, whose `key` says where, for an architecture or weights that nothing has, or that do not belong
    together, and UnknownWeightsError where a hub fails.
    """
    described = read_public_model(model)
    sha256 = _name_weights(model, find_sha256) if model.weights else ""
    tokenizer = find_tokenizer(model)
    files = {} if tokenizer is None or not is_own_folder(model) else hash_tokenizer_files(Path(tokenizer.source))
    return fingerprint_model_parts(described.configuration, described.images, sha256, files)


def find_tokenizer(model: OpenClipModel) -> HubTokenizer | None:
    """Return the Hugging Face tokenizer of a model, which a folder of weights holds itself; None for open_clip's own.

    Raise InputError where the architecture is gone, or cannot be a trial.
    """
    found = find_towers(model).tokenizer
    if found is None or not is_own_folder(model):
        return found
    return replace(found, source=str(expand_home(model.weights.removeprefix(LOCAL_FOLDER)).absolute()))


def is_own_folder(model: OpenClipModel) -> bool:
    """Return whether a model's weights are in a folder with a configuration, whose tokenizer open_clip takes too."""
    return model.weights.startswith(LOCAL_FOLDER)


@cache
def read_public_model(model: OpenClipModel) -> PublicModel:
    """Return the configuration of a model with its weights; raise InputError as `fingerprint_model` does."""
    towers = find_towers(model)
    configuration = towers.described
    images = {name: value for name, value in vars(PreprocessCfg()).items() if name in IMAGE_SETTINGS}
    own: Mapping[str, Any] = towers.images
    if has_own_weights(model.weights):
        document = _name_weights(model, lambda name, _: read_config(name, find_config_folder(name)))
        _require_same_architecture(model, configuration, document["model_cfg"])
        configuration["quick_gelu"] = bool(document["model_cfg"].get("quick_gelu", False))
        own = document.get("preprocess_cfg") or {}
    elif model.weights and not expand_home(model.weights).is_file():
        own = _name_weights(model, lambda name, tag: get_tag_image_settings(name, str(tag)))
        configuration["quick_gelu"] = bool(own.get("quick_gelu", False)) or bool(configuration.get("quick_gelu", False))
    if not configuration.get("quick_gelu"):
        configuration.pop("quick_gelu", None)
    images |= {name: value for name, value in own.items() if name in images and value}
    for name, known in (("resize_mode", RESIZE_MODES), ("interpolation", INTERPOLATIONS)):
        if images[name] not in known:
            key, found = ("weights", model.weights) if model.weights else ("architecture", model.architecture)
            text = f"found {found!r}, whose {name} is {images[name]!r}; expected {join_or(known)}"
            raise _build_error(key, text)
    return PublicModel(configuration, {name: _list_numbers(value) for name, value in images.items()})


def _list_numbers(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def find_towers(model: OpenClipModel) -> Architecture:
    """Return a model's architecture; raise InputError where it is gone, or cannot be a trial."""
    try:
        towers = model.towers
    except ValueError as error:
        raise _build_error("architecture", str(error)) from error
    if (why := towers.explain_unmeasurable()) is not None:
        raise _build_error("architecture", f"found {model.architecture!r}, {why}")
    return towers


def _build_error(key: str, text: str) -> InputError:
    error = InputError(text)
    error.key = f"model.{key}"  # type: ignore[attr-defined]
    return error


def _name_weights(model: OpenClipModel, find: Callable[[str, str | None], Answer]) -> Answer:
    """Call a function of sources.py by the names that it knows, and put its errors into the sweep file's words."""
    name, tag = (model.weights, None) if has_own_weights(model.weights) else (model.architecture, model.weights)
    try:
        return find(name, tag)
    except InputError as error:
        text = re.sub(r"^--(model|pretrained) \S+: ", "", str(error))
        text = text.replace("--model local-dir:FOLDER", "weights: local-dir:FOLDER").replace("--pretrained", "weights:")
        text = f"found {model.weights!r}: {text}"
        if isinstance(error, UnknownWeightsError):
            raise UnknownWeightsError(text, error.source) from error
        raise _build_error("weights", text) from error


def _require_same_architecture(model: OpenClipModel, own: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """Raise InputError where a repository's configuration says otherwise than the architecture, where both say.

    A tokenizer that it alone names is refused too, as its captions would be cut by another.
    """
    parts = ("embed_dim", "vision_cfg", "text_cfg")
    one, other = (flatten_document({part: found[part] for part in parts}) for found in (own, theirs))
    for path, value in one.items():
        if path in other and other[path] != value:
            differs = f"{path} is {other[path]!r} there, and {value!r} here"
            text = f"found {model.weights!r}, of another architecture than {model.architecture}: {differs}"
            raise _build_error("weights", text)
    named = theirs["text_cfg"].get("hf_tokenizer_name")
    if named and not own["text_cfg"].get("hf_tokenizer_name"):
        text = f"found {model.weights!r}, whose captions are cut by {named}; expected an architecture that names it too"
        raise _build_error("weights", text)


def build_public_model(config: TrialConfig, seed: int) -> CLIP:
    """Return the model of a trial of a public architecture, with the seed's weights.

    Patches are never dropped, as random numbers of a training step are not in its checkpoints.
    """
    assert isinstance(config.model, OpenClipModel)
    described = deepcopy(read_public_model(config.model).configuration)
    vision = described["vision_cfg"]
    vision["patch_dropout"] = 0.0
    if "timm_model_name" in vision:
        vision["timm_model_pretrained"] = False
    if "hf_model_name" in described["text_cfg"]:
        described["text_cfg"]["hf_model_pretrained"] = False
        require_transformers(f"the text tower of {config.model.architecture} is of that library")
    custom = described.pop("custom_text", False)
    kind: type[CLIP | CoCa | CustomTextCLIP] = (
        CoCa if "multimodal_cfg" in described else CustomTextCLIP if custom else CLIP
    )
    bias = described.pop("init_logit_bias", None)
    if has_logit_bias(config.loss.kind) and bias is None:
        other = find_extension("losses", config.loss.kind)
        bias = SIGLIP_INITIAL_BIAS if other is None else other.initial_bias
    described["init_logit_scale"] = math.log(1 / config.temperature.init)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model: CLIP = kind(**described, init_logit_bias=bias)
        except Exception as error:
            raise InputError(
                f"{config.model.architecture}: open_clip cannot build it: {first_line_of_error(error)}"
            ) from error
    model.logit_scale.requires_grad_(config.temperature.mode == "learned")
    return model


def load_public_weights(model: CLIP, named: OpenClipModel, sha256: str) -> None:
    """Load the weights that a trial begins with, downloaded by open_clip's hub client once per machine.

    Raise InputError where they cannot be had, do not fit, or are not those of the plan.
    """
    found = _name_weights(named, find_or_download_weights)
    if sha256 and found.sha256 != sha256:
        raise InputError(
            f"{found.path}: weights of sha256 {found.sha256[:12]}; expected {sha256[:12]}, by which the trial was "
            "planned. Plan again, or put the former file back"
        )
    load_weights(model, named.architecture, found.path)


def get_model_input(model: Model | OpenClipModel) -> ModelInput:
    """Return what a trial's model is shown; a table is shown no pixels and no words.

    Raise InputError where a public model's configuration cannot be had.
    """
    if isinstance(model, Model):
        if model.is_table:
            return ModelInput(0, 0, OPENAI_MEAN, OPENAI_STD, TABLE_BETAS, TABLE_EPSILON)
        preset = model.towers
        context, betas = preset.text.tokens, preset.betas
        return ModelInput(preset.image_size, context, preset.mean, preset.std, betas, preset.epsilon)
    towers, images = find_towers(model), read_public_model(model).images
    (betas, epsilon), (mean, std) = towers.adamw, (tuple(images[name]) for name in ("mean", "std"))
    pixels = (images["resize_mode"], images["interpolation"])
    tokenizer = find_tokenizer(model)
    return ModelInput(towers.image_size, towers.context, mean, std, betas, epsilon, *pixels, tokenizer)
