"""`gapctl data mad --out` and `gapctl data verify`: what people and programs read, and what a kill leaves behind."""

import json
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from command_line import gapctl
from forked import ForkedProcess
from gapctl.cli import sweep as local_ray
from gapctl.cli.data import data_app
from gapctl.data.mad.source import compute_dataset_fingerprint
from gapctl.ledger import Ledger
from idx_files import write_digits
from one_verb import run_verb
from shard_folders import contents
from sweep_texts import TINY
from sweeping import kill_all, start_command, wait_until

TRAIN, TEST = 12, 10
DIGITS = "120"
"""So many of each split that a shard takes seconds, and a kill after the first comes before the second."""


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Verbs work in a folder with an empty cache, and need not start Ray."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GAPCTL_CACHE", str(folder / "cache"))
        patch.setattr(local_ray, "start_local_ray", lambda workers: nullcontext())
        patch.chdir(folder)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> Path:
    """A folder of IDX files with a few real digits, in `digits`, and their shards, in `mad`; to be read only."""
    folder = tmp_path_factory.mktemp("whole")
    write_digits(folder / "digits", TRAIN, TEST)
    with working_in(folder):
        assert run_verb(data_app, "mad", "--source", "digits", "--out", "mad").exit_code == 0
    return folder


@pytest.fixture
def source(tmp_path: Path, whole: Path) -> Iterator[Path]:
    """The folder of IDX files, an empty cache, and a Ray that a verb need not start."""
    with working_in(tmp_path):
        yield shutil.copytree(whole / "digits", tmp_path / "digits")


@pytest.fixture
def shards(source: Path, whole: Path) -> Path:
    """The same, with a copy of the shards in `mad`."""
    return shutil.copytree(whole / "mad", source.with_name("mad"))


def test_a_program_reads_what_was_made_and_what_was_kept(source: Path, tmp_path: Path) -> None:
    first, second = (
        json.loads(run_verb(data_app, "mad", "--source", "digits", "--out", "mad", "--json").out) for _ in range(2)
    )
    assert first["fingerprint"] == compute_dataset_fingerprint("digits")
    assert first["splits"] == [
        {"split": "train", "digits": TRAIN, "images": 24 * TRAIN},
        {"split": "test", "digits": TEST, "images": 24 * TEST},
    ]
    assert first["bytes"] == sum(len(content) for name, content in contents(Path("mad")).items() if name != "mad.json")
    assert (first["shards"], first["made"], second["made"]) == (2, 2, 0)
    assert not (tmp_path / "cache").exists()


def test_a_person_reads_it_in_two_sentences(source: Path) -> None:
    ran = run_verb(data_app, "mad", "--source", "digits", "--out", "mad", "--splits", "test", "--digits", "4")
    name = f"{compute_dataset_fingerprint('digits')}-first4"
    assert (ran.exit_code, ran.err.strip()) == (0, "")
    assert ran.out.startswith(f"MAD from digits, fingerprint {name}\nin mad\n96 test images in 1 shards of npy, 0 MB: ")
    assert "1 made and 0 kept in " in ran.out


def test_a_whole_folder_verifies_and_a_damaged_one_is_told_file_by_file(shards: Path) -> None:
    ran = run_verb(data_app, "verify", "mad")
    assert (ran.exit_code, ran.err.strip()) == (0, "")
    assert ran.out.startswith("mad: whole: 4 files, ")

    Path("mad/test-00000.npy").unlink()
    Path("mad/train-00000.npy").write_bytes(Path("mad/train-00000.npy").read_bytes()[:-1])
    Path("mad/mine.txt").touch()
    ran, document = run_verb(data_app, "verify", "mad"), run_verb(data_app, "verify", "mad", "--json")
    assert (ran.exit_code, document.exit_code) == (1, 1)
    length = 128 + TRAIN * 24 * 784
    assert ran.out.splitlines()[:3] == [
        f"mad/train-00000.npy: short: {length - 1:,} bytes of {length:,}",
        "mad/test-00000.npy: missing",
        "mad/mine.txt: foreign: not a file of this folder",
    ]
    assert ran.out.splitlines()[3].startswith("3 wrong; take foreign files away")
    told = json.loads(document.out)
    assert told["ok"] is False
    assert [problem["file"] for problem in told["problems"]] == ["train-00000.npy", "test-00000.npy", "mine.txt"]

    Path("mad/mine.txt").unlink()
    assert "2 wrong; the `gapctl data mad --out` that made mad mends them" in run_verb(data_app, "verify", "mad").out
    assert run_verb(data_app, "mad", "--source", "digits", "--out", "mad").exit_code == 0
    assert run_verb(data_app, "verify", "mad").exit_code == 0


WRONG = [
    (("--digits", "5"), "--digits 5: only for a folder of shards; give --out FOLDER, or leave it out"),
    (("--seed", "1"), "--seed 1: only for a folder of shards"),
    (("--format", "npy"), "--format npy: only for a folder of shards"),
    (("--out", "mad", "--format", "tar"), "--format tar: no such format; expected one of npy, webdataset"),
    (
        ("--splits", "trian"),
        "no split 'trian'; expected train, test or one of them; did you mean train?",
    ),
    (("--out", "mad", "--splits", "train,"), "--splits train,: no split ''; expected train, test"),
    (("--out", "mad", "--digits", "0"), "--digits"),
    (("--out", "mad", "--seed", "-1"), "--seed"),
    (("--workers", "0"), "--workers"),
    (("--out", "digits"), "--out digits: holds other data (t10k-images-idx3-ubyte.gz"),
    (("--out", "digits/t10k-images-idx3-ubyte.gz"), "is a file; expected a folder"),
    (("--out", "mad", "--source", "none"), "none: the data source does not exist"),
]


@pytest.mark.parametrize(("options", "message"), WRONG, ids=[" ".join(options) for options, _ in WRONG])
def test_a_wrong_option_is_one_message_and_nothing_is_made(
    source: Path, options: tuple[str, ...], message: str
) -> None:
    given = ("--source", "digits") if "--source" not in options else ()
    ran = run_verb(data_app, "mad", *given, *options)
    assert (ran.exit_code, ran.out) == (2, "")
    assert message in " ".join(ran.err.split())
    assert not Path("mad").exists()


@pytest.mark.parametrize("name", ["nowhere", "digits", "file"])
def test_only_a_folder_of_shards_can_be_verified(source: Path, name: str) -> None:
    Path("file").touch()
    ran = run_verb(data_app, "verify", name)
    assert (ran.exit_code, ran.out) == (2, "")
    assert "expected a folder that `gapctl data mad --out` made" in ran.err


def test_the_cache_is_filled_for_one_split_where_only_that_is_asked(source: Path) -> None:
    ran = run_verb(data_app, "mad", "--source", "digits", "--splits", "test", "--workers", "1", "--json")
    assert [split["split"] for split in json.loads(ran.out)["splits"]] == ["test"]
    assert [path.name for path in Path("cache").rglob("*.npy")] == ["test.npy"]


def test_the_preview_of_shards_is_that_of_their_digits(shards: Path) -> None:
    for name in ("digits", "mad"):
        assert run_verb(data_app, "preview", "--source", name, "--rows", "2", "--out", f"{name}.png").exit_code == 0
    assert Path("mad.png").read_bytes() == Path("digits.png").read_bytes()


def test_a_trial_on_shards_is_the_trial_on_their_digits(shards: Path) -> None:
    sweep = Path("tiny.yaml")
    sweep.write_text(TINY)
    options = ("--set", "base.evaluate.gallery=20", "--set")
    plans = [gapctl("plan", "tiny.yaml", "--json", *options, f"base.data.source={name}") for name in ("digits", "mad")]
    (trial, *_), (same, *_) = (json.loads(plan.out)["trials"] for plan in plans)
    assert trial["id"] == same["id"]
    for name in ("digits", "mad"):
        ran = gapctl(
            "train", "tiny.yaml", "--trial", trial["id"], "--runs", name + "-runs", *options, f"base.data.source={name}"
        )
        assert ran.exit_code == 0, ran.err
    on_digits, on_shards = (Ledger(f"{name}-runs").result(trial["id"]) for name in ("digits", "mad"))
    assert on_digits is not None
    assert on_shards is not None
    assert on_digits.metrics == on_shards.metrics


def test_a_sweep_file_that_names_damaged_shards_is_answered_with_its_place(shards: Path) -> None:
    Path("tiny.yaml").write_text(TINY)
    Path("mad/train-00000.npy").unlink()
    ran = gapctl("plan", "tiny.yaml", "--set", "base.data.source=mad")
    assert ran.exit_code == 2
    assert "base.data.source: mad/train-00000.npy: is missing. `gapctl data verify mad` names all" in ran.err
    shutil.rmtree("mad")
    assert "does not exist" in gapctl("train", "tiny.yaml", "--trial", "0", "--set", "base.data.source=mad").err


@contextmanager
def making(folder: Path) -> Iterator[ForkedProcess]:
    """`gapctl data mad --out` in a process of its own, with one worker and two shards to make."""
    command = ["data", "mad", "--out", str(folder), "--digits", DIGITS, "--workers", "1"]
    process = start_command(folder.parent, *command)
    try:
        yield process
    finally:
        kill_all(process)


@pytest.mark.timeout(420)
def test_a_kill_leaves_nothing_that_looks_whole_and_the_rest_is_made(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mad"
    with making(folder) as process:
        wait_until(lambda: bool(list(folder.glob("*.npy"))), process)
        process.send_signal(signal.SIGKILL)
    assert run_verb(data_app, "verify", str(folder)).exit_code == 1
    for name, workers in ((folder, "2"), (tmp_path / "alone", "1")):
        ran = run_verb(data_app, "mad", "--out", str(name), "--digits", DIGITS, "--workers", workers, "--json")
        assert ran.exit_code == 0, ran.err
    assert contents(folder) == contents(tmp_path / "alone")
