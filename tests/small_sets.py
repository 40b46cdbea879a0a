"""Small evaluation sets of each kind in the layouts that people have, sound or spoilt."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from pair_shards import COLOURS, SHAPES, jpeg, write_shard

TEMPLATES = ("a photo of a {c}.", "a {c} on noise")
IMAGES = 40


def write_retrieval(folder: Path, images: int = IMAGES, captions: int = 3, split: str = "test") -> Path:
    """CLIP_benchmark's layout of captions: several lines for an image, two shards, and nothing else beside them."""
    place = folder / split
    place.mkdir(parents=True)
    samples = []
    for number in range(images):
        colour, shape = list(COLOURS)[number % 3], SHAPES[number % 2]
        lines = [f"picture {number} of a {colour} {shape}", f"a {shape}, {number}", f"the {colour} thing {number}"]
        members = {"jpg": jpeg(colour, shape, number), "txt": "\n".join(lines[:captions]).encode()}
        samples.append((f"s{number:07d}", members))
    half = images // 2
    write_shard(place / "0.tar", samples[:half])
    write_shard(place / "1.tar", samples[half:])
    (place / "nshards.txt").write_text("2", encoding="utf-8")
    (folder / "dataset_type.txt").write_text("retrieval", encoding="utf-8")
    return folder


def write_classification(
    folder: Path, images: int = IMAGES, names: Sequence[str] = tuple(COLOURS), labels: Iterable[int] | None = None
) -> Path:
    """CLIP_benchmark's layout of classes: `.cls` beside each image, names and templates in the folder above."""
    place = folder / "test"
    place.mkdir(parents=True)
    numbers = list(labels) if labels is not None else [number % len(COLOURS) for number in range(images)]
    samples = []
    for number, label in enumerate(numbers):
        colour = list(COLOURS)[number % 3]
        members = {"jpg": jpeg(colour, SHAPES[number % 2], number), "cls": str(label).encode()}
        samples.append((f"s{number:07d}", members))
    write_shard(place / "0.tar", samples)
    (place / "nshards.txt").write_text("1", encoding="utf-8")
    (folder / "classnames.txt").write_text("\n".join(names), encoding="utf-8")
    (folder / "zeroshot_classification_templates.txt").write_text("\n".join(TEMPLATES), encoding="utf-8")
    return folder


def write_composition(folder: Path, images: int = IMAGES) -> Path:
    """img2dataset's layout, whose json names an object and an attribute; no captions."""
    folder.mkdir(parents=True)
    samples = []
    for number in range(images):
        colour, shape = list(COLOURS)[number % 3], SHAPES[number // 3 % 2]
        about = {"object": shape, "attribute": colour.title()}
        members = {"jpg": jpeg(colour, shape, number), "json": json.dumps(about).encode()}
        samples.append((f"{number:06d}", members))
    write_shard(folder / "00000.tar", samples)
    return folder


def sweep_with_sets(folder: Path, *lines: str, evaluate: str = "sets: [words, colours, shapes]") -> Path:
    """A sweep file of two short trainings on the bundled pairs that are measured on sets of each kind."""
    path = folder / "sets.yaml"
    path.write_text(
        f"""\
name: sets
question: Do small models see colours?
base:
  data: {{dataset: image_text}}
  model: {{preset: pairs-small, embed_dim: 32}}
  train: {{samples: 96, batch_size: 16, precision: float32}}
  evaluate: {{every: 48, gallery: 40, {evaluate}}}
evaluation_sets:
  words: {{kind: retrieval, source: {folder / "words"}}}
  colours: {{kind: classification, source: {folder / "colours"}}}
  shapes: {{kind: composition, source: {folder / "shapes"}}}
vary: {{train.lr: [1.0e-3, 1.0e-4]}}
"""
        + "\n".join(lines),
        encoding="utf-8",
    )
    return path


def write_all(folder: Path) -> Path:
    """All three sets, in folders that `sweep_with_sets` names."""
    write_retrieval(folder / "words")
    write_classification(folder / "colours")
    write_composition(folder / "shapes")
    return folder
