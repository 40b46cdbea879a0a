"""The step for open_clip's models has the loss and gradients of open_clip's own losses, however the work is cut."""

import copy
import io

import pytest
import torch
from open_clip.model import CLIP
from torch import Tensor

from gapctl.config.presets import PRESETS, Preset
from gapctl.errors import InputError, WorkError
from gapctl.models.build import MAX_LOG_SCALE, PixelNormaliser
from gapctl.models.losses import LossKind, make_contrastive_loss
from gapctl.training.autograd_step import AutogradStep, explain_compile_errors
from gapctl.training.step_options import Precision
from open_models import CPU, TINY, TINY_RESNET, pairs, tiny_model, tiny_rule

BATCH = 12
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def by_open_clip(model: CLIP, preset: Preset, loss: LossKind, image_BCHW: Tensor, token_BL: Tensor) -> Tensor:
    """The loss of open_clip's forward and loss class; gradients are written."""
    pixels = PixelNormaliser(preset.mean, preset.std, CPU).images(image_BCHW).to(model.logit_scale.dtype)
    value: Tensor = make_contrastive_loss(loss)(*model(pixels, token_BL))
    torch.autograd.backward(value)
    return value.detach()


def worst_error(found: CLIP, expected: CLIP) -> float:
    """The largest error of a parameter's gradient, relative to it or, where it is all but zero, to the whole."""
    mine, theirs = gradients_of(found), gradients_of(expected)
    assert mine.keys() == theirs.keys()
    smallest = 1e-4 * torch.stack([value.norm() for value in theirs.values()]).norm()
    return max(float((mine[name] - value).norm() / value.norm().clamp_min(smallest)) for name, value in theirs.items())


def gradients_of(model: CLIP) -> dict[str, Tensor]:
    return {name: value.grad for name, value in model.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("micro_batches", [1, 2, 5])
@pytest.mark.parametrize("loss", ["clip", "siglip"])
def test_loss_and_every_gradient_are_those_of_open_clip_however_a_batch_is_cut(
    loss: LossKind, micro_batches: int
) -> None:
    model = tiny_model(TINY, loss).double()
    reference = copy.deepcopy(model)
    batch = pairs(TINY, BATCH)

    found = AutogradStep(model, tiny_rule(TINY, loss, micro_batches), CPU).gradients(*batch)

    torch.testing.assert_close(found, by_open_clip(reference, TINY, loss, *batch).view(1), rtol=1e-12, atol=0)
    assert worst_error(model, reference) < 1e-11


def test_a_resnet_has_open_clips_gradients_and_running_statistics() -> None:
    model = tiny_model(TINY_RESNET).double()
    reference = copy.deepcopy(model)
    batch = pairs(TINY_RESNET, BATCH)

    AutogradStep(model, tiny_rule(TINY_RESNET), CPU).gradients(*batch)
    by_open_clip(reference, TINY_RESNET, "clip", *batch)

    assert worst_error(model, reference) < 1e-10
    for (name, mine), theirs in zip(model.named_buffers(), reference.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=0, msg=name)


def test_running_statistics_move_once_for_each_micro_batch() -> None:
    model = tiny_model(TINY_RESNET)

    AutogradStep(model, tiny_rule(TINY_RESNET, micro_batches=3), CPU).gradients(*pairs(TINY_RESNET, BATCH))

    counts = {int(value) for name, value in model.named_buffers() if name.endswith("num_batches_tracked")}
    assert counts == {3}
    assert all(module.track_running_stats for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d))


def test_a_frozen_tower_and_a_frozen_temperature_get_no_gradient() -> None:
    model = tiny_model(TINY, learned=False)
    model.visual.requires_grad_(False)
    reference = copy.deepcopy(model)
    batch = pairs(TINY, BATCH)

    AutogradStep(model, tiny_rule(TINY, micro_batches=2), CPU).gradients(*batch)
    by_open_clip(reference, TINY, "clip", *batch)

    assert model.logit_scale.grad is None
    assert worst_error(model, reference) < 1e-4


def test_a_scheduled_temperature_is_set_and_a_learned_one_cannot_be() -> None:
    fixed, learned = tiny_model(TINY, learned=False), tiny_model(TINY)
    batch = pairs(TINY, BATCH)

    AutogradStep(fixed, tiny_rule(TINY), CPU)(*batch, 1e-3, temperatures=[0.02])

    assert float(fixed.logit_scale.exp()) == pytest.approx(50.0)
    with pytest.raises(ValueError, match="not learned"):
        AutogradStep(learned, tiny_rule(TINY), CPU)(*batch, 1e-3, temperatures=[0.02])


def test_a_learned_temperature_stays_within_its_bounds() -> None:
    model = tiny_model(TINY)
    with torch.no_grad():
        model.logit_scale.fill_(MAX_LOG_SCALE - 1e-3)
    step, batch = AutogradStep(model, tiny_rule(TINY), CPU), pairs(TINY, 2)

    for _ in range(30):
        step(*batch, 1e-2)

    assert 0 <= float(model.logit_scale.detach()) <= MAX_LOG_SCALE


def test_training_lowers_the_loss() -> None:
    step, batch = AutogradStep(tiny_model(TINY), tiny_rule(TINY), CPU), pairs(TINY, BATCH)

    losses = [float(step(*batch, 3e-3)) for _ in range(20)]

    assert losses[-1] < 0.5 * losses[0]


def trained(steps: int, preset: Preset = TINY) -> AutogradStep:
    step = AutogradStep(tiny_model(preset), tiny_rule(preset, micro_batches=2), CPU)
    for index in range(steps):
        step(*pairs(preset, BATCH, seed=index), 1e-3)
    return step


@pytest.mark.parametrize("preset", [TINY, TINY_RESNET], ids=["vit", "resnet"])
def test_a_training_continued_from_what_it_kept_ends_with_the_same_bits(preset: Preset) -> None:
    whole, half = trained(4, preset), trained(2, preset)
    kept = io.BytesIO()
    torch.save({"model": half.model.state_dict(), "optimizer": half.optimizer_state()}, kept)
    kept.seek(0)
    document = torch.load(kept, weights_only=True)

    model = tiny_model(preset, seed=9)
    model.load_state_dict(document["model"])
    step = AutogradStep(model, tiny_rule(preset, micro_batches=2), CPU)
    step.load([document["optimizer"]])
    for index in (2, 3):
        step(*pairs(preset, BATCH, seed=index), 1e-3)

    assert same_bits(step.model, whole.model)


def same_bits(one: CLIP, other: CLIP) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_the_same_training_twice_gives_the_same_bits() -> None:
    assert same_bits(trained(3).model, trained(3).model)


def test_bfloat16_gradients_point_where_float32_ones_do_and_masters_stay_float32() -> None:
    batch = pairs(TINY, BATCH)
    flat = {}
    for precision in PRECISIONS:
        model = tiny_model(TINY)
        step = AutogradStep(model, tiny_rule(TINY, precision=precision), CPU)
        step.gradients(*batch)
        flat[precision] = torch.cat([value.grad.flatten() for value in model.parameters() if value.grad is not None])
        assert {value.dtype for value in model.parameters()} == {torch.float32}

    assert float(torch.cosine_similarity(flat["float32"], flat["bfloat16"], dim=0)) > 0.99
    assert not torch.allclose(flat["float32"], flat["bfloat16"], rtol=1e-4)


def test_only_matrices_decay() -> None:
    model = tiny_model(TINY)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}

    step = AutogradStep(model, tiny_rule(TINY), CPU)
    step(*pairs(TINY, BATCH), 0.0)
    groups = step.optimizer_state()["param_groups"]

    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    vectors = sum(value.numel() for value in before.values() if value.ndim < 2)
    assert step.optimizer_state()["state"][1]["exp_avg"].numel() == vectors


def test_a_batch_smaller_than_its_parts_is_refused_in_words() -> None:
    step = AutogradStep(tiny_model(TINY), tiny_rule(TINY, micro_batches=4), CPU)

    with pytest.raises(InputError, match=r"3 pairs cannot be cut into 4 micro-batches"):
        step(*pairs(TINY, 3), 1e-3)


def test_a_machine_without_a_compiler_is_told_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", ("no-such-compiler",))
    double = torch.compile(lambda value: value.sin() * 2)

    with pytest.raises(WorkError, match=r"no-such-compiler(.|\n)*needs a C\+\+ compiler"), explain_compile_errors():
        double(torch.ones(3))


def test_presets_of_both_kinds_are_what_the_tests_shrink() -> None:
    assert {type(TINY.image), type(TINY_RESNET.image)} == {type(preset.image) for preset in PRESETS.values()}
