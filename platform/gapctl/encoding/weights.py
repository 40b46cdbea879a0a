"""The weights of an open_clip model: found by tag or file, read without unpickling, fitted to the architecture."""

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch

from gapctl.errors import InputError
from gapctl.spec.nearest import did_you_mean

NAMED: Final = 4
"""Parameters that a message names of each kind."""

PACKED: Final = (torch.float4_e2m1fn_x2,)
"""Several numbers in a byte, which mean nothing without scales."""

IGNORED: Final = ("position_ids",)
"""Buffers of older text towers that hold 0, 1, 2, ... and nothing learned."""


class Weights(NamedTuple):
    """A file of weights; `preprocess` are a tag's own settings for images, empty for a file."""

    path: Path
    sha256: str
    preprocess: Mapping[str, Any]


def find_weights(model: str, pretrained: str) -> Weights:
    """The weights of a model's tag, downloaded if need be, or a file; raises InputError where there are none."""
    import open_clip

    path = Path(pretrained).expanduser()
    if path.is_file():
        return _weights(path, {})
    settings = open_clip.get_pretrained_cfg(model, pretrained)
    if settings:
        return _weights(_downloaded(model, pretrained, settings), settings)
    tags = open_clip.list_pretrained_tags_by_model(model)
    expected = f"a file, or one of the tags of {model}: {', '.join(tags)}" if tags else f"a file ({model} has no tags)"
    close = did_you_mean(pretrained, tags)
    raise InputError(f"--pretrained {pretrained}: neither a file nor a tag; expected {expected}{close}")


def _weights(path: Path, settings: Mapping[str, Any]) -> Weights:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Weights(path.absolute(), digest, settings)


def _downloaded(model: str, tag: str, settings: Mapping[str, Any]) -> Path:
    import open_clip

    try:
        return Path(open_clip.download_pretrained(dict(settings)))
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"--pretrained {tag}: the weights of {model} are not on this machine and cannot be downloaded ({reason}). "
            f"Where there is a network, download {_source(settings)}; copy the file here and give its path: "
            f"--pretrained FILE{_by_file(model, settings)}"
        ) from error


def _by_file(model: str, settings: Mapping[str, Any]) -> str:
    """What a file of a tag's weights cannot say of itself: the tag's own activation and image settings."""
    quick = settings.get("quick_gelu") and not model.endswith("-quickgelu")
    name = f" with --model {model}-quickgelu, which these weights were trained as" if quick else ""
    own = [key for key in ("mean", "std", "interpolation", "resize_mode") if settings.get(key)]
    return name + (
        f". A file is shown images by the architecture's {', '.join(own)}; this tag has its own" if own else ""
    )


def _source(settings: Mapping[str, Any]) -> str:
    """Where a tag's file is, for a person: the repository first, as open_clip does."""
    repository, _, name = str(settings.get("hf_hub", "")).rpartition("/")
    if repository:
        return f"{name or 'open_clip_model.safetensors'} of huggingface.co/{repository}"
    return str(settings["url"])


def load_weights(model: torch.nn.Module, name: str, path: Path) -> None:
    """Puts a file's weights into a model; raises InputError for pickles, damage and another architecture."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    found = convert_state_dict(model, _read(path))
    if "positional_embedding" in found and not hasattr(model, "positional_embedding"):
        found = convert_to_custom_text_state_dict(found)
    expected = model.state_dict()
    fitted = {key: value for key, value in found.items() if not key.endswith(IGNORED)}
    for key in ("logit_scale", "logit_bias"):
        if key in fitted and key in expected and fitted[key].numel() == 1:
            fitted[key] = fitted[key].reshape(expected[key].shape)
    _require_fit(name, path, fitted, expected)
    _require_numbers(path, fitted, expected)
    model.load_state_dict({**expected, **fitted})


def _read(path: Path) -> dict[str, torch.Tensor]:
    from open_clip.factory import load_state_dict
    from safetensors import SafetensorError

    expected = "what torch.save(model.state_dict(), file) or safetensors writes"
    try:
        found = load_state_dict(str(path), weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path}: no weights, or pickled objects, which are never loaded; expected tensors by name: {expected}"
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, LookupError, SafetensorError, StopIteration) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{path}: damaged, or no checkpoint ({reason}); expected {expected}") from error
    except (AttributeError, TypeError) as error:
        raise InputError(f"{path}: no weights by name in it; expected {expected}") from error
    if not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise InputError(f"{path}: values that are no tensors; expected {expected}")
    return dict(found)


def _require_fit(
    name: str, path: Path, found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]
) -> None:
    missing = [key for key in expected if key not in found and not key.endswith("attn_mask")]
    unknown = [key for key in found if key not in expected]
    reshaped = [
        f"{key} {tuple(found[key].shape)} for {tuple(expected[key].shape)}"
        for key in expected
        if key in found and found[key].shape != expected[key].shape
    ]
    parts = {"missing": missing, "of another shape": reshaped, "not in the model": unknown}
    said = [f"{what}: {_listed(keys)}" for what, keys in parts.items() if keys]
    if said:
        raise InputError(
            f"{path}: a checkpoint of another architecture than {name}; {'; '.join(said)}. "
            "Give --model the name that it was trained under"
        )


def _require_numbers(path: Path, found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    """Refuses numbers that could not be copied, or would lose their meaning: packed, complex and quantised ones."""
    for key, value in found.items():
        if value.dtype in PACKED or value.is_floating_point() != expected[key].is_floating_point():
            raise InputError(
                f"{path}: {key} is of type {str(value.dtype).removeprefix('torch.')}; expected "
                f"{str(expected[key].dtype).removeprefix('torch.')}, or another float that it can be read from. "
                "Save the weights as they are before they are packed or quantised"
            )


def _listed(keys: list[str]) -> str:
    more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
    return f"{', '.join(keys[:NAMED])}{more}"
