"""A learned temperature's own learning rate: AdamW's, in a group of its own."""

import pytest
import torch
from open_clip.model import CLIP
from pydantic import ValidationError
from torch import Tensor

from gapctl.config.trial import Temperature, Train, TrialConfig
from gapctl.models.build import MAX_LOG_SCALE
from gapctl.models.losses import make_contrastive_loss
from gapctl.training.autograd_step import AutogradStep
from gapctl.training.fused_step import FusedStep
from gapctl.training.step_options import build_step_options
from open_models import CPU, TINY, pairs, tiny_model, tiny_rule

RATE = 1e-3
BATCHES = [pairs(TINY, 12, seed=index) for index in range(5)]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def scale_of(model: CLIP) -> float:
    return float(model.logit_scale.detach())


def with_a_group_for_the_temperature(rate: float, seed: int = 0) -> CLIP:
    """The model after torch's own AdamW trained it."""
    model = tiny_model(TINY, seed=seed)
    others = [value for name, value in model.named_parameters() if name != "logit_scale"]
    groups = [
        {"params": [value for value in others if value.ndim >= 2], "weight_decay": 0.1},
        {"params": [value for value in others if value.ndim < 2], "weight_decay": 0.0},
        {"params": [model.logit_scale], "weight_decay": 0.0, "lr": rate},
    ]
    adamw = torch.optim.AdamW(groups, lr=RATE, betas=TINY.betas, eps=TINY.epsilon)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (TINY.mean, TINY.std))
    for image_NCHW, token_NL in BATCHES:
        adamw.zero_grad()
        outputs = model((image_NCHW / 255 - mean) / std, token_NL)
        make_contrastive_loss("clip")(*outputs).backward()
        adamw.step()
    return model


@pytest.mark.parametrize("speed", [0.1, 30.0])
def test_both_kinds_of_step_do_what_a_group_of_its_own_does(speed: float) -> None:
    rule = tiny_rule(TINY, temperature_speed=speed)
    by_hand, by_autograd = tiny_model(TINY), tiny_model(TINY)
    steps = FusedStep([by_hand], TINY, rule), AutogradStep(by_autograd, rule, CPU)
    for step in steps:
        for batch in BATCHES:
            step(*batch, RATE)

    expected = with_a_group_for_the_temperature(speed * RATE)
    for model in (by_hand, by_autograd):
        assert scale_of(model) == pytest.approx(scale_of(expected), abs=1e-5)
        assert torch.allclose(model.token_embedding.weight, expected.token_embedding.weight, atol=1e-4)


def test_packed_temperatures_move_as_each_does_alone() -> None:
    models = [tiny_model(TINY, seed=seed) for seed in range(2)]
    together = FusedStep(models, TINY, tiny_rule(TINY, temperature_speed=30.0))
    for batch in BATCHES:
        both: list[Tensor] = [torch.cat([side, side]) for side in batch]
        together(both[0], both[1], RATE)

    expected = [scale_of(with_a_group_for_the_temperature(30 * RATE, seed)) for seed in range(2)]
    assert [scale_of(model) for model in models] == pytest.approx(expected, abs=1e-4)


def test_the_bounds_hold_and_a_fixed_temperature_stays() -> None:
    learned, fixed = tiny_model(TINY), tiny_model(TINY, learned=False)
    before = scale_of(fixed)
    for model in (learned, fixed):
        step = FusedStep([model], TINY, tiny_rule(TINY, temperature_speed=1e4))
        for batch in BATCHES:
            step(*batch, RATE)
            assert 0.0 <= scale_of(model) <= MAX_LOG_SCALE

    assert scale_of(learned) in (0.0, MAX_LOG_SCALE)
    assert scale_of(fixed) == before


def test_a_trial_s_rule_has_the_speed_of_its_file() -> None:
    config = TrialConfig(temperature=Temperature(lr=0.02), train=Train(lr=1e-3))

    assert build_step_options(config, "float32").temperature_speed == pytest.approx(20.0)
    assert build_step_options(TrialConfig(), "float32").temperature_speed == 1.0


def test_a_rate_beyond_what_a_step_in_float32_holds_is_refused() -> None:
    with pytest.raises(
        ValidationError, match=r"found 0.02 with train.lr 1e-06; expected at most 0.001, a thousand times"
    ):
        TrialConfig(temperature=Temperature(lr=0.02), train=Train(lr=1e-6))

    assert TrialConfig(temperature=Temperature(mode="fixed", lr=0.02), train=Train(lr=1e-6))
