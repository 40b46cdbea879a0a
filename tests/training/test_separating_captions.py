"""Trainings whose captions are fixed, or whose values have synonyms: alone, packed, on a device, and resumed."""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch

from gapctl.config.presets import PRESETS
from gapctl.config.trial import Evaluate, MadCaptions, MadData, Train, TrialConfig
from gapctl.data.mad.feed import MadFeed
from gapctl.data.mad.images import DeviceImages
from gapctl.inference.trial import build_tokenizer
from gapctl.plan.plan import Trial, pack_trials
from gapctl.training.autograd_step import AutogradStep
from gapctl.training.batches import iterate_device_batches, iterate_host_batches, join_batches
from gapctl.training.fused_step import FusedStep
from gapctl.training.step_options import build_step_options
from gapctl.training.trainer import TrainingRun
from gapctl.training.trial_state import TrialState, build_trial_model
from mad_data import small_data
from memory_store import MemoryStore

CPU = torch.device("cpu")
ARMS: tuple[dict[str, Any], ...] = (
    {"fixed": ("colour",)},
    {"fixed": ("scale", "colour"), "order": "canonical"},
    {"attributes": 2},
)
WORDS = {"synonyms": 3}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def config(**captions: Any) -> TrialConfig:
    return TrialConfig(
        data=MadData(captions=MadCaptions(**captions)),
        train=Train(samples=96, batch_size=32, precision="float32"),
        evaluate=Evaluate(every=64, gallery=40),
    )


def begin(configs: Sequence[TrialConfig], stores: Sequence[MemoryStore]) -> TrainingRun:
    return TrainingRun(
        [TrialState(each, 1, small_data(), store, CPU) for each, store in zip(configs, stores, strict=True)], CPU
    )


def finish(run: TrainingRun) -> list[dict[str, float]]:
    while not run.done:
        run.train_for(60.0)
    return [member.read_final_metrics() for member in run.members]


@pytest.mark.parametrize("words", [{}, WORDS], ids=["one word", "synonyms"])
def test_packed_trials_have_the_loss_and_the_gap_of_trials_alone(words: dict[str, Any]) -> None:
    configs = [config(**arm, **words) for arm in ARMS]
    together = finish(begin(configs, [MemoryStore() for _ in configs]))
    alone = [finish(begin([each], [MemoryStore()]))[0] for each in configs]

    for name in ("train/loss", "gap/rmg", "gap/l2m", "entropy/i2t_nats"):
        assert [found[name] for found in together] == pytest.approx([found[name] for found in alone], rel=1e-3)
    assert len({found["gap/rmg"] for found in alone}) == len(ARMS)


def test_a_training_with_synonyms_goes_on_from_its_checkpoint_to_the_same_end() -> None:
    each, store = config(**WORDS), MemoryStore()
    whole = finish(begin([each], [MemoryStore()]))
    cut = begin([each], [store])
    cut.train_for(0.0, steps=2)
    cut.save()

    assert finish(begin([each], [store])) == whole


@pytest.mark.parametrize("captions", [*ARMS, WORDS, {**WORDS, "synonym_draw": "once"}])
def test_a_device_reads_the_captions_that_the_host_reads(captions: dict[str, Any]) -> None:
    data, each = small_data(), config(**captions)
    host, device = (MadFeed(data, each, 3) for _ in "ab")
    images = DeviceImages(data.train.images_NVHW, CPU)

    for one, other in islice(
        zip(iterate_host_batches([host]), iterate_device_batches([device], images, CPU), strict=False), 5
    ):
        assert torch.equal(one.second, other.second)
        np.testing.assert_array_equal(one.caption_id_MB, other.caption_id_MB)


@pytest.mark.parametrize("captions", [{}, WORDS, {**WORDS, "fixed": ("colour",)}])
def test_both_steps_have_one_loss_and_move_the_words_alike(captions: dict[str, Any]) -> None:
    each = config(**captions)
    batch = join_batches([next(iter(MadFeed(small_data(), each, 0)))[0]])
    options = build_step_options(each, "float32")
    by_hand, by_autograd = (build_trial_model(each, 5) for _ in "ab")
    steps = FusedStep([by_hand], PRESETS["mad-tiny"], options), AutogradStep(by_autograd, options, CPU)
    losses = [float(step(batch.image_SCHW, batch.second, 1e-3)) for step in steps]

    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert by_hand.token_embedding.weight.shape[0] == 29 + 26 * (each.data.captions.synonyms - 1)
    torch.testing.assert_close(by_hand.token_embedding.weight, by_autograd.token_embedding.weight, rtol=1e-3, atol=3e-5)


def test_models_with_and_without_synonyms_start_alike() -> None:
    plain, worded = (build_trial_model(config(synonyms=words), 7) for words in (1, 3))
    others = dict(worded.named_parameters())

    for name, value in plain.named_parameters():
        torch.testing.assert_close(others[name][: len(value)] if value.ndim else others[name], value, rtol=0, atol=0)
    added = others["token_embedding.weight"][29:]
    assert added.shape == (52, 64)
    assert float(added.detach().std()) == pytest.approx(0.02, rel=0.1)


def test_trials_with_as_many_words_are_packed_together_and_others_apart() -> None:
    arms = [*ARMS, {"synonyms": 2}, {"synonyms": 2, "synonym_draw": "once"}, WORDS]
    trials = [Trial(f"{place}", "", 0, {}, config(**arm), "f") for place, arm in enumerate(arms)]

    assert [[int(trial.id) for trial in pack] for pack in pack_trials(trials, 8)] == [[0, 1, 2], [3, 4], [5]]


def test_weights_with_other_words_cannot_be_begun_with() -> None:
    with pytest.raises(ValueError, match=r"changes data\.captions\.synonyms; expected this training's words"):
        TrialConfig.model_validate({"init_from": {"data.captions.synonyms": 2}})


def test_a_tokenizer_knows_the_words_of_its_training() -> None:
    assert build_tokenizer(config(**WORDS))("3~2-red").tolist() == [[1, 32, 22, 28, 0, 0, 0, 0]]
