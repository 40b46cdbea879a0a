"""An evaluation sees what the model of open_clip itself sees."""

import numpy as np
import torch
from torch.nn.functional import normalize

from gapctl.config.trial import Evaluate, MadCaptions, MadData, Model, TrialConfig
from gapctl.data.mad.captions import build_pair_prompt_tokens
from gapctl.data.mad.factors import FACTOR_NAMES
from gapctl.data.mad.feed import normalise_images, require_mad_data
from gapctl.models.build import build_model
from gapctl.training.evaluation import (
    PROMPT_SEED,
    PROMPT_TEMPLATES,
    MadEvaluation,
    build_gallery,
    compute_gallery_metrics,
)
from gapctl.training.trial_state import MAD_VOCABULARY as VOCABULARY
from gapctl.training.trial_state import build_evaluation
from mad_data import small_data

CPU = torch.device("cpu")


@torch.no_grad()
def test_embeddings_are_those_of_open_clip_s_own_pass_in_float32() -> None:
    config = TrialConfig(
        data=MadData(captions=MadCaptions(attributes=3)), model=Model(embed_dim=24), evaluate=Evaluate(gallery=300)
    )
    model = build_model(config, VOCABULARY, seed=4)
    gallery = build_gallery(small_data(), require_mad_data(config), 300)

    embeddings = MadEvaluation(small_data(), config, CPU).encode(model).embeddings

    image_ND = model.encode_image(normalise_images(torch.from_numpy(gallery.images_NCHW)), normalize=True)
    text_ND = normalize(model.encode_text(torch.from_numpy(gallery.tokens_NL)), dim=-1)
    np.testing.assert_allclose(embeddings.image_ND, image_ND, atol=2e-6)
    np.testing.assert_allclose(embeddings.text_MD, text_ND, atol=2e-6)


def test_evaluating_leaves_the_model_as_it_was() -> None:
    config = TrialConfig(evaluate=Evaluate(gallery=40))
    model = build_model(config, VOCABULARY, seed=0)
    before = {name: value.clone() for name, value in model.state_dict().items()}

    compute_gallery_metrics(MadEvaluation(small_data(), config, CPU).encode(model))

    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@torch.no_grad()
def test_ideal_words_of_digits_are_made_of_open_clip_s_own_embeddings_of_prompts() -> None:
    """The prompt of a digit becomes the mean over all prompts that name it with a value of another factor."""
    about = MadData(captions=MadCaptions(attributes=1))
    evaluate = Evaluate(gallery=60, intervention="ideal_words")
    config = TrialConfig(data=about, model=Model(embed_dim=24), evaluate=evaluate)
    model = build_model(config, VOCABULARY, seed=4)
    plain = MadEvaluation(small_data(), config, CPU).encode(model)
    found = build_evaluation(small_data(), config, CPU).encode(model)

    words = []
    for factor in FACTOR_NAMES[1:]:
        tokens_OATL = build_pair_prompt_tokens(factor, about, PROMPT_TEMPLATES, PROMPT_SEED)
        objects, values, templates, length = tokens_OATL.shape
        text_PD = normalize(model.encode_text(torch.from_numpy(tokens_OATL.reshape(-1, length))), dim=-1)
        pair_PD = text_PD.reshape(objects * values, templates, -1).mean(dim=1)
        words.append(normalize(pair_PD.double(), dim=-1).reshape(objects, values, -1).mean(dim=1))
    expected = normalize(torch.stack(words).mean(dim=0), dim=-1)

    np.testing.assert_allclose(found.zero_shot.questions["digit"].prompt_CD, expected, atol=1e-5)
    np.testing.assert_allclose(found.embeddings.class_CD, expected, atol=1e-5)
    assert np.array_equal(found.embeddings.image_ND, plain.embeddings.image_ND)
    assert not np.allclose(found.embeddings.text_MD, plain.embeddings.text_MD, atol=1e-3)
    before, after = compute_gallery_metrics(plain).metrics, compute_gallery_metrics(found).metrics
    assert before.keys() == after.keys()
    assert before["bias/moad_image"] == after["bias/moad_image"]
    assert before["bias/moad_text"] != after["bias/moad_text"]


def test_half_of_the_way_to_ideal_words_lies_between() -> None:
    half, whole = (
        TrialConfig(evaluate=Evaluate(gallery=40, intervention="ideal_words", strength=share)) for share in (0.5, 1.0)
    )
    model = build_model(half, VOCABULARY, seed=0)
    plain = MadEvaluation(small_data(), half, CPU).encode(model).embeddings.text_MD
    moved = [build_evaluation(small_data(), each, CPU).encode(model).embeddings.text_MD for each in (half, whole)]

    near, far = (np.linalg.norm(each - plain, axis=1).mean() for each in moved)
    assert 0 < near < far
