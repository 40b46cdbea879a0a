"""Read a file of weights of any origin, as tensors only, and load it into a model.

1. `load_weights` loads a file into a model, and says how it differs where it does not fit.
2. `read_weights` reads a file of any origin (wrapped, prefixed, or of another kind altogether): it refuses other kinds
   by their first bytes, loads tensors and plain values without unpickling, finds all sets of named tensors, removes
   what training programs put before the names, and chooses the set that names most of the model's parameters.
"""

import json
import pickle
import re
import zipfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import torch

from gapctl.errors import InputError, first_line_of_error
from gapctl.text import format_first_names

MAX_NAMED: Final = 4
"""Most names of each kind that a message lists."""

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

EXPECTED: Final = "what torch.save(model.state_dict(), file) or safetensors writes"

NAME_WRITERS: Final = {
    "_orig_mod.": "torch.compile",
    "_fsdp_wrapped_module.": "FSDP",
    "_checkpoint_wrapped_module.": "activation checkpointing",
}
"""Parts that programs put into names, at any depth."""
WRAPPER_PREFIX: Final = "module."
"""Prefix of all names by DistributedDataParallel, DataParallel and AveragedModel."""
IGNORED_BUFFERS: Final = ("position_ids", "n_averaged")
"""Buffers with nothing learned: positions of older text towers, and AveragedModel's count of models."""

USUAL_KEYS: Final = ("state_dict", "model_state_dict", "model", "module", "net")
"""Keys of a model in a checkpoint, in order of preference if several sets fit; averages come last."""
AVERAGE_PATTERN: Final = re.compile(r"ema|averag|swa|shadow", re.IGNORECASE)
MAX_DEPTH: Final = 3
"""Depth of nested mappings that are searched for tensors."""


def load_weights(model: torch.nn.Module, name: str, path: Path) -> str:
    """Load a file's weights into a model. Return which part of the file they are, "" for all of it.

    Raises InputError for pickles, damage and another architecture.
    """
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    expected = model.state_dict()
    # Models without a separate text tower have its parameters without `text.`.
    read = read_weights(path, {*expected, *(name.removeprefix("text.") for name in expected)})
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


def _require_fit(
    name: str, path: Path, origin: str, found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]
) -> None:
    part = f" ({origin})" if origin else ""
    for mark, (whose, remedy) in FOREIGN_CHECKPOINTS.items():
        if any(mark in f".{key}" for key in found):
            raise InputError(f"{path}{part}: {whose}, not a model of open_clip; {remedy}")
    # A model that begins a SigLIP training has a bias, which CLIP's weights lack.
    missing = [key for key in expected if key not in found and not key.endswith(("attn_mask", "logit_bias"))]
    unknown = [key for key in found if key not in expected]
    reshaped = [
        f"{key} {tuple(found[key].shape)} for {tuple(expected[key].shape)}"
        for key in expected
        if key in found and found[key].shape != expected[key].shape
    ]
    parts = {"missing": missing, "of another shape": reshaped, "not in the model": unknown}
    differences = [f"{what}: {format_first_names(keys, MAX_NAMED)}" for what, keys in parts.items() if keys]
    if differences:
        raise InputError(
            f"{path}{part}: a checkpoint of another architecture than {name}; {'; '.join(differences)}. "
            "Name the architecture that it was trained under"
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


class CheckpointWeights(NamedTuple):
    """Tensors by the model's own names; `keys` locate them in the file, `less` lists the removed parts of names."""

    tensors: dict[str, torch.Tensor]
    keys: tuple[str, ...] = ()
    less: tuple[str, ...] = ()

    @property
    def origin(self) -> str:
        """Which part of the file they are and what was removed from names; "" for all of it unchanged."""
        writers = {WRAPPER_PREFIX: "DistributedDataParallel or AveragedModel", **NAME_WRITERS}
        off = [f"{name} ({writers.get(name, 'a module that holds the model')})" for name in self.less]
        return ", ".join([*filter(None, [".".join(self.keys)]), *([f"less {' and '.join(off)}"] if off else [])])

    def rank(self) -> tuple[bool, int, int]:
        """Rank sets that fit alike: no average first, then a usual key, then the outermost."""
        usual = min((USUAL_KEYS.index(key) for key in self.keys if key in USUAL_KEYS), default=len(USUAL_KEYS))
        averaged = any(AVERAGE_PATTERN.search(part) for part in (*self.keys, *self.less))
        return averaged, usual if self.keys else -1, len(self.keys) + len(self.less)


class _NamedTensors(NamedTuple):
    """Named tensors, and the keys of the mappings that contain them."""

    keys: tuple[str, ...]
    tensors: dict[str, torch.Tensor]


def read_weights(path: Path, names: Collection[str]) -> CheckpointWeights:
    """Read the weights of a model whose parameters have these `names`. Raise InputError if there are none.

    Of several sets of tensors, such as a model and its average, the one with most of the names is returned; among
    equals a usual name comes first and an average last.
    """
    _require_tensors(path)
    document = _load_content(path)
    if not isinstance(document, Mapping):
        raise InputError(f"{path}: no weights by name in it, but a {type(document).__name__}; expected {EXPECTED}")
    found = [plain for each in _find_tensor_sets(document) for plain in _strip_prefixes(each, names)]
    if not found:
        keys = f" under {format_first_names([*map(str, document)], MAX_NAMED)}" if document else ""
        raise InputError(f"{path}: values that are no tensors{keys}; expected {EXPECTED}")
    return min(found, key=lambda each: (-sum(name in names for name in each.tensors), each.rank()))


def _load_content(path: Path) -> object:
    """Return the content of a file, tensors and plain values only."""
    try:
        if path.suffix == ".safetensors" or _is_safetensors(path):
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        held = re.search(r"(?:GLOBAL|global|class|function) `?([\w.]+\.[\w.]+)", str(error))
        named = f", of {held[1]}" if held else ""
        raise InputError(
            f"{path}: no weights, or pickled objects{named}, which are never loaded; expected tensors by name: "
            f"{EXPECTED}. Where it is a whole model, load it where it was made and save its state_dict()"
        ) from error
    except Exception as error:  # torch and safetensors raise many kinds for a damaged file
        reason = first_line_of_error(error)
        raise InputError(f"{path}: damaged, or no checkpoint ({reason}); expected {EXPECTED}") from error


def _find_tensor_sets(document: Mapping[object, object], keys: tuple[str, ...] = ()) -> Iterator[_NamedTensors]:
    """Iterate over all mappings from names to tensors, at any depth."""
    tensors = {key: value for key, value in document.items() if isinstance(key, str) and torch.is_tensor(value)}
    if tensors:
        yield _NamedTensors(keys, tensors)
    if len(keys) < MAX_DEPTH:
        for key, value in document.items():
            if isinstance(key, str) and isinstance(value, Mapping):
                yield from _find_tensor_sets(value, (*keys, key))


def _strip_prefixes(found: _NamedTensors, names: Collection[str]) -> Iterator[CheckpointWeights]:
    """Yield a set under each prefix after which names of the model follow, without parts that programs add."""
    less = [mark for mark in NAME_WRITERS if any(f".{mark}" in f".{name}" for name in found.tensors)]
    tensors = {_remove_marks(name, less): value for name, value in found.tensors.items()}
    tensors = {name: value for name, value in tensors.items() if not name.endswith(IGNORED_BUFFERS)}
    while tensors and all(name.startswith(WRAPPER_PREFIX) for name in tensors):
        tensors = {name.removeprefix(WRAPPER_PREFIX): value for name, value in tensors.items()}
        less = [*less, WRAPPER_PREFIX]
    prefixes = {name.removesuffix(tail) for name in tensors for tail in _list_suffixes(name) if tail in names} or {""}
    for prefix in prefixes:
        part = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        yield CheckpointWeights(part, found.keys, tuple(dict.fromkeys([*less, *filter(None, [prefix])])))


def _remove_marks(name: str, marks: Collection[str]) -> str:
    for mark in marks:
        name = f".{name}".replace(f".{mark}", ".")[1:]
    return name


def _list_suffixes(name: str) -> Iterator[str]:
    """Yield a name, and its rest after each of its dots."""
    while name:
        yield name
        _, _, name = name.partition(".")


def _require_tensors(path: Path) -> None:
    """Raise InputError for a known other kind of file, with what it is and what to do."""
    with path.open("rb") as file:
        head = file.read(2048)
    known = _recognise_unusable_file(path, head)
    if known is None and zipfile.is_zipfile(path):
        known = _recognise_unusable_archive(path)
    if known is not None:
        what, remedy = known
        raise InputError(f"{path}: {what}, not weights by name; expected {EXPECTED}. {remedy}")


def _recognise_unusable_file(path: Path, head: bytes) -> tuple[str, str] | None:
    """Return the kind that the first bytes show and what to do about it, or None."""
    start = head.lstrip()[:200].lower()
    if head.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS, which stands for the file", "Fetch the file itself: git lfs pull"
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page", "Download the file that the page links to"
    if start.startswith(b"{") and path.suffix == ".json":
        return _describe_json(path)
    if head.startswith(b"GGUF"):
        return "a GGUF file of llama.cpp", "Give the weights that it was made from, or open_clip's tag"
    if head.startswith(b"\x89HDF"):
        return "an HDF5 file of Keras or TensorFlow", "Give PyTorch's weights of that model, or open_clip's tag"
    if path.suffix == ".onnx" or re.match(rb"\x08[\x01-\x20]\x12.(pytorch|tf2onnx|onnx)", head, re.DOTALL):
        return "an ONNX model", "Give the PyTorch weights that it was exported from, or open_clip's tag"
    if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")):
        return "a compressed file", "Unpack it"
    return None


def _describe_json(path: Path) -> tuple[str, str]:
    try:
        document = json.loads(path.read_bytes())
    except ValueError:
        document = None
    if isinstance(document, dict) and isinstance(document.get("weight_map"), dict):
        files = sorted(set(map(str, document["weight_map"].values())))
        return (
            f"the index of a model in {len(files)} files ({format_first_names(files, MAX_NAMED)})",
            "Join them into one: load each with safetensors or torch, and save all tensors together",
        )
    return "a JSON file", "Give the file that holds the tensors"


def _recognise_unusable_archive(path: Path) -> tuple[str, str] | None:
    """Return the kind that a zip archive's members show; None for what torch.save writes."""
    with zipfile.ZipFile(path) as archive:
        members = archive.namelist()
    names = {name.partition("/")[2] for name in members}
    if "constants.pkl" in names:
        return (
            "a TorchScript archive, as OpenAI publishes ViT-B-32.pt",
            "Use `--pretrained openai` for OpenAI's, or load it with torch.jit.load and save its state_dict()",
        )
    if "archive_format" in {*members, *names}:
        return "a program of torch.export", "Save the state_dict() of the model that was exported"
    if members and all(name.endswith(".npy") for name in members):
        return (
            "a numpy archive, as JAX's models are",
            "Give PyTorch's weights of that model, or open_clip's tag",
        )
    return None if "data.pkl" in names else ("a zip archive", "Unpack it, and give the file that holds the tensors")


def _is_safetensors(path: Path) -> bool:
    """Return whether a file begins as safetensors does, whatever its name: the header's size, then a JSON object."""
    with path.open("rb") as file:
        head = file.read(9)
    size = int.from_bytes(head[:8], "little")
    return len(head) == 9 and head[8:] == b"{" and 2 <= size <= path.stat().st_size - 8
