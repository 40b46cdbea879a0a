"""`data.captions.held_out`: galleries whose captions say all, measured on trainings that it leaves as they are."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pytest
import torch

from gapctl.config.trial import Evaluate, MadCaptions, MadData, Train, TrialConfig
from gapctl.data.mad.factors import FACTOR_NAMES
from gapctl.data.mad.feed import MadFeed, TrialData, require_mad_data
from gapctl.data.mad.sampler import UNSPECIFIED, parse_captions
from gapctl.models.build import build_model
from gapctl.plan.plan import reset_packable_settings
from gapctl.plan.trial_id import compute_trial_id
from gapctl.training import evaluation as evaluate
from gapctl.training.evaluation import Gallery, MadEvaluation, SecondSide, build_gallery
from gapctl.training.trainer import TrainingRun
from gapctl.training.trial_state import MAD_VOCABULARY, TrialState
from mad_data import small_data
from memory_store import MemoryStore

CPU = torch.device("cpu")
FITTED_ON = 300
HeldOut = Literal["own", "full"]
BEFORE = "46a4ef3da326"
"""The id that the plain trial had before there was the setting."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(evaluate, "FITTING_PAIRS", FITTED_ON)


def digits() -> TrialData:
    """A few digits, with enough of them held out for the galleries here."""
    return small_data(test=80)


def config(held_out: HeldOut, data: dict[str, Any] | None = None, **captions: Any) -> TrialConfig:
    about = MadCaptions(**{"attributes": 0, "held_out": held_out, **captions})
    return TrialConfig(
        data=MadData(captions=about, **(data or {})),
        train=Train(samples=128, batch_size=32, precision="float32"),
        evaluate=Evaluate(every=64, gallery=120),
    )


def gallery_of(each: TrialConfig) -> Gallery:
    return build_gallery(digits(), require_mad_data(each), each.evaluate.gallery)


def finished(configs: Sequence[TrialConfig], initial: bytes | None = None) -> tuple[TrialState, ...]:
    """The trials, done, in one pack."""
    run = TrainingRun([TrialState(each, 0, digits(), MemoryStore(), CPU, initial=initial) for each in configs], CPU)
    while not run.done:
        run.train_for(60.0)
    return tuple(run.members)


@pytest.mark.parametrize("order", ["shuffled", "canonical"])
def test_full_captions_are_those_of_an_arm_that_says_all(order: str) -> None:
    own, full = (gallery_of(config(held_out, order=order)) for held_out in ("own", "full"))
    of_all = gallery_of(config("own", order=order, attributes=5))

    np.testing.assert_array_equal(full.tokens_NL, of_all.tokens_NL)
    np.testing.assert_array_equal(full.images_NCHW, own.images_NCHW)
    assert (parse_captions(own.tokens_NL)[:, 1:] == UNSPECIFIED).all()
    assert len(np.unique(own.tokens_NL, axis=0)) == 10
    assert len(np.unique(full.tokens_NL, axis=0)) > 100


@pytest.mark.parametrize("held_out", ["own", "full"])
def test_held_out_captions_are_right_where_those_of_training_are_wrong(held_out: HeldOut) -> None:
    gallery = gallery_of(config(held_out, noise=1.0))
    said_N6 = parse_captions(gallery.tokens_NL)

    np.testing.assert_array_equal(said_N6[said_N6 != UNSPECIFIED], gallery.labels_NF[said_N6 != UNSPECIFIED])
    assert (said_N6 != UNSPECIFIED).sum(axis=1).tolist() == [len(FACTOR_NAMES) if held_out == "full" else 1] * 120


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_training_batches_and_zero_shot_questions_stay(noise: float) -> None:
    pair = [config(held_out, noise=noise) for held_out in ("own", "full")]
    (own, _), (full, _) = (next(iter(MadFeed(digits(), each, seed=3))) for each in pair)

    assert own.images_BCHW.tobytes() == full.images_BCHW.tobytes()
    assert own.tokens_BL.tobytes() == full.tokens_BL.tobytes()
    model = build_model(pair[0], MAD_VOCABULARY, 4)
    ours, theirs = (MadEvaluation(digits(), each, CPU) for each in pair)
    for rows, others in zip(ours.encode_training_pairs(model), theirs.encode_training_pairs(model), strict=True):
        assert rows.tobytes() == others.tobytes()
    questions, of_full = (each.encode(model).zero_shot.questions for each in (ours, theirs))
    for factor in FACTOR_NAMES:
        assert questions[factor].prompt_CD.tobytes() == of_full[factor].prompt_CD.tobytes()


def test_a_training_ends_with_the_same_weights_and_other_numbers_of_texts() -> None:
    (own,), (full,) = (finished([config(held_out)]) for held_out in ("own", "full"))
    before, after = own.read_final_metrics(), full.read_final_metrics()

    assert own.weights() == full.weights()
    for key in ("train/loss", "quality/object_accuracy", "bias/moad_image", "geometry/uniformity_image"):
        assert before[key] == after[key]
    assert before["quality/t2i_recall_1"] != after["quality/t2i_recall_1"]
    assert before["gap/l2m"] != after["gap/l2m"]


def test_trainings_side_by_side_may_differ_in_it() -> None:
    pair = [config("own"), config("full")]
    assert reset_packable_settings(pair[0]) == reset_packable_settings(pair[1])

    own, full = finished(pair)
    twins = finished([pair[0], pair[0]])

    assert own.weights() == full.weights() == twins[0].weights()
    assert own.read_final_metrics() == pytest.approx(twins[0].read_final_metrics(), rel=0, abs=0, nan_ok=True)
    assert own.read_final_metrics()["gap/l2m"] != full.read_final_metrics()["gap/l2m"]


@pytest.mark.parametrize("intervention", ["none", "centre"])
def test_weights_that_exist_may_be_measured_by_it(intervention: str) -> None:
    parent = finished([config("own")])[0]
    measured = TrialConfig.model_validate(
        {
            **config("full").model_dump(),
            "train": {"samples": 0, "batch_size": 32, "precision": "float32"},
            "evaluate": {"every": 64, "gallery": 120, "intervention": intervention},
            "init_from": {"train.samples": 128, "data.captions.held_out": "own"},
        }
    )
    assert measured.parent is not None
    assert compute_trial_id(measured.parent, 0, "f") == compute_trial_id(config("own"), 0, "f")

    found = finished([measured], parent.weights())[0].read_final_metrics()

    full = finished([config("full")])[0].read_final_metrics()
    if intervention == "none":
        assert found == {key: value for key, value in full.items() if not key.startswith("train/")}
    else:
        assert found["gap/l2m"] < 0.6 * full["gap/l2m"]


def test_what_was_trained_before_keeps_its_id_and_a_full_gallery_has_another() -> None:
    written_out, left_out = (
        config("own"),
        TrialConfig.model_validate(
            {
                "data": {"captions": {"attributes": 0}},
                "train": {"samples": 128, "batch_size": 32, "precision": "float32"},
                "evaluate": {"every": 64, "gallery": 120},
            }
        ),
    )

    assert compute_trial_id(written_out, 0, "f") == compute_trial_id(left_out, 0, "f") == BEFORE
    assert compute_trial_id(config("full"), 0, "f") != BEFORE


def test_pictures_of_held_out_captions_are_full_too() -> None:
    sides = {"sides": "image_image"}
    own, full = (config(held_out, sides, attributes=0) for held_out in ("own", "full"))
    shown = [
        SecondSide(digits(), require_mad_data(each)).prepare_captions(gallery_of(each).tokens_NL)
        for each in (own, full)
    ]
    of_all = config("own", sides, attributes=5)

    assert not np.array_equal(*shown)
    np.testing.assert_array_equal(
        shown[1],
        SecondSide(digits(), require_mad_data(of_all)).prepare_captions(gallery_of(of_all).tokens_NL),
    )
