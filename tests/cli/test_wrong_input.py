"""Wrong input is answered in one message: what was found, where, what was expected; exit code 2, nothing begun."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from command_line import gapctl, gapctl_process
from gapctl.cli.options import load_plan
from gapctl.ledger import Ledger, Result
from gapctl.plan.plan import Plan
from idx_files import idx, write_digits
from sweep_texts import TINY, edited

FACTOR = "data.captions.attributes"
LEVELS = f"{FACTOR}: [0, 5]"

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
        edited(("scales:", "seeds: 1000\nscales:"), (LEVELS, f"{LEVELS}\n  evaluate.every: [1, 2, 3, 4, 5, 6]")),
        "F:5:1: vary: asks for 12,000 trials (12 combinations, seeds: 1000); expected at most 10,000",
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
        "F:10:5: hypotheses[0].test: found 'vibes'; expected trend, contrast, equivalence, correlation, mediation or",
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
    "data that is not there": (
        ["--set", "base.data.source=D/absent"],
        ": base.data.source: D/absent: the data source does not exist. Expected `bundled` or a folder with MNIST's IDX",
    ),
}

VERBS = ["plan", "status", "train", "sweep", "analyze"]


def answer_to(verb: str, path: Path, folder: Path, *options: str) -> tuple[int, str, str]:
    """What a verb answers about a sweep file; F stands for the file's path and D for the folder's."""
    more = ["--trial", "0"] if verb == "train" else []
    places = [] if verb == "plan" else ["--runs", str(folder / "runs")]
    code, out, err = gapctl(verb, str(path), *more, *places, *options)
    return code, out, err.replace(str(path), "F").replace(str(folder), "D")


def assert_refused(answer: tuple[int, str, str], expected: str, folder: Path) -> None:
    code, out, err = answer
    assert (code, out) == (2, "")
    assert err.startswith("gapctl: ")
    assert expected in err, err
    assert "Traceback" not in err
    assert not (folder / "runs").exists()


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", WRONG_FILES)
def test_a_sweep_file_is_refused_that_has(tmp_path: Path, name: str, verb: str) -> None:
    content, expected = WRONG_FILES[name]
    path = tmp_path / "sweep.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())

    assert_refused(answer_to(verb, path, tmp_path), expected, tmp_path)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", WRONG_OPTIONS)
def test_options_are_refused_that_have(tiny: Path, name: str, verb: str) -> None:
    options, expected = WRONG_OPTIONS[name]
    options = [option.replace("D/", f"{tiny.parent}/") for option in options]

    assert_refused(answer_to(verb, tiny, tiny.parent, *options), expected, tiny.parent)


@pytest.mark.parametrize("verb", VERBS)
def test_a_missing_sweep_file_is_named(tmp_path: Path, verb: str) -> None:
    answer = answer_to(verb, tmp_path / "absent.yaml", tmp_path)

    assert_refused(answer, "F: no such file; expected a sweep file such as sweeps/imbalance.yaml", tmp_path)


@pytest.mark.parametrize("verb", VERBS)
def test_a_folder_in_place_of_a_sweep_file_is_named(tmp_path: Path, verb: str) -> None:
    (tmp_path / "sweeps").mkdir()
    answer = answer_to(verb, tmp_path / "sweeps", tmp_path)

    assert_refused(answer, "F: is a folder; expected a sweep file in it, such as imbalance.yaml", tmp_path)


Damage = Callable[[Path], object]
IMAGES, LABELS = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte"


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


# What happened to a folder with MNIST's files, and the answer; D stands for the folder.
DAMAGED_DATA: dict[str, tuple[Damage, str]] = {
    "a truncated gzip": (lambda data: cut_in_half(data / IMAGES), f"D/{IMAGES}: broken gzip"),
    "no gzip inside": (lambda data: (data / IMAGES).write_bytes(b"\x1f\x8b\x08\0junk"), f"D/{IMAGES}: broken gzip"),
    "another format": (
        lambda data: (data / IMAGES).write_bytes(b"\x89PNG\r\n\x1a\n"),
        f"D/{IMAGES}: not an IDX file of unsigned bytes with 3 dimensions: it begins with 89 50 4e 47",
    ),
    "an empty file": (lambda data: (data / LABELS).write_bytes(b""), f"D/{LABELS}: not an IDX file of unsigned bytes"),
    "a truncated header": (
        lambda data: (data / LABELS).write_bytes(b"\0\0\x08\x01\0"),
        f"D/{LABELS}: truncated: 5 bytes, less than its header of 8",
    ),
    "fewer values than the header says": (
        lambda data: (data / LABELS).write_bytes((data / LABELS).read_bytes()[:-3]),
        f"D/{LABELS}: truncated: 7 bytes of values, but its header says 10 = 10",
    ),
    "fewer labels than images": (
        lambda data: (data / LABELS).write_bytes(idx_of_labels(9)),
        f"D/{LABELS}: 9 labels for the 10 images of {IMAGES}, expected as many",
    ),
    "a label that is no digit": (
        lambda data: (data / LABELS).write_bytes(idx_of_labels(10, last=10)),
        f"D/{LABELS}: label 10 at position 9, expected 0 to 9",
    ),
    "a missing file": (lambda data: (data / LABELS).unlink(), "D: no test labels there. Sought t10k-labels-idx1-ubyte"),
    "a folder in place of a file": (
        lambda data: ((data / LABELS).unlink(), (data / LABELS).mkdir()),
        "D: no test labels there",
    ),
    "a damaged train file": (
        lambda data: cut_in_half(data / "train-labels-idx1-ubyte"),
        "D/train-labels-idx1-ubyte: truncated",
    ),
}  # fmt: skip


def idx_of_labels(count: int, last: int = 0) -> bytes:
    import numpy as np

    return idx(np.array([0] * (count - 1) + [last], np.uint8))


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", DAMAGED_DATA)
def test_data_is_refused_before_anything_starts_that_has(tiny: Path, name: str, verb: str) -> None:
    damage, expected = DAMAGED_DATA[name]
    data = write_digits(tiny.parent / "digits")
    tiny.write_text(tiny.read_text().replace("base:", f"base:\n  data: {{source: {data}}}"))
    damage(data)

    code, out, err = answer_to(verb, tiny, tiny.parent)
    err = err.replace("D/digits", "D")
    assert_refused((code, out, err), f"F:4:10: base.data.source: {expected}", tiny.parent)


def test_a_folder_of_whole_digits_is_taken(tiny: Path) -> None:
    data = write_digits(tiny.parent / "digits")
    code, out, _ = gapctl("plan", str(tiny), "--set", f"base.data.source={data}", "--set", "base.evaluate.gallery=1680")

    assert code == 0
    assert "attributes=5 seed=0" in out


@pytest.mark.parametrize("verb", VERBS)
def test_a_gallery_larger_than_the_data_is_refused_before_anything_starts(tiny: Path, verb: str) -> None:
    data = write_digits(tiny.parent / "digits")
    tiny.write_text(tiny.read_text().replace("base:", f"base:\n  data: {{source: {data}}}"))
    answer = answer_to(verb, tiny, tiny.parent, "--set", "base.evaluate.gallery=1681")
    expected = (
        "--set base.evaluate.gallery=1681: base.evaluate.gallery: evaluate.gallery is 1681, but the test split has "
    )

    assert_refused(answer, f"{expected}10 digits and so 1680 different images", tiny.parent)


def test_a_gallery_that_varies_beyond_the_data_is_refused_at_its_level(tiny: Path) -> None:
    data = write_digits(tiny.parent / "digits")
    tiny.write_text(tiny.read_text().replace(LEVELS, f"{LEVELS}\n  evaluate.gallery: [100, 2000]"))
    answer = answer_to("plan", tiny, tiny.parent, "--set", f"base.data.source={data}")

    assert_refused(
        answer, "F:7:27: vary.evaluate.gallery[1]: evaluate.gallery is 2000, but the test split", tiny.parent
    )


WRONG_RUNS = {
    "file": "--runs D/file: D/file is a file; expected a folder, or the name of a new one",
    "file/below": "--runs D/file/below: D/file is a file; expected a folder, or the name of a new one",
    "nowhere://runs": "--runs nowhere://runs: Protocol not known: nowhere; expected a folder, or an address such as s3://",
}


@pytest.mark.parametrize("verb", ["status", "train", "sweep", "analyze"])
@pytest.mark.parametrize("runs", WRONG_RUNS)
def test_a_runs_folder_that_cannot_be_one_is_refused(tiny: Path, runs: str, verb: str) -> None:
    (tiny.parent / "file").write_text("taken")
    where = runs if "://" in runs else str(tiny.parent / runs)

    assert_refused(
        answer_to(verb, tiny, tiny.parent, "--runs", where, *trial_of(tiny, verb)), WRONG_RUNS[runs], tiny.parent
    )


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file system where not even root may write")
@pytest.mark.parametrize("verb", ["train", "sweep"])
def test_a_runs_folder_that_cannot_be_written_is_refused_before_anything_starts(tiny: Path, verb: str) -> None:
    answer = answer_to(verb, tiny, tiny.parent, "--runs", "/proc/runs", *trial_of(tiny, verb))

    assert_refused(answer, "/proc/runs/.writable: cannot be written: ", tiny.parent)
    assert "check rights and space, or give another folder with --runs" in answer[2]


@pytest.mark.parametrize(
    ("trial", "found"), [("zzz", "no trial of F begins with that"), ("", "2 trials of F begin with that")]
)
def test_a_trial_that_is_not_one_is_refused(tiny: Path, trial: str, found: str) -> None:
    answer = answer_to("train", tiny, tiny.parent, "--trial", trial)

    assert_refused(
        answer, f"--trial {trial}: {found}; expected one of the 2 ids that `gapctl plan F` lists", tiny.parent
    )


def test_an_id_that_is_too_short_is_answered_with_how_many_it_could_mean(tiny: Path) -> None:
    many = ["--set", "seeds=200"]
    first = [trial.id[0] for trial in load_plan(tiny, None, many[1:]).trials]
    letter = max(first, key=first.count)
    answer = answer_to("train", tiny, tiny.parent, "--trial", letter, *many)

    assert_refused(answer, f"--trial {letter}: {first.count(letter)} trials of F begin with that", tiny.parent)


@pytest.mark.parametrize("uri", ["nonsense", "ftp://host/db", "sqlite:///D/absent/mlflow.db"])
def test_a_tracking_address_that_mlflow_cannot_use_is_refused_before_anything_starts(tiny: Path, uri: str) -> None:
    where = uri.replace("D/", f"{tiny.parent}/")
    answer = answer_to("sweep", tiny, tiny.parent, "--set", f"tracking.uri={where}")

    assert_refused(answer, uri.rsplit("/", 1)[0], tiny.parent)


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


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "sweep.yaml"
    path.write_text(TINY)
    yield path
    if "ray" in sys.modules:
        assert not sys.modules["ray"].is_initialized()


def trial_of(path: Path, verb: str) -> list[str]:
    return ["--trial", load_plan(path, None, None).trials[0].id] if verb == "train" else []


@pytest.fixture
def finished(tiny: Path) -> Plan:
    """The tiny sweep with both trials done."""
    plan = load_plan(tiny, None, None)
    for trial in plan.trials:
        folder = Ledger(str(tiny.parent / "runs")).trial(trial.id)
        folder.begin(trial)
        folder.finish(Result(trial.id, {"gap/rmg": 0.5}, 512, 1.0, {"python": "3"}, {"device": "cpu"}), b"weights")
    return plan


def a_folder_in_its_place(path: Path) -> None:
    path.unlink()
    path.mkdir()


def of_another_trial(path: Path) -> None:
    path.write_text(path.read_text().replace(path.parent.name, "0" * 12))


DAMAGED_RESULTS: dict[str, tuple[Damage, str]] = {
    "cut in half": (cut_in_half, "damaged: Invalid JSON"),
    "emptied": (lambda path: path.write_bytes(b""), "damaged: Invalid JSON"),
    "overwritten with zeros": (lambda path: path.write_bytes(bytes(99)), "damaged: Invalid JSON"),
    "edited by hand": (
        lambda path: path.write_text(path.read_text().replace("0.5", '"half"')),
        "metrics.gap/rmg: Input",
    ),
    "that of another trial": (of_another_trial, "damaged: it is the result of trial 000000000000"),
    "a folder": (a_folder_in_its_place, "cannot be read: "),
}


@pytest.mark.parametrize("name", DAMAGED_RESULTS)
def test_a_damaged_trial_is_named_and_the_others_are_told_of(tiny: Path, finished: Plan, name: str) -> None:
    damage, expected = DAMAGED_RESULTS[name]
    sound, bad = finished.trials
    damage(tiny.parent / "runs" / bad.id / "result.json")
    code, out, err = gapctl("status", str(tiny), "--runs", str(tiny.parent / "runs"))

    assert code == 1
    assert f"gapctl: attributes=5 seed=0 ({bad.id}) damaged: " in err
    assert f"{tiny.parent}/runs/{bad.id}/result.json: " in err
    assert expected in err
    assert "Traceback" not in err
    assert "1 done, 1 damaged" in out
    assert sound.id not in err


def test_a_file_in_place_of_a_trial_folder_is_damage(tiny: Path, finished: Plan) -> None:
    bad = finished.trials[1]
    folder = tiny.parent / "runs" / bad.id
    folder.rename(tiny.parent / "elsewhere")
    folder.write_text("a file")
    code, out, err = gapctl("status", str(tiny), "--runs", str(tiny.parent / "runs"))

    assert code == 1
    assert f"{bad.id}/result.json: cannot be read: " in err
    assert "1 done, 1 damaged" in out


@pytest.mark.parametrize("name", ["cut in half", "that of another trial"])
def test_a_damaged_trial_is_not_trained_over(tiny: Path, finished: Plan, name: str) -> None:
    bad = finished.trials[1]
    DAMAGED_RESULTS[name][0](tiny.parent / "runs" / bad.id / "result.json")
    before = contents(tiny.parent / "runs")
    code, out, err = gapctl("train", str(tiny), "--trial", bad.id, "--runs", str(tiny.parent / "runs"))

    assert (code, out) == (1, "")
    assert f"{bad.id}/result.json: damaged: " in err
    assert f"Move the folder {tiny.parent}/runs/{bad.id}/ away and run the sweep again" in err
    assert contents(tiny.parent / "runs") == before


@pytest.mark.parametrize(
    ("failure", "why"), [("Traceback ...\nValueError: no", "ValueError: no"), ("", "for a reason that")]
)
def test_a_failed_trial_is_told_with_its_reason_and_where_its_traceback_is(tiny: Path, failure: str, why: str) -> None:
    plan = load_plan(tiny, None, None)
    Ledger(str(tiny.parent / "runs")).trial(plan.trials[0].id).fail(failure)
    code, out, err = gapctl("status", str(tiny), "--runs", str(tiny.parent / "runs"))

    assert code == 1
    assert f"gapctl: attributes=0 seed=0 ({plan.trials[0].id}) failed: {why}" in err
    assert f"its traceback is in {tiny.parent}/runs/{plan.trials[0].id}/failure.txt" in err
    assert "1 failed, 1 missing" in out


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("name", ["an open bracket", "a misspelt key"])
def test_the_command_itself_answers_in_the_same_way(tmp_path: Path, name: str) -> None:
    content, expected = WRONG_FILES[name]
    (tmp_path / "F").write_bytes(content if isinstance(content, bytes) else content.encode())
    answer = gapctl_process("plan", "F", folder=tmp_path)

    assert_refused(answer, expected, tmp_path)
