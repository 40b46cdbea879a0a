"""Texts of other images during the first steps, and the right ones after that."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gapctl.config.trial import Evaluate, MadCaptions, MadData, Train, TrialConfig
from gapctl.data.mad.feed import MadFeed
from gapctl.training.batches import draw_partners, iterate_batches, iterate_host_batches, permute_first_texts
from gapctl.training.trainer import TrainingRun
from gapctl.training.trial_state import TrialState
from gapctl.training.workers import SINGLE_WORKER
from mad_data import small_data
from memory_store import MemoryStore

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def config(share: float) -> TrialConfig:
    return TrialConfig(
        data=MadData(captions=MadCaptions(attributes=5)),
        train=Train(samples=256, batch_size=32, precision="float32", mismatched=share),
        evaluate=Evaluate(every=96, gallery=40),
    )


def member(share: float, store: MemoryStore | None = None, seed: int = 0) -> TrialState:
    return TrialState(config(share), seed, small_data(), store or MemoryStore(), CPU)


@given(seed=st.integers(0, 1000), step=st.integers(0, 1000), number=st.integers(2, 40))
def test_each_place_has_another_ones_text_and_each_text_one_image(seed: int, step: int, number: int) -> None:
    found = draw_partners(seed, step, number)

    assert sorted(found) == list(range(number))
    assert not (found == np.arange(number)).any()
    assert np.array_equal(found, draw_partners(seed, step, number))


def test_steps_and_seeds_are_dealt_anew() -> None:
    dealt = {tuple(draw_partners(seed, step, 32)) for seed in range(3) for step in range(3)}

    assert len(dealt) == 9


def test_texts_are_dealt_within_each_trials_batch_until_the_last_step() -> None:
    seeds = (3, 4)
    plain, dealt = (iterate_host_batches([MadFeed(small_data(), config(0.5), seed) for seed in seeds]) for _ in "ab")
    found = permute_first_texts(dealt, seeds, first=0, last=2)

    for step in range(4):
        one, other = next(plain), next(found)
        order = torch.cat([torch.from_numpy(draw_partners(seed, step, 32)) + 32 * m for m, seed in enumerate(seeds)])
        expected = one.second[order] if step < 2 else one.second
        assert torch.equal(other.image_SCHW, one.image_SCHW)
        assert torch.equal(other.second, expected)
        assert [sorted(ids) for ids in other.caption_id_MB.tolist()] == [sorted(i) for i in one.caption_id_MB.tolist()]


@pytest.mark.parametrize(("share", "steps"), [(0.0, 0), (0.1, 1), (0.5, 4), (1.0, 8)])
def test_the_share_is_of_steps(share: float, steps: int) -> None:
    assert config(share).train.mismatched_steps == steps


def test_a_training_that_goes_on_knows_which_step_it_is_at() -> None:
    store = MemoryStore()
    begun = TrainingRun([member(0.5, store)], CPU)
    while begun.members[0].steps < 3:
        begun.train_for(1e-9)
    begun.save()
    resumed = member(0.5, store)
    assert resumed.steps == 3
    plain = iterate_host_batches([MadFeed(small_data(), config(0.5), 0, position=96)])
    found = iterate_batches([resumed], CPU, SINGLE_WORKER, None)

    for step in range(3, 6):
        order = torch.from_numpy(draw_partners(0, step, 32)) if step < 4 else torch.arange(32)
        assert torch.equal(next(found).second, next(plain).second[order])


def test_nothing_can_be_learned_from_pairs_that_never_match() -> None:
    def loss(share: float) -> float:
        train = Train(samples=1_920, batch_size=32, lr=3e-3, precision="float32", mismatched=share)
        trial = config(share).model_copy(update={"train": train, "evaluate": Evaluate(every=960, gallery=40)})
        run = TrainingRun([TrialState(trial, 0, small_data(), MemoryStore(), CPU)], CPU)
        while not run.done:
            run.train_for(60.0)
        return run.members[0].read_final_metrics()["train/loss"]

    by_chance = math.log(32)
    assert loss(1.0) > by_chance - 0.02
    assert loss(0.0) < by_chance - 0.2


def test_pairs_on_several_workers_are_not_dealt() -> None:
    document = {"data": {"dataset": "cc12m"}, "model": {"preset": "pairs-small"}, "train": {"mismatched": 0.1}}

    with pytest.raises(ValidationError, match=r"expected 0\.0 with dataset cc12m, whose batches"):
        TrialConfig.model_validate(document)
