"""`gapctl measure --model` answers wrong weights, shards and options in one line, before Ray is started."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from huggingface_hub import constants
from model_measures import ASKING, MODEL, measure, opened

from command_line import assert_refused, gapctl
from pair_shards import pair, write_shard


def other_architecture(place: Path) -> Path:
    logging.disable(logging.WARNING)
    torch.save(open_clip.create_model("ViT-S-16-alt").state_dict(), place / "other.pt")
    logging.disable(logging.NOTSET)
    return place / "other.pt"


def half_a_model(place: Path, weights: Path) -> Path:
    state = torch.load(weights, weights_only=True)
    torch.save({key: value for key, value in state.items() if not key.startswith("visual.")}, place / "half.pt")
    return place / "half.pt"


def test_a_checkpoint_of_another_architecture_names_the_parameters(place: Path, weights: Path, shards: Path) -> None:
    ran = measure(other_architecture(place), shards)

    assert_refused(ran, f"a checkpoint of another architecture than {MODEL}; of another shape: ")
    assert "visual.conv1.weight (384, 3, 16, 16) for (384, 3, 32, 32)" in ran.err
    assert_refused(
        measure(half_a_model(place, weights), shards),
        "; missing: visual.class_embedding, visual.positional_embedding, visual.proj, visual.conv1.weight and",
    )


def test_a_training_checkpoint_of_several_processes_is_taken_for_its_weights(
    place: Path, weights: Path, shards: Path
) -> None:
    state = {f"module.{key}": value for key, value in torch.load(weights, weights_only=True).items()}
    torch.save({"epoch": 3, "state_dict": state, "optimizer": {"lr": 1e-3}}, place / "epoch_3.pt")

    model = opened(place / "epoch_3.pt").model

    for key, value in torch.load(weights, weights_only=True).items():
        torch.testing.assert_close(model.state_dict()[key], value, rtol=0, atol=0)


class Bomb:
    """Leaves a file behind wherever it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("unpickled"),)


@pytest.mark.parametrize("kind", [torch.float4_e2m1fn_x2, torch.complex64, torch.int8])
def test_packed_complex_and_quantised_weights_are_refused(
    place: Path, weights: Path, shards: Path, kind: torch.dtype
) -> None:
    state = torch.load(weights, weights_only=True)
    raw = torch.zeros(*state["text_projection"].shape, kind.itemsize, dtype=torch.uint8)
    state["text_projection"] = raw.view(kind).squeeze(-1)

    expected = f"text_projection is of type {str(kind).removeprefix('torch.')}; expected float32, or another float"
    assert_refused(measure(weights_file(place, state), shards), expected)


def weights_file(place: Path, content: Any) -> Path:
    torch.save(content, place / "made.pt")
    return place / "made.pt"


def cut_weights(place: Path) -> Path:
    path = weights_file(place, {"a": torch.ones(1000)})
    path.write_bytes(path.read_bytes()[:-800])
    return path


def words(place: Path) -> Path:
    (place / "made.safetensors").write_text("no tensors", encoding="utf-8")
    return place / "made.safetensors"


WRONG_WEIGHTS: dict[str, tuple[Callable[[Path], Path | str], str]] = {
    "a pickle": (lambda at: weights_file(at, {"model": Bomb()}), "pickled objects, which are never loaded"),
    "cut short": (cut_weights, "made.pt: damaged, or no checkpoint ("),
    "a list": (lambda at: weights_file(at, [1, 2]), "made.pt: no weights by name in it"),
    "nothing": (lambda at: weights_file(at, {}), "made.pt: values that are no tensors; expected"),
    "numbers": (lambda at: weights_file(at, {"a": 1}), "made.pt: values that are no tensors"),
    "no safetensors": (words, "made.safetensors: damaged, or no checkpoint ("),
    "no tag": (lambda at: "openay", f"--pretrained openay: neither a file nor a tag; expected a file ({MODEL} has no"),
}


@pytest.mark.parametrize("wrong", WRONG_WEIGHTS)
def test_wrong_weights_get_one_message(place: Path, shards: Path, wrong: str) -> None:
    make, message = WRONG_WEIGHTS[wrong]

    assert_refused(measure(Path(make(place)), shards), message)
    assert not Path("unpickled").exists()


def test_an_unknown_tag_is_answered_with_the_nearest(place: Path, shards: Path) -> None:
    ran = measure(Path("opennai"), shards, model="ViT-B-32")

    assert_refused(ran, "neither a file nor a tag; expected a file, or one of the tags of ViT-B-32: openai, laion400m")
    assert "did you mean openai?" in ran.err


def test_without_a_network_the_message_names_the_file_to_bring(
    place: Path, shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)  # which the library reads from the environment once
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(place / "empty"))
    ran = measure(Path("laion2b_s34b_b79k"), shards, model="ViT-B-32")

    assert_refused(ran, "the weights of ViT-B-32 are not on this machine and cannot be downloaded")
    assert "huggingface.co/laion/CLIP-ViT-B-32-laion2B-s34B-b79K" in ran.err
    assert "--pretrained FILE" in ran.err


def empty_file(place: Path) -> str:
    (place / "empty.tar").touch()
    return str(place / "empty.tar")


def no_samples(place: Path) -> str:
    return str(write_shard(place / "none.tar", []))


def no_tar(place: Path) -> str:
    (place / "words.tar").write_text("words " * 200, encoding="utf-8")
    return str(place / "words.tar")


def unlabeled(place: Path) -> str:
    members = {ending: content for ending, content in pair(0).items() if ending != "json"}
    return str(write_shard(place / "bare.tar", [("0", members), ("1", members)]))


def labelled(value: Any) -> Callable[[Path], str]:
    return lambda place: str(write_shard(place / "a.tar", [("0", pair(0, shape=value)), ("1", pair(1))]))


WRONG_DATA: dict[str, tuple[Callable[[Path], str], tuple[str, ...], str]] = {
    "missing": (lambda at: f"{at}/no.tar", (), "no.tar: no such file or folder; expected tar shards"),
    "one of the braces": (lambda at: f"{at}/{{0..1}}.tar", (), "0.tar: no such file or folder"),
    "an address": (lambda at: "memory://bucket/a.tar", (), "--data memory://bucket/a.tar: nothing is there"),
    "no tar in it": (str, (), "no .tar file in this folder"),
    "no bytes": (empty_file, (), "empty.tar: an empty shard (0 bytes)"),
    "no samples": (no_samples, (), "none.tar: none of its samples can be used; found no samples; expected"),
    "no tar": (no_tar, (), "words.tar: a damaged tar, after 0 samples ("),
    "no labels": (unlabeled, ASKING, "sample 0 has no label `shape` in its json; it has no json, or an empty one"),
    "a list of labels": (labelled(["a", "b"]), ASKING, "sample 0: `shape` is ['a', 'b']; expected a single word"),
    "another class": (labelled("squares"), ASKING, "shape is 'squares', which is none of the 2 classes; did you mean"),
    "a class like none": (labelled("zzz"), ASKING, "is none of the 2 classes. Add it to the file"),
}


@pytest.mark.parametrize("wrong", WRONG_DATA)
def test_wrong_data_is_refused_before_the_model_is_built(place: Path, weights: Path, wrong: str) -> None:
    make, more, message = WRONG_DATA[wrong]
    data = place / "data"
    data.mkdir()

    assert_refused(measure(weights, make(data), *more), message)


def test_another_label_key_is_answered_with_the_nearest(place: Path, weights: Path, shards: Path) -> None:
    ran = measure(weights, shards, "--label-key", "shap")

    assert_refused(
        ran, "sample 000000 has no label `shap` in its json; it has colour, number, shape; did you mean shape?"
    )


def test_an_unknown_model_is_answered_with_the_nearest(place: Path, weights: Path, shards: Path) -> None:
    assert_refused(measure(weights, shards, model="ViT-B32"), "did you mean ViT-B-32?")


WRONG_FILES: dict[str, tuple[str, str, str]] = {
    "no classes": ("--classes", "# nothing\n", "nothing in it; expected one class per line"),
    "one class": ("--classes", "cat\n", "1 class; expected at least 2 to tell apart"),
    "a class twice": ("--classes", "cat\ndog\ncat\n", "cat given twice; expected each class once"),
    "templates alone": ("--classes", "a {}\n", "0 classes; expected at least 2"),
    "a section of classes": ("--classes", "[colour]\nred\nblue\n", "a section [colour]; expected one class per line"),
    "no section": ("--attributes", "red\nblue\n", "'red' before any section; expected [key] lines"),
    "a section twice": ("--attributes", "[a]\nx\ny\n[a]\nz\n", "a section [a] given twice; expected each key once"),
    "a section without a key": ("--attributes", "[]\nx\n", "a section [] without a key"),
    "an empty section": ("--attributes", "[a]\n[b]\nx\ny\n", "[a]: 0 classes; expected at least 2"),
}


@pytest.mark.parametrize("wrong", WRONG_FILES)
def test_wrong_files_of_prompts_get_one_message(place: Path, weights: Path, shards: Path, wrong: str) -> None:
    option, text, message = WRONG_FILES[wrong]
    Path("wrong.txt").write_text(text, encoding="utf-8")

    assert_refused(
        measure(weights, shards, "--label-key", "shape", option, "wrong.txt"), f"{option} wrong.txt: {message}"
    )


CONTRADICTIONS: dict[str, tuple[tuple[str, ...], str]] = {
    "nothing": ((), "nothing to measure was named; expected one of --embeddings, --trial, --model"),
    "two sources": (("--embeddings", "a.npz", "--trial", "abc"), "--embeddings and --trial were given together"),
    "data of a trial": (("--trial", "abc", "--data", "x"), "--data belongs to --model; found it with --trial"),
    "captions of a file": (("--embeddings", "a", "--captions", "lines"), "--captions belongs to --model; found it"),
    "classes of a file": (("--embeddings", "a", "--classes", "c"), "--classes belongs to --model; found it with"),
    "no weights": (("--model", MODEL, "--data", "x"), "--model without --pretrained; expected"),
    "neither": (("--model", MODEL), "--model without --pretrained and --data; expected"),
    "classes without labels": (
        ("--model", MODEL, "--pretrained", "w.pt", "--data", "b", "--classes", "c"),
        "--classes without --label-key",
    ),
    "attributes without labels": (
        ("--model", MODEL, "--pretrained", "w.pt", "--data", "b", "--attributes", "c"),
        "--attributes without --label-key",
    ),
}


@pytest.mark.parametrize("wrong", CONTRADICTIONS)
def test_options_that_contradict_are_refused(wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options, message = CONTRADICTIONS[wrong]
    monkeypatch.chdir(tmp_path)
    Path("w.pt").touch()

    assert_refused(gapctl("measure", *options), message)
