"""`gapctl measure --evaluation-set` measures any open_clip model on a set by its name, and answers wrong input."""

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from torch.nn.functional import normalize

from command_line import Answer, gapctl
from gapctl.config.evaluation_sets import EvaluationSet, NamedSet
from gapctl.data.image_text.evaluation_sets import decode_set_images, open_set
from small_sets import IMAGES, TEMPLATES, sweep_with_sets, write_all

MODEL = "ViT-S-32-alt"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own with the three sets, and the sweep file that names them."""
    monkeypatch.setenv("GAPCTL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(write_all(tmp_path))
    sweep_with_sets(tmp_path)
    return tmp_path


def measure(weights: Path, *more: str) -> Answer:
    return gapctl("measure", "--model", MODEL, "--pretrained", str(weights), *more)


def test_an_open_clip_model_is_measured_as_open_clip_classifies(place: Path, weights: Path) -> None:
    ran = measure(weights, "--evaluation-set", "colours", "--sweep", "sets.yaml", "--json")
    assert ran.exit_code == 0, ran.err
    document = json.loads(ran.out)
    model, _, preprocess = open_clip.create_model_and_transforms(MODEL, pretrained=None)
    model.load_state_dict(torch.load(weights, weights_only=True))
    tokenizer = open_clip.get_tokenizer(MODEL)
    definition = EvaluationSet(kind="classification", source=str(place / "colours"))
    opened = open_set(NamedSet("colours", definition))
    with torch.no_grad():
        images = torch.stack([preprocess(image) for image in decode_set_images(opened, opened.row_N)])
        image = normalize(model.eval().encode_image(images), dim=-1)
        classes = []
        for name in ("red", "green", "blue"):
            texts = tokenizer([template.replace("{c}", name) for template in TEMPLATES])
            classes.append(normalize(normalize(model.encode_text(texts), dim=-1).mean(dim=0), dim=-1))
    guess = (image @ torch.stack(classes).T).argmax(dim=1).numpy()

    assert document["metrics"]["quality/accuracy"] == pytest.approx(100 * (guess == np.arange(IMAGES) % 3).mean())
    assert document["inputs"]["evaluation_set"]["kind"] == "classification"
    assert document["inputs"]["evaluation_set"]["checksum"] == opened.checksum


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (
            ("--evaluation-set", "colour", "--sweep", "sets.yaml"),
            "--evaluation-set colour: no such evaluation set; did",
        ),
        (
            ("--evaluation-set", "colours", "--data", "words"),
            "--data beside --evaluation-set colours, which has its own",
        ),
        (("--data", "words", "--sweep", "sets.yaml"), "--sweep sets.yaml: only with --evaluation-set"),
        (("--evaluation-set", "coco"), "`gapctl data fetch coco` downloads it"),
        (("--evaluation-set", "colours", "--sweep", "nowhere.yaml"), "nowhere.yaml: no such file"),
    ],
)
def test_wrong_input_is_answered_before_a_model_is_loaded(
    place: Path, weights: Path, more: tuple[str, ...], complaint: str
) -> None:
    ran = measure(weights, *more)

    assert ran.exit_code == 2
    assert complaint in ran.err
    assert "Traceback" not in ran.err


def test_saved_embeddings_are_of_no_set(place: Path) -> None:
    ran = gapctl("measure", "--embeddings", "x.npz", "--evaluation-set", "colours", "--sweep", "sets.yaml")

    assert ran.exit_code == 2
    assert "--embeddings beside --evaluation-set colours" in ran.err
