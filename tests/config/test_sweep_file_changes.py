"""Scales and `--set` change a sweep by dotted path, are checked like the file, and say where they are written."""

from pathlib import Path

import pytest

from gapctl.config.load import load_sweep
from gapctl.config.settings import list_setting_paths
from gapctl.config.trial import TrialConfig
from sweep_texts import SHIPPED, complaints, edited, loaded

FACTOR = "data.captions.attributes"
SCALES = edited(
    ("{seeds: 1}", f'{{seeds: 2, base.train.samples: 1024, "vary.{FACTOR}": [0, 3, 5]}}\n  large: {{seeds: 9}}\n'),
)


@pytest.mark.parametrize("scale", ["smoke", "laptop", "hour", "paper", None])
def test_the_shipped_sweep_loads_at_every_scale(scale: str | None) -> None:
    sweep = load_sweep(SHIPPED, scale)

    assert sweep.scale == (scale or "laptop")
    assert len(sweep.spec.hypotheses) == 4


def test_the_shipped_scales_are_all_tried() -> None:
    assert set(load_sweep(SHIPPED).spec.scales) == {"smoke", "laptop", "hour", "paper"}


def test_a_scale_changes_what_it_lists_and_nothing_else(tmp_path: Path) -> None:
    plain, scaled = loaded(tmp_path, SCALES).spec, loaded(tmp_path, SCALES, "quick").spec

    assert scaled.seeds == 2
    assert scaled.base.train.samples == 1024
    assert scaled.vary == {FACTOR: [0, 3, 5]}
    assert scaled.base.train.batch_size == plain.base.train.batch_size
    assert scaled.hypotheses == plain.hypotheses


def test_the_default_scale_holds_where_none_is_named(tmp_path: Path) -> None:
    text = SCALES + "default_scale: large\n"

    assert loaded(tmp_path, text).spec.seeds == 9
    assert loaded(tmp_path, text, "quick").spec.seeds == 2


def test_an_override_wins_over_a_scale_and_the_last_one_over_the_others(tmp_path: Path) -> None:
    assert loaded(tmp_path, SCALES, "quick", "seeds=4", "seeds=5").spec.seeds == 5


OVERRIDES = {
    "base.train.samples=20_000": lambda spec: spec.base.train.samples == 20_000,
    "base.train.lr=1e-4": lambda spec: spec.base.train.lr == 1e-4,
    " base.train.lr =  0.5 ": lambda spec: spec.base.train.lr == 0.5,
    "base.data.source=a=b": lambda spec: spec.base.data.source == "a=b",
    "base.data.source='5'": lambda spec: spec.base.data.source == "5",
    f"vary.{FACTOR}=[0, 2, 5]": lambda spec: spec.vary[FACTOR] == [0, 2, 5],
    "vary.train.lr=[0.1, 0.2]": lambda spec: spec.vary == {FACTOR: [0, 5], "train.lr": [0.1, 0.2]},
    "vary.data.main_factor=[digit, colour]": lambda spec: spec.vary["data.main_factor"] == ["digit", "colour"],
    "resources.gpus=0.25": lambda spec: spec.resources.gpus == 0.25,
    "tracking.uri=sqlite:///other.db": lambda spec: spec.tracking.uri == "sqlite:///other.db",
    "question=Is it so?": lambda spec: spec.question == "Is it so?",
    "alpha=0.01": lambda spec: spec.alpha == 0.01,
}


@pytest.mark.parametrize("text", OVERRIDES)
def test_an_override_sets(tmp_path: Path, text: str) -> None:
    assert OVERRIDES[text](loaded(tmp_path, SCALES, None, text).spec)


WRONG_OVERRIDES = {
    "seeds": "--set seeds: no value; expected PATH=VALUE such as base.train.samples=20_000",
    "=5": "--set =5: no value; expected PATH=VALUE",
    "": "--set : no value; expected PATH=VALUE",
    "seeds=": "--set seeds=: seeds: found nothing; expected a whole number",
    "seeds=[": "--set seeds=[: the value is not YAML; expected a number, a word or [a, list]",
    "seeds=*x": "--set seeds=*x: the value is not YAML",
    "seeds=!!bool x": "--set seeds=!!bool x: the value is not YAML",
    "seeds=many": "--set seeds=many: seeds: found 'many'; expected a whole number",
    "seeds={a: 1, a: 2}": "--set seeds={a: 1, a: 2}: seeds: found a mapping; expected a whole number",
    "seds=3": "--set seds=3: seds: no such setting; did you mean seeds? Expected a path such as seeds or base.train.sa",
    "train.smaples=3": "--set train.smaples=3: train.smaples: no such setting; did you mean base.train.samples? "
    "Expected a path such as",
    "base.train={}": "--set base.train={}: base.train: no such setting",
    "vary.=[1]": "--set vary.=[1]: vary.: no such setting",
    "..=1": "--set ..=1: the file: no such setting",
    f"vary.{FACTOR}=3": f"--set vary.{FACTOR}=3: vary.{FACTOR}: found 3; expected a list",
    f"vary.{FACTOR}=[]": f"--set vary.{FACTOR}=[]: vary.{FACTOR}: found an empty list; expected at least one entry",
    f"vary.{FACTOR}=[0, 5, 7]": f"--set vary.{FACTOR}=[0, 5, 7]: vary.{FACTOR}[2]: found 7; expected at most 5",
    f"vary.{FACTOR}=[0, 3]": "F:20:18: hypotheses[1].between[1]: found 5; expected a level of "
    f"{FACTOR}: [0, 3] (with --set vary.{FACTOR}=[0, 3])",
    "base.train.batch_size=4096": "--set base.train.batch_size=4096: base.train: samples (512) is smaller than",
    "hypotheses=[]": "--set hypotheses=[]: hypotheses: hypotheses cannot be set; expected it to be changed in the file",
    "default_scale=quick": "--set default_scale=quick: default_scale: default_scale cannot be set",
    "scales.quick=1": "--set scales.quick=1: scales.quick: scales cannot be set",
    "seeds=" + "9" * 5000: "--set seeds=" + "9" * 54 + "...: the value is not YAML",
}  # fmt: skip


@pytest.mark.parametrize("text", WRONG_OVERRIDES, ids=lambda text: text[:40] or "empty")
def test_a_wrong_override_is_answered_with_itself(tmp_path: Path, text: str) -> None:
    found = complaints(tmp_path, SCALES, None, [text])

    assert found
    assert found[0].startswith(WRONG_OVERRIDES[text]), found[0]


WRONG_SCALES = {
    "{seeds: 0}": "F:24:11: scales.quick.seeds: found 0; expected at least 1",
    "{base.train.smaples: 9}": "F:24:11: scales.quick.base.train.smaples: no such setting; did you mean base.train",
    "{hypotheses: []}": "F:24:11: scales.quick.hypotheses: hypotheses cannot be set; expected it to be changed in",
    f"{{vary.{FACTOR}: [0, 4]}}": f"F:20:18: hypotheses[1].between[1]: found 5; expected a level of {FACTOR}: [0, 4] "
    "(with scale quick)",
    f"{{vary.{FACTOR}: [0, 5, 8]}}": f"F:24:49: scales.quick.vary.{FACTOR}[2]: found 8; expected at most 5",
    "{base.train.batch_size: 4096}": "F:24:11: scales.quick.base.train.batch_size: samples (512) is smaller than",
    "{seeds: 1000, base.train.samples: 600}\n  x: {seeds: 1001}": "F:25:7: scales.x.seeds: found 1001; expected",
}  # fmt: skip


@pytest.mark.parametrize("scale", WRONG_SCALES)
def test_a_wrong_scale_is_answered_also_where_it_is_not_asked_for(tmp_path: Path, scale: str) -> None:
    (found,) = complaints(tmp_path, edited(("{seeds: 1}", scale)))

    assert found.startswith(WRONG_SCALES[scale]), found


@pytest.mark.parametrize("name", ["../up", "two words", "-x", ".hidden", "a/b", "größer"])
def test_a_scale_whose_name_is_no_part_of_a_file_name_is_answered_at_its_key(tmp_path: Path, name: str) -> None:
    (found,) = complaints(tmp_path, edited(("quick: {", f"'{name}': {{")))

    assert found == (
        f"F:24:3: scales.{name}: found '{name}'; expected letters, digits, ., - and _, with a letter or digit first"
    )


def test_a_scale_whose_name_is_too_long_is_answered(tmp_path: Path) -> None:
    (found,) = complaints(tmp_path, edited(("quick: {", f"{'a' * 81}: {{")))

    assert found.startswith("F:24:3: scales.aaa")
    assert found.endswith("; expected at most 80 characters")


@pytest.mark.parametrize("name", ["7", "v1.2", "Two_words-and-more", "a" * 80])
def test_a_scale_takes_a_name_that_can_be_part_of_a_file_name(tmp_path: Path, name: str) -> None:
    assert loaded(tmp_path, edited(("quick: {", f"'{name}': {{")), name).scale == name


def test_an_unknown_scale_is_answered_with_those_there_are(tmp_path: Path) -> None:
    (found,) = complaints(tmp_path, SCALES, "quik")
    (none,) = complaints(tmp_path, edited(("scales:\n  quick: {seeds: 1}\n", "")), "quick")

    assert found == "--scale quik: F has no scale 'quik'; did you mean quick? Expected one of quick, large"
    assert none == "--scale quick: F has no scale 'quick'; expected none, as it lists none; leave --scale out"


def test_seeds_that_multiply_a_grid_beyond_measure_are_answered_with_what_brought_them(tmp_path: Path) -> None:
    lr = ", ".join(str(level / 1000) for level in range(1, 61))
    (found,) = complaints(tmp_path, SCALES, None, [f"vary.train.lr=[{lr}]", "seeds=1000"])

    assert "asks for 120,000 trials (120 combinations, seeds: 1000); expected at most 100,000" in found
    assert found.startswith("--set vary.train.lr=[0.001")


def test_every_path_that_may_be_set_is_known_by_what_it_sets() -> None:
    known = list_setting_paths(TrialConfig())

    assert {"seeds", "alpha", "base.train.lr", f"vary.{FACTOR}", "resources.cpus", "tracking.uri"} <= set(known)
    assert not [path for path in known if path.startswith(("hypotheses", "scales"))]
