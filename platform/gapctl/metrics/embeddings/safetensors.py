"""Embeddings in a .safetensors file, as named arrays."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from gapctl.errors import InputError
from gapctl.metrics.embeddings.found import KNOWN, Found, sha256_of

PACKED: Final = ("F4", "F6_E2M3", "F6_E3M2")


def read_safetensors(path: Path) -> Found:
    """Reads a file's known arrays; raises InputError for whatever is wrong with it."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a .safetensors file with the arrays `image` and `text`")
    try:
        with safe_open(path, framework="pt") as opened:
            present = set(opened.keys())
            types = {name: opened.get_slice(name).get_dtype() for name in KNOWN if name in present}
            _require_numbers(path, types)
            arrays = {name: _array(opened.get_tensor(name)) for name in types}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a .safetensors file, or a damaged one ({error}); write it again") from error
    for name in ("image", "text"):
        if name not in present:
            raise InputError(f"{path}: no array `{name}`; the file has {', '.join(sorted(present)) or 'none'}")
    return Found(arrays, tuple(sorted(present - set(KNOWN))), {path.name: sha256_of(path)})


def _require_numbers(path: Path, types: Mapping[str, str]) -> None:
    for name, written in types.items():
        if written in PACKED:
            raise InputError(
                f"{path}: `{name}`: of type {written}, several numbers in a byte, which mean nothing without the "
                "scales that belong to them; expected numbers of 8 bits or more. Store them as float32"
            )


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    """As numpy has it; formats that numpy lacks (bfloat16, float8) are widened, which loses nothing."""
    known = tensor.dtype in (torch.float16, torch.float32, torch.float64) or not tensor.is_floating_point()
    array: NDArray[Any] = (tensor if known else tensor.float()).numpy()
    return array
