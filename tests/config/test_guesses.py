"""Keys and values that a person guesses are answered with what to write, once, and short overrides find their path."""

import re
from pathlib import Path

import pytest

from gapctl.config.load import load_sweep
from gapctl.ledger.preregistration import record_sweep_file
from gapctl.plan.plan import make_plan
from sweep_texts import SHIPPED, TINY, complaints, edited, loaded, written

FACTOR = "data.captions.attributes"
TRAIN = "train: {samples: 512, batch_size: 64}"

# What is written for the line of `train`, and the answer to it.
IN_BASE = {
    "train: {samples: 512, epochs: 3}": "base.train.epochs: unknown key; expected base.train.samples, the pairs that",
    "train: {samples: 512, batch: 64}": "base.train.batch: unknown key; expected base.train.batch_size",
    "train: {steps: 10}": "base.train.steps: unknown key; expected base.train.samples, the pairs that training sees",
    "loss: siglip": "base.loss: found 'siglip'; expected a mapping: write loss: {kind: siglip}",
    "temperature: 0.07": "base.temperature: found 0.07; expected a mapping: write temperature: {init: 0.07}",
    "temperature: fixed": "base.temperature: found 'fixed'; expected a mapping: write temperature: {mode: fixed}",
    "model: mad-tiny": "base.model: found 'mad-tiny'; expected a mapping: write model: {preset: mad-tiny}",
    "data: {captions: 3}": "base.data.captions: found 3; expected a mapping: write captions: {attributes: 3}",
    "data: {k: 3}": "base.data.k: unknown key; expected base.data.captions.attributes, the number of attributes",
    "lr: 0.1": "base.lr: unknown key; expected it as base.train.lr",
    "seeds: 3": "base.seeds: unknown key; expected it at the top of the file, not within base",
}
# What is written before `scales`, and the answer to it.
AT_THE_TOP = {
    "seed: 3": "seed: unknown key; expected seeds, how many there are, and first_seed, the first of them",
    "seeds: [0, 1, 2]": "seeds: found [0, 1, 2]; expected a whole number: write seeds: 3",
    "epochs: 3": "epochs: unknown key; expected base.train.samples, the pairs that training sees: epochs times the",
    "train: {lr: 1}": "train: unknown key; expected it within base",
    "resources: 2": "resources: found 2; expected a mapping: write resources: {cpus: 2}",
    "tracking: 'postgresql://me:word@host/db'": "tracking: found 'postgresql://me:***@host/db'; expected a mapping",
}


@pytest.mark.parametrize("text", IN_BASE)
def test_a_guess_within_base_is_answered_with_what_to_write(tmp_path: Path, text: str) -> None:
    (line,) = complaints(tmp_path, edited((TRAIN, text)))

    assert re.sub(r"^F:\d+:\d+: ", "", line).startswith(IN_BASE[text])


@pytest.mark.parametrize("text", AT_THE_TOP)
def test_a_guess_at_the_top_is_answered_with_what_to_write(tmp_path: Path, text: str) -> None:
    (line,) = complaints(tmp_path, edited(("scales:", f"{text}\nscales:")))

    assert re.sub(r"^F:\d+:\d+: ", "", line).startswith(AT_THE_TOP[text])


def test_a_factor_that_is_called_k_elsewhere_is_answered_once(tmp_path: Path) -> None:
    (line,) = complaints(tmp_path, edited((f"{FACTOR}: [0, 5]", "data.captions.k: [0, 5]")))

    assert line.startswith(f"F:6:3: vary.data.captions.k: no such value in base; expected {FACTOR}, the number of")


MISSPELT = [("name:", "nmae:"), ("base:", "bsae:"), ("vary:", "varry:"), ("between:", "betwen:"), (FACTOR, "atributes")]


@pytest.mark.parametrize(("right", "wrong"), MISSPELT)
def test_a_misspelt_key_is_answered_once_and_not_as_missing_too(tmp_path: Path, right: str, wrong: str) -> None:
    (line,) = complaints(tmp_path, TINY.replace(right, wrong, 1))

    assert f"did you mean {right.removesuffix(':')}? Expected one of " in line


def test_a_hypothesis_on_what_is_nowhere_is_wrong_beside_a_misspelt_factor(tmp_path: Path) -> None:
    text = edited(
        (f"{FACTOR}: [0, 5]", "data.captions.atributes: [0, 5]"), ("    between", "    where: {x: 1}\n    between")
    )
    found = complaints(tmp_path, text)

    assert [line.split(": ")[1] for line in found] == ["vary.data.captions.atributes", "hypotheses[1].where.x"]


def test_a_trend_whichever_way_is_answered_with_a_contrast(tmp_path: Path) -> None:
    (line,) = complaints(tmp_path, edited(("direction: decreasing", "direction: either")))

    assert line.endswith("as a trend has one; a contrast between two levels allows either")


# A short form, and the path that it stands for.
SHORT = {
    "lr=2e-3": "base.train.lr=2e-3",
    "samples=1_024": "base.train.samples=1_024",
    "train.samples=1024": "base.train.samples=1024",
    "captions.noise=0.1": "base.data.captions.noise=0.1",
    "attributes=[0, 1, 5]": f"vary.{FACTOR}=[0, 1, 5]",
    "mode=fixed": "base.temperature.mode=fixed",
    "cpus=2": "resources.cpus=2",
    "hours=1": "limits.hours=1",
    "uri=sqlite:///other.db": "tracking.uri=sqlite:///other.db",
    " gallery = 128": "base.evaluate.gallery= 128",
}


@pytest.mark.parametrize("short", SHORT)
def test_a_short_override_is_the_whole_path_s(tmp_path: Path, short: str) -> None:
    found, whole = loaded(tmp_path, TINY, None, short), loaded(tmp_path, TINY, None, SHORT[short])

    assert found.spec == whole.spec != loaded(tmp_path, TINY).spec
    assert found.spec_sha256 == whole.spec_sha256
    assert found.overrides == whole.overrides == (SHORT[short],)


def test_a_short_override_makes_the_same_trials_and_the_same_record() -> None:
    short, whole = (
        make_plan(load_sweep(SHIPPED, "smoke", [f"{path}=0.002"]), lambda data: "data")
        for path in ("lr", "base.train.lr")
    )

    assert [trial.id for trial in short.trials] == [trial.id for trial in whole.trials]
    assert record_sweep_file(short) == record_sweep_file(whole)


def test_a_short_address_of_the_store_stays_out_of_the_ledger() -> None:
    plan = make_plan(load_sweep(SHIPPED, "smoke", ["uri=sqlite:///mine.db"]), lambda data: "data")

    assert record_sweep_file(plan).overrides == []


def test_a_short_override_that_may_mean_several_lists_them(tmp_path: Path) -> None:
    both = edited((TRAIN, f"{TRAIN}\n  temperature: {{lr: 0.1}}"))

    assert complaints(tmp_path, both, None, ["lr=0.01"]) == [
        "--set lr=0.01: may mean base.temperature.lr or base.train.lr; expected one of them, written whole"
    ]
    assert loaded(tmp_path, both, None, "train.lr=0.01").spec.base.train.lr == 0.01


def test_a_setting_of_a_search_is_short_only_where_there_is_one(tmp_path: Path) -> None:
    (line,) = complaints(tmp_path, TINY, None, ["sampler=random"])

    assert "no such setting" in line


def test_a_short_name_of_a_treatment_sets_its_levels(tmp_path: Path) -> None:
    text = edited((f"  {FACTOR}: [0, 5]", "  speed: [slow, fast]")).partition("hypotheses")[0]
    text += "treatments: {speed: {slow: {train.lr: 0.1}, fast: {train.lr: 1}, faster: {train.lr: 2}}}\n"
    sweep = load_sweep(written(tmp_path, text), None, ["speed=[slow, faster]"])

    assert sweep.spec.vary == {"speed": ["slow", "faster"]}


GUESSED = {
    "seed=3": "expected seeds, how many there are, and first_seed",
    "epochs=3": "expected base.train.samples, the pairs that training sees",
    "base.train.steps=3": "expected base.train.samples, the pairs that training sees",
    "k=3": f"expected base.{FACTOR}, the number of attributes",
    "batch=64": "expected base.train.batch_size",
    "loss=siglip": "expected base.loss.kind=siglip",
    "base.temperature=0.07": "expected base.temperature.init=0.07",
    "lrr=1": "did you mean base.train.lr? Expected a path such as",
    "temperature=x://me:word@host": "expected base.temperature.mode=x://me:***@host",
}


@pytest.mark.parametrize("text", GUESSED)
def test_a_guessed_override_is_answered_with_what_to_write(tmp_path: Path, text: str) -> None:
    (line,) = complaints(tmp_path, TINY, None, [text])

    assert f": no such setting; {GUESSED[text]}" in line
