"""The step that suits a model is chosen, and a checkpoint of one kind goes on in the other."""

from dataclasses import replace

import pytest
import torch

from gapctl.config.presets import Preset
from gapctl.models.losses import LossKind
from gapctl.training.autograd_step import AutogradStep
from gapctl.training.fused_step import FusedStep
from gapctl.training.step_options import StepOptions
from gapctl.training.trainer import build_single_step
from gapctl.training.workers import WorkerGroup
from open_models import CPU, TINY, TINY_RESNET, pairs, tiny_model, tiny_rule

WHOLE = tiny_rule(TINY)


def test_a_small_transformer_on_one_core_is_trained_by_hand() -> None:
    assert isinstance(build_single_step(tiny_model(TINY), TINY, WHOLE, CPU), FusedStep)
    assert isinstance(build_single_step(tiny_model(TINY, learned=False), TINY, WHOLE, CPU, WorkerGroup()), FusedStep)


@pytest.mark.parametrize(
    ("preset", "rule"),
    [(TINY_RESNET, WHOLE), (TINY, replace(WHOLE, micro_batches=2))],
    ids=["resnet", "micro-batches"],
)
def test_what_the_hand_written_pass_cannot_do_is_left_to_open_clips(preset: Preset, rule: StepOptions) -> None:
    assert isinstance(build_single_step(tiny_model(preset), preset, rule, CPU), AutogradStep)


def test_a_frozen_tower_is_left_to_open_clips_pass() -> None:
    model = tiny_model(TINY)
    model.visual.requires_grad_(False)

    assert isinstance(build_single_step(model, TINY, WHOLE, CPU), AutogradStep)


@pytest.mark.parametrize("loss", ["clip", "siglip"])
def test_both_train_the_same_model_and_each_goes_on_from_the_other(loss: LossKind) -> None:
    torch.set_num_threads(1)
    batches = [pairs(TINY, 12, seed=index) for index in range(4)]
    models, rule = (tiny_model(TINY, loss), tiny_model(TINY, loss)), tiny_rule(TINY, loss)
    first = build_single_step(models[0], TINY, rule, CPU), AutogradStep(models[1], rule, CPU)
    found = [[float(step(*batch, 1e-3)) for batch in batches[:2]] for step in first]

    then = AutogradStep(models[0], rule, CPU), build_single_step(models[1], TINY, rule, CPU)
    for before, step, losses in zip(first, then, found, strict=True):
        step.load([before.optimizer_state()])
        losses += [float(step(*batch, 1e-3)) for batch in batches[2:]]

    assert found[0] == pytest.approx(found[1], rel=1e-4)
    assert found[0][-1] != pytest.approx(found[0][0], rel=0.01)


def test_a_scheduled_temperature_is_what_either_step_trains_with() -> None:
    batch = pairs(TINY, 12)
    models = tiny_model(TINY, learned=False), tiny_model(TINY, learned=False)
    steps = build_single_step(models[0], TINY, WHOLE, CPU), AutogradStep(models[1], WHOLE, CPU)

    losses = [[float(step(*batch, 1e-3, [temperature])) for temperature in (0.5, 0.02)] for step in steps]

    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert [float(model.logit_scale.exp()) for model in models] == pytest.approx([50.0, 50.0])
