"""Weights of a small public architecture, for the verbs that take a model."""

import logging
from pathlib import Path

import open_clip
import pytest
import torch

MODEL = "ViT-S-32-alt"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest architecture that open_clip has, with random weights."""
    path = tmp_path_factory.mktemp("weights") / "random.pt"
    logging.disable(logging.WARNING)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        torch.save(open_clip.create_model(MODEL).state_dict(), path)
    logging.disable(logging.NOTSET)
    return path
