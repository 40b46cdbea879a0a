"""Public architectures are trained and measured: with open_clip's own models, weights and pixels, to the last bit."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch

from gapctl.config.trial import OpenClipModel, TrialConfig
from gapctl.data.image_text.read import FeedCounts, PairBatch
from gapctl.data.load import load_dataset
from gapctl.errors import InputError
from gapctl.io.atomic import hash_file
from gapctl.models.public import fingerprint_model, load_public_weights
from gapctl.training.pair_evaluation import PairEvaluation
from gapctl.training.trial_state import TrialState
from memory_store import MemoryStore
from pair_trials import BATCH, CPU, begun, finished
from tiny_models import (
    HALVES,
    TINY_COCA,
    TINY_OWN_WORDS,
    TINY_RESNET,
    TINY_SIGLIP,
    TINY_VIT,
    WORDS,
    stand_in_transformers,
    write_model,
)

KINDS: dict[str, tuple[dict[str, Any], str]] = {
    "ViT": (TINY_VIT, "clip"),
    "ResNet": (TINY_RESNET, "clip"),
    "SigLIP": (TINY_SIGLIP, "siglip"),
    "own tokenizer": (TINY_OWN_WORDS, "siglip"),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each kind, which holds open_clip_config.json and weights."""
    place = tmp_path_factory.mktemp("models")
    for name, (configuration, _) in KINDS.items():
        write_model(place / name, configuration, preprocess=HALVES if name == "SigLIP" else {})
    write_model(place / "CoCa", TINY_COCA)
    return place


@pytest.fixture(autouse=True)
def transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands for the transformers library, by which one kind's captions are cut."""
    stand_in_transformers(tmp_path / "packages", monkeypatch)


def public_config(
    models: Path, kind: str, *, weights: bool = True, samples: int = 4 * BATCH, **changes: Any
) -> TrialConfig:
    """Four steps of a kind on the bundled pairs."""
    folder = models / kind
    document: dict[str, Any] = {
        "data": {"dataset": "image_text", "captions": {"keep": "half"}},
        "model": {
            "architecture": str(folder / "open_clip_config.json"),
            **({"weights": f"local-dir:{folder}"} if weights else {}),
        },
        "loss": {"kind": KINDS[kind][1] if kind in KINDS else "clip"},
        "train": {"samples": samples, "batch_size": BATCH, "precision": "float32", "lr": 1e-3},
        "evaluate": {"every": 2 * BATCH, "gallery": 40},
    }
    return TrialConfig.model_validate({**document, **changes})


def read_state(member: TrialState) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in member.model.state_dict().items()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_that_is_stopped_goes_on_to_the_same_bits(models: Path, kind: str) -> None:
    torch.set_num_threads(1)
    config = public_config(models, kind)
    whole = finished(config, MemoryStore())
    store = MemoryStore()
    run = begun(config, store)
    while run.members[0].steps < 3:
        run.train_for(0.0)
    run.save()
    (models / kind / "open_clip_model.safetensors").rename(models / kind / "away")  # a checkpoint needs no weights
    try:
        resumed = finished(config, store)
    finally:
        (models / kind / "away").rename(models / kind / "open_clip_model.safetensors")
    assert resumed.read_final_metrics() == pytest.approx(whole.read_final_metrics(), rel=0, abs=0, nan_ok=True)
    assert resumed.weights() == whole.weights()
    public = open_public(models, kind).state_dict()
    moved = {name for name, value in read_state(whole).items() if not torch.equal(value, public[name])}
    assert {"logit_scale"} < moved
    assert ("logit_bias" in moved) == (KINDS[kind][1] == "siglip")


def open_public(models: Path, kind: str) -> open_clip.CLIP:
    model = open_clip.create_model(f"local-dir:{models / kind}")
    assert isinstance(model, torch.nn.Module)
    return model.eval()


@pytest.mark.parametrize("kind", [*KINDS, "CoCa"])
def test_without_samples_the_public_weights_are_measured_once(models: Path, kind: str) -> None:
    store = MemoryStore()
    member = finished(public_config(models, kind, samples=0), store)
    assert [row["samples_seen"] for row in store.rows] == [0]
    public = open_public(models, kind)
    for name, value in public.state_dict().items():
        torch.testing.assert_close(member.model.state_dict()[name], value, rtol=0, atol=0)
    assert member.read_final_metrics()["temperature/logit_scale"] == pytest.approx(public.logit_scale.exp().item())


def test_a_seed_decides_random_weights_and_nothing_else(models: Path) -> None:
    config = public_config(models, "ViT", weights=False, samples=2 * BATCH)
    one, same, other = (finished(config, MemoryStore(), seed) for seed in (1, 1, 2))
    assert one.weights() == same.weights()
    assert one.weights() != other.weights()
    assert one.rows[0]["samples_seen"] == 0
    assert one.read_final_metrics()["train/loss"] > 0


TEMPERATURES: dict[str, tuple[dict[str, Any], float | None]] = {
    "frozen": ({"mode": "frozen"}, None),
    "fixed": ({"mode": "fixed", "init": 0.05}, 20.0),
    "scheduled": ({"mode": "schedule", "init": 0.1, "final": 0.02}, 50.0),
}


@pytest.mark.parametrize("mode", TEMPERATURES)
def test_the_temperature_is_frozen_fixed_or_scheduled(models: Path, mode: str) -> None:
    temperature, scale = TEMPERATURES[mode]
    member = finished(public_config(models, "ViT", temperature=temperature), MemoryStore())
    expected = open_public(models, "ViT").logit_scale.exp().item() if scale is None else scale
    assert member.model.logit_scale.exp().item() == pytest.approx(expected, rel=1e-5)


def test_clips_weights_begin_a_siglip_training_with_its_bias(models: Path) -> None:
    config = public_config(models, "ViT", samples=0, loss={"kind": "siglip"})
    member = finished(config, MemoryStore())
    assert member.read_final_metrics()["temperature/bias"] == -10.0


@pytest.mark.parametrize("kind", KINDS)
def test_held_out_images_are_the_pixels_that_open_clip_shows(models: Path, kind: str) -> None:
    """Squashed or cropped, with the model's own mean and deviation, to the last bit."""
    from PIL import Image

    from gapctl.data.image_text.image import Resizing, resize_as_open_clip
    from gapctl.models.build import OpenClipNormaliser

    transform = open_clip.create_model_and_transforms(f"local-dir:{models / kind}")[2]
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 255, (50, 70, 3), dtype=np.uint8))
    content = as_png(picture)
    pixels = resize_as_open_clip(content, picture.size, 32, Resizing("shortest", "bicubic"))
    mean, std = (tuple(getattr(transform.transforms[-1], name)) for name in ("mean", "std"))
    found = OpenClipNormaliser(mean, std, CPU).images(torch.from_numpy(pixels).permute(2, 0, 1)[None])
    torch.testing.assert_close(found[0], transform(picture), rtol=0, atol=0)


def as_png(picture: Any) -> bytes:
    import io

    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["SigLIP", "own tokenizer", "CoCa"])
def test_the_gallery_is_encoded_as_measuring_the_model_encodes_it(models: Path, kind: str) -> None:
    """The embeddings of `gapctl measure --model` on the same samples, in the same batches of 32."""
    from gapctl.data.image_text.feed import sample_gallery_rows
    from gapctl.data.image_text.index import decode_image, iterate_shard_samples
    from gapctl.data.image_text.source import PairPaths, load_pair_manifests
    from gapctl.inference.model import build_transform, load_open_clip_model, load_tokenizer
    from gapctl.models.sources import find_or_download_weights

    torch.set_num_threads(1)
    config = public_config(models, kind, samples=0)
    data = load_dataset(config.data)
    assert isinstance(data, PairPaths)
    name = f"local-dir:{models / kind}"
    opened = load_open_clip_model(name, find_or_download_weights(name, None))
    with torch.no_grad():
        found = PairEvaluation(data, config, CPU).encode(opened.model).embeddings
    pairs = load_pair_manifests(data)
    rows = sample_gallery_rows(pairs.held_out_rows, 40)
    wanted = list(pairs.held_out.samples[rows].select("shard", "key").iter_rows())
    samples = {
        (shard, each.key): each
        for shard in {shard for shard, _ in wanted}
        for each in iterate_shard_samples(Path(shard))
    }
    transform, tokenize = build_transform(opened.preprocess), load_tokenizer(name, opened.weights.folder)
    chosen = [samples[where] for where in wanted]
    with torch.no_grad():
        images = [
            opened.model.encode_image(torch.stack([transform(decode_image(each)) for each in part]), normalize=True)
            for part in (chosen[:32], chosen[32:])
        ]
        texts = [
            opened.model.encode_text(tokenize([str(each.caption) for each in part]), normalize=True)
            for part in (chosen[:32], chosen[32:])
        ]
    np.testing.assert_array_equal(found.image_ND, torch.cat(images).numpy())
    np.testing.assert_array_equal(found.text_MD, torch.cat(texts).numpy())


def test_weights_other_than_planned_are_refused(models: Path) -> None:
    config = public_config(models, "ViT")
    file = models / "ViT" / "open_clip_model.safetensors"
    member = TrialState(config, 0, load_dataset(config.data), MemoryStore(), CPU, weights_sha256=hash_file(file))
    with pytest.raises(InputError, match=r"weights of sha256 \w{12}; expected 000000000000, by which the trial was"):
        load_public_weights(member.model, config.model, "0" * 64)  # type: ignore[arg-type]


def test_a_child_goes_on_from_its_parents_weights_not_from_the_public_ones(models: Path) -> None:
    parent = finished(public_config(models, "ViT"), MemoryStore())
    child = public_config(models, "ViT", samples=0, init_from={"train.samples": 4 * BATCH})
    member = finished(child, MemoryStore(), initial=parent.weights())
    assert member.weights() == parent.weights()


CAPTIONS = ["A red circle, and one blue square!", "", "words nobody knows", " ".join(["red"] * 30)]


def test_sets_and_questions_are_cut_by_the_models_own_tokenizer(models: Path) -> None:
    """Tokens are those that `gapctl measure` shows the model, for any context."""
    from gapctl.inference.model import build_open_clip_set_model, load_open_clip_model
    from gapctl.inference.trial import build_tokenizer
    from gapctl.models.sources import find_or_download_weights
    from gapctl.training.set_evaluation import build_trial_set_model

    name = f"local-dir:{models / 'own tokenizer'}"
    opened = load_open_clip_model(name, find_or_download_weights(name, None))
    config = public_config(models, "own tokenizer", samples=0)
    theirs, ours = build_open_clip_set_model(opened), build_trial_set_model(opened.model, config)
    assert ours.context == theirs.context
    for context in (16, 17):
        assert torch.equal(ours.tokenize(CAPTIONS, context), theirs.tokenize(CAPTIONS, context))
    assert torch.equal(build_tokenizer(config)(CAPTIONS), theirs.tokenize(CAPTIONS, 16))
    assert ours.tokenize(CAPTIONS, 16)[1, 0] == 1  # the end, where open_clip's own tokenizer has a start


def test_captions_that_own_tokens_cannot_tell_apart_are_different_captions(models: Path) -> None:
    from gapctl.data.image_text.feed import decode_manifest_rows
    from gapctl.data.image_text.read import build_training_read_options, require_pair_data
    from gapctl.data.image_text.source import PairPaths, load_pair_manifests
    from gapctl.models.public import get_model_input

    config = public_config(models, "own tokenizer")
    seen, data = get_model_input(config.model), load_dataset(config.data)
    assert isinstance(data, PairPaths)
    pairs = load_pair_manifests(data)
    ours, clip = (
        next(iter(decode_manifest_rows(pairs.train, pairs.train_rows[:16], rule, seed=0))).pairs
        for rule in (
            build_training_read_options(require_pair_data(config), 32, 16, seen.tokenizer),
            build_training_read_options(require_pair_data(config), 32, 16),
        )
    )
    np.testing.assert_array_equal(ours.text_id_B, clip.text_id_B)
    np.testing.assert_array_equal(ours.image_BHWC, clip.image_BHWC)
    assert set(ours.tokens_BL[:, -1].tolist()) <= {1, 3}
    assert not np.array_equal(ours.tokens_BL, clip.tokens_BL)


def test_captions_are_counted_as_empty_by_the_models_own_tokens() -> None:
    tokens_BL = np.array([[5, 1, 3], [1, 3, 3], [6, 7, 1]])
    read = PairBatch(np.zeros((3, 1, 1, 3), dtype=np.uint8), tokens_BL, *(np.zeros(3, dtype=np.int64),) * 6)
    counts = FeedCounts()
    counts.add(read, blank_L=tokens_BL[1])
    assert counts.empty == 1


def test_pictures_have_the_words_of_the_models_own_tokens(models: Path) -> None:
    config = public_config(models, "own tokenizer", samples=0)
    data = load_dataset(config.data)
    model = open_public(models, "own tokenizer")
    encoding = PairEvaluation(data, config, CPU).encode(model)  # type: ignore[arg-type]
    shown = encoding.get_pairs(np.arange(3), np.arange(3))
    assert all(caption and set(caption.split()) <= {*WORDS, "?"} for caption in shown.captions)


def test_a_coca_is_measured_and_not_trained(models: Path) -> None:
    with pytest.raises(
        ValueError, match=r"found 64 with .*also writes captions \(CoCa\).*expected 0, which measures it"
    ):
        public_config(models, "CoCa", samples=64)


def test_without_the_library_a_trial_says_what_to_install(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match=r"transformers is not installed, and .*Run `pip install transformers"):
        begun(public_config(models, "own tokenizer", samples=0), MemoryStore())


def test_without_its_files_a_trial_says_what_to_download(models: Path) -> None:
    config = public_config(models, "own tokenizer", weights=False)
    with pytest.raises(InputError, match=r"tiny/words, a tokenizer: its files .*`hf download tiny/words"):
        begun(config, MemoryStore())


def test_another_tokenizer_in_the_folder_is_another_model(models: Path, tmp_path: Path) -> None:
    folders = [write_model(tmp_path / name, TINY_OWN_WORDS) for name in ("one", "same", "other")]
    (folders[2] / "tokenizer.json").write_text('["another"]', encoding="utf-8")
    file = str(folders[0] / "open_clip_config.json")
    named = [OpenClipModel(architecture=file, weights=f"local-dir:{folder}") for folder in folders]
    one, same, other = map(fingerprint_model, named)
    assert one == same != other
