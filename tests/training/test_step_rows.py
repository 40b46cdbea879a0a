"""What is logged of single steps: loss, rate, gradient norm and temperature, and the same after a pause."""

import math
from collections.abc import Sequence

import pytest
import torch

from gapctl.config.trial import Evaluate, MadCaptions, MadData, Train, TrialConfig
from gapctl.data.mad.feed import MadFeed
from gapctl.models.build import build_model
from gapctl.training.autograd_step import AutogradStep
from gapctl.training.optimizer import compute_learning_rate
from gapctl.training.step_options import build_step_options
from gapctl.training.trainer import TrainingRun, count_steps_between_rows
from gapctl.training.trial_state import MAD_VOCABULARY as VOCABULARY
from gapctl.training.trial_state import TrialState
from mad_data import small_data
from memory_store import MemoryStore

CPU = torch.device("cpu")
CONFIG = TrialConfig(
    data=MadData(captions=MadCaptions(attributes=5)),
    train=Train(samples=32 * 16, batch_size=16, precision="float32"),
    evaluate=Evaluate(every=160, gallery=40),
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def begin(*stores: MemoryStore) -> TrainingRun:
    return TrainingRun([TrialState(CONFIG, seed, small_data(), store, CPU) for seed, store in enumerate(stores)], CPU)


def finish(run: TrainingRun) -> None:
    while not run.done:
        run.train_for(60.0)


def without_seconds(rows: Sequence[dict[str, float]]) -> list[dict[str, float]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


@pytest.fixture(scope="module")
def whole() -> MemoryStore:
    torch.set_num_threads(1)
    finish(begin(store := MemoryStore()))
    return store


def test_every_tenth_step_has_its_loss_rate_gradient_norm_and_temperature(whole: MemoryStore) -> None:
    assert [row["samples_seen"] for row in whole.steps] == [160, 320, 480]
    for row in whole.steps:
        step = int(row["samples_seen"]) // 16
        assert row["step/learning_rate"] == compute_learning_rate(CONFIG.train, step - 1)
        assert 0.0 < row["step/loss"] < 2 * math.log(16)
        assert row["step/gradient_norm"] > 0.0
    logged = {row["samples_seen"]: row["step/temperature"] for row in whole.steps}
    evaluated = {row["samples_seen"]: row["temperature/tau"] for row in whole.rows}
    assert logged == pytest.approx({seen: evaluated[seen] for seen in logged})


def test_steps_after_a_pause_are_logged_as_without_one(whole: MemoryStore) -> None:
    store = MemoryStore()
    run = begin(store)
    for _ in range(13):
        run.train_for(1e-9)
    run.save()
    for _ in range(8):  # these are lost with the process, but not what was stored of them
        run.train_for(1e-9)
    store.saved = store.saved[:1]

    finish(begin(store))

    assert without_seconds(store.steps) == without_seconds(whole.steps)
    assert store.rows[-1]["gap/rmg"] == whole.rows[-1]["gap/rmg"]


def test_trials_that_are_packed_log_what_each_logs_alone(whole: MemoryStore) -> None:
    stores = MemoryStore(), MemoryStore()
    finish(begin(*stores))

    for row, alone in zip(without_seconds(stores[0].steps), without_seconds(whole.steps), strict=True):
        assert row == pytest.approx(alone, rel=1e-3)
    assert stores[1].steps[0]["step/loss"] != stores[0].steps[0]["step/loss"]


def test_a_long_training_logs_a_thousand_steps() -> None:
    assert count_steps_between_rows(400) == 10
    assert count_steps_between_rows(2_000_000) == 2_000


def test_the_gradient_norm_is_the_length_of_all_weights_gradients_together() -> None:
    model = build_model(CONFIG, VOCABULARY, seed=0)
    step = AutogradStep(model, build_step_options(CONFIG, "float32"), CPU)
    batch, _ = next(iter(MadFeed(small_data(), CONFIG, 0, 0)))

    step(torch.from_numpy(batch.images_BCHW), torch.from_numpy(batch.tokens_BL), rate=1e-3)

    gradients = [value.grad.flatten() for value in model.parameters() if value.grad is not None]
    norm = float(torch.linalg.vector_norm(torch.cat(gradients).double()))
    assert step.compute_gradient_norms().tolist() == pytest.approx([norm], rel=1e-4)
