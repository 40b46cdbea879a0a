"""Measure a small model on shards by the command line."""

from contextlib import nullcontext
from pathlib import Path

import pytest

from command_line import Answer, gapctl
from gapctl.inference.model import OpenModel, load_open_clip_model
from gapctl.models.sources import find_or_download_weights

MODEL = "ViT-S-32-alt"
ASKING = ("--label-key", "shape", "--classes", "classes.txt", "--attributes", "attributes.txt")


def name_model(weights: Path, model: str = MODEL) -> tuple[str, ...]:
    """The options for a file of weights, or for a folder that `write_model` has written."""
    return ("--model", f"local-dir:{weights}") if weights.is_dir() else ("--model", model, "--pretrained", str(weights))


def measure(weights: Path, data: Path | str, *more: str, model: str = MODEL) -> Answer:
    return gapctl("measure", *name_model(weights, model), "--data", str(data), *more)


def no_ray(workers: int) -> nullcontext[None]:
    """Stand in for `start_local_ray` where Ray must not be started."""
    raise AssertionError("Ray was started")


def forbid_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail from here on where a shard is encoded, in this process or another."""

    def refuse(*given: object) -> None:
        raise AssertionError("a shard was encoded")

    monkeypatch.setattr("gapctl.inference.shards._encode_here", refuse)
    monkeypatch.setattr("gapctl.inference.shards._encode_on_ray", refuse)


def opened(weights: Path) -> OpenModel:
    """The model of a file of weights, or of a folder that `write_model` has written."""
    name, file = (f"local-dir:{weights}", None) if weights.is_dir() else (MODEL, str(weights))
    return load_open_clip_model(name, find_or_download_weights(name, file))
