"""Trainings on images with several captions: every caption of a held-out image is a text of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from command_line import gapctl
from gapctl.config.trial import TrialConfig
from gapctl.data.image_text.source import load_pair_manifests, resolve_pair_paths
from gapctl.data.image_text.tokens import get_clip_tokenizer
from gapctl.data.load import load_dataset
from gapctl.errors import InputError
from gapctl.metrics.embedding_set import normalise_rows
from gapctl.models.build import CLIP_VOCABULARY, build_model
from gapctl.training.evaluation import compute_gallery_metrics
from gapctl.training.pair_evaluation import PairEvaluation
from gapctl.training.trial_state import build_evaluation
from memory_store import MemoryStore
from pair_shards import pair, write_shard
from pair_trials import CPU, begun, finished, pair_config

IMAGES = 24


def captions(number: int) -> list[str]:
    """One caption for every third image, and three for the others."""
    words = pair(number)["txt"].decode()
    return [f"{words} number {number}", f"there is {words}", "noise"][: 1 if number % 3 == 0 else 3]


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    samples = ((f"{number:03d}", {**pair(number), "txt": "\n".join(captions(number)).encode()}) for number in range(24))
    write_shard(tmp_path / "00000.tar", samples)
    assert gapctl("data", "index", str(tmp_path)).exit_code == 0
    return tmp_path


def configure(shards: Path, **changes: Any) -> TrialConfig:
    data = {"dataset": "image_text", "source": str(shards), "held_out_share": 0.5, **changes.pop("data", {})}
    train = {"samples": 24, "batch_size": 8, "precision": "float32"}
    return pair_config(**{"data": data, "train": train, "evaluate": {"every": 8, "gallery": 40}, **changes})


def test_held_out_pairs_have_no_prompts_for_ideal_words(shards: Path) -> None:
    config = configure(shards)
    evaluation = build_evaluation(load_dataset(config.data), config, CPU)

    with pytest.raises(InputError, match="have no prompts of an object with an attribute; expected an evaluation set"):
        evaluation.encode(build_model(config, CLIP_VOCABULARY, 0), pairs=True)


def test_every_caption_of_a_held_out_image_is_a_text_of_it(shards: Path) -> None:
    config = configure(shards)
    model = build_model(config, CLIP_VOCABULARY, 0)
    pairs = load_pair_manifests(resolve_pair_paths(config.data))  # type: ignore[arg-type]
    held_out = [captions(int(key)) for key in pairs.held_out.samples["key"][pairs.held_out_rows]]
    texts = [text for each in held_out for text in each]

    encoded = build_evaluation(load_dataset(config.data), config, CPU).encode(model)
    embeddings = encoded.embeddings

    assert 2 < len(held_out) < len(texts)
    assert embeddings.text_to_image_M is not None
    assert embeddings.text_to_image_M.tolist() == [place for place, each in enumerate(held_out) for _ in each]
    with torch.no_grad():
        text_MD = model.encode_text(torch.from_numpy(get_clip_tokenizer(77)(texts)), normalize=True).numpy()
    np.testing.assert_allclose(embeddings.text_MD, text_MD, rtol=1e-4, atol=1e-6)

    result = compute_gallery_metrics(encoded)
    image_ND, text_MD = normalise_rows(embeddings.image_ND), normalise_rows(embeddings.text_MD)
    cosine_NM = image_ND @ text_MD.T
    of_M, images = embeddings.text_to_image_M, np.arange(len(image_ND))
    assert result.metrics["quality/i2t_recall_1"] == pytest.approx((of_M[cosine_NM.argmax(axis=1)] == images).mean())
    assert result.metrics["quality/t2i_recall_1"] == pytest.approx((cosine_NM.argmax(axis=0) == of_M).mean())
    assert result.metrics["entropy/gallery"] == len(texts)
    assert len(result.text_on_axis_N) == len(result.image_on_axis_N) == len(held_out)
    gap_D = result.image_mean_D - result.text_mean_D
    on_axis_M = text_MD @ (gap_D / np.linalg.norm(gap_D))
    means = [on_axis_M[of_M == image].mean() for image in images]
    np.testing.assert_allclose(result.text_on_axis_N, means)


@pytest.mark.parametrize("stop_after", [None, 1, 2])
def test_a_training_draws_the_same_captions_after_an_interruption(shards: Path, stop_after: int | None) -> None:
    config, store = configure(shards), MemoryStore()
    whole = finished(config, MemoryStore())
    if stop_after is not None:
        run = begun(config, store)
        (member,) = run.members
        while member.steps < stop_after:
            run.train_for(0.0)
        run.save()
    resumed = finished(config, store)

    assert resumed.weights() == whole.weights()
    assert resumed.read_final_metrics() == pytest.approx(whole.read_final_metrics(), rel=0, abs=0, nan_ok=True)
    assert store.axis is not None
    assert len({len(column) for column in store.axis}) == 1


def test_an_intervention_is_fitted_on_drawn_captions_and_moves_every_text(shards: Path) -> None:
    plain, centred = (
        finished(configure(shards, evaluate={"every": 8, "gallery": 40, "intervention": name}), MemoryStore())
        for name in ("none", "centre")
    )
    before, after = plain.read_final_metrics(), centred.read_final_metrics()

    assert plain.weights() == centred.weights()
    assert before["entropy/gallery"] == after["entropy/gallery"] > IMAGES / 2
    assert after["gap/l2m"] < 0.7 * before["gap/l2m"]


def test_treated_held_out_captions_are_treated_one_by_one(shards: Path) -> None:
    config = configure(shards, data={"captions": {"keep": "quarter", "held_out": "treated"}})
    evaluation = PairEvaluation(load_dataset(config.data), config, CPU)  # type: ignore[arg-type]

    encoded = evaluation.encode(build_model(config, CLIP_VOCABULARY, 0)).embeddings

    full = build_evaluation(load_dataset(config.data), configure(shards), CPU)
    whole = full.encode(build_model(config, CLIP_VOCABULARY, 0)).embeddings
    np.testing.assert_array_equal(encoded.text_to_image_M, whole.text_to_image_M)  # type: ignore[arg-type]
    np.testing.assert_array_equal(encoded.image_ND, whole.image_ND)
    assert not np.array_equal(encoded.text_MD, whole.text_MD)


def test_a_gallery_of_single_captions_is_compared_row_by_row(shards: Path) -> None:
    assert gapctl("data", "index", str(shards), "--captions", "whole").exit_code == 0
    config = configure(shards)

    encoded = build_evaluation(load_dataset(config.data), config, CPU).encode(build_model(config, CLIP_VOCABULARY, 0))

    assert encoded.embeddings.text_to_image_M is None
    assert len(encoded.embeddings.text_MD) == len(encoded.embeddings.image_ND)
