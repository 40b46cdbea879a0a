"""The hand-written training pass gives open_clip's own features, loss and gradients, and trains the same weights."""

import copy
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.model import CLIP
from torch import Tensor

from gapctl.config.presets import PRESETS, PatchTower
from gapctl.config.trial import Loss, MadData, Model, Temperature, Train, TrialConfig
from gapctl.config.trial import MadCaptions as CaptionSettings
from gapctl.data.mad.captions import END_TOKEN
from gapctl.data.mad.feed import MadBatch, MadFeed, normalise_images
from gapctl.models.build import build_model, clamp_temperature
from gapctl.models.fused import CaptionTokens, ImageTower, TextTower, cut_captions, cut_patches
from gapctl.models.losses import make_contrastive_loss
from gapctl.training.fused_step import FusedStep, MasterWeights
from gapctl.training.step_options import Precision, build_step_options
from gapctl.training.trial_state import MAD_VOCABULARY as VOCABULARY
from mad_data import small_data

CPU = torch.device("cpu")
PRESET = PRESETS["mad-tiny"]
IMAGE = PRESET.image
assert isinstance(IMAGE, PatchTower)
Kind = Literal["clip", "siglip"]
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def config(
    loss: Kind = "clip", attributes: int = 3, mode: Literal["learned", "fixed"] = "learned", embed_dim: int = 24
) -> TrialConfig:
    return TrialConfig(
        data=MadData(captions=CaptionSettings(attributes=attributes)),
        model=Model(embed_dim=embed_dim),
        temperature=Temperature(mode=mode),
        loss=Loss(kind=loss),
        train=Train(samples=320, batch_size=20, lr=3e-3, precision="float32"),
    )


def batch_of(trial: TrialConfig, position: int = 0) -> MadBatch:
    batch, _ = next(iter(MadFeed(small_data(), trial, 0, position)))
    return batch


def tensors(batch: MadBatch) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(batch.images_BCHW), torch.from_numpy(batch.tokens_BL)


class Reference(NamedTuple):
    """What open_clip's forward and autograd give."""

    features: tuple[Tensor, Tensor]
    loss: Tensor
    gradients: dict[str, Tensor]


def by_autograd(model: CLIP, trial: TrialConfig, batch: MadBatch) -> Reference:
    model = copy.deepcopy(model)
    dtype = model.visual.proj.dtype
    images = normalise_images(torch.from_numpy(batch.images_BCHW)).to(dtype)
    tokens = torch.from_numpy(batch.tokens_BL)
    outputs = model(images, tokens)
    loss = make_contrastive_loss(trial.loss.kind)(*outputs)
    torch.autograd.backward(loss)
    gradients = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    return Reference((model.encode_image(images), model.encode_text(tokens)), loss, gradients)


def livened(model: CLIP) -> CLIP:
    """Every parameter away from 0 and 1, where a mistake in a gradient could hide."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("logit"):
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return model


def relative_error(found: Tensor, expected: Tensor) -> float:
    found, expected = found.detach().double(), expected.detach().double()
    return float((found - expected).norm() / expected.norm().clamp_min(1e-30))


@pytest.mark.parametrize("mode", ["learned", "fixed"])
@pytest.mark.parametrize("attributes", [0, 3, 5])
@pytest.mark.parametrize("loss", ["clip", "siglip"])
def test_loss_and_every_gradient_are_those_of_open_clip(
    loss: Kind, attributes: int, mode: Literal["learned", "fixed"]
) -> None:
    trial = config(loss, attributes, mode)
    batch = batch_of(trial)
    model = livened(build_model(trial, VOCABULARY, seed=3))
    expected = by_autograd(model, trial, batch)
    step = FusedStep([model], PRESET, build_step_options(trial, "float32"))

    captions = cut_captions(torch.from_numpy(batch.tokens_BL), END_TOKEN)
    found = step.gradients(step.cut_normalised_patches(torch.from_numpy(batch.images_BCHW)), captions)

    assert relative_error(found, expected.loss) < 1e-6
    gradients = {name: weight.grad for name, weight in step.weights.items()}
    assert gradients.keys() == expected.gradients.keys()
    assert ("logit_scale" in gradients) == (mode == "learned")
    wrong = {name: relative_error(gradients[name], expected.gradients[name]) for name in gradients}
    assert max(wrong.values()) < 1e-4, wrong


def float64_towers(trial: TrialConfig) -> tuple[CLIP, MasterWeights]:
    model = livened(build_model(trial, VOCABULARY, seed=5).double())
    return model, MasterWeights([model], torch.float64)


@torch.no_grad()
def pulled_back(image: ImageTower, text: TextTower, patch_NI: Tensor, captions: CaptionTokens) -> tuple[Tensor, Tensor]:
    """Both towers' outputs; gradients of half the sum of their squares are written."""
    layers = [image(patch_NI), text(captions)]
    for layer in layers:
        layer.pullback(layer.output)
    return layers[0].output, layers[1].output


def test_in_float64_both_towers_and_their_gradients_agree_to_rounding() -> None:
    trial = config()
    batch = batch_of(trial)
    model, masters = float64_towers(trial)
    reference = copy.deepcopy(model)
    images, tokens = normalise_images(torch.from_numpy(batch.images_BCHW)).double(), torch.from_numpy(batch.tokens_BL)

    image_SE, text_SE = pulled_back(
        ImageTower(masters.weights, IMAGE),
        TextTower(masters.weights, PRESET.text),
        cut_patches(images, IMAGE.patch_size),
        cut_captions(tokens, END_TOKEN),
    )
    expected_image, expected_text = reference.encode_image(images), reference.encode_text(tokens)
    torch.autograd.backward((expected_image.square().sum() + expected_text.square().sum()) / 2)

    assert relative_error(image_SE, expected_image) < 1e-13
    assert relative_error(text_SE, expected_text) < 1e-13
    for name, parameter in reference.named_parameters():
        if parameter.grad is not None:
            assert relative_error(masters.weights[name].grad, parameter.grad) < 1e-12, name


@settings(max_examples=15, deadline=None)
@given(ends=st.lists(st.integers(1, 7), min_size=1, max_size=6), seed=st.integers(0, 1000))
def test_captions_of_unequal_lengths_each_end_where_they_end(ends: list[int], seed: int) -> None:
    trial = config()
    model, masters = float64_towers(trial)
    reference = copy.deepcopy(model)
    tokens = torch.from_numpy(np.random.default_rng(seed).integers(2, END_TOKEN, (len(ends), 8)))
    for row, end in enumerate(ends):
        tokens[row, end], tokens[row, end + 1 :] = END_TOKEN, 0

    with torch.no_grad():
        layer = TextTower(masters.weights, PRESET.text)(cut_captions(tokens, END_TOKEN))
        layer.pullback(layer.output)
    expected = reference.encode_text(tokens)
    torch.autograd.backward(expected.square().sum() / 2)

    assert relative_error(layer.output, expected) < 1e-12
    for name in ("token_embedding.weight", "positional_embedding", "transformer.resblocks.0.attn.in_proj_weight"):
        assert relative_error(masters.weights[name].grad, reference.get_parameter(name).grad) < 1e-11, name


def test_captions_are_cut_after_the_longest_and_not_before() -> None:
    tokens = torch.tensor([[1, 5, END_TOKEN, 0, 0], [1, 5, 6, END_TOKEN, 0]])

    cut = cut_captions(tokens, END_TOKEN)

    assert cut.token_ST.tolist() == [[1, 5, END_TOKEN, 0], [1, 5, 6, END_TOKEN]]
    assert cut.end_S.tolist() == [2, 3]


def test_patches_multiply_like_a_convolution() -> None:
    generator = torch.Generator().manual_seed(0)
    image, kernel = torch.randn(2, 3, 14, 21, generator=generator), torch.randn(5, 3, 7, 7, generator=generator)

    expected = torch.nn.functional.conv2d(image, kernel, stride=7)
    found = (cut_patches(image, 7) @ kernel.flatten(1).t()).view(2, 2, 3, 5).permute(0, 3, 1, 2)

    torch.testing.assert_close(found, expected)


def trained(step: Callable[[MadBatch, float], Tensor], trial: TrialConfig, steps: int) -> list[float]:
    batches = [batch_of(trial, index * trial.train.batch_size) for index in range(steps)]
    return [float(step(batch, trial.train.lr)) for batch in batches]


def plain_loop(model: CLIP, trial: TrialConfig) -> Callable[[MadBatch, float], Tensor]:
    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": trial.train.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=trial.train.lr, betas=PRESET.betas, eps=PRESET.epsilon)
    loss_of = make_contrastive_loss(trial.loss.kind)

    def step(batch: MadBatch, rate: float) -> Tensor:
        loss = loss_of(*model(normalise_images(torch.from_numpy(batch.images_BCHW)), torch.from_numpy(batch.tokens_BL)))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        clamp_temperature(model)
        return loss.detach()

    return step


@pytest.mark.parametrize("loss", ["clip", "siglip"])
def test_twelve_steps_in_float32_follow_a_plain_open_clip_loop(loss: Kind) -> None:
    trial = config(loss)
    ours, theirs = (build_model(trial, VOCABULARY, seed=0) for _ in range(2))

    step = FusedStep([ours], PRESET, build_step_options(trial, "float32"))
    found = trained(lambda batch, rate: step(*tensors(batch), rate), trial, 12)
    expected = trained(plain_loop(theirs, trial), trial, 12)

    assert found == pytest.approx(expected, rel=2e-4)
    assert expected[-1] != pytest.approx(expected[0], rel=0.05)


def test_bfloat16_gradients_point_where_float32_ones_do() -> None:
    trial = config()
    batch = batch_of(trial)
    captions = cut_captions(torch.from_numpy(batch.tokens_BL), END_TOKEN)
    steps = {}
    for precision in PRECISIONS:
        step = FusedStep(
            [livened(build_model(trial, VOCABULARY, seed=3))], PRESET, build_step_options(trial, precision)
        )
        loss = step.gradients(step.cut_normalised_patches(torch.from_numpy(batch.images_BCHW)), captions)
        gradient = torch.cat([weight.grad.flatten() for weight in step.weights.values()])
        steps[precision] = (float(loss), gradient)

    (loss, gradient), (half_loss, half_gradient) = steps["float32"], steps["bfloat16"]
    assert half_loss == pytest.approx(loss, rel=0.01)
    assert float(torch.cosine_similarity(gradient, half_gradient, dim=0)) > 0.995
    assert relative_error(half_gradient, gradient) > 1e-4


def test_bfloat16_masters_keep_changes_too_small_for_bfloat16() -> None:
    trial = config()
    step = FusedStep([build_model(trial, VOCABULARY, seed=0)], PRESET, build_step_options(trial, "bfloat16"))
    before = step.models[0].visual.proj.detach().clone()

    step(*tensors(batch_of(trial)), 1e-6)

    change = (step.models[0].visual.proj.detach() - before).abs()
    assert 0 < float(change.max()) < 2e-6
    weight = step.weights["visual.proj"]
    torch.testing.assert_close(weight.fast, weight.exact.to(torch.bfloat16), rtol=0, atol=0)


def test_the_model_is_a_view_of_the_masters_and_its_state_dict_is_open_clips() -> None:
    trial = config()
    model = build_model(trial, VOCABULARY, seed=0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    masters = MasterWeights([model], torch.bfloat16)

    assert {name: value.tolist() for name, value in model.state_dict().items()} == {
        name: value.tolist() for name, value in before.items()
    }
    masters.matrices.exact.data.fill_(2.0)
    masters.refresh()
    assert bool((model.visual.proj == 2).all())
    assert bool((masters.weights["visual.proj"].fast == 2).all())
    assert not bool((model.visual.ln_pre.weight == 2).any())


def test_matrices_decay_and_vectors_do_not() -> None:
    trial = config()
    step = FusedStep([build_model(trial, VOCABULARY, seed=0)], PRESET, build_step_options(trial, "float32"))
    step(*tensors(batch_of(trial)), 0.0)
    kept = step.optimizer_state(0)
    matrices, vectors = kept["param_groups"]
    counts = {2: 0, 1: 0}
    for parameter in step.models[0].parameters():
        counts[2 if parameter.ndim >= 2 else 1] += parameter.numel()

    assert matrices["weight_decay"] == trial.train.weight_decay
    assert vectors["weight_decay"] == 0
    assert [kept["state"][place]["exp_avg"].numel() for place in (0, 1)] == [counts[2], counts[1]]
