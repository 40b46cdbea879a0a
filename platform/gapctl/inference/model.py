"""Open an open_clip model: find its weights, load them, and build its tokenizer and image transform.

Index letters: B batch, L caption positions, D embedding.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from gapctl.config.base import did_you_mean
from gapctl.errors import InputError
from gapctl.folders import expand_home
from gapctl.inference.weights_file import read_weights

MAX_NAMED: Final = 4
"""Most parameters that a message names of each kind."""

PACKED_DTYPES: Final = (torch.float4_e2m1fn_x2,)
"""Types with several numbers per byte, which mean nothing without scales."""

FOREIGN_CHECKPOINTS: Final = {
    ".lora_": ("adapters (LoRA), which stand beside a model's weights", "merge them into it where they were trained"),
    ".vision_model.": (
        "a model of Hugging Face's transformers",
        "convert it, or give the tag under which open_clip has these weights",
    ),
    ".text_model.": (
        "a model of Hugging Face's transformers",
        "convert it, or give the tag under which open_clip has these weights",
    ),
}
"""Checkpoints of other programs, by a part of their parameters' names: what they are, and what to do."""


class WeightsFile(NamedTuple):
    """A file of weights; `preprocess` are a tag's own image settings, empty for a file."""

    path: Path
    sha256: str
    preprocess: Mapping[str, Any]


def find_weights(model: str, pretrained: str) -> WeightsFile:
    """Return the weights of a tag, downloaded if needed, or of a file. Raises InputError if there are none."""
    import open_clip

    path = expand_home(pretrained)
    if path.is_file():
        return _describe_weights_file(path, {})
    if path.is_dir():
        held = sorted(each.name for each in path.iterdir() if each.suffix in (".safetensors", ".bin", ".pt", ".pth"))
        inside = f"one of the files in it ({_join_names(held)})" if held else "a file of weights, and it holds none"
        raise InputError(f"--pretrained {pretrained}: a folder; expected {inside}")
    settings = open_clip.get_pretrained_cfg(model, pretrained)
    if settings:
        return _describe_weights_file(_download_weights(model, pretrained, settings), settings)
    tags = open_clip.list_pretrained_tags_by_model(model)
    expected = f"a file, or one of the tags of {model}: {', '.join(tags)}" if tags else f"a file ({model} has no tags)"
    close = did_you_mean(pretrained, tags)
    raise InputError(f"--pretrained {pretrained}: neither a file nor a tag; expected {expected}{close}")


def _describe_weights_file(path: Path, settings: Mapping[str, Any]) -> WeightsFile:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return WeightsFile(path.absolute(), digest, settings)


def _download_weights(model: str, tag: str, settings: Mapping[str, Any]) -> Path:
    import open_clip

    try:
        return Path(open_clip.download_pretrained(dict(settings)))
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"--pretrained {tag}: the weights of {model} are not on this machine and cannot be downloaded ({reason}). "
            f"Where there is a network, download {_describe_source(settings)}; copy the file here and give its path: "
            f"--pretrained FILE{_explain_file_options(model, settings)}"
        ) from error


def _explain_file_options(model: str, settings: Mapping[str, Any]) -> str:
    """Return advice about a tag's activation and image settings, which a file of its weights does not contain."""
    quick = settings.get("quick_gelu") and not model.endswith("-quickgelu")
    name = f" with --model {model}-quickgelu, which these weights were trained as" if quick else ""
    own = [key for key in ("mean", "std", "interpolation", "resize_mode") if settings.get(key)]
    return name + (
        f". A file is shown images by the architecture's {', '.join(own)}; this tag has its own" if own else ""
    )


def _describe_source(settings: Mapping[str, Any]) -> str:
    """Return where a tag's file is: the repository first, as open_clip tries it."""
    repository, _, name = str(settings.get("hf_hub", "")).rpartition("/")
    if repository:
        return f"{name or 'open_clip_model.safetensors'} of huggingface.co/{repository}"
    return str(settings["url"])


def load_weights(model: torch.nn.Module, name: str, path: Path) -> str:
    """Load a file's weights into a model. Return which part of the file they are, "" for all of it.

    Raises InputError for pickles, damage and another architecture.
    """
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    expected = model.state_dict()
    read = read_weights(path, _list_parameter_names(expected))
    found = convert_state_dict(model, read.tensors)
    if "positional_embedding" in found and not hasattr(model, "positional_embedding"):
        found = convert_to_custom_text_state_dict(found)
    fitted = dict(found)
    for key in ("logit_scale", "logit_bias"):
        if key in fitted and key in expected and fitted[key].numel() == 1:
            fitted[key] = fitted[key].reshape(expected[key].shape)
    _require_fit(name, path, read.origin, fitted, expected)
    _require_numbers(path, fitted, expected)
    model.load_state_dict({**expected, **fitted})
    return read.origin


def _list_parameter_names(expected: Mapping[str, torch.Tensor]) -> set[str]:
    """Return a model's parameter names, and the names under which models without a separate text tower have them."""
    return {*expected, *(name.removeprefix("text.") for name in expected)}


def _require_fit(
    name: str, path: Path, origin: str, found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]
) -> None:
    part = f" ({origin})" if origin else ""
    for mark, (whose, remedy) in FOREIGN_CHECKPOINTS.items():
        if any(mark in f".{key}" for key in found):
            raise InputError(f"{path}{part}: {whose}, not a model of open_clip; {remedy}")
    missing = [key for key in expected if key not in found and not key.endswith("attn_mask")]
    unknown = [key for key in found if key not in expected]
    reshaped = [
        f"{key} {tuple(found[key].shape)} for {tuple(expected[key].shape)}"
        for key in expected
        if key in found and found[key].shape != expected[key].shape
    ]
    parts = {"missing": missing, "of another shape": reshaped, "not in the model": unknown}
    differences = [f"{what}: {_join_names(keys)}" for what, keys in parts.items() if keys]
    if differences:
        raise InputError(
            f"{path}{part}: a checkpoint of another architecture than {name}; {'; '.join(differences)}. "
            "Give --model the name that it was trained under"
        )


def _require_numbers(path: Path, found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    """Raise InputError for numbers that cannot be copied or would lose their meaning: packed, complex, quantised."""
    for key, value in found.items():
        if value.dtype in PACKED_DTYPES or value.is_floating_point() != expected[key].is_floating_point():
            raise InputError(
                f"{path}: {key} is of type {str(value.dtype).removeprefix('torch.')}; expected "
                f"{str(expected[key].dtype).removeprefix('torch.')}, or another float that it can be read from. "
                "Save the weights as they are before they are packed or quantised"
            )


def _join_names(keys: list[str]) -> str:
    more = f" and {len(keys) - MAX_NAMED} more" if len(keys) > MAX_NAMED else ""
    return f"{', '.join(keys[:MAX_NAMED])}{more}"


if TYPE_CHECKING:
    from PIL import Image

    ToTensor = Callable[[Image.Image], torch.Tensor]


class OpenModel(NamedTuple):
    """A model in eval mode, and open_clip's image settings (`preprocess`).

    `quick_gelu` is whether its tag requires that activation, `origin` the part of the file that the weights are, "" for
    all of it.
    """

    name: str
    weights: WeightsFile
    model: Any
    preprocess: Mapping[str, Any]
    quick_gelu: bool
    origin: str = ""

    @property
    def architecture(self) -> str:
        """What decides, besides weights, what the model computes."""
        return f"{self.name}, quick GELU" if self.quick_gelu else self.name


def require_known_model(name: str) -> None:
    """Raise InputError if open_clip does not know the name."""
    import open_clip

    names = open_clip.list_models()
    if name not in names:
        close = did_you_mean(name, names)
        raise InputError(
            f"--model {name}: no such model; expected one of open_clip's {len(names)} architectures{close}"
        )


def open_model(name: str, weights: WeightsFile) -> OpenModel:
    """Build a model on the CPU and load its weights. Raises InputError if they do not fit."""
    import open_clip
    from open_clip.transform import merge_preprocess_dict

    quick = bool(weights.preprocess.get("quick_gelu", False))
    with _silence_open_clip():
        try:
            model = open_clip.create_model(name, pretrained_text=False, force_quick_gelu=quick)
            load_tokenizer(name)
        except Exception as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise InputError(f"--model {name}: open_clip cannot build it here: {reason}") from error
    origin = load_weights(model, name, weights.path)
    preprocess = merge_preprocess_dict(model.visual.preprocess_cfg, dict(weights.preprocess))
    return OpenModel(name, weights, model.eval(), preprocess, quick, origin)


def load_tokenizer(name: str) -> Callable[[Sequence[str]], torch.Tensor]:
    """Return an architecture's tokenizer, from texts to int64 (B, L)."""
    import open_clip

    with _silence_open_clip():
        found: Callable[[Sequence[str]], torch.Tensor] = open_clip.get_tokenizer(name)
    return found


def build_transform(preprocess: Mapping[str, Any]) -> "ToTensor":
    """Return the transform from an image to a tensor with these settings."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    found: ToTensor = image_transform_v2(PreprocessCfg(**preprocess), is_train=False)
    return found


@torch.no_grad()
def encode_texts(opened: OpenModel, texts: Sequence[str]) -> NDArray[np.float32]:
    """Return L2-normalised embeddings of texts (B, D), on the CPU."""
    tokens_BL = load_tokenizer(opened.name)(texts)
    found: NDArray[np.float32] = opened.model.encode_text(tokens_BL, normalize=True).numpy()
    return found


@contextmanager
def _silence_open_clip() -> Iterator[None]:
    """Suppress open_clip's warning about a model without weights, which are loaded afterwards."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
