"""Measure a small model on shards by the command line."""

from contextlib import nullcontext
from pathlib import Path

from command_line import Answer, gapctl
from gapctl.inference.model import OpenModel, open_model
from gapctl.models.sources import find_weights

MODEL = "ViT-S-32-alt"
ASKING = ("--label-key", "shape", "--classes", "classes.txt", "--attributes", "attributes.txt")


def measure(weights: Path, data: Path | str, *more: str, model: str = MODEL) -> Answer:
    return gapctl("measure", "--model", model, "--pretrained", str(weights), "--data", str(data), *more)


def no_ray(workers: int) -> nullcontext[None]:
    """Stand in for `start_local_ray` where Ray must not be started."""
    raise AssertionError("Ray was started")


def opened(weights: Path) -> OpenModel:
    return open_model(MODEL, find_weights(MODEL, str(weights)))
