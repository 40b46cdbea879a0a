"""Weights of a small public architecture and shards, for the verbs that take a model; a small sweep for the others."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import open_clip
import pytest
import torch
from model_measures import MODEL, no_ray

from pair_shards import pair, write_pairs, write_shard
from sweep_texts import TINY
from tiny_models import TINY_VIT, write_model

CLASSES = "a photo of a {}\n# the shapes\nsquare\nbar = bar or stripe\n"
ATTRIBUTES = "[colour]\nred\ngreen\nblue\n"


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest architecture that open_clip has, with random weights."""
    path = tmp_path_factory.mktemp("weights") / "random.pt"
    logging.disable(logging.WARNING)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        torch.save(open_clip.create_model(MODEL).state_dict(), path)
    logging.disable(logging.NOTSET)
    return path


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model that encodes at once, for tests that ask what it is shown."""
    return write_model(tmp_path_factory.mktemp("model") / "tiny", TINY_VIT)


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A sweep file of two trials, for tests that start no Ray."""
    path = tmp_path / "sweep.yaml"
    path.write_text(TINY)
    yield path
    if "ray" in sys.modules:
        assert not sys.modules["ray"].is_initialized()


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


@pytest.fixture
def place(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own to work in, the file's cache in use; Ray must not be started for so little."""
    monkeypatch.setattr("gapctl.cli.sweep.start_local_ray", no_ray)
    monkeypatch.setenv("GAPCTL_CACHE", str(cache))
    monkeypatch.chdir(tmp_path)
    Path("classes.txt").write_text(CLASSES, encoding="utf-8")
    Path("attributes.txt").write_text(ATTRIBUTES, encoding="utf-8")
    return tmp_path
