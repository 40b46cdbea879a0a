"""Trials are measured on evaluation sets as open_clip's users measure models: one way, on any machine, to the bit."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from command_line import gapctl
from gapctl.config.evaluation_sets import EvaluationSet, NamedSet, PlannedEvaluationSet, is_metric_of_set_kind
from gapctl.config.metrics import METRICS, split_set_from_metric
from gapctl.data.image_text.evaluation_sets import OpenedEvaluationSet, decode_set_images, open_set
from gapctl.data.load import load_dataset
from gapctl.errors import InputError, WorkError
from gapctl.ledger import Ledger
from gapctl.metrics.bias import moad
from gapctl.metrics.embedding_set import normalise_rows
from gapctl.training.set_evaluation import (
    EncodedEvaluationSet,
    build_trial_set_model,
    encode_set,
    measure_set,
    replace_set_texts,
)
from gapctl.training.trainer import TrainingRun
from gapctl.training.trial_state import TrialState
from memory_store import MemoryStore
from pair_shards import pair, write_shard
from pair_trials import CPU, finished, pair_config
from small_sets import IMAGES, TEMPLATES, sweep_with_sets, write_all

CONFIG = pair_config()
NAMES = ("words", "colours", "shapes")
KINDS = ("retrieval", "classification", "composition")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_all(tmp_path_factory.mktemp("sets"))


@pytest.fixture(scope="module")
def model() -> Any:
    """A small model after six steps."""
    return finished(CONFIG, MemoryStore()).model


def opened(folder: Path, name: str, **more: Any) -> OpenedEvaluationSet:
    kind = KINDS[NAMES.index(name)]
    return open_set(NamedSet(name, EvaluationSet.model_validate({"kind": kind, "source": str(folder / name), **more})))


def encoded(folder: Path, name: str, model: Any, **more: Any) -> EncodedEvaluationSet:
    return encode_set(opened(folder, name, **more), build_trial_set_model(model, CONFIG))


@torch.no_grad()
def plain_images(found: OpenedEvaluationSet, model: Any) -> torch.Tensor:
    """The images by open_clip's own calls, one by one."""
    shown = build_trial_set_model(model, CONFIG)
    model.eval()
    rows = [
        normalize(model.encode_image(shown.transform(image)[None])) for image in decode_set_images(found, found.row_N)
    ]
    return torch.cat(rows)


@torch.no_grad()
def plain_texts(texts: list[str], model: Any) -> torch.Tensor:
    shown = build_trial_set_model(model, CONFIG)
    model.eval()
    return torch.cat([normalize(model.encode_text(shown.tokenize([text], shown.context))) for text in texts])


def test_embeddings_are_open_clips(folder: Path, model: Any) -> None:
    found = encoded(folder, "words", model)
    texts = [caption for captions in found.opened.captions for caption in captions]

    np.testing.assert_allclose(found.embeddings.image_ND, plain_images(found.opened, model), atol=1e-6)
    np.testing.assert_allclose(found.embeddings.text_MD, plain_texts(texts, model), atol=1e-6)


def test_the_number_of_threads_changes_no_bit(folder: Path, model: Any) -> None:
    before = torch.get_num_threads()
    images = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            images.append(encoded(folder, "words", model).embeddings.image_ND)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)

    assert all(np.array_equal(images[0], each) for each in images[1:])


def test_a_model_is_left_as_it_was(folder: Path, model: Any) -> None:
    model.train()
    encoded(folder, "colours", model)

    assert model.training


def test_any_caption_of_an_image_counts_and_each_caption_looks_for_its_image(folder: Path, model: Any) -> None:
    found = encoded(folder, "words", model)
    image, text = plain_images(found.opened, model), found.embeddings.text_MD
    owner = np.repeat(np.arange(IMAGES), 3)
    cosine = image.numpy() @ text.T

    measured = measure_set(found)

    for depth in (1, 5, 10):
        best = np.argsort(-cosine, axis=1)[:, :depth]
        assert measured[f"quality/i2t_recall_{depth}"] == (owner[best] == np.arange(IMAGES)[:, None]).any(axis=1).mean()
        best = np.argsort(-cosine.T, axis=1)[:, :depth]
        assert measured[f"quality/t2i_recall_{depth}"] == (best == owner[:, None]).any(axis=1).mean()


def test_equal_captions_of_other_images_are_no_matches(tmp_path: Path, model: Any) -> None:
    """As in CLIP_benchmark, where a caption belongs to one image."""
    samples = [(f"{number:02d}", {**pair(number), "txt": b"always the same"}) for number in range(20)]
    (tmp_path / "words").mkdir()
    write_shard(tmp_path / "words/0.tar", samples)

    assert measure_set(encoded(tmp_path, "words", model))["quality/t2i_recall_5"] == 0.25


def test_accuracies_average_templates_as_clip_benchmark_does(folder: Path, model: Any) -> None:
    found = encoded(folder, "colours", model)
    label = np.arange(IMAGES) % 3
    classes = []
    for name in ("red", "green", "blue"):
        mean = plain_texts([template.replace("{c}", name) for template in TEMPLATES], model).mean(dim=0)
        classes.append(mean / mean.norm())
    guess = (plain_images(found.opened, model) @ torch.stack(classes).T).argmax(dim=1).numpy()

    measured = measure_set(found)

    assert measured["quality/accuracy"] == pytest.approx(100 * (guess == label).mean())
    by_class = [(guess[label == each] == each).mean() for each in range(3)]
    assert measured["quality/mean_class_accuracy"] == pytest.approx(100 * np.mean(by_class))


def test_compositions_have_the_bias_of_images_and_of_their_pairs_texts(folder: Path, model: Any) -> None:
    found = encoded(folder, "shapes", model)
    shapes = ["square" if number // 3 % 2 == 0 else "bar" for number in range(IMAGES)]
    colours = [("red", "green", "blue")[number % 3] for number in range(IMAGES)]
    texts = plain_texts(
        [f"an image of a {colour} {shape}" for colour, shape in zip(colours, shapes, strict=True)], model
    )
    objects, attributes = (np.unique(each, return_inverse=True)[1] for each in (shapes, colours))

    measured = measure_set(found)

    for side, rows in (("image", plain_images(found.opened, model)), ("text", texts)):
        expected = moad(normalise_rows(rows.numpy()), objects, attributes)
        assert measured[f"bias/moad_{side}"] == pytest.approx(expected.value, abs=1e-6)


def test_pair_accuracy_is_among_the_pairs_that_the_set_has(folder: Path, model: Any) -> None:
    found = encoded(folder, "shapes", model)
    prompts = [text for (text,) in found.opened.questions["pair"].prompts.prompts.values()]
    guess = (plain_images(found.opened, model) @ plain_texts(prompts, model).T).argmax(dim=1).numpy()

    expected = 100 * (guess == found.opened.questions["pair"].class_N).mean()

    assert len(prompts) == 6
    assert measure_set(found)["quality/pair_accuracy"] == pytest.approx(expected)


def test_ideal_words_replace_the_prompts_of_pairs_by_sums(folder: Path, model: Any) -> None:
    """The set lacks no pair here; each prompt is embedded by open_clip's own calls, and the words are made by hand."""
    found = replace_set_texts(encode_set(opened(folder, "shapes"), build_trial_set_model(model, CONFIG), pairs=True))
    texts = [f"an image of a {colour} {shape}" for shape in ("bar", "square") for colour in ("blue", "green", "red")]
    pair = plain_texts(texts, model).numpy().astype(float).reshape(2, 3, -1)
    shape, colour = pair.mean(axis=1, keepdims=True), pair.mean(axis=0, keepdims=True)
    sums = normalise_rows((shape + colour - pair.mean(axis=(0, 1))).reshape(6, -1))
    image = plain_images(found.opened, model).numpy()

    measured = measure_set(found)

    pair_of = found.opened.questions["pair"].class_N
    np.testing.assert_allclose(found.embeddings.text_MD, sums[pair_of], atol=1e-5)
    for key, classes, answer in (
        ("object", normalise_rows(shape[:, 0]), found.opened.questions["object"].class_N),
        ("attribute", normalise_rows(colour[0]), found.opened.questions["attribute"].class_N),
        ("pair", sums, pair_of),
    ):
        right = 100 * ((image @ classes.T).argmax(axis=1) == answer).mean()
        assert measured[f"quality/{key}_accuracy"] == pytest.approx(right)


def test_ideal_words_are_of_all_pairs_those_that_no_image_has_too(tmp_path: Path, model: Any) -> None:
    """Three images: a red bar, a blue bar and a red square, but no blue square."""
    abouts = [("bar", "red"), ("bar", "blue"), ("square", "red")]
    named = [json.dumps({"object": shape, "attribute": colour}).encode() for shape, colour in abouts]
    (tmp_path / "shapes").mkdir()
    samples = [(f"{number}", {**pair(number), "json": about}) for number, about in enumerate(named)]
    write_shard(tmp_path / "shapes/0.tar", samples)
    shown = build_trial_set_model(model, CONFIG)

    found = encode_set(opened(tmp_path, "shapes"), shown, pairs=True)
    moved = replace_set_texts(found)

    assert found.opened.combinations == [
        f"an image of a {colour} {shape}" for shape in ("bar", "square") for colour in ("blue", "red")
    ]
    missing_D = plain_texts(["an image of a blue square"], model)[0]
    np.testing.assert_allclose(found.pairs["attribute"].prompt_OAD[1, 0], missing_D, atol=1e-6)
    assert found.pairs["attribute"].present_OA.tolist() == [[True, True], [False, True]]
    assert len(moved.questions["pair"].prompt_CD) == 3
    assert not np.allclose(moved.embeddings.text_MD, found.embeddings.text_MD)


def test_a_set_without_pairs_has_no_ideal_words(folder: Path, model: Any) -> None:
    for name in ("words", "colours"):
        with pytest.raises(InputError, match="expected an evaluation set of kind composition"):
            replace_set_texts(encode_set(opened(folder, name), build_trial_set_model(model, CONFIG), pairs=True))


@pytest.mark.parametrize(("name", "kind"), zip(NAMES, KINDS, strict=True))
def test_the_catalog_says_which_metrics_a_kind_of_set_has(folder: Path, model: Any, name: str, kind: Any) -> None:
    measured = {key for key in measure_set(encoded(folder, name, model)) if key in METRICS}
    known = {key for key in METRICS if is_metric_of_set_kind(key, kind)}
    sized = {key for key in known if "_nats_at_" in key}

    assert known - sized == measured - sized


def test_captions_that_the_context_cuts_are_counted_or_refused(tmp_path: Path, model: Any) -> None:
    """A context of 77 tokens has room for 75 words of one token each, between a beginning and an end."""
    texts = [" ".join(["dog"] * words) for words in (3, 75, 76, 200)]
    (tmp_path / "words").mkdir()
    write_shard(
        tmp_path / "words/0.tar",
        [(f"{number}", {**pair(number), "txt": text.encode()}) for number, text in enumerate(texts)],
    )

    assert measure_set(encoded(tmp_path, "words", model))["captions/cut"] == 2
    with pytest.raises(
        InputError, match=r"evaluation set words: 2 of 4 captions are longer than the model's 77 tokens"
    ):
        encoded(tmp_path, "words", model, cut_captions="refuse")


def planned(folder: Path) -> dict[str, PlannedEvaluationSet]:
    found = [opened(folder, name) for name in NAMES]
    return {each.name: PlannedEvaluationSet(each.definition, each.fingerprint) for each in found}


def member(folder: Path, store: MemoryStore, **evaluate: Any) -> TrialState:
    config = pair_config(evaluate={"sets": list(NAMES), **evaluate})
    return TrialState(config, 0, load_dataset(config.data), store, CPU, sets=planned(folder))


def train(state: TrialState) -> list[Mapping[str, float]]:
    run = TrainingRun([state], CPU)
    while not run.done:
        run.train_for(60.0)
    return list(state.rows)


def test_sets_are_measured_at_the_last_evaluation_alone(folder: Path) -> None:
    *before, last = train(member(folder, MemoryStore()))

    assert last["colours/quality/accuracy"] >= 0
    assert not any(key.startswith("colours/") for row in before for key in row)


def test_sets_are_measured_at_each_evaluation_if_asked(folder: Path) -> None:
    rows = train(member(folder, MemoryStore(), sets_at="each"))

    assert len(rows) == 3
    assert all("words/gap/rmg" in row for row in rows)


def test_ideal_words_change_compositions_alone(folder: Path) -> None:
    *_, plain = train(member(folder, MemoryStore()))
    *_, moved = train(member(folder, MemoryStore(), intervention="ideal_words"))

    measured = [key for key in plain if split_set_from_metric(key)[1] in METRICS and plain[key] == plain[key]]
    changed = {key for key in measured if moved[key] != plain[key]}
    assert {"shapes/bias/moad_text", "shapes/gap/rmg"} <= changed
    assert all(key.startswith("shapes/") for key in changed)
    assert not any("image" in key for key in changed if key.startswith("shapes/bias/") and "less" not in key)


def test_a_kill_while_sets_are_measured_loses_no_step(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, store = member(folder, MemoryStore()), MemoryStore()
    train(whole)
    killed = member(folder, store)
    monkeypatch.setattr("gapctl.training.set_evaluation.SetEvaluation.measure", kill)
    with pytest.raises(KeyboardInterrupt):
        train(killed)
    monkeypatch.undo()

    again = member(folder, store)

    assert again.steps == again.steps_total
    train(again)
    found, expected = again.read_final_metrics(), whole.read_final_metrics()
    assert {key: value for key, value in found.items() if value == value} == {
        key: value for key, value in expected.items() if value == value
    }


def kill(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_trial_does_not_begin_with_another_set_than_it_was_planned_with(folder: Path) -> None:
    sets = {**planned(folder), "words": PlannedEvaluationSet(planned(folder)["words"].definition, "0" * 16)}
    config = pair_config(evaluate={"sets": list(NAMES)})

    with pytest.raises(WorkError, match=r"evaluation set words: .* is another set here"):
        TrialState(config, 0, load_dataset(config.data), MemoryStore(), CPU, sets=sets)


@pytest.mark.parametrize("evaluate", ["", ", intervention: ideal_words, strength: 0.5"])
def test_measure_and_a_trial_agree_to_the_last_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evaluate: str
) -> None:
    monkeypatch.chdir(write_all(tmp_path))
    sweep = sweep_with_sets(tmp_path, evaluate=f"sets: [words, colours, shapes]{evaluate}")
    trial = json.loads(gapctl("plan", str(sweep), "--json").out)["trials"][0]["id"]
    ran = gapctl("train", str(sweep), "--trial", trial)
    assert ran.exit_code == 0, ran.err
    result = Ledger("runs").trial(trial).result()
    assert result is not None

    for name in NAMES:
        measured = json.loads(gapctl("measure", "--trial", trial, "--evaluation-set", name, "--json").out)["metrics"]
        own = {
            key.removeprefix(f"{name}/"): value for key, value in result.metrics.items() if key.startswith(f"{name}/")
        }
        assert len(own) > 25
        same = {key: value for key, value in own.items() if value == value}  # but for those that are not defined
        assert {key: measured[key] for key in same} == same
