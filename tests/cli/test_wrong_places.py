"""Wrong data, ledgers, trials and tracking addresses are refused in one message before anything begins."""

import sys
from pathlib import Path

import pytest
from refusals import LEVELS, VERBS, Damage, answer_to, assert_nothing_begun, cut_in_half

from command_line import gapctl
from gapctl.cli.options import load_plan
from idx_files import idx, write_digits

IMAGES, LABELS = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte"


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
    assert_nothing_begun((code, out, err), f"F:4:10: base.data.source: {expected}", tiny.parent)


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

    assert_nothing_begun(answer, f"{expected}10 digits and so 1680 different images", tiny.parent)


def test_a_gallery_that_varies_beyond_the_data_is_refused_at_its_level(tiny: Path) -> None:
    data = write_digits(tiny.parent / "digits")
    tiny.write_text(tiny.read_text().replace(LEVELS, f"{LEVELS}\n  evaluate.gallery: [100, 2000]"))
    answer = answer_to("plan", tiny, tiny.parent, "--set", f"base.data.source={data}")

    assert_nothing_begun(
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

    assert_nothing_begun(
        answer_to(verb, tiny, tiny.parent, "--runs", where, *trial_of(tiny, verb)), WRONG_RUNS[runs], tiny.parent
    )


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file system where not even root may write")
@pytest.mark.parametrize("verb", ["train", "sweep"])
def test_a_runs_folder_that_cannot_be_written_is_refused_before_anything_starts(tiny: Path, verb: str) -> None:
    answer = answer_to(verb, tiny, tiny.parent, "--runs", "/proc/runs", *trial_of(tiny, verb))

    assert_nothing_begun(answer, "/proc/runs/.writable: cannot be written: ", tiny.parent)
    assert "check rights and space, or give another folder with --runs" in answer[2]


@pytest.mark.parametrize(
    ("trial", "found"), [("zzz", "no trial of F begins with that"), ("", "2 trials of F begin with that")]
)
def test_a_trial_that_is_not_one_is_refused(tiny: Path, trial: str, found: str) -> None:
    answer = answer_to("train", tiny, tiny.parent, "--trial", trial)

    assert_nothing_begun(
        answer, f"--trial {trial}: {found}; expected one of the 2 ids that `gapctl plan F` lists", tiny.parent
    )


def test_an_id_that_is_too_short_is_answered_with_how_many_it_could_mean(tiny: Path) -> None:
    many = ["--set", "seeds=200"]
    first = [trial.id[0] for trial in load_plan(tiny, None, many[1:]).trials]
    letter = max(first, key=first.count)
    answer = answer_to("train", tiny, tiny.parent, "--trial", letter, *many)

    assert_nothing_begun(answer, f"--trial {letter}: {first.count(letter)} trials of F begin with that", tiny.parent)


@pytest.mark.parametrize("uri", ["nonsense", "ftp://host/db", "sqlite:///D/absent/mlflow.db"])
def test_a_tracking_address_that_mlflow_cannot_use_is_refused_before_anything_starts(tiny: Path, uri: str) -> None:
    where = uri.replace("D/", f"{tiny.parent}/")
    answer = answer_to("sweep", tiny, tiny.parent, "--set", f"tracking.uri={where}")

    assert_nothing_begun(answer, uri.rsplit("/", 1)[0], tiny.parent)


def trial_of(path: Path, verb: str) -> list[str]:
    return ["--trial", load_plan(path, None, None).trials[0].id] if verb == "train" else []
