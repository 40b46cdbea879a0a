"""`gapctl measure --model` encodes shards as open_clip itself would, keeps what is done, and answers wrong input."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from command_line import Answer, gapctl, gapctl_process
from gapctl.cli.sweep import start_local_ray
from gapctl.inference.model import OpenModel, find_weights, open_model
from gapctl.inference.shards import SampleRecord, ShardCache, ShardEmbeddings, encode_shards
from pair_shards import pair, write_mixed, write_pairs, write_shard

MODEL = "ViT-S-32-alt"
CLASSES = "a photo of a {}\n# the shapes\nsquare\nbar = bar or stripe\n"
ATTRIBUTES = "[colour]\nred\ngreen\nblue\n"


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three shards, 38 samples of which two cannot be used; one is larger than a batch."""
    folder = tmp_path_factory.mktemp("shards")
    write_pairs(folder / "00000.tar", range(34))
    broken = {**pair(34), "jpg": b"no picture"}
    silent = {ending: content for ending, content in pair(35).items() if ending != "txt"}
    write_shard(folder / "00001.tar", [("000034", broken), ("000035", silent), ("000036", pair(36))])
    write_pairs(folder / "00002.tar", [37])
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def ray_started() -> Iterator[None]:
    """Ray for all tests of this file: starting it takes seconds."""
    with start_local_ray(3):
        yield


@pytest.fixture
def place(ray_started: None, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own to work in, Ray running and the file's cache in use."""
    monkeypatch.setattr("gapctl.cli.sweep.start_local_ray", lambda workers: nullcontext())
    monkeypatch.setenv("GAPCTL_CACHE", str(cache))
    monkeypatch.chdir(tmp_path)
    Path("classes.txt").write_text(CLASSES, encoding="utf-8")
    Path("attributes.txt").write_text(ATTRIBUTES, encoding="utf-8")
    return tmp_path


def measure(weights: Path, data: Path | str, *more: str, model: str = MODEL) -> Answer:
    return gapctl("measure", "--model", model, "--pretrained", str(weights), "--data", str(data), *more)


def assert_refused(ran: Answer, message: str) -> None:
    assert ran.exit_code == 2, ran.err
    assert ran.out == ""
    assert ran.err.count("\n") == 1
    assert ran.err.startswith("gapctl: ")
    assert message in ran.err


ASKING = ("--label-key", "shape", "--classes", "classes.txt", "--attributes", "attributes.txt")


def test_shards_are_encoded_as_open_clip_encodes_them(place: Path, weights: Path, shards: Path, cache: Path) -> None:
    ran = measure(weights, shards, *ASKING, "--workers", "2", "--json")

    assert (ran.exit_code, ran.err) == (0, "")
    document = json.loads(ran.out)
    image_ND, text_ND = by_open_clip(weights)
    np.savez("same.npz", image=image_ND, text=text_ND)
    expected = json.loads(gapctl("measure", "--embeddings", "same.npz", "--json").out)["metrics"]
    gap = {key: value for key, value in expected.items() if key.startswith("gap/")}
    assert {key: document["metrics"][key] for key in gap} == pytest.approx(gap, rel=1e-4)
    assert document["inputs"]["pairs"] == 36
    assert document["inputs"]["skipped"] == {"no caption": 1, "not a JPEG, PNG or WebP": 1}
    assert document["inputs"]["samples_in_shards"] == 38
    assert len(list((cache / "embeddings").glob("*.npz"))) == 3


def by_open_clip(weights: Path) -> tuple[np.ndarray, np.ndarray]:
    """The usable samples in order, encoded in one batch by open_clip's own functions."""
    model, _, preprocess = open_clip.create_model_and_transforms(MODEL, pretrained=str(weights))
    numbers = [*range(34), 36, 37]
    images = torch.stack([preprocess(Image.open(io.BytesIO(pair(number)["jpg"]))) for number in numbers])
    tokens = open_clip.get_tokenizer(MODEL)([pair(number)["txt"].decode() for number in numbers])
    with torch.no_grad():
        return model.eval().encode_image(images).numpy(), model.encode_text(tokens).numpy()


def test_what_is_in_the_cache_is_not_encoded_again(
    place: Path, weights: Path, shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = measure(weights, shards, *ASKING, "--json")
    monkeypatch.setattr("gapctl.cli.sweep.start_local_ray", no_ray)

    again = measure(weights, f"{shards}/{{00000..00002}}.tar", *ASKING, "--json")

    assert first.exit_code == 0
    assert again == first
    metrics = json.loads(again.out)["metrics"]
    assert {"quality/object_accuracy", "quality/accuracy_colour", "bias/moad_image", "bias/moad_text"} <= set(metrics)
    assert {"geometry/neighborhood_kendall", "temperature/tau", "entropy/i2t_nats"} <= set(metrics)


def no_ray(workers: int) -> nullcontext[None]:
    raise AssertionError("Ray was started")


def test_the_table_counts_what_was_skipped(place: Path, weights: Path, shards: Path) -> None:
    lines = measure(weights, shards).out.splitlines()

    assert lines[0] == f"{MODEL} ({weights}) on 3 shards: 36 images and 36 texts, 256 wide"
    assert lines[1] == "left out: 1 no caption, 1 not a JPEG, PNG or WebP"


def several(number: int) -> dict[str, bytes]:
    """A sample as CLIP_benchmark's retrieval shards have it: five captions, and a blank line at the end."""
    caption = pair(number)["txt"].decode()
    lines = (caption, f"there is {caption}", f"{caption} on noise", "a picture", f"number {number}")
    return {**pair(number), "txt": "\n".join((*lines, "")).encode()}


@pytest.fixture(scope="module")
def captioned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards of 20 images, of which all but two have five captions."""
    folder = tmp_path_factory.mktemp("captioned")
    samples = [(f"{number:06d}", several(number)) for number in range(18)]
    write_shard(folder / "00000.tar", samples[:11])
    write_shard(folder / "00001.tar", [*samples[11:], ("000018", pair(18)), ("000019", pair(19))])
    return folder


def lines_by_open_clip(weights: Path) -> dict[str, np.ndarray]:
    """Every line of the captioned shards, and its image, encoded by open_clip's own functions."""
    model, _, preprocess = open_clip.create_model_and_transforms(MODEL, pretrained=str(weights))
    samples = [several(number) if number < 18 else pair(number) for number in range(20)]
    lines = [sample["txt"].decode().split("\n")[:5] for sample in samples]
    images = torch.stack([preprocess(Image.open(io.BytesIO(sample["jpg"]))) for sample in samples])
    tokens = open_clip.get_tokenizer(MODEL)([line for each in lines for line in each])
    with torch.no_grad():
        image_ND, text_MD = model.eval().encode_image(images).numpy(), model.encode_text(tokens).numpy()
    return {
        "image": image_ND,
        "text": text_MD,
        "text_to_image": np.repeat(np.arange(20), [len(each) for each in lines]),
    }


def test_each_line_of_a_text_is_a_caption_of_its_image(place: Path, weights: Path, captioned: Path) -> None:
    document = json.loads(measure(weights, captioned, "--json").out)

    np.savez("same.npz", **lines_by_open_clip(weights))
    expected = json.loads(gapctl("measure", "--embeddings", "same.npz", "--json").out)["metrics"]
    compared = {key: expected[key] for key in expected if key.startswith(("gap/", "geometry/align", "geometry/unif"))}
    assert {key: document["metrics"][key] for key in compared} == pytest.approx(compared, rel=1e-3)
    assert document["inputs"]["pairs"] == 20
    assert document["inputs"]["captions"] == {"rule": "lines", "texts": 92, "samples_of_several_lines": 18}


def test_what_was_read_of_several_lines_is_said(place: Path, weights: Path, captioned: Path) -> None:
    lines, whole = (measure(weights, captioned, *more).out.splitlines() for more in ((), ("--captions", "whole")))

    assert lines[0].endswith(" on 2 shards: 20 images and 92 texts, 256 wide")
    several = "18 of 20 samples have several lines"
    assert lines[1] == f"92 captions of 20 images, one caption per line: {several}, and --captions whole joins them"
    assert whole[0].endswith(" on 2 shards: 20 images and 20 texts, 256 wide")
    assert whole[1] == (
        f"20 captions of 20 images, lines joined: {several}, and --captions lines reads one caption per line"
    )


def test_embeddings_of_one_rule_are_not_taken_for_those_of_the_other(
    place: Path, weights: Path, captioned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines, whole = (json.loads(measure(weights, captioned, *more, "--json").out) for more in ((), WHOLE))
    monkeypatch.setattr("gapctl.cli.sweep.start_local_ray", no_ray)

    assert whole["inputs"]["captions"] == {"rule": "whole", "texts": 20, "samples_of_several_lines": 18}
    assert whole["metrics"]["gap/rmg"] != lines["metrics"]["gap/rmg"]
    assert json.loads(measure(weights, captioned, "--captions", "lines", "--json").out) == lines
    assert json.loads(measure(weights, captioned, *WHOLE, "--json").out) == whole


WHOLE = ("--captions", "whole")


def test_texts_of_a_single_line_are_read_alike_by_both_rules(place: Path, weights: Path, shards: Path) -> None:
    lines, whole = (json.loads(measure(weights, shards, *more, "--json").out) for more in ((), WHOLE))

    assert lines["metrics"] == whole["metrics"]
    assert lines["inputs"]["captions"] == {"rule": "lines", "texts": 36, "samples_of_several_lines": 0}


def test_interventions_are_judged_on_images_with_all_of_their_captions(
    place: Path, weights: Path, captioned: Path
) -> None:
    ran = gapctl("intervene", "--model", MODEL, "--pretrained", str(weights), "--data", str(captioned), "--json")

    document = json.loads(ran.out)
    assert document["inputs"]["captions"]["texts"] == 92
    assert document["split"]["calibration_images"] + document["split"]["held_out_images"] == 20


def test_an_unknown_rule_for_captions_is_refused(place: Path, weights: Path, shards: Path) -> None:
    ran = measure(weights, shards, "--captions", "first")

    assert ran.exit_code == 2
    assert "--captions" in ran.err
    assert "Traceback" not in ran.err


def opened(weights: Path) -> OpenModel:
    return open_model(MODEL, find_weights(MODEL, str(weights)))


class StoppedError(Exception):
    """In place of a kill at this moment."""


def test_a_stopped_run_goes_on_with_the_same_embeddings_for_any_number_of_workers(
    place: Path, weights: Path, shards: Path, cache: Path, tmp_path: Path
) -> None:
    paths, model = sorted(shards.glob("*.tar")), opened(weights)
    whole = encode_shards(paths, model, ShardCache(cache / "embeddings"), nullcontext_ray, workers=2)

    def stop(done: int, total: int) -> None:
        if done == 1:
            raise StoppedError

    with pytest.raises(StoppedError):
        encode_shards(paths, model, ShardCache(tmp_path / "cut"), nullcontext_ray, workers=1, on_progress=stop)
    resumed = encode_shards(paths, model, ShardCache(tmp_path / "cut"), nullcontext_ray, workers=1)

    assert resumed.made == 2
    for one, other in zip(resumed.shards, whole.shards, strict=True):
        assert_same(one, other)


def nullcontext_ray(workers: int) -> nullcontext[None]:
    return nullcontext()


def assert_same(one: ShardEmbeddings, other: ShardEmbeddings) -> None:
    np.testing.assert_array_equal(one.image_ND, other.image_ND)
    np.testing.assert_array_equal(one.text_MD, other.text_MD)
    assert list(one.samples) == list(other.samples)


def test_a_damaged_file_of_the_cache_is_encoded_again(tmp_path: Path) -> None:
    kept = ShardCache(tmp_path)
    samples = [SampleRecord("a", ["a cat", "a pet"], {}), SampleRecord("b", ["a dog"], {"legs": 4})]
    shard = ShardEmbeddings(np.ones((2, 3), np.float32), np.ones((3, 3), np.float32), samples, {"c": "no image"})
    kept.keep("key", shard)
    found = kept.find("key")
    assert found is not None
    assert_same(found, shard)
    assert found.skipped == {"c": "no image"}
    (tmp_path / "key.npz").write_bytes((tmp_path / "key.npz").read_bytes()[:-50])

    assert kept.find("key") is None
    assert kept.find("other") is None


def test_a_tar_without_images_is_refused(place: Path, weights: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    write_shard(data / "a.tar", [("1", {"txt": b"words"}), ("2", {"txt": b"more"})])

    assert_refused(measure(weights, data), "none of its samples can be used; found 2 samples: 2 no image; expected")


def test_what_is_left_out_is_counted_as_index_and_verify_count_it(place: Path, weights: Path) -> None:
    data = place / "mixed"
    data.mkdir()
    reasons = write_mixed(data)

    ran = measure(weights, data, "--workers", "2", "--json")

    assert ran.exit_code == 0, ran.err
    inputs = json.loads(ran.out)["inputs"]
    assert (inputs["skipped"], inputs["pairs"]) == (reasons, 2)
    assert inputs["pairs"] + sum(reasons.values()) == inputs["samples_in_shards"]
    assert inputs["unused_shards"] == {f"{data}/00001.tar": "no samples", f"{data}/00002.tar": "2 no image"}
    lines = measure(weights, data).out.splitlines()
    assert lines[0].endswith("on 2 shards: 2 images and 2 texts, 256 wide")
    assert f"{data}/00001.tar: nothing of it is used: no samples" in lines


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


def test_without_a_network_the_message_names_the_file_to_bring(place: Path, shards: Path) -> None:
    ran = gapctl_process(
        *("measure", "--model", "ViT-B-32", "--pretrained", "laion2b_s34b_b79k", "--data", str(shards)),
        folder=place,
        HF_HUB_OFFLINE="1",
        HF_HOME=str(place / "empty"),
    )

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
        ("--model", MODEL, "--pretrained", "a", "--data", "b", "--classes", "c"),
        "--classes without --label-key",
    ),
    "attributes without labels": (
        ("--model", MODEL, "--pretrained", "a", "--data", "b", "--attributes", "c"),
        "--attributes without --label-key",
    ),
}


@pytest.mark.parametrize("wrong", CONTRADICTIONS)
def test_options_that_contradict_are_refused(wrong: str) -> None:
    options, message = CONTRADICTIONS[wrong]

    assert_refused(gapctl("measure", *options), message)
