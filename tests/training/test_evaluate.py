"""An evaluation sees what the model of open_clip itself sees."""

import numpy as np
import torch
from torch.nn.functional import normalize

from gapctl.config.trial import Evaluate, MadCaptions, MadData, Model, TrialConfig
from gapctl.data.feed import normalise_images
from gapctl.models.build import build_model
from gapctl.training.evaluation import MadEvaluation, build_gallery, compute_trial_metrics
from gapctl.training.trial_state import MAD_VOCABULARY as VOCABULARY
from mad_data import small_data

CPU = torch.device("cpu")


@torch.no_grad()
def test_embeddings_are_those_of_open_clip_s_own_pass_in_float32() -> None:
    config = TrialConfig(
        data=MadData(captions=MadCaptions(attributes=3)), model=Model(embed_dim=24), evaluate=Evaluate(gallery=300)
    )
    model = build_model(config, VOCABULARY, seed=4)
    gallery = build_gallery(small_data(), config)

    embeddings = MadEvaluation(small_data(), config, CPU).encode(model).embeddings

    image_ND = model.encode_image(normalise_images(torch.from_numpy(gallery.images_NCHW)), normalize=True)
    text_ND = normalize(model.encode_text(torch.from_numpy(gallery.tokens_NL)), dim=-1)
    np.testing.assert_allclose(embeddings.image_ND, image_ND, atol=2e-6)
    np.testing.assert_allclose(embeddings.text_MD, text_ND, atol=2e-6)


def test_evaluating_leaves_the_model_as_it_was() -> None:
    config = TrialConfig(evaluate=Evaluate(gallery=40))
    model = build_model(config, VOCABULARY, seed=0)
    before = {name: value.clone() for name, value in model.state_dict().items()}

    compute_trial_metrics(MadEvaluation(small_data(), config, CPU).encode(model))

    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
