"""Trials that train nothing: another training's weights, measured once, as they are or after an intervention."""

import math

import numpy as np
import pytest
import torch

from gapctl.config.trial import TrialConfig
from gapctl.metrics.embedding_set import normalise_rows
from gapctl.training import evaluation as evaluate
from gapctl.training import pair_evaluation as evaluate_pairs
from gapctl.training.evaluation import MadEvaluation
from gapctl.training.trainer import TrainingRun
from gapctl.training.trial_state import TrialState
from mad_data import small_data
from memory_store import MemoryStore
from pair_trials import finished as finished_pairs
from pair_trials import pair_config

CPU = torch.device("cpu")
FEW = 300
TRAINED_ONLY = ("train/loss", "train/loss_floor", "train/loss_bayes", "train/loss_excess")


@pytest.fixture(autouse=True)
def fitted_on_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough for a mean, in a moment."""
    for module in (evaluate, evaluate_pairs):
        monkeypatch.setattr(module, "FITTING_PAIRS", FEW)


def config(samples: int, intervention: str = "none", attributes: int = 0, strength: float = 1.0) -> TrialConfig:
    return TrialConfig.model_validate(
        {
            "data": {"captions": {"attributes": attributes}},
            "train": {"samples": samples, "batch_size": 32, "precision": "float32"},
            "evaluate": {"every": 96, "gallery": 40, "intervention": intervention, "strength": strength},
            "init_from": {} if samples else {"train.samples": 96},
        }
    )


def finished(*configs: TrialConfig, initial: bytes | None = None) -> tuple[TrialState, ...]:
    """The trials, done, in one pack."""
    run = TrainingRun([TrialState(each, 0, small_data(), MemoryStore(), CPU, initial=initial) for each in configs], CPU)
    while not run.done:
        run.train_for(60.0)
    return tuple(run.members)


@pytest.fixture(scope="module")
def parent() -> TrialState:
    torch.set_num_threads(1)
    return finished(config(96))[0]


def after(parent: TrialState, intervention: str, strength: float = 1.0) -> dict[str, float]:
    (member,) = finished(config(0, intervention, strength=strength), initial=parent.weights())
    return member.read_final_metrics()


def test_weights_that_nothing_is_done_to_give_the_numbers_of_their_training(parent: TrialState) -> None:
    (member,) = finished(config(0), initial=parent.weights())

    expected = {key: value for key, value in parent.read_final_metrics().items() if key not in TRAINED_ONLY}
    assert member.read_final_metrics() == pytest.approx(expected, rel=0, abs=0, nan_ok=True)


def test_such_a_trial_is_measured_once_and_keeps_the_weights(parent: TrialState) -> None:
    store = MemoryStore()
    run = TrainingRun([TrialState(config(0), 0, small_data(), store, CPU, initial=parent.weights())], CPU)
    (progress,) = run.train_for(0.0)

    assert progress.done
    assert (progress.samples_seen, progress.samples_total, len(progress.rows)) == (0, 0, 1)
    assert math.isnan(progress.loss)
    assert [row["samples_seen"] for row in store.rows] == [0]
    assert store.centroids is not None
    assert run.members[0].weights() == parent.weights()


@pytest.mark.parametrize("intervention", ["shift", "centre", "standardise", "orthogonal"])
def test_an_intervention_closes_the_gap_of_held_out_pairs(parent: TrialState, intervention: str) -> None:
    before, found = parent.read_final_metrics(), after(parent, intervention)

    assert found["gap/l2m"] < 0.6 * before["gap/l2m"]
    assert found["quality/object_accuracy"] != before["quality/object_accuracy"]
    assert found["temperature/tau"] == before["temperature/tau"]


def test_strength_says_how_far_it_goes(parent: TrialState) -> None:
    gaps = [after(parent, "shift", strength)["gap/l2m"] for strength in (0.0, 0.5, 1.0)]

    assert gaps[0] == pytest.approx(parent.read_final_metrics()["gap/l2m"], rel=1e-5)
    assert gaps[0] > gaps[1] > gaps[2]


def test_an_intervention_is_fitted_on_training_pairs_alone(parent: TrialState) -> None:
    evaluation = MadEvaluation(small_data(), config(0, "centre"), CPU)
    fitted_on = evaluation.encode_training_pairs(parent.model)
    other_gallery = MadEvaluation(small_data(60, 10), config(0, "centre"), CPU).encode_training_pairs(parent.model)

    assert fitted_on.image_ND.shape == fitted_on.text_ND.shape == (FEW, 64)
    assert np.array_equal(fitted_on.image_ND, other_gallery.image_ND)
    shown = evaluation.encode(parent.model).embeddings
    clouds = zip((shown.image_ND, shown.text_MD), fitted_on, strict=True)
    centred = [normalise_rows(normalise_rows(cloud) - normalise_rows(rows).mean(axis=0)) for cloud, rows in clouds]
    expected = np.linalg.norm(centred[0].mean(axis=0) - centred[1].mean(axis=0))
    assert after(parent, "centre")["gap/l2m"] == pytest.approx(float(expected), rel=1e-5)


def test_a_training_may_be_measured_after_an_intervention_all_along() -> None:
    (plain,), (closed,) = finished(config(96)), finished(config(96, "shift"))

    assert closed.weights() == plain.weights()
    assert [row["train/loss"] for row in closed.rows[1:]] == [row["train/loss"] for row in plain.rows[1:]]
    assert all(ours["gap/l2m"] < theirs["gap/l2m"] for ours, theirs in zip(closed.rows, plain.rows, strict=True))


def test_packs_of_such_trials_give_the_numbers_that_each_has_alone(parent: TrialState) -> None:
    packed = finished(config(0, "shift"), config(0, "shift", attributes=5), initial=parent.weights())

    assert packed[0].read_final_metrics() == pytest.approx(after(parent, "shift"), rel=0, abs=0, nan_ok=True)
    assert packed[1].read_final_metrics()["gap/l2m"] != packed[0].read_final_metrics()["gap/l2m"]


def test_pairs_are_moved_by_what_was_fitted_on_those_that_are_trained_on() -> None:
    parent = finished_pairs(pair_config(), MemoryStore())
    changes = {"train": {"samples": 0}, "init_from": {"train.samples": 96}}
    plain, closed = (
        finished_pairs(pair_config(**changes, evaluate=measuring), MemoryStore(), initial=parent.weights())
        for measuring in ({}, {"intervention": "centre"})
    )

    before, found = parent.read_final_metrics(), closed.read_final_metrics()
    kept = {key: value for key, value in before.items() if not key.startswith(("train/", "captions/", "data/"))}
    assert plain.read_final_metrics() == pytest.approx(kept, rel=0, abs=0, nan_ok=True)
    assert found["gap/l2m"] < 0.6 * before["gap/l2m"]
