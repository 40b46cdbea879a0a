"""Embeddings in a .safetensors file, as named arrays."""

from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from gapctl.errors import InputError
from gapctl.metrics.embeddings.found import KNOWN, Found, sha256_of


def read_safetensors(path: Path) -> Found:
    """Reads a file's known arrays; raises InputError for whatever is wrong with it."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a .safetensors file with the arrays `image` and `text`")
    try:
        with safe_open(path, framework="pt") as opened:
            present = set(opened.keys())
            arrays = {name: _array(opened.get_tensor(name)) for name in KNOWN if name in present}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a .safetensors file, or a damaged one ({error}); write it again") from error
    for name in ("image", "text"):
        if name not in present:
            raise InputError(f"{path}: no array `{name}`; the file has {', '.join(sorted(present)) or 'none'}")
    return Found(arrays, tuple(sorted(present - set(KNOWN))), {path.name: sha256_of(path)})


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    """As numpy has it; formats that numpy lacks (bfloat16, float8) are widened, which loses nothing."""
    known = tensor.dtype in (torch.float16, torch.float32, torch.float64) or not tensor.is_floating_point()
    array: NDArray[Any] = (tensor if known else tensor.float()).numpy()
    return array
