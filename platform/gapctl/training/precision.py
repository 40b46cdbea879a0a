"""Which number format a trial computes in."""

from typing import Literal

import torch

Resolved = Literal["float32", "bfloat16"]


def resolve_precision(asked: Literal["auto", "float32", "bfloat16"], device: torch.device) -> Resolved:
    """`auto` is bfloat16 where the hardware multiplies in it (CUDA, AMX, AVX512-BF16) and float32 elsewhere."""
    if asked != "auto":
        return asked
    has_units = device.type == "cuda" or torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return "bfloat16" if has_units else "float32"


def dtype_of(precision: Resolved) -> torch.dtype:
    """The format of a trial's products; masters, statistics, softmax and loss are float32 in either."""
    return torch.bfloat16 if precision == "bfloat16" else torch.float32
