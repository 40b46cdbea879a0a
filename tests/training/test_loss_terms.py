"""Alignment and uniformity as parts of a loss: the measures of the same name, with their gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from gapctl.config.trial import Loss, TrialConfig
from gapctl.metrics.embedding_set import Embeddings
from gapctl.metrics.sampling import THOROUGH_LIMITS
from gapctl.metrics.suite import measure_embeddings
from gapctl.models.losses import LossKind, LossTerms, make_contrastive_loss, sum_loss_terms
from gapctl.training.autograd_step import AutogradStep
from gapctl.training.fused_step import FusedStep
from gapctl.training.step_options import build_step_options
from open_models import CPU, TINY, pairs, tiny_model, tiny_rule

EACH = [LossTerms(alignment=1.0), LossTerms(uniformity=1.0), LossTerms(cross_uniformity=1.0)]
ALL = LossTerms(alignment=0.7, uniformity=0.5, cross_uniformity=0.3)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def clouds(number: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Unit rows in float64, apart from each other as modalities are."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(2, number, 6, generator=generator, dtype=torch.float64)
    rows[1] += 0.5
    image_NE, text_NE = normalize(rows, dim=-1)
    return image_NE, text_NE


def test_a_term_is_the_measure_of_its_name() -> None:
    image_NE, text_NE = clouds(20)
    measured = measure_embeddings(Embeddings(image_NE.numpy(), text_NE.numpy()), THOROUGH_LIMITS)
    both = (measured["geometry/uniformity_image"] + measured["geometry/uniformity_text"]) / 2

    values = [float(sum_loss_terms(terms, image_NE, text_NE)) for terms in EACH]

    expected = [measured["geometry/alignment"], both, measured["geometry/uniformity_cross"]]
    assert values == pytest.approx(expected, rel=1e-9)
    weighted = sum(weight * value for weight, value in zip(ALL, values, strict=True))
    assert float(sum_loss_terms(ALL, image_NE, text_NE)) == pytest.approx(weighted, rel=1e-12)


@settings(max_examples=10, deadline=None)
@given(number=st.integers(2, 9), seed=st.integers(0, 1000), terms=st.sampled_from([*EACH, ALL]))
def test_gradients_are_the_differences_that_small_changes_make(number: int, seed: int, terms: LossTerms) -> None:
    features = [cloud_NE.requires_grad_() for cloud_NE in clouds(number, seed)]

    assert torch.autograd.gradcheck(lambda *both: sum_loss_terms(terms, *both), features)


@pytest.mark.parametrize("loss", ["clip", "siglip"])
def test_both_kinds_of_step_add_them(loss: LossKind) -> None:
    batches = [pairs(TINY, 12, seed=index) for index in range(3)]
    rule = tiny_rule(TINY, loss, terms=ALL)
    by_hand = FusedStep([tiny_model(TINY, loss)], TINY, rule)
    by_autograd = AutogradStep(tiny_model(TINY, loss), rule, CPU)
    plain = FusedStep([tiny_model(TINY, loss)], TINY, tiny_rule(TINY, loss))

    losses = [[float(step(*batch, 1e-3)) for batch in batches] for step in (by_hand, by_autograd, plain)]

    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[0][0] != pytest.approx(losses[2][0], rel=1e-3)


def test_packed_models_have_the_losses_that_each_has_alone() -> None:
    batches, rule = [pairs(TINY, 12, seed=seed) for seed in range(2)], tiny_rule(TINY, terms=ALL)
    together = FusedStep([tiny_model(TINY, seed=seed) for seed in range(2)], TINY, rule)
    image_SCHW, token_SL = (torch.cat([batch[side] for batch in batches]) for side in range(2))

    loss_M = together(image_SCHW, token_SL, 1e-3)

    alone = [FusedStep([tiny_model(TINY, seed=seed)], TINY, rule)(*batches[seed], 1e-3) for seed in range(2)]
    torch.testing.assert_close(loss_M, torch.cat(alone), rtol=1e-5, atol=0)


def test_a_trials_weights_reach_its_step() -> None:
    assert (
        build_step_options(TrialConfig(loss=Loss(alignment=0.7, uniformity=0.5, cross_uniformity=0.3)), "float32").terms
        == ALL
    )


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_without_terms_the_loss_is_open_clips_own(kind: LossKind) -> None:
    image_NE, text_NE = clouds(8)
    scalars = (torch.tensor(10.0), torch.tensor(-5.0))[: 1 if kind == "clip" else 2]

    plain, with_terms = make_contrastive_loss(kind), make_contrastive_loss(kind, ALL)

    assert type(plain).__module__ == "open_clip.loss"
    difference = with_terms(image_NE, text_NE, *scalars) - plain(image_NE, text_NE, *scalars)
    torch.testing.assert_close(difference, sum_loss_terms(ALL, image_NE, text_NE))
