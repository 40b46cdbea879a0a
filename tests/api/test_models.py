"""Encoding with any model, a trial's model as open_clip's triple, and interventions, from Python."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import image_transform
from PIL import Image

import gapctl
from command_line import gapctl as run_verb
from hub import serve_hub, use_hub
from tiny_models import HALVES, TINY_SIGLIP, write_model

SIDE = 16


def make_model() -> open_clip.CLIP:
    torch.manual_seed(0)
    return open_clip.CLIP(
        embed_dim=8,
        vision_cfg={"layers": 1, "width": 32, "image_size": SIDE, "patch_size": 8, "head_width": 16},
        text_cfg={"layers": 1, "width": 32, "heads": 2, "context_length": 77, "vocab_size": 49408},
    ).eval()


def make_pictures(count: int = 7) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)) for _ in range(count)]


PREPROCESS = image_transform(SIDE, is_train=False)
TOKENIZER = open_clip.get_tokenizer("ViT-B-32")


def test_pairs_in_memory_are_encoded_in_any_batches() -> None:
    model = make_model()
    pairs = [(picture, [f"picture {n}", f"the same, {n}"]) for n, picture in enumerate(make_pictures())]
    one, other = (gapctl.encode(model, PREPROCESS, TOKENIZER, pairs, batch_size=size) for size in (3, 64))
    assert one.images.shape == (7, 8)
    assert one.texts.shape == (14, 8)
    assert one.text_to_image.tolist() == np.repeat(np.arange(7), 2).tolist()
    np.testing.assert_allclose(one.images, other.images, rtol=1e-4, atol=1e-6)
    with torch.no_grad():
        expected = model.encode_image(torch.stack([PREPROCESS(picture) for picture, _ in pairs])).numpy()
    np.testing.assert_allclose(other.images, expected, rtol=1e-5, atol=1e-6)
    found = gapctl.measure(one)
    assert found["gap/rmg"] == pytest.approx(gapctl.rmg(one.images, one.texts, one.text_to_image), rel=1e-12)
    assert found["entropy/gallery"] == 14
    assert "7 images and 14 texts" in repr(one)


def test_files_are_opened_and_a_generator_is_read_once(tmp_path: Path) -> None:
    for n, picture in enumerate(make_pictures(3)):
        picture.save(tmp_path / f"{n}.png")
    pairs = ((tmp_path / f"{n}.png", f"picture {n}") for n in range(3))
    assert gapctl.encode(make_model(), PREPROCESS, TOKENIZER, pairs).captions == ("picture 0", "picture 1", "picture 2")


class TransformersLike(torch.nn.Module):
    """Takes and returns what transformers' CLIP and SigLIP do: mappings in, features out."""

    def __init__(self) -> None:
        super().__init__()
        self.clip = make_model()

    def get_image_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.clip.encode_image(pixel_values)

    def get_text_features(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.clip.encode_text(input_ids)


def test_transformers_models_and_pairs_of_functions_give_the_same() -> None:
    clip, pairs = make_model(), list(zip(make_pictures(), "abcdefg", strict=True))
    expected = gapctl.encode(clip, PREPROCESS, TOKENIZER, pairs)
    mapped = gapctl.encode(
        TransformersLike(),
        lambda image: {"pixel_values": PREPROCESS(image)[None]},
        lambda texts: {"input_ids": TOKENIZER(texts)},
        pairs,
    )
    functions = gapctl.encode((clip.encode_image, clip.encode_text), PREPROCESS, TOKENIZER, pairs)
    for found in (mapped, functions):
        assert (found.images == expected.images).all()
        assert (found.texts == expected.texts).all()


class NoModel:
    """Has neither of the methods that encode."""


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no model": ({"model": NoModel()}, "`model`: found a NoModel; expected a model with encode_image"),
    "a model that sums": ({"model": (lambda x: x.sum(), lambda x: x)}, "the model's image embeddings"),
    "a model that drops rows": (
        {"model": (lambda x: torch.ones(1, 4), lambda x: x)},
        "`model`: returned 1 image embeddings for 2 inputs",
    ),
    "no pairs": ({"data": iter([])}, "`data`: found no pair"),
    "no place": ({"data": "/nowhere/at/all"}, "`data`: /nowhere/at/all: no such file or folder"),
    "nothing": ({"data": None}, "`data`: found a NoneType; expected a place"),
    "an unknown device": ({"device": "foo"}, "`device`: 'foo' cannot be used here"),
    "numbers": ({"data": [1, 2]}, "`data`: item 0 is a int; expected a pair"),
    "a caption that is a number": ({"data": [(make_pictures(1)[0], 3)]}, "`data`: item 0 has the caption 3"),
    "no caption": ({"data": [(make_pictures(1)[0], [])]}, r"`data`: item 0 has the caption \[\]"),
    "a missing file": ({"data": [("no.png", "a")]}, "`data`: item 0: no.png: cannot be read as an image"),
    "a batch of zero": ({"batch_size": 0}, "`batch_size`: found 0"),
    "pictures of two sizes": (
        {"preprocess": lambda image: torch.ones(3, id(image) % 1000 + 1, 4)},
        "`preprocess`: its results do not stack",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_arguments_of_encode_get_one_message(wrong: str) -> None:
    pairs = list(zip(make_pictures(2), "ab", strict=True))
    good = {"model": make_model(), "preprocess": PREPROCESS, "tokenizer": TOKENIZER, "data": pairs}
    changes, message = WRONG[wrong]
    with pytest.raises(gapctl.InputError, match=message):
        gapctl.encode(**{**good, **changes})


def test_a_trials_model_encodes_its_images_and_captions(folder: Path) -> None:
    trial = gapctl.trials(folder / "runs")["trial"][0]
    model, preprocess, tokenizer = gapctl.load_model(trial[:6], runs=folder / "runs")
    image = Image.fromarray(np.zeros((28, 28, 3), np.uint8))
    tokens = tokenizer(["3-thickening-red", "7"])
    with torch.no_grad():
        assert model.encode_image(preprocess(image)[None]).shape == model.encode_text(tokens[:1]).shape
    assert not model.training
    with pytest.raises(gapctl.InputError, match="no factor of MAD has the value 'rad'; did you mean red"):
        tokenizer("3-rad")
    with pytest.raises(gapctl.InputError, match="expected one of"):
        gapctl.load_model("zzz", runs=folder / "runs")


def test_public_models_are_open_clips_triple(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_model(tmp_path / "siglip", TINY_SIGLIP, preprocess=HALVES)
    expected, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    with serve_hub() as hub:
        use_hub(hub, tmp_path / "cache", monkeypatch)
        for name in (f"local-dir:{folder}", hub.add("tiny/siglip", folder)):
            model, preprocess, tokenizer = gapctl.load_model(name)
            assert not model.training
            (picture,) = make_pictures(1)
            with torch.no_grad():
                found = model.encode_image(preprocess(picture)[None])
                assert torch.equal(found, expected.eval().encode_image(transform(picture)[None]))
                assert model.encode_text(tokenizer("a dog")).shape == found.shape
        hub.statuses["tiny/other"] = 500
        for name, message in (
            ("hf-hub:tiny/none", "^`model` hf-hub:tiny/none: no such repository at "),
            ("hf-hub:tiny/other", "^`model` hf-hub:tiny/other: .* answered 500"),
            ("local-dir:nowhere", "^`model` local-dir:nowhere: no such folder"),
        ):
            with pytest.raises(gapctl.InputError, match=message):
                gapctl.load_model(name)


def test_an_architecture_takes_a_tag_or_a_file(tmp_path: Path) -> None:
    for name, weights, message in (
        ("ViT-B32", "openai", "^`model` ViT-B32: no such model; expected .*; did you mean ViT-B-32"),
        ("ViT-B-32", "openay", "^`pretrained` openay: neither a file nor a tag; .*; did you mean openai"),
        (f"local-dir:{tmp_path}", "openai", "has weights of its own; leave `pretrained` out"),
    ):
        with pytest.raises(gapctl.InputError, match=message):
            gapctl.load_model(name, pretrained=weights)


def test_interventions_are_the_verbs(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    images = rng.normal(size=(120, 8))
    texts = images + 0.5 * rng.normal(size=(120, 8)) + 0.8
    np.savez(tmp_path / "pairs.npz", image=images, text=texts)
    printed = json.loads(run_verb("intervene", "--embeddings", str(tmp_path / "pairs.npz"), "--json").out)
    judged = gapctl.intervene(images, texts)
    assert judged.sentence == printed["answer"]["sentence"]
    frame = judged.frame()
    assert frame["intervention"].unique().sort().to_list() == sorted(
        each["name"] for each in printed["interventions"] if each["changes"]
    )
    assert judged.sentence in judged._repr_html_().replace("&#x27;", "'")
    for arguments, message in (
        ({"calibration": 2}, "`calibration`: found 2"),
        ({"seed": -1}, "`seed`: found -1"),
        ({"lambdas": ["x"]}, r"`lambdas`: found \['x'\]"),
    ):
        with pytest.raises(gapctl.InputError, match=message):
            gapctl.intervene(images, texts, **arguments)
