"""Whether evaluation sets give the numbers of CLIP_benchmark's own code: the same sets, the same model.

    python -m pip install --no-deps --target FOLDER clip_benchmark
    PYTHONPATH=platform:dashboards:FOLDER python benchmarks/clip_benchmark_agreement.py [--samples 25600] [--work DIR]

CLIP_benchmark (github.com/LAION-AI/CLIP_benchmark) goes into a folder of its own, so that gapctl's environment stays as
it is; what its two evaluations import beyond that (torch, webdataset, scikit-learn) is there already.

1. `write_sets` makes three sets in CLIP_benchmark's layout: MNIST digits by ten classes, the bundled pictures by twelve
   groups (two templates), and the bundled pictures with three captions each.
2. A model of the preset `pairs-small` is trained on other bundled pairs by `gapctl train`, for some minutes.
3. `measure_ours` runs `gapctl measure --evaluation-set`; `measure_peer` reads the same folders with CLIP_benchmark's
   loader and evaluates open_clip's triple of the same model (`gapctl.load_model`) with CLIP_benchmark's functions.
   The last lines of its `evaluate`, which count, are written out here: numpy 2.4 refuses one of them.
4. Accuracies and recalls are compared; the script fails if any differs by more than half an image.
"""

import argparse
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import torch
from open_clip.model import CLIP
from PIL import Image

import gapctl
from gapctl.data.image_text.class_prompts import read_attribute_prompts
from gapctl.data.image_text.index import Sample, decode_image, iterate_shard_samples
from gapctl.data.image_text.source import BUNDLED_QUESTIONS, find_bundled_manifest
from gapctl.data.mad.digits import load_digits

DIGITS: Final = 400
PICTURES: Final = 1_000
"""About how many of the bundled pictures are taken."""
DIGIT_NAMES: Final = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEMPLATES: Final = ("a picture of {c}", "{c}")
BATCH: Final = 64
Transform = Callable[[Image.Image], torch.Tensor]
Tokenizer = Callable[[str | Sequence[str]], torch.Tensor]
SWEEP: Final = """\
name: agreement
question: Do both measure alike?
base:
  data: {{dataset: image_text}}
  model: {{preset: pairs-small, embed_dim: 64}}
  train: {{samples: {samples}, batch_size: 64, precision: float32}}
  evaluate: {{every: 1_000_000, gallery: 100}}
evaluation_sets:
  digits: {{kind: classification, source: {folder}/digits}}
  groups: {{kind: classification, source: {folder}/groups}}
  pictures: {{kind: retrieval, source: {folder}/pictures}}
vary: {{train.lr: [1.0e-3]}}
"""


def write_sets(folder: Path) -> None:
    """Write the three sets below a folder."""
    digits = load_digits("bundled", "test")
    pictures = [_encode_png(Image.fromarray(image).convert("RGB")) for image in digits.images_NHW[:DIGITS]]
    labels = digits.labels_N[:DIGITS].tolist()
    _write_set(folder / "digits", zip(pictures, map(_as_class, labels), strict=True), DIGIT_NAMES)
    question = read_attribute_prompts(BUNDLED_QUESTIONS)["group"]
    groups, words = list(question.prompts), [prompts[0] for prompts in question.prompts.values()]
    samples = [
        sample
        for shard in sorted(find_bundled_manifest().parent.glob("*.tar"))
        for sample in iterate_shard_samples(shard)
        if sample.image is not None and sample.caption and sample.about.get("group") in groups
    ]
    # Equal captions or pictures tie, and which of them a tie shows first is a matter of rounding.
    for key in (_sort_words, _decode_pixels):
        times = Counter(map(key, samples))
        samples = [sample for sample in samples if times[key(sample)] == 1]
    samples = samples[:: max(1, len(samples) // PICTURES)]
    _write_set(
        folder / "groups",
        ((sample.image or b"", _as_class(groups.index(str(sample.about["group"])))) for sample in samples),
        words,
    )
    _write_set(
        folder / "pictures", ((sample.image or b"", _write_captions(sample.caption or "")) for sample in samples)
    )


def _sort_words(sample: Sample) -> str:
    return " ".join(sorted((sample.caption or "").lower().split()))


def _decode_pixels(sample: Sample) -> bytes:
    return hashlib.sha256(decode_image(sample).tobytes()).digest()


def _as_class(label: int) -> dict[str, bytes]:
    return {"cls": str(label).encode()}


def _write_captions(caption: str) -> dict[str, bytes]:
    """Return three captions of a picture: its own, its words backwards, and as a sentence."""
    words = caption.split()
    lines = [" ".join(words), " ".join(reversed(words)), f"this is a picture of {' '.join(words)}"]
    return {"txt": "\n".join(lines).encode()}


def _encode_png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _write_set(folder: Path, samples: Iterable[tuple[bytes, Mapping[str, bytes]]], names: Iterable[str] = ()) -> None:
    (folder / "test").mkdir(parents=True)
    with tarfile.open(folder / "test" / "0.tar", "w") as archive:
        for number, (image, members) in enumerate(samples):
            ending = "png" if image.startswith(b"\x89PNG") else "jpg" if image.startswith(b"\xff\xd8") else "webp"
            for name, content in {ending: image, **members}.items():
                info = tarfile.TarInfo(f"s{number:07d}.{name}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    (folder / "test" / "nshards.txt").write_text("1", encoding="utf-8")
    classes = list(names)
    (folder / "dataset_type.txt").write_text("classification" if classes else "retrieval", encoding="utf-8")
    if classes:
        (folder / "classnames.txt").write_text("\n".join(classes), encoding="utf-8")
        (folder / "zeroshot_classification_templates.txt").write_text("\n".join(TEMPLATES), encoding="utf-8")


def run_gapctl(*arguments: str) -> str:
    """Run the command and return what it printed."""
    done = subprocess.run([sys.executable, "-m", "gapctl", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


def measure_ours(sweep: Path, runs: Path, trial: str, name: str) -> dict[str, float]:
    """Return gapctl's accuracies in percent and recalls as shares, by CLIP_benchmark's names."""
    options = ("--trial", trial, "--runs", str(runs), "--evaluation-set", name, "--sweep", str(sweep), "--json")
    metrics = json.loads(run_gapctl("measure", *options))["metrics"]
    if name != "pictures":
        return {"acc1": metrics["quality/accuracy"], "mean_per_class_recall": metrics["quality/mean_class_accuracy"]}
    return {
        f"{theirs}_retrieval_recall@{depth}": metrics[f"quality/{ours}_recall_{depth}"]
        for theirs, ours in (("image", "t2i"), ("text", "i2t"))
        for depth in (1, 5, 10)
    }


def measure_peer(folder: Path, model: CLIP, transform: Transform, tokenizer: Tokenizer, name: str) -> dict[str, float]:
    """Return what CLIP_benchmark's own code gives for a set, in the same units."""
    from clip_benchmark.datasets.builder import build_wds_dataset, image_captions_collate_fn
    from clip_benchmark.metrics import zeroshot_retrieval
    from clip_benchmark.metrics.zeroshot_classification import run_classification, zero_shot_classifier
    from sklearn.metrics import balanced_accuracy_score
    from torch.utils.data import default_collate

    dataset = build_wds_dataset(name, transform, split="test", data_dir=str(folder / name))
    collate = image_captions_collate_fn if name == "pictures" else default_collate
    loader = torch.utils.data.DataLoader(dataset.batched(BATCH, collation_fn=collate), batch_size=None)
    if name == "pictures":
        found = zeroshot_retrieval.evaluate(model, loader, tokenizer, "cpu", amp=False, recall_k_list=[1, 5, 10])
        return {key: float(value) for key, value in found.items()}
    classifier = zero_shot_classifier(model, tokenizer, dataset.classes, dataset.templates, "cpu", amp=False)
    logits, target = run_classification(model, classifier, loader, "cpu", amp=False)
    guess = logits.argmax(dim=1)
    return {
        "acc1": 100 * float((guess == target).double().mean()),
        "mean_per_class_recall": 100 * float(balanced_accuracy_score(target.numpy(), guess.numpy())),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=25_600, help="pairs that the model is trained on")
    parser.add_argument("--work", type=Path, help="keep the sets and the model there; a second run goes on with them")
    asked = parser.parse_args()
    rows = ["| set | images | measure | CLIP_benchmark | gapctl |", "|---|---|---|---|---|"]
    worst = 0.0
    with tempfile.TemporaryDirectory() as scratch:
        folder = (asked.work or Path(scratch)).absolute()
        if not (folder / "pictures").exists():
            write_sets(folder)
        sweep, runs = folder / "agreement.yaml", folder / "runs"
        sweep.write_text(SWEEP.format(samples=asked.samples, folder=folder), encoding="utf-8")
        trial = json.loads(run_gapctl("plan", str(sweep), "--json"))["trials"][0]["id"]
        run_gapctl("train", str(sweep), "--trial", trial, "--runs", str(runs))
        model, transform, tokenizer = gapctl.load_model(trial, runs)
        for name in ("digits", "groups", "pictures"):
            ours, peer = measure_ours(sweep, runs, trial, name), measure_peer(folder, model, transform, tokenizer, name)
            with tarfile.open(folder / name / "test" / "0.tar") as archive:
                images = sum(not re.search(r"\.(cls|txt)$", member.name) for member in archive)
            for key, value in peer.items():
                unit = 1.0 if "recall@" in key else 100.0
                worst = max(worst, abs(ours[key] - value) / unit * images)
                rows.append(f"| {name} | {images:,} | {key} | {value:.6f} | {ours[key]:.6f} |")
    print("\n".join(rows))
    if worst > 0.5:
        raise SystemExit(f"they differ by {worst:.1f} images; expected less than half of one")
    print(f"they differ by {worst:.2g} images at most")


if __name__ == "__main__":
    main()
