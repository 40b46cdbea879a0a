"""Gap and bias from sums equal the definitions written out over all pairs, and have the known answers."""

from typing import Literal

import numpy as np
import pytest
import torch

from gapctl.config.metrics import METRICS
from gapctl.metrics.bias import mean_label_cosines, moad
from gapctl.metrics.embedding_set import Embeddings, normalise_rows
from gapctl.metrics.gap import GapSums
from gapctl.metrics.sampling import TRIAL_LIMITS
from gapctl.metrics.suite import measure_embeddings
from gapctl.models.losses import compute_loss_floor


def cloud(count: int, width: int = 8, seed: int = 0) -> np.ndarray:
    return normalise_rows(np.random.Generator(np.random.Philox(seed)).normal(size=(count, width)))


def test_identical_clouds_have_no_gap() -> None:
    same_ND = cloud(50)
    found = measure_embeddings(Embeddings(same_ND, same_ND))

    assert found["gap/l2m"] == pytest.approx(0, abs=1e-12)
    assert found["gap/rmg"] < 0.003


def test_independent_clouds_have_no_l2m_and_an_rmg_of_one_half() -> None:
    found = measure_embeddings(Embeddings(cloud(4000, seed=1), cloud(4000, seed=2)), TRIAL_LIMITS)

    assert found["gap/l2m"] == pytest.approx(0, abs=0.05)
    assert found["gap/rmg"] == pytest.approx(0.5, abs=0.02)


def test_shuffling_the_pairs_keeps_l2m_and_raises_rmg() -> None:
    image_ND = cloud(200)
    text_ND = normalise_rows(image_ND + 0.1 * cloud(200, seed=3))
    before, after = (
        measure_embeddings(Embeddings(image_ND, text_ND)),
        measure_embeddings(Embeddings(image_ND, text_ND[::-1].copy())),
    )

    assert after["gap/l2m"] == pytest.approx(before["gap/l2m"])
    assert after["gap/rmg"] > before["gap/rmg"]


def test_merged_sums_equal_the_whole() -> None:
    image_ND, text_ND = cloud(100), cloud(100, seed=1)
    parts = [GapSums.of(image_ND[rows], text_ND[rows]) for rows in (slice(0, 30), slice(30, 100))]

    whole, merged = GapSums.of(image_ND, text_ND), parts[1] + parts[0]
    assert merged.rmg() == pytest.approx(whole.rmg(), rel=1e-12)
    assert merged.l2i() == pytest.approx(whole.l2i(), rel=1e-12)


def test_object_bias_equals_the_mean_over_all_pairs() -> None:
    image_ND, label_N = cloud(40), np.arange(40) % 3
    cosine_NN = image_ND @ image_ND.T
    upper = np.triu(np.ones((40, 40), bool), k=1)
    same = label_N[:, None] == label_N

    found = mean_label_cosines(image_ND, label_N)
    assert found.same == pytest.approx(cosine_NN[upper & same].mean())
    assert found.different == pytest.approx(cosine_NN[upper & ~same].mean())


def test_embeddings_that_hold_only_the_object_are_biased_towards_it() -> None:
    object_N, attribute_N = np.arange(60) % 3, np.arange(60) // 3 % 2
    image_ND = np.eye(3)[object_N]

    assert moad(image_ND, object_N, attribute_N[:, None]).value > 0.9


def test_constant_logits_have_the_entropy_of_the_gallery() -> None:
    found = measure_embeddings(Embeddings(cloud(64), np.repeat(cloud(1), 64, axis=0), logit_scale=10.0))

    assert found["entropy/i2t_nats"] == pytest.approx(np.log(64))
    assert found["entropy/i2t_normalized"] == pytest.approx(1)


def test_the_loss_floor_is_the_logarithm_of_how_often_a_caption_repeats() -> None:
    assert compute_loss_floor(np.array([7, 7, 7, 7]), "clip") == pytest.approx(np.log(4))
    assert compute_loss_floor(np.array([1, 2, 3]), "clip") == 0


def test_captions_that_overlap_without_being_equal_raise_no_floor_and_the_floor_says_so() -> None:
    captions = ["3-red", "3-small", "red", "3", "small"]

    assert compute_loss_floor(np.unique(captions, return_inverse=True)[1], "clip") == 0
    assert METRICS["train/loss_floor"].meaning == "floor of the loss from equal captions alone; not the Bayes loss"


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_the_best_logits_reach_the_floor_and_none_go_below(kind: Literal["clip", "siglip"]) -> None:
    caption_B = torch.tensor([0, 0, 0, 1, 2, 2])
    logit_B3 = torch.zeros(6, 3, dtype=torch.float64, requires_grad=True)  # equal captions have equal logits
    descent = torch.optim.LBFGS([logit_B3], max_iter=500, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        logit_BB, own_BB = logit_B3[:, caption_B], torch.eye(6, dtype=torch.float64)
        if kind == "siglip":
            return -torch.nn.functional.logsigmoid((2 * own_BB - 1) * logit_BB).sum() / 6
        both = [torch.nn.functional.cross_entropy(side_BB, torch.arange(6)) for side_BB in (logit_BB, logit_BB.T)]
        return (both[0] + both[1]) / 2

    def evaluated() -> torch.Tensor:
        descent.zero_grad()
        value = loss()
        value.backward()
        return value

    descent.step(evaluated)
    floor = compute_loss_floor(caption_B.numpy(), kind)
    assert floor - 1e-12 <= loss().item() <= floor + 1e-3
