"""`loss.equal_captions: masked` leaves equal captions of a batch out of the loss."""

import math
from typing import Any, Literal

import numpy as np
import pytest
import torch

from gapctl.config.presets import PRESETS
from gapctl.config.trial import Evaluate, Loss, MadCaptions, MadData, Train, TrialConfig
from gapctl.data.mad.feed import MadFeed
from gapctl.models.losses import find_equal_captions, make_contrastive_loss
from gapctl.plan.trial_id import compute_trial_id
from gapctl.training.batches import join_batches
from gapctl.training.fused_step import FusedStep
from gapctl.training.step_options import build_step_options
from gapctl.training.trainer import TrainingRun
from gapctl.training.trial_state import TrialState, build_trial_model
from mad_data import small_data
from memory_store import MemoryStore

CPU = torch.device("cpu")
Kind = Literal["clip", "siglip"]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def config(attributes: int, kind: Kind = "clip", equal: Literal["negatives", "masked"] = "masked") -> TrialConfig:
    return TrialConfig(
        data=MadData(captions=MadCaptions(attributes=attributes)),
        loss=Loss(kind=kind, equal_captions=equal),
        train=Train(samples=96, batch_size=32, precision="float32"),
        evaluate=Evaluate(every=96, gallery=40),
    )


def loss_by_hand(kind: Kind, logits_NN: torch.Tensor, ids: list[int]) -> float:
    """Pair by pair, without the pairs of different images whose captions are equal."""
    total, number = 0.0, len(ids)
    for own in range(number):
        others = [at for at in range(number) if at == own or ids[at] != ids[own]]
        if kind == "clip":
            for line in (logits_NN[own], logits_NN[:, own]):
                total -= float(torch.log_softmax(line[others], dim=0)[others.index(own)]) / 2
        else:
            signs = torch.tensor([1.0 if at == own else -1.0 for at in others])
            total -= float(torch.nn.functional.logsigmoid(signs * logits_NN[own, others]).sum())
    return total / number


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_the_loss_is_that_of_the_pairs_that_are_left(kind: Kind) -> None:
    draws = torch.Generator().manual_seed(1)
    image_ND, text_ND = (torch.randn(7, 4, generator=draws) for _ in "ab")
    ids, bias = [3, 1, 3, 2, 3, 1, 5], [torch.tensor(-1.5)] * (kind == "siglip")
    equal_NN = find_equal_captions(torch.tensor(ids).unsqueeze(1))
    found = make_contrastive_loss(kind, masked=True)(image_ND, text_ND, torch.tensor(2.0), *bias, equal_NN)
    logits_NN = 2 * image_ND @ text_ND.T + (bias[0] if bias else 0)

    assert float(found) == pytest.approx(loss_by_hand(kind, logits_NN, ids), rel=1e-5)
    assert equal_NN.sum() == 6 + 2


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_without_equal_captions_it_is_the_usual_loss(kind: Kind) -> None:
    draws = torch.Generator().manual_seed(2)
    image_ND, text_ND = (torch.nn.functional.normalize(torch.randn(6, 4, generator=draws), dim=1) for _ in "ab")
    scalars = (torch.tensor(3.0), *[torch.tensor(-2.0)] * (kind == "siglip"))
    none_NN = torch.zeros(6, 6, dtype=torch.bool)

    masked, usual = make_contrastive_loss(kind, masked=True), make_contrastive_loss(kind)
    assert float(masked(image_ND, text_ND, *scalars, none_NN)) == pytest.approx(
        float(usual(image_ND, text_ND, *scalars)), rel=1e-6
    )


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_a_step_of_packed_trials_masks_each_ones_own_captions(kind: Kind) -> None:
    configs = [config(attributes, kind) for attributes in (0, 1, 5)]
    batches = [next(iter(MadFeed(small_data(), each, seed)))[0] for seed, each in enumerate(configs)]
    options = build_step_options(configs[0], "float32")
    together = FusedStep([build_trial_model(each, 3) for each in configs], PRESETS["mad-tiny"], options)
    pairs = join_batches(batches)
    loss_M = together(pairs.image_SCHW, pairs.second, 1e-3)

    for place, (each, batch) in enumerate(zip(configs, batches, strict=True)):
        model = build_trial_model(each, 3)
        alone = join_batches([batch])
        step = FusedStep([model], PRESETS["mad-tiny"], options)
        assert float(step(alone.image_SCHW, alone.second, 1e-3)) == pytest.approx(float(loss_M[place]), rel=1e-5)
        torch.testing.assert_close(together.models[place].visual.proj, model.visual.proj, rtol=1e-3, atol=3e-5)


def finish(*configs: TrialConfig) -> list[dict[str, float]]:
    run = TrainingRun([TrialState(each, 0, small_data(), MemoryStore(), CPU) for each in configs], CPU)
    while not run.done:
        run.train_for(60.0)
    return [member.read_final_metrics() for member in run.members]


def test_a_training_has_a_lower_loss_and_neither_a_floor_nor_a_bayes_loss() -> None:
    (masked,), (usual,) = finish(config(0)), finish(config(0, equal="negatives"))

    assert masked["train/loss"] < usual["train/loss"] - 0.05
    assert usual["train/loss_floor"] > 1
    assert masked["train/loss_floor"] == 0
    assert "train/loss_bayes" in usual
    assert "train/loss_bayes" not in masked
    assert math.isfinite(masked["gap/rmg"])


def test_ids_of_trials_without_the_setting_stay() -> None:
    plain = TrialConfig()

    assert compute_trial_id(plain, 0, "f") == compute_trial_id(
        TrialConfig(loss=Loss(equal_captions="negatives")), 0, "f"
    )
    assert compute_trial_id(plain, 0, "f") != compute_trial_id(TrialConfig(loss=Loss(equal_captions="masked")), 0, "f")


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (
            {"data": {"dataset": "image_text"}, "model": {"preset": "pairs-small"}},
            "dataset image_text, whose steps",
        ),
        ({"data": {"sides": "image_image"}}, "with data.sides image_image; no two pictures are equal"),
        ({"model": {"preset": "table"}}, "with model.preset table, whose steps cannot leave captions out"),
    ],
)
def test_what_cannot_mask_says_so(document: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TrialConfig.model_validate({**document, "loss": {"equal_captions": "masked"}})


def test_every_pair_but_the_own_one_is_found_where_all_captions_are_equal() -> None:
    equal_MNN = find_equal_captions(torch.ones(2, 3, 5, dtype=torch.int64))

    np.testing.assert_array_equal(equal_MNN, np.broadcast_to(~np.eye(3, dtype=bool), (2, 3, 3)))
