"""The picture of a trial's final embeddings."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from gapctl.config.trial import Evaluate, MadCaptions, MadData, Train, TrialConfig
from gapctl.training.pictures import COLOURS, draw_clouds, project_on_gap
from gapctl.training.trainer import TrainingRun
from gapctl.training.trial_state import TrialState
from mad_data import small_data
from memory_store import MemoryStore


def clouds(gap: float) -> tuple[np.ndarray, np.ndarray]:
    """Two clouds that spread along the second axis and lie `gap` apart along the first."""
    random = np.random.default_rng(0)
    image_ND, text_ND = random.normal(size=(2, 500, 8)) * [0.1, 1.0, *[0.1] * 6]
    return image_ND + gap * np.eye(8)[0], text_ND


def test_the_first_dimension_has_the_gap_and_the_second_the_widest_spread_beside_it() -> None:
    image_ND, text_ND = clouds(gap=2.0)

    image_N2, text_N2 = project_on_gap(image_ND, text_ND)

    apart_D = image_ND.mean(axis=0) - text_ND.mean(axis=0)
    assert (image_N2.mean(axis=0) - text_N2.mean(axis=0))[0] == pytest.approx(np.linalg.norm(apart_D))
    assert image_N2[:, 1].std() == pytest.approx(1.0, abs=0.1)
    assert np.abs(np.corrcoef(image_N2[:, 1], image_ND[:, 1])[0, 1]) > 0.99


def test_images_are_drawn_right_of_texts() -> None:
    picture = np.asarray(Image.open(io.BytesIO(draw_clouds(*clouds(gap=8.0)))).convert("RGB")).astype(int)[40:600]

    blue = picture[..., 2] - picture[..., 0] > 100
    vermilion = picture[..., 0] - picture[..., 2] > 100
    assert np.nonzero(blue)[1].min() > np.nonzero(vermilion)[1].max()
    assert set(COLOURS) == {"images", "texts"}


def test_clouds_without_any_gap_or_spread_are_drawn_too() -> None:
    assert draw_clouds(np.ones((3, 4)), np.ones((3, 4))).startswith(b"\x89PNG")


def test_a_trial_draws_its_clouds_at_its_end_alone() -> None:
    torch.set_num_threads(1)
    config = TrialConfig(
        data=MadData(captions=MadCaptions(attributes=5)),
        train=Train(samples=64, batch_size=16, precision="float32"),
        evaluate=Evaluate(every=32, gallery=40),
    )
    store = MemoryStore()
    run = TrainingRun([TrialState(config, 0, small_data(), store, torch.device("cpu"))], torch.device("cpu"))
    run.train_for(1e-9)
    assert store.rows
    assert store.clouds is None
    while not run.done:
        run.train_for(60.0)

    assert store.clouds is not None
    assert Image.open(io.BytesIO(store.clouds)).size == (640, 640)
