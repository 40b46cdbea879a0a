"""Encoders that share their blocks: one set of parameters, whose gradients are sums over both uses."""

from dataclasses import replace

import pytest
import torch
from open_clip.model import CLIP
from pydantic import ValidationError
from torch import Tensor
from torch.nn.functional import normalize

from gapctl.config.trial import Model
from gapctl.models.build import EmbeddingHead, PixelNormaliser, build_clip, map_tied_parameter_names
from gapctl.models.losses import LossKind, make_contrastive_loss
from gapctl.training.autograd_step import AutogradStep
from gapctl.training.fused_step import FusedStep
from gapctl.training.trainer import build_single_step
from open_models import CPU, TINY, TINY_RESNET, VOCABULARY, pairs, tiny_rule

DEEPER = TINY._replace(image=TINY.image._replace(layers=3))  # type: ignore[call-arg]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def model(loss: LossKind = "clip", *, shared: bool = True, seed: int = 0) -> CLIP:
    built = build_clip(DEEPER, EmbeddingHead(DEEPER.embed_dim, loss=loss, shared=shared), VOCABULARY, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            if not name.startswith("logit"):
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return built


def test_only_embeddings_and_the_image_encoders_first_block_are_an_encoders_own() -> None:
    names = dict(model().named_parameters())

    own = {"logit_scale", "token_embedding.weight", "positional_embedding", "text_projection"}
    assert {name for name in names if not name.startswith("visual.")} == own
    shared = map_tied_parameter_names(model())
    assert shared["transformer.resblocks.0.mlp.c_fc.bias"] == "visual.transformer.resblocks.1.mlp.c_fc.bias"
    assert shared["visual.proj"] == "text_projection"
    assert map_tied_parameter_names(model(shared=False)) == {}


def test_what_is_left_starts_where_it_starts_unshared() -> None:
    shared, apart = (build_clip(DEEPER, EmbeddingHead(24, shared=shared), VOCABULARY, 3) for shared in (True, False))
    others = dict(apart.named_parameters())

    own = {name: value for name, value in shared.named_parameters() if name != "text_projection"}
    assert all(torch.equal(value, others[name]) for name, value in own.items())
    assert torch.equal(shared.text_projection, others["visual.proj"])


@pytest.mark.parametrize("loss", ["clip", "siglip"])
def test_gradients_by_hand_are_autograds_sums_over_both_uses(loss: LossKind) -> None:
    image_SCHW, token_SL = pairs(DEEPER, 12)
    step, reference = FusedStep([model(loss)], DEEPER, tiny_rule(DEEPER, loss)), model(loss)
    pixels = PixelNormaliser(DEEPER.mean, DEEPER.std, CPU).images(image_SCHW)
    torch.autograd.backward(make_contrastive_loss(loss)(*reference(pixels, token_SL)))

    step.gradients(step.cut_normalised_patches(image_SCHW), step.captions(token_SL))

    expected = {name: value.grad for name, value in reference.named_parameters()}
    assert step.weights.keys() == expected.keys()
    for name, weight in step.weights.items():
        torch.testing.assert_close(weight.grad, expected[name], rtol=2e-4, atol=2e-6, msg=name)


def loss_at(step: FusedStep, image_SCHW: Tensor, token_SL: Tensor) -> float:
    """In float64, from the masters as they are now."""
    with torch.no_grad():
        copied = model().double()
        copied.load_state_dict(step.models[0].state_dict())
        pixels = PixelNormaliser(DEEPER.mean, DEEPER.std, CPU).images(image_SCHW).double()
        features = [copied.encode_image(pixels), copied.encode_text(token_SL)]
        unit = [normalize(feature, dim=-1) for feature in features]
        return float(make_contrastive_loss("clip")(*unit, copied.logit_scale.exp()))


@pytest.mark.parametrize("name", ["text_projection", "visual.transformer.resblocks.2.attn.in_proj_weight"])
def test_a_shared_parameters_gradient_is_the_difference_that_a_small_change_makes(name: str) -> None:
    batch = pairs(DEEPER, 12)
    step = FusedStep([model()], DEEPER, tiny_rule(DEEPER))
    step.gradients(step.cut_normalised_patches(batch[0]), step.captions(batch[1]))
    weight = step.weights[name]
    way = weight.grad / weight.grad.norm()
    losses = []
    for change in (1e-2, -2e-2):
        weight.exact.add_(change * way)
        losses.append(loss_at(step, *batch))

    assert (losses[0] - losses[1]) / 2e-2 == pytest.approx(float(weight.grad.norm()), rel=1e-2)


def test_encoders_of_other_widths_or_kinds_are_refused_with_those_that_fit() -> None:
    with pytest.raises(ValidationError, match=r"whose encoders differ .* preset mad-tiny or mad-patch4 or pairs-small"):
        Model(preset="vit-b-32", shared="blocks")
    assert not DEEPER._replace(image=TINY_RESNET.image).has_shareable_blocks


def test_both_kinds_of_step_train_it_and_its_parts_stay_one() -> None:
    batches = [pairs(DEEPER, 12, seed=index) for index in range(4)]
    models, rule = (model(), model()), tiny_rule(DEEPER)
    steps = (
        build_single_step(models[0], DEEPER, rule, CPU),
        AutogradStep(models[1], replace(rule, micro_batches=2), CPU),
    )

    losses = [[float(step(*batch, 1e-3)) for batch in batches] for step in steps]

    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[0][-1] != pytest.approx(losses[0][0], rel=0.01)
    for trained in models:
        weights = trained.state_dict()
        assert all(
            torch.equal(weights[name], weights[first]) for name, first in map_tied_parameter_names(trained).items()
        )


def test_packed_models_have_the_gradients_that_each_has_alone() -> None:
    batches = [pairs(DEEPER, 12, seed=seed) for seed in range(2)]
    together = FusedStep([model(seed=seed) for seed in range(2)], DEEPER, tiny_rule(DEEPER))
    image_SCHW, token_SL = (torch.cat([batch[side] for batch in batches]) for side in range(2))
    together.gradients(together.cut_normalised_patches(image_SCHW), together.captions(token_SL))

    for seed, batch in enumerate(batches):
        alone = FusedStep([model(seed=seed)], DEEPER, tiny_rule(DEEPER))
        alone.gradients(alone.cut_normalised_patches(batch[0]), alone.captions(batch[1]))
        for name, weight in alone.weights.items():
            torch.testing.assert_close(together.weights[name].grad[seed], weight.grad, rtol=2e-4, atol=2e-6, msg=name)
