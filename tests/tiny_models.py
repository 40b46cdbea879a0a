"""Models of open_clip's kinds, made small by configurations of their own: files as a hub or a training leaves them."""

import json
import logging
from pathlib import Path
from typing import Any, Final

import torch

TEXT: Final = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}
TINY_VIT: Final[dict[str, Any]] = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 24, "head_width": 12, "patch_size": 16},
    "text_cfg": TEXT,
}
TINY_RESNET: Final[dict[str, Any]] = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
    "text_cfg": TEXT,
}
TINY_SIGLIP: Final[dict[str, Any]] = {
    "embed_dim": 24,
    "init_logit_bias": -10,
    "custom_text": True,
    "vision_cfg": {
        "image_size": 32,
        "layers": 2,
        "width": 24,
        "head_width": 12,
        "patch_size": 16,
        "pool_type": "avg",
        "no_ln_pre": True,
    },
    "text_cfg": {**TEXT, "width": 24, "no_causal_mask": True, "proj_bias": True, "pool_type": "last"},
}
"""Like open_clip's SigLIP: a text tower of its own, no causal mask, a bias of the logits."""
HALVES: Final = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
"""The image settings of SigLIP, unlike those of CLIP."""


def write_model(folder: Path, config: dict[str, Any], seed: int = 0, preprocess: dict[str, Any] | None = None) -> Path:
    """Write open_clip_config.json and safetensors of random weights into a new folder, and return it."""
    import open_clip
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    document = {"model_cfg": config, "preprocess_cfg": preprocess or {}}
    (folder / "open_clip_config.json").write_text(json.dumps(document), encoding="utf-8")
    logging.disable(logging.WARNING)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    logging.disable(logging.NOTSET)
    save_file(
        {key: value.contiguous() for key, value in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    return folder
