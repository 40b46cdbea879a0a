"""A trial of MAD logs the least loss that any model can reach, and what it is above it, where these are known."""

import pytest
import torch

from gapctl.config.information import compute_bayes_loss
from gapctl.config.trial import Evaluate, Loss, MadCaptions, MadData, Train, TrialConfig
from gapctl.training.trainer import TrainingRun
from gapctl.training.trial_state import TrialState
from mad_data import small_data
from memory_store import MemoryStore

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def rows_of(loss: Loss, mismatched: float = 0.0) -> list[dict[str, float]]:
    config = TrialConfig(
        data=MadData(captions=MadCaptions(attributes=1)),
        loss=loss,
        train=Train(samples=96, batch_size=16, precision="float32", mismatched=mismatched),
        evaluate=Evaluate(every=32, gallery=30),
    )
    run = TrainingRun([TrialState(config, 0, small_data(), MemoryStore(), CPU)], CPU)
    while not run.done:
        run.train_for(60.0)
    return list(run.members[0].rows)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_every_evaluation_after_a_step_has_both(kind: str) -> None:
    before, *after = rows_of(Loss(kind=kind))
    bayes = compute_bayes_loss(MadData(captions=MadCaptions(attributes=1)), kind, 16)

    assert "train/loss_bayes" not in before
    assert len(after) == 3
    for row in after:
        assert row["train/loss_bayes"] == bayes
        assert row["train/loss_excess"] == row["train/loss"] - bayes
        assert row["train/loss_bayes"] > row["train/loss_floor"] / 2


def test_an_added_term_leaves_the_excess_unknown() -> None:
    last = rows_of(Loss(alignment=0.5))[-1]

    assert "train/loss_bayes" in last
    assert "train/loss_excess" not in last


def test_steps_with_mismatched_texts_have_no_bayes_loss_and_those_after_them_do() -> None:
    rows = rows_of(Loss(), mismatched=0.5)

    assert [row["samples_seen"] for row in rows] == [0, 32, 64, 96]
    assert ["train/loss_bayes" in row for row in rows] == [False, False, False, True]
