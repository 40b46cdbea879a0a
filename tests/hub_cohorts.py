"""A cohort of tiny models that a hub serves: a sweep file, two evaluation sets, and a repository for each model."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from hub import Hub
from small_sets import write_classification, write_retrieval
from tiny_models import HALVES, TINY_RESNET, TINY_SIGLIP, TINY_VIT, write_model

KINDS: Final[Mapping[str, tuple[dict[str, Any], int]]] = {
    "one": (TINY_VIT, 0),
    "two": (TINY_VIT, 1),
    "resnet": (TINY_RESNET, 0),
    "siglip": (TINY_SIGLIP, 0),
}
"""The architecture and the seed of each model's weights, by its name."""
WEIGHTS: Final = "open_clip_model.safetensors"
SWEEP: Final = """\
name: hub
question: Do models of a hub differ?
base:
  data: {dataset: image_text, captions: {keep: words}}
  model: {architecture: models/one/open_clip_config.json, weights: "local-dir:models/one"}
  train: {samples: 0, batch_size: 16, precision: float32}
  evaluate: {every: 32, gallery: 20, sets: [words, colours]}
evaluation_sets:
  words: {kind: retrieval, source: SETS/words, expect: {images: 40}}
  colours: {kind: classification, source: SETS/colours, expect: {classes: 3}}
cohort:
  covariates: [log parameters]
  strata: family
  models:
ROWS"""


def write_cohort(folder: Path) -> Path:
    """Write the models and sets below a new folder, and the sweep over the models' own folders; return the folder."""
    for name, (config, seed) in KINDS.items():
        preprocess = HALVES if name == "siglip" else None
        write_model(folder / "models" / name, config, seed=seed, preprocess=preprocess)
    write_retrieval(folder / "words")
    write_classification(folder / "colours")
    write_sweep(folder, "local.yaml", lambda name: f"local-dir:models/{name}")
    return folder


def serve_models(hub: Hub, folder: Path) -> None:
    """Serve every model as `tiny/NAME`."""
    for name in KINDS:
        hub.add(f"tiny/{name}", folder / "models" / name)


def write_sweep(
    folder: Path,
    file: str,
    weights_of: Callable[[str], str] = lambda name: f"hf-hub:tiny/{name}",
    change: Callable[[str], str] = lambda text: text,
) -> Path:
    """Write a sweep over all models, whose weights are named by a function, and change its text."""
    rows = [
        {
            "name": name,
            "architecture": f"models/{name}/open_clip_config.json",
            "weights": weights_of(name),
            "family": "vit" if name in ("one", "two") else name,
        }
        for name in KINDS
    ]
    listed = "".join(f"    - {json.dumps(row)}\n" for row in rows)
    text = SWEEP.replace("SETS", str(folder)).replace("ROWS", listed)
    (folder / file).write_text(change(text), encoding="utf-8")
    return folder / file
