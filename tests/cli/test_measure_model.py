"""`gapctl measure --model` encodes shards as open_clip itself would, and keeps what is done."""

import io
import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from model_measures import ASKING, MODEL, forbid_encoding, measure, no_ray, opened
from PIL import Image

from command_line import assert_refused, gapctl
from gapctl.cli.sweep import start_local_ray
from gapctl.errors import WorkError
from gapctl.inference.shards import SampleRecord, ShardCache, ShardEmbeddings, encode_shards
from pair_shards import pair, write_mixed, write_pairs, write_shard
from tiny_models import TEXT, TINY_VIT, write_model


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
    forbid_encoding(monkeypatch)

    again = measure(weights, f"{shards}/{{00000..00002}}.tar", *ASKING, "--json")

    assert first.exit_code == 0
    assert again == first
    metrics = json.loads(again.out)["metrics"]
    assert {"quality/object_accuracy", "quality/accuracy_colour", "bias/moad_image", "bias/moad_text"} <= set(metrics)
    assert {"geometry/neighborhood_kendall", "temperature/tau", "entropy/i2t_nats"} <= set(metrics)


def test_the_table_counts_what_was_skipped(place: Path, weights: Path, shards: Path) -> None:
    lines = measure(weights, shards).out.splitlines()

    assert lines[0] == f"{MODEL} ({weights}) on 3 shards: 36 images and 36 texts, 256 wide"
    assert lines[1] == "left out: 1 no caption, 1 not a JPEG, PNG or WebP"


class StoppedError(Exception):
    """In place of a kill at this moment."""


@pytest.fixture(scope="module")
def ray_started() -> Iterator[None]:
    """Ray for all tests of this file that need it: starting it takes seconds."""
    with start_local_ray(3):
        yield


@pytest.fixture
def actors(ray_started: None, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """What has workers started from then on, however little there is to encode."""
    return lambda: monkeypatch.setattr("gapctl.inference.shards.SMALL_WORK", 0)


def started_ray(workers: int) -> nullcontext[None]:
    """Stand in for `start_local_ray` where Ray runs already."""
    return nullcontext()


def test_this_process_writes_what_two_actors_write_to_the_last_bit_and_stopped_goes_on(
    weights: Path, shards: Path, tmp_path: Path, actors: Callable[[], None]
) -> None:
    paths, model = sorted(shards.glob("*.tar")), opened(weights)
    threads_before, threads = torch.get_num_threads(), set()

    def stop_after_one(done: int, total: int) -> None:
        if done == 1:
            threads.add(torch.get_num_threads())
            raise StoppedError

    torch.set_num_threads(2)
    try:
        with pytest.raises(StoppedError):
            encode_shards(paths, model, ShardCache(tmp_path / "here"), no_ray, 2, stop_after_one)
        after_a_stop = torch.get_num_threads()
        resumed = encode_shards(paths, model, ShardCache(tmp_path / "here"), no_ray, workers=2)
        after_all = torch.get_num_threads()
    finally:
        torch.set_num_threads(threads_before)
    actors()
    by_actors = encode_shards(paths, model, ShardCache(tmp_path / "actors"), started_ray, workers=2)

    assert (threads, after_a_stop, after_all) == ({1}, 2, 2)
    assert (resumed.made, by_actors.made) == (2, 3)
    here, there = (
        {file.name: file.read_bytes() for file in (tmp_path / name).glob("*.npz")} for name in ("here", "actors")
    )
    assert len(here) == 3
    assert here == there
    for one, other in zip(resumed.shards, by_actors.shards, strict=True):
        assert_same(one, other)


def test_a_failure_reads_the_same_in_this_process_as_in_an_actor_and_loses_no_finished_shard(
    tmp_path: Path, actors: Callable[[], None]
) -> None:
    """The model knows too few words, and the first shard has nothing to encode."""
    few_words = write_model(tmp_path / "model", {**TINY_VIT, "text_cfg": {**TEXT, "vocab_size": 300}})
    paths = [write_shard(tmp_path / "0.tar", [("0", {**pair(0), "jpg": b"no picture"})])]
    paths.append(write_pairs(tmp_path / "1.tar", range(2)))
    problems = []
    for place in ("here", "actors"):
        with pytest.raises(WorkError) as caught:
            encode_shards(paths, opened(few_words), ShardCache(tmp_path / place), started_ray, workers=2)
        problems.append(str(caught.value))
        actors()

    assert problems[0].startswith("a shard could not be encoded (index out of range in self). The finished ones are")
    assert problems[0] == problems[1]
    assert [len(list((tmp_path / place).glob("*.npz"))) for place in ("here", "actors")] == [1, 1]


def test_workers_start_where_more_is_left_than_starting_them_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = opened(write_model(tmp_path / "model", TINY_VIT))
    paths = [write_pairs(tmp_path / "0.tar", range(4)), write_pairs(tmp_path / "1.tar", range(4, 7))]
    unused = {paths[0]: {0: "not a JPEG"}}
    work = 6 * sum(weight.numel() for weight in model.model.parameters())

    def encode(place: str, small: int, workers: int) -> int:
        monkeypatch.setattr("gapctl.inference.shards.SMALL_WORK", small)
        return encode_shards(paths, model, ShardCache(tmp_path / place), no_ray, workers, left_out=unused).made

    with pytest.raises(AssertionError, match="Ray was started"):
        encode("a", work - 1, 2)
    assert encode("a", work, 2) == 2
    assert encode("b", 0, 1) == 2  # one worker is this process
    next((tmp_path / "b").glob("*.npz")).unlink()
    assert encode("b", 0, 2) == 1  # and so is any number for one shard


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
