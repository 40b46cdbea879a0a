"""Read a file of weights of any origin: wrapped, prefixed, or of another kind altogether.

1. `_require_tensors` refuses other kinds of files by their first bytes.
2. `_load_content` loads tensors and plain values. Nothing is ever unpickled.
3. `_find_tensor_sets` finds all sets of named tensors.
4. `_strip_prefixes` removes what training programs put before the names.
5. `read_weights` chooses the set that names most of the model's parameters.
"""

import json
import pickle
import re
import zipfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch

from gapctl.errors import InputError

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


class CheckpointWeights(NamedTuple):
    """Tensors by the model's own names; `keys` locate them in the file, `less` lists the removed parts of names."""

    tensors: dict[str, torch.Tensor]
    keys: tuple[str, ...] = ()
    less: tuple[str, ...] = ()

    @property
    def origin(self) -> str:
        """Which part of the file they are and what was removed from names; "" for all of it unchanged."""
        off = [f"{name} ({_name_writer(name)})" for name in self.less]
        return ", ".join([*filter(None, [".".join(self.keys)]), *([f"less {' and '.join(off)}"] if off else [])])


class _TensorSet(NamedTuple):
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
        keys = f" under {_join_names(document)}" if document else ""
        raise InputError(f"{path}: values that are no tensors{keys}; expected {EXPECTED}")
    return min(found, key=lambda each: (-sum(name in names for name in each.tensors), _rank_weights(each)))


def _load_content(path: Path) -> Any:
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
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{path}: damaged, or no checkpoint ({reason}); expected {EXPECTED}") from error


def _find_tensor_sets(document: Mapping[Any, Any], keys: tuple[str, ...] = ()) -> Iterator[_TensorSet]:
    """Iterate over all mappings from names to tensors, at any depth."""
    tensors = {key: value for key, value in document.items() if isinstance(key, str) and torch.is_tensor(value)}
    if tensors:
        yield _TensorSet(keys, tensors)
    if len(keys) < MAX_DEPTH:
        for key, value in document.items():
            if isinstance(key, str) and isinstance(value, Mapping):
                yield from _find_tensor_sets(value, (*keys, key))


def _strip_prefixes(found: _TensorSet, names: Collection[str]) -> Iterator[CheckpointWeights]:
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


def _name_writer(mark: str) -> str:
    """Return the program that writes this part of a name."""
    if mark == WRAPPER_PREFIX:
        return "DistributedDataParallel or AveragedModel"
    return NAME_WRITERS.get(mark, "a module that holds the model")


def _list_suffixes(name: str) -> Iterator[str]:
    """Yield a name, and its rest after each of its dots."""
    while name:
        yield name
        _, _, name = name.partition(".")


def _rank_weights(found: CheckpointWeights) -> tuple[bool, int, int]:
    """Rank sets that fit alike: no average first, then a usual key, then the outermost."""
    usual = min((USUAL_KEYS.index(key) for key in found.keys if key in USUAL_KEYS), default=len(USUAL_KEYS))
    averaged = any(AVERAGE_PATTERN.search(part) for part in (*found.keys, *found.less))
    return averaged, usual if found.keys else -1, len(found.keys) + len(found.less)


def _require_tensors(path: Path) -> None:
    """Raise InputError for a known other kind of file, with what it is and what to do."""
    with path.open("rb") as file:
        head = file.read(2048)
    known = _detect_kind(path, head)
    if known is None and zipfile.is_zipfile(path):
        known = _detect_archive_kind(path)
    if known is not None:
        what, remedy = known
        raise InputError(f"{path}: {what}, not weights by name; expected {EXPECTED}. {remedy}")


def _detect_kind(path: Path, head: bytes) -> tuple[str, str] | None:
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
            f"the index of a model in {len(files)} files ({_join_names(files)})",
            "Join them into one: load each with safetensors or torch, and save all tensors together",
        )
    return "a JSON file", "Give the file that holds the tensors"


def _detect_archive_kind(path: Path) -> tuple[str, str] | None:
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


def _join_names(names: Collection[Any], most: int = 4) -> str:
    shown = ", ".join(str(name) for name in list(names)[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
