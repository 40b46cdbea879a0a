"""Presets are the models that their names promise, and cost what plans say."""

import json
from importlib.resources import files

import pytest
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from gapctl.config.presets import PRESETS, VocabularyName
from gapctl.models.build import CLIP_VOCABULARY, EmbeddingHead, TokenVocabulary, build_clip
from gapctl.training.trial_state import MAD_VOCABULARY as VOCABULARY

VOCABULARIES: dict[VocabularyName, TokenVocabulary] = {"mad": VOCABULARY, "clip": CLIP_VOCABULARY}


def on_paper(name: str) -> CLIP:
    """A preset's model without memory for its parameters."""
    preset = PRESETS[name]
    with torch.device("meta"):
        return build_clip(preset, EmbeddingHead(preset.embed_dim), VOCABULARIES[preset.vocabulary], seed=0)


def shapes(model: CLIP) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


@pytest.mark.parametrize(("preset", "theirs"), [("rn50-cc12m", "RN50"), ("vit-b-32", "ViT-B-32")])
def test_parameters_have_the_names_and_shapes_of_open_clips_model(preset: str, theirs: str) -> None:
    written = json.loads((files("open_clip") / "model_configs" / f"{theirs}.json").read_text(encoding="utf-8"))
    with torch.device("meta"):
        model = CLIP(written["embed_dim"], CLIPVisionCfg(**written["vision_cfg"]), CLIPTextCfg(**written["text_cfg"]))

    assert shapes(on_paper(preset)) == shapes(model)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_counts_the_operations_that_its_model_does(name: str) -> None:
    preset, model = PRESETS[name], on_paper(name)
    image = torch.empty(1, 3, preset.image_size, preset.image_size, device="meta")
    caption = torch.zeros(1, preset.text.tokens, dtype=torch.int64, device="meta")

    with FlopCounterMode(display=False) as counted, sdpa_kernel(SDPBackend.MATH):
        model(image, caption)

    assert 3 * counted.get_total_flops() == preset.count_training_flops(preset.embed_dim)


@pytest.mark.parametrize("name", PRESETS)
def test_a_presets_text_tower_is_as_long_as_its_vocabularys_captions(name: str) -> None:
    assert PRESETS[name].text.tokens == VOCABULARIES[PRESETS[name].vocabulary].context


def test_a_seed_gives_mad_tiny_the_weights_of_recipe_3() -> None:
    preset = PRESETS["mad-tiny"]
    model = build_clip(preset, EmbeddingHead(preset.embed_dim), VOCABULARY, seed=3)

    assert float(sum(value.double().abs().sum() for value in model.state_dict().values())) == pytest.approx(
        20147.170817700342, rel=1e-9
    )
