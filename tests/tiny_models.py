"""Models of open_clip's kinds, made small by configurations of their own: files as a hub or a training leaves them."""

import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

if TYPE_CHECKING:
    import pytest

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
TINY_OWN_WORDS: Final[dict[str, Any]] = {
    **TINY_SIGLIP,
    "text_cfg": {
        **TINY_SIGLIP["text_cfg"],
        "hf_tokenizer_name": "tiny/words",
        "tokenizer_kwargs": {"clean": "canonicalize"},
    },
}
"""Like SigLIP in this too: its captions are cut by a tokenizer of its own, which `write_model` puts beside it."""
TINY_COCA: Final[dict[str, Any]] = {
    "embed_dim": 12,
    "custom_text": True,
    "vision_cfg": {**TINY_VIT["vision_cfg"], "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
    "text_cfg": {**TEXT, "embed_cls": True, "output_tokens": True},
    "multimodal_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
"""Like open_clip's CoCa: a decoder of captions besides two encoders."""
TRANSFORMERS: Final = '''
"""What open_clip's HFTokenizer uses of the transformers library, over a list of words: end 1, unknown 2, padding 3."""

import json
from pathlib import Path

import torch


class AutoTokenizer:
    @classmethod
    def from_pretrained(cls, source, cache_dir=None, **options):
        file = Path(source) / "tokenizer.json"
        if not file.is_file():
            raise OSError(f"{source} is not a local folder and is not a valid model identifier")
        found = cls()
        found.words = json.loads(file.read_text())
        found.ids = {word: 4 + place for place, word in enumerate(found.words)}
        return found

    def __call__(self, texts, return_tensors, max_length, padding, truncation):
        rows = []
        for text in texts:
            ids = [self.ids.get(word, 2) for word in text.split()][: max_length - 1] + [1]
            rows.append(ids + [3] * (max_length - len(ids)))
        return type("Encoded", (), {"input_ids": torch.tensor(rows)})

    def decode(self, ids, skip_special_tokens):
        return " ".join(self.words[each - 4] if each > 3 else "?" for each in ids if each not in (1, 3))
'''
"""The environment of tests lacks the library: this stands for it where open_clip meets it."""
WORDS: Final = ("a", "of", "the", "photo", "red", "green", "blue", "circle", "square", "triangle", "on", "and", "one")
HALVES: Final = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
"""The image settings of SigLIP, unlike those of CLIP."""


def write_model(folder: Path, config: dict[str, Any], seed: int = 0, preprocess: dict[str, Any] | None = None) -> Path:
    """Write open_clip_config.json and safetensors of random weights into a new folder, and return it."""
    import open_clip
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    if "hf_tokenizer_name" in config["text_cfg"]:
        (folder / "tokenizer.json").write_text(json.dumps(WORDS), encoding="utf-8")
    document = {"model_cfg": config, "preprocess_cfg": preprocess or {}}
    (folder / "open_clip_config.json").write_text(json.dumps(document), encoding="utf-8")
    logging.disable(logging.WARNING)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    logging.disable(logging.NOTSET)
    # open_clip leaves some weights of CoCa's decoder as memory happened to be, which no two tensors of NaN equal.
    weights = {key: value.nan_to_num().contiguous() for key, value in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    return folder


def stand_in_transformers(folder: Path, monkeypatch: "pytest.MonkeyPatch") -> None:
    """Let this process, and those that it starts, import what stands for the transformers library."""
    from gapctl.data.image_text.tokens import get_public_tokenizer

    folder.mkdir(exist_ok=True)
    (folder / "transformers.py").write_text(TRANSFORMERS, encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    monkeypatch.delitem(sys.modules, "transformers", raising=False)
    get_public_tokenizer.cache_clear()
