"""The pictures of a trial's final embeddings: both clouds, and held-out pairs with their nearest neighbours."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gapctl.config.trial import Evaluate, MadCaptions, MadData, Train, TrialConfig
from gapctl.data.image_text.source import PairPaths
from gapctl.data.load import load_dataset
from gapctl.data.mad.captions import format_captions
from gapctl.data.mad.feed import require_mad_data
from gapctl.metrics.embedding_set import Embeddings
from gapctl.training import pair_evaluation
from gapctl.training.embedding_plots import (
    COLOURS,
    GAP,
    LINE,
    QUERIES,
    RIGHT,
    THUMBNAIL,
    WRONG,
    draw_clouds,
    draw_neighbor_sheet,
    find_neighbors,
    project_on_gap,
)
from gapctl.training.evaluation import GalleryPairs, MadEvaluation, build_gallery
from gapctl.training.pair_evaluation import PairEvaluation
from gapctl.training.trainer import TrainingRun
from gapctl.training.trial_state import TrialState
from mad_data import small_data
from memory_store import MemoryStore
from pair_trials import CPU, begun, pair_config


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


EYE = np.eye(8)
"""Eight pairs whose image and text are one vector."""


def noisy_pairs(
    image_B: np.ndarray,
    text_B: np.ndarray,
    side: int = 64,
    captions: str = "Żółw & a café, seen from above",
    values: int = 256,
) -> GalleryPairs:
    """Pairs of images of so many different values of each colour."""
    random = np.random.default_rng(0)
    image_NHWC = random.integers(0, values, size=(8, side, side, 3)).astype(np.uint8)
    return GalleryPairs(image_NHWC[image_B], [f"{captions} {place}" for place in text_B.tolist()])


def test_the_neighbours_of_a_pair_are_those_of_largest_cosine_whatever_the_lengths() -> None:
    text_MD = EYE.copy()
    text_MD[7] = 100 * (0.8 * EYE[7] + 0.6 * EYE[0])
    found = find_neighbors(Embeddings(EYE * 3, text_MD), queries=2, neighbors=2)

    assert found.place_Q.tolist() == [0, 7]
    assert found.text_QK.tolist() == [[0, 7], [7, 0]]
    assert found.text_right_QK.tolist() == [[True, False], [True, False]]
    assert found.image_QK.tolist() == [[0, 1], [7, 0]]
    assert found.image_right_QK.tolist() == [[True, False], [True, False]]


def test_a_caption_that_several_images_have_is_one_neighbour_and_right_for_each_of_them() -> None:
    group_M = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    found = find_neighbors(Embeddings(EYE[group_M], EYE[group_M], text_group_M=group_M), queries=2, neighbors=3)

    assert found.text_QK.tolist() == [[0, 4], [4, 0]]
    assert found.text_right_QK.tolist() == [[True, False]] * 2
    assert found.image_QK.tolist() == [[0, 1, 2], [4, 5, 6]]
    assert found.image_right_QK.all()


def test_of_several_captions_the_first_is_shown_and_each_of_the_images_own_is_right() -> None:
    owner_M = np.repeat(np.arange(8), 2)
    text_MD = EYE[owner_M] + 0.1 * np.roll(EYE, 1, axis=1)[owner_M] * (np.arange(16) % 2)[:, None]
    found = find_neighbors(Embeddings(EYE, text_MD, text_to_image_M=owner_M), queries=2, neighbors=3)

    assert found.place_Q.tolist() == [0, 7]
    assert found.caption_Q.tolist() == [0, 14]
    assert found.text_QK[:, :2].tolist() == [[0, 1], [14, 15]]
    assert found.text_right_QK.tolist() == [[True, True, False]] * 2
    assert found.image_right_QK.tolist() == [[True, False, False]] * 2


def test_a_sheet_frames_right_and_wrong_images_in_their_colours() -> None:
    drawn = draw_neighbor_sheet(Embeddings(EYE, EYE), lambda *places: noisy_pairs(*places, side=28))

    picture = np.asarray(Image.open(io.BytesIO(drawn)).convert("RGB")).astype(int)
    middle = 2 * LINE + GAP + THUMBNAIL // 2
    left = picture.shape[1] - 3 * (THUMBNAIL + GAP)
    frames = [picture[middle, left + number * (THUMBNAIL + GAP) - 2] for number in range(3)]
    for frame, colour in zip(frames, (RIGHT, WRONG, WRONG), strict=True):
        assert np.abs(frame - colour).max() < 20


def test_a_sheet_is_small_whatever_its_images_and_the_same_each_time() -> None:
    first, second = (draw_neighbor_sheet(Embeddings(EYE, EYE), noisy_pairs) for _ in range(2))

    assert first == second
    assert len(first) < 200_000


def test_a_long_caption_is_cut_and_changes_nothing_right_of_it() -> None:
    words = ("a", "a " + "very " * 100 + "long caption")
    drawn = [
        draw_neighbor_sheet(Embeddings(EYE, EYE), lambda *places, text=text: noisy_pairs(*places, 28, text, values=1))
        for text in words
    ]

    short, long = (np.asarray(Image.open(io.BytesIO(each)).convert("RGB")).astype(int) for each in drawn)
    right = short.shape[1] - 3 * (THUMBNAIL + GAP) - 3
    assert short.shape == long.shape
    changed = np.abs(short - long)[2 * LINE :]
    assert changed[:, right:].max() < 40, "only the choice of 256 colours may differ"
    assert changed[:, :right].max() > 100


@pytest.mark.parametrize("pairs", [1, 2])
def test_a_gallery_of_fewer_pairs_than_a_sheet_has_is_drawn_too(pairs: int) -> None:
    assert len(find_neighbors(Embeddings(EYE[:pairs], EYE[:pairs])).place_Q) == pairs < QUERIES
    assert draw_neighbor_sheet(Embeddings(EYE[:pairs], EYE[:pairs]), noisy_pairs).startswith(b"\x89PNG")


def mad_config(**data: Any) -> TrialConfig:
    return TrialConfig(
        data=MadData(**{"captions": MadCaptions(attributes=5), **data}),
        train=Train(samples=64, batch_size=16, precision="float32"),
        evaluate=Evaluate(every=32, gallery=40),
    )


@pytest.mark.parametrize("sides", ["image_text", "image_image"])
def test_a_pair_of_mad_is_shown_as_the_model_sees_it(sides: str) -> None:
    config = mad_config(sides=sides)
    state = TrialState(config, 0, small_data(test=100), MemoryStore(), CPU)
    shown = (
        MadEvaluation(small_data(test=100), config, CPU)
        .encode(state.model)
        .get_pairs(np.array([3, 9]), np.array([3, 9]))
    )

    gallery = build_gallery(small_data(test=100), require_mad_data(config), config.evaluate.gallery)
    assert np.array_equal(shown.image_BHWC.transpose(0, 3, 1, 2), gallery.images_NCHW[[3, 9]])
    assert shown.captions == format_captions(gallery.tokens_NL[[3, 9]])
    assert (shown.second_BHWC is None) == (sides == "image_text")
    if shown.second_BHWC is not None:
        assert shown.second_BHWC.shape == shown.image_BHWC.shape
        assert not np.array_equal(shown.second_BHWC, shown.image_BHWC)


def test_a_pair_of_an_image_and_a_text_is_shown_the_same_from_memory_and_from_its_shard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, place_B, shown = pair_config(), np.array([1, 30, 2]), []
    material = load_dataset(config.data)
    assert isinstance(material, PairPaths)
    model = TrialState(config, 0, material, MemoryStore(), CPU, leads=False).model
    for cached in (1 << 28, 0):
        monkeypatch.setattr(pair_evaluation, "CACHED_BYTES", cached)
        shown.append(PairEvaluation(material, config, CPU).encode(model).get_pairs(place_B, place_B))

    assert np.array_equal(shown[0].image_BHWC, shown[1].image_BHWC)
    assert shown[0].image_BHWC.shape == (3, 64, 64, 3)
    assert shown[0].captions == shown[1].captions
    assert len(set(shown[0].captions)) == 3
    assert all(caption == caption.strip().lower() and caption.isprintable() for caption in shown[0].captions)


@pytest.mark.parametrize("kind", ["image_text", "image_image", "pairs"])
def test_a_trial_draws_its_pictures_at_its_end_alone(kind: str) -> None:
    torch.set_num_threads(1)
    store = MemoryStore()
    if kind == "pairs":
        run = begun(pair_config(), store)
    else:
        run = TrainingRun([TrialState(mad_config(sides=kind), 0, small_data(test=100), store, CPU)], CPU)
    run.train_for(1e-9)
    assert store.rows
    assert store.clouds is None
    assert store.neighbors is None
    while not run.done:
        run.train_for(60.0)

    assert store.clouds is not None
    assert store.neighbors is not None
    assert Image.open(io.BytesIO(store.clouds)).size == (640, 640)
    assert Image.open(io.BytesIO(store.neighbors)).width == 838
    assert len(store.neighbors) < 200_000
