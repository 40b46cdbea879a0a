"""Trials with images on both sides: two image encoders, of which the second sees pictures of captions."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pytest
import torch
from open_clip.model import CLIP
from pydantic import ValidationError
from torch import Tensor
from torch.nn.functional import normalize

from gapctl.config.metrics import is_posterior_metric
from gapctl.config.presets import PRESETS
from gapctl.config.trial import Evaluate, MadCaptions, MadData, Model, Train, TrialConfig
from gapctl.data.mad.feed import MadBatch, MadFeed, normalise_images, require_mad_data
from gapctl.data.mad.sampler import GALLERY_SEED
from gapctl.models.build import build_model, map_tied_parameter_names
from gapctl.models.losses import make_contrastive_loss
from gapctl.plan.estimate import count_trial_flops
from gapctl.plan.plan import Trial, pack_trials, reset_packable_settings
from gapctl.training.batches import copy_to_device, iterate_device_batches, iterate_host_batches, join_batches
from gapctl.training.evaluation import MadEvaluation, SecondSide, build_gallery
from gapctl.training.fused_step import FusedStep
from gapctl.training.step_options import build_step_options
from gapctl.training.trainer import TrainingRun
from gapctl.training.trial_state import MAD_VOCABULARY as VOCABULARY
from gapctl.training.trial_state import TrialState
from mad_data import small_data
from memory_store import MemoryStore

CPU = torch.device("cpu")
PRESET = PRESETS["mad-tiny"]
DATA = small_data(test=80)
"""With digits of each class, of which zero-shot prompts are pictures."""
Shared = Literal["nothing", "blocks"]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def config(attributes: int = 2, shared: Shared = "nothing", **changes: object) -> TrialConfig:
    parts: dict[str, object] = {
        "data": MadData(captions=MadCaptions(attributes=attributes), sides="image_image"),
        "model": Model(shared=shared),
        "train": Train(samples=256, batch_size=32, precision="float32"),
        "evaluate": Evaluate(every=128, gallery=60),
    }
    return TrialConfig(**{**parts, **changes})


def batch_of(trial: TrialConfig, seed: int = 0) -> MadBatch:
    return next(iter(MadFeed(DATA, trial, seed)))[0]


def encoded(model: CLIP, batch: MadBatch) -> tuple[Tensor, Tensor]:
    """By open_clip's own encoders."""
    assert batch.pictures_BCHW is not None
    first, second = (normalise_images(torch.from_numpy(each)) for each in (batch.images_BCHW, batch.pictures_BCHW))
    return model.encode_image(first), model.get_submodule("second")(second)


def finish(members: Sequence[TrialState]) -> list[dict[str, float]]:
    run = TrainingRun(members, CPU)
    while not run.done:
        run.train_for(60.0)
    return [member.read_final_metrics() for member in members]


def test_the_first_encoder_starts_as_it_does_beside_texts_and_the_second_otherwise() -> None:
    twice, beside = build_model(config(), VOCABULARY, 3), build_model(TrialConfig(), VOCABULARY, 3)
    first = {name: value for name, value in twice.named_parameters() if name.startswith("visual.")}
    known = dict(beside.named_parameters())

    assert all(torch.equal(value, known[name]) for name, value in first.items())
    second = dict(twice.get_submodule("second").named_parameters())
    assert second.keys() == {name.removeprefix("visual.") for name in first}
    assert not torch.equal(second["conv1.weight"], first["visual.conv1.weight"])
    assert not any(
        name.startswith(("transformer", "token_embedding", "text_projection"))
        for name in dict(twice.named_parameters())
    )


@pytest.mark.parametrize("shared", ["nothing", "blocks"])
def test_gradients_by_hand_are_autograds(shared: Shared) -> None:
    trial = config(shared=shared)
    batch, pairs = batch_of(trial), join_batches([batch_of(trial)])
    model, reference = (build_model(trial, VOCABULARY, 3) for _ in "ab")
    features = [normalize(feature, dim=-1) for feature in encoded(reference, batch)]
    loss = make_contrastive_loss("clip")(*features, reference.logit_scale.exp())
    torch.autograd.backward(loss)
    step = FusedStep([model], PRESET, build_step_options(trial, "float32"))

    found = step.gradients(step.cut_normalised_patches(pairs.image_SCHW), step.cut_normalised_patches(pairs.second))

    assert float(found) == pytest.approx(float(loss.detach()), rel=1e-6)
    expected = {name: value.grad for name, value in reference.named_parameters()}
    assert step.weights.keys() == expected.keys()
    for name, weight in step.weights.items():
        torch.testing.assert_close(weight.grad, expected[name], rtol=5e-4, atol=1e-6, msg=name)


def test_all_but_patch_embeddings_may_be_shared() -> None:
    names = map_tied_parameter_names(build_model(config(shared="blocks"), VOCABULARY, 0))
    own = {name for name, _ in build_model(config(), VOCABULARY, 0).named_parameters() if name.startswith("second.")}

    embedding = {"class_embedding", "positional_embedding", "conv1.weight", "ln_pre.weight", "ln_pre.bias"}
    assert own - names.keys() == {f"second.{name}" for name in embedding}


@torch.no_grad()
def test_an_evaluation_sees_what_open_clips_encoders_see() -> None:
    trial = config()
    model = build_model(trial, VOCABULARY, 4)
    about = require_mad_data(trial)
    gallery, side = build_gallery(DATA, about, trial.evaluate.gallery), SecondSide(DATA, about)

    embeddings = MadEvaluation(DATA, trial, CPU).encode(model).embeddings

    batch = MadBatch(gallery.images_NCHW, gallery.tokens_NL, side.prepare_captions(gallery.tokens_NL))
    for found, expected in zip((embeddings.image_ND, embeddings.text_MD), encoded(model, batch), strict=True):
        np.testing.assert_allclose(found, normalize(expected, dim=-1), atol=2e-6)
    assert embeddings.text_group_M is None


@torch.no_grad()
def test_interventions_are_fitted_on_training_images_and_pictures() -> None:
    trial = config()
    model = build_model(trial, VOCABULARY, 4)
    feed = MadFeed(DATA, trial, GALLERY_SEED)
    batch = feed.render(feed.at(np.arange(40)))

    fitted_on = MadEvaluation(DATA, trial, CPU).encode_training_pairs(model)

    for found, expected in zip(fitted_on, encoded(model, batch), strict=True):
        np.testing.assert_allclose(found[:40], normalize(expected, dim=-1), atol=2e-6)


def test_a_trial_logs_what_trials_with_captions_log() -> None:
    texts = config(data=MadData(captions=MadCaptions(attributes=2)))
    (twice,), (beside,) = (finish([TrialState(each, 0, DATA, MemoryStore(), CPU)]) for each in (config(), texts))

    unknown = {key for key in beside if is_posterior_metric(key)}  # which values a picture shares is not known
    assert unknown
    assert twice.keys() == beside.keys() - unknown
    assert twice["train/loss_floor"] == 0
    assert np.isfinite([twice[key] for key in ("gap/rmg", "bias/moad_text", "quality/object_accuracy")]).all()


@pytest.mark.parametrize("shared", ["nothing", "blocks"])
def test_trials_of_a_pack_end_as_they_end_alone(shared: Shared) -> None:
    trials = [config(0, shared), config(5, shared)]

    def members() -> list[TrialState]:
        return [TrialState(trial, seed, DATA, MemoryStore(), CPU) for seed, trial in enumerate(trials)]

    together, alone = finish(members()), [finish([member])[0] for member in members()]

    for one, other in zip(together, alone, strict=True):
        for key in ("train/loss", "gap/rmg", "gap/l2m", "bias/moad_text"):
            assert one[key] == pytest.approx(other[key], rel=2e-3, abs=2e-4), key


def test_a_training_cut_into_pieces_gives_the_same_bits() -> None:
    store = MemoryStore()
    begun = TrainingRun([TrialState(config(shared="blocks"), 0, DATA, store, CPU)], CPU)
    while begun.members[0].steps < 5:
        begun.train_for(1e-9)
    begun.save()

    resumed, whole = (TrialState(config(shared="blocks"), 0, DATA, kept, CPU) for kept in (store, MemoryStore()))

    assert resumed.steps == 5
    np.testing.assert_equal(finish([resumed]), finish([whole]))


def test_a_device_draws_the_pairs_that_the_host_makes() -> None:
    def feeds() -> list[MadFeed]:
        return [MadFeed(DATA, config(2), seed) for seed in range(2)]

    images = copy_to_device(DATA.train, CPU)
    for one, other, _ in zip(
        iterate_device_batches(feeds(), images, CPU), iterate_host_batches(feeds()), range(3), strict=False
    ):
        assert torch.equal(one.second, other.second)
        assert torch.equal(one.image_SCHW, other.image_SCHW)
        assert np.array_equal(one.caption_id_MB % 32, other.caption_id_MB)


def trial(config: TrialConfig) -> Trial:
    return Trial("", "", 0, {}, config, "")


def test_they_are_packed_with_their_like_and_cost_two_image_encoders() -> None:
    texts = TrialConfig(model=Model(), train=config().train, evaluate=config().evaluate)

    assert len(pack_trials([trial(config(0)), trial(texts), trial(config(5))], 8)) == 2
    assert reset_packable_settings(config(0)) != reset_packable_settings(texts)
    assert count_trial_flops(trial(config())) == 256 * 6 * PRESET.image.count_forward_flops(64)


def test_pictures_have_no_order() -> None:
    with pytest.raises(ValidationError, match="pictures have no order; expected shuffled"):
        MadData(sides="image_image", captions=MadCaptions(order="canonical"))
