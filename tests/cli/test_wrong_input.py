"""A wrong sweep file or option is answered in one message: what was found, where, what was expected; exit code 2."""

from pathlib import Path

import pytest
from refusals import FACTOR, LEVELS, VERBS, answer_to, assert_nothing_begun

from command_line import gapctl, gapctl_process
from sweep_texts import TINY, edited

# What is wrong with a sweep file, the file, and what every verb answers; F stands for the file's path.
WRONG_FILES: dict[str, tuple[str | bytes, str]] = {
    "an empty file": ("", "F:1:1: found nothing; expected a sweep file: a mapping with name, question, base, vary"),
    "no mapping": ("- a\n- b\n", "F:1:1: found ['a', 'b']; expected a sweep file: a mapping"),
    "an open bracket": (edited(("[0, 5]\nhyp", "[0, 5\nhyp")), "F:7:11: not YAML: expected ',' or ']', but got"),
    "a tab": (edited(("  train:", "\ttrain:")), "F:4:1: not YAML: found a tab; indent with spaces"),
    "an alias": (edited(("tiny", "*other")), "F:1:7: not YAML: found the alias *other; write the value out"),
    "not UTF-8": (b"name: caf\xe9\n", "F:1:10: not UTF-8: found the byte 0xe9; expected a text file"),
    "a key twice": (TINY + "name: x\n", "F:25:1: name: given twice, first in line 1; expected it once"),
    "a missing key": (edited(("name: tiny\n", "")), "F:1:1: name: missing; expected it here"),
    "an unknown key": (
        edited(("base:", "extra: 1\nbase:")),
        "F:3:1: extra: unknown key; expected one of alpha, asks_again, base",
    ),
    "a misspelt key": (
        edited(("batch_size", "batchsize")),
        "batchsize: unknown key; did you mean batch_size? Expected one of batch_size, compile, lr",
    ),
    "its suggestion": (edited(("batch_size", "batchsize")), "did you mean batch_size?"),
    "a word for a number": (
        edited(("samples: 512", "samples: many")),
        "F:4:11: base.train.samples: found 'many'; expected a whole number",
    ),
    "a quoted number": (
        edited(("samples: 512", "samples: '512'")),
        "base.train.samples: found '512'; expected a whole",
    ),
    "a list for a mapping": (
        edited(("base:\n", "base: []\nno:\n")),
        "F:3:1: base: found an empty list; expected a mapping",
    ),
    "a rate of zero": (edited(("512,", "512, lr: 0,")), "F:4:25: base.train.lr: found 0; expected a number above 0"),
    "not a number": (edited(("512,", "512, lr: .nan,")), "F:4:25: base.train.lr: found nan; expected a"),
    "an unknown preset": (
        edited(("base:", "base:\n  model: {preset: vit-l}")),
        "F:4:11: base.model.preset: found 'vit-l'; expected mad-tiny",
    ),
    "a batch larger than the samples": (
        edited(("samples: 512", "samples: 32")),
        "F:4:3: base.train: samples (32) is smaller than batch_size (64): not one step would run",
    ),
    "an empty vary": (
        edited((f"vary:\n  {LEVELS}", "vary: {}")),
        "F:5:1: vary: found an empty mapping; expected at least",
    ),
    "a factor without levels": (
        edited((LEVELS, f"{FACTOR}: []")),
        f"F:6:3: vary.{FACTOR}: found an empty list; expected at least one entry",
    ),
    "a factor that is not in base": (
        edited((LEVELS, f"{LEVELS}\n  train.rl: [1]")),
        "F:7:3: vary.train.rl: no such value in base; did you mean train.lr? Expected one of data",
    ),
    "a level that does not fit": (
        edited((LEVELS, f"{FACTOR}: [0, 5, 6]")),
        f"F:6:36: vary.{FACTOR}[2]: found 6; expected at most 5",
    ),
    "a level twice": (
        edited((LEVELS, f"{FACTOR}: [0, 5, 5]")),
        f"F:6:36: vary.{FACTOR}[2]: found 5 again; expected each level once",
    ),
    "more trials than anyone trains": (
        edited(("scales:", "seeds: 1000\nscales:"), (LEVELS, f"{LEVELS}\n  evaluate.every: {list(range(1, 52))}")),
        "F:5:1: vary: asks for 102,000 trials (102 combinations, seeds: 1000); expected at most 100,000",
    ),
    "no seeds": (edited(("scales:", "seeds: 0\nscales:")), "F:23:1: seeds: found 0; expected at least 1"),
    "half a seed": (edited(("scales:", "seeds: 1.5\nscales:")), "F:23:1: seeds: found 1.5; expected a whole number"),
    "a hypothesis on what does not exist": (
        edited((f"factor: {FACTOR}\n    direction: decreasing", "factor: data.captons\n    direction: decreasing")),
        f"F:12:5: hypotheses[0].factor: found 'data.captons', which does not vary; expected {FACTOR}",
    ),
    "a hypothesis on an unknown metric": (
        edited(("test: trend\n    response: gap/rmg", "test: trend\n    response: gap/size")),
        "F:11:5: hypotheses[0].response: found 'gap/size'; expected a metric such as gap/rmg or bias/moad_image",
    ),
    "a contrast between levels that do not vary": (
        edited(("between: [0, 5]", "between: [0, 3]")),
        f"F:20:18: hypotheses[1].between[1]: found 3; expected a level of {FACTOR}: [0, 5]",
    ),
    "a trend over words": (
        TINY.replace(FACTOR, "data.main_factor").replace("[0, 5]", "[digit, colour]"),
        "F:12:5: hypotheses[0].factor: its levels are ['digit', 'colour']; expected numbers for a trend",
    ),
    "an unknown test": (
        edited(("test: trend", "test: vibes")),
        "F:10:5: hypotheses[0].test: found 'vibes'; expected trend, contrast, equivalence, correlation, mediation,",
    ),
    "an id twice": (
        edited(("id: ends", "id: gap")),
        "F:15:5: hypotheses[1].id: found 'gap' again; expected each id once",
    ),
    "a negative effect": (
        edited(("decreasing\n    smallest_effect: 0.02", "decreasing\n    smallest_effect: -1")),
        "F:14:5: hypotheses[0].smallest_effect: found -1; expected at least 0",
    ),
    "a default scale that is not listed": (
        TINY + "default_scale: quik\n",
        "F:25:1: default_scale: found 'quik'; expected quick",
    ),
    "a scale that sets what does not exist": (
        edited(("{seeds: 1}", "{base.train.smaples: 9}")),
        "F:24:11: scales.quick.base.train.smaples: no such setting; did you mean base.train.s",
    ),
}

# Options that are wrong for a file that is right, and the answer.
WRONG_OPTIONS: dict[str, tuple[list[str], str]] = {
    "an unknown scale": (
        ["--scale", "quik"],
        "--scale quik: F has no scale 'quik'; expected quick",
    ),
    "an override without a value": (["--set", "seeds"], "--set seeds: no value; expected PATH=VALUE such as"),
    "an override of nothing that exists": (
        ["--set", "base.train.smaples=9"],
        "--set base.train.smaples=9: base.train.smaples: no such setting; did you mean base.train.s",
    ),
    "its suggestion": (["--set", "base.train.smaples=9"], "did you mean base.train.samples?"),
    "an override with a wrong value": (
        ["--set", "base.train.lr=fast"],
        "--set base.train.lr=fast: base.train.lr: found 'fast'; expected a number",
    ),
    "an override that is not YAML": (
        ["--set", "seeds=["],
        "--set seeds=[: the value is not YAML; expected a number, a word or [a, list]",
    ),
    "an override that takes a level from a hypothesis": (
        ["--set", f"vary.{FACTOR}=[0, 3]"],
        f"F:20:18: hypotheses[1].between[1]: found 5; expected a level of {FACTOR}: [0, 3] (with --set vary.{FACTOR}=",
    ),
    "data that is of another kind": (
        ["--set", "base.data.source=D/sweep.yaml"],
        ": base.data.source: F: the data source is a file. Expected `bundled` or a folder with MNIST's IDX",
    ),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", WRONG_FILES)
def test_a_sweep_file_is_refused_that_has(tmp_path: Path, name: str, verb: str) -> None:
    content, expected = WRONG_FILES[name]
    path = tmp_path / "sweep.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())

    assert_nothing_begun(answer_to(verb, path, tmp_path), expected, tmp_path)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", WRONG_OPTIONS)
def test_options_are_refused_that_have(tiny: Path, name: str, verb: str) -> None:
    options, expected = WRONG_OPTIONS[name]
    options = [option.replace("D/", f"{tiny.parent}/") for option in options]

    assert_nothing_begun(answer_to(verb, tiny, tiny.parent, *options), expected, tiny.parent)


@pytest.mark.parametrize("verb", VERBS)
def test_data_that_is_not_there_is_named_and_planned_for(tiny: Path, verb: str) -> None:
    answer = answer_to(verb, tiny, tiny.parent, "--set", "base.data.source=D/absent".replace("D", str(tiny.parent)))
    expected = "base.data.source: D/absent: the data source does not exist. Expected `bundled` or a folder with MNIST's"

    if verb == "plan":  # lists what would be trained, under ids that end in ?
        assert answer[0] == 0
        assert expected.replace("D/", "") in " ".join(answer[1].replace(f"{tiny.parent}/", "").split())
    else:
        assert_nothing_begun(answer, expected, tiny.parent)


@pytest.mark.parametrize("verb", VERBS)
def test_a_missing_sweep_file_is_named(tmp_path: Path, verb: str) -> None:
    answer = answer_to(verb, tmp_path / "absent.yaml", tmp_path)

    assert_nothing_begun(answer, "F: no such file; expected a sweep file such as sweeps/imbalance.yaml", tmp_path)


@pytest.mark.parametrize("verb", VERBS)
def test_a_folder_in_place_of_a_sweep_file_is_named(tmp_path: Path, verb: str) -> None:
    (tmp_path / "sweeps").mkdir()
    answer = answer_to(verb, tmp_path / "sweeps", tmp_path)

    assert_nothing_begun(answer, "F: is a folder; expected a sweep file in it, such as imbalance.yaml", tmp_path)


USAGE = {
    ("paln",): "No such command 'paln'",
    ("plan",): "Missing argument 'FILE'",
    ("plan", "a.yaml", "b.yaml"): "Got unexpected extra argument",
    ("plan", "a.yaml", "--sclae", "x"): "No such option: --sclae",
    ("plan", "a.yaml", "--scale"): "Option '--scale' requires an argument",
    ("train", "a.yaml"): "Missing option '--trial'",
    ("--nonsense",): "No such option: --nonsense",
}


@pytest.mark.parametrize("arguments", USAGE, ids=" ".join)
def test_a_wrong_command_line_is_answered_with_how_to_use_it(arguments: tuple[str, ...]) -> None:
    code, out, err = gapctl(*arguments)

    assert (code, out) == (2, "")
    assert USAGE[arguments] in " ".join(err.split())
    assert "Traceback" not in err


@pytest.mark.parametrize("name", ["an open bracket", "a misspelt key"])
def test_the_command_itself_answers_in_the_same_way(tmp_path: Path, name: str) -> None:
    content, expected = WRONG_FILES[name]
    (tmp_path / "F").write_bytes(content if isinstance(content, bytes) else content.encode())
    answer = gapctl_process("plan", "F", folder=tmp_path)

    assert_nothing_begun(answer, expected, tmp_path)
