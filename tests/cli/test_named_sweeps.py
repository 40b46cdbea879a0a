"""Every verb that takes a sweep takes its name, in any folder, and says again what was typed."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from command_line import gapctl
from gapctl.cli.main import app
from sweep_texts import REPOSITORY, SHIPPED

NOTE = f"the sweep that comes with gapctl, {SHIPPED}"
CLUSTER = str(REPOSITORY / "cluster.yaml")

# The verb, what its answer holds when nothing has run yet, and its exit code; N stands for the name.
VERBS = {
    "plan": (["plan", "N"], "4 hypotheses; hypotheses sha256", 0),
    "status": (["status", "N"], "18 missing", 0),
    "train": (["train", "N", "--trial", "none"], "ids that `gapctl plan N` lists", 2),
    "analyze": (["analyze", "N"], "run `gapctl sweep N` first", 2),
    "clean": (["clean", "N"], "nothing to delete", 0),
    "ui": (["ui", "N", "--no-browser"], "there is no MLflow database yet", 2),
    "track sync": (["track", "sync", "N"], "none of the 18 trials of N has begun there", 2),
    "cluster cost": (["cluster", "cost", CLUSTER, "--sweep", "N"], "imbalance, scale laptop: 18 trainings", 0),
    "cluster lint": (["cluster", "lint", CLUSTER, "--sweep", "N"], "is copied to the nodes, and is not there", 1),
    "cluster submit": (
        ["cluster", "submit", "N", "--runs", "s3://bucket/runs", "--address", "http://127.0.0.1:1"],
        "no Ray dashboard answers there",
        2,
    ),
    "sweep": (["sweep", "N", "--address", "127.0.0.1:1"], "no Ray cluster answers there", 2),
}


def every_verb(command: object, words: tuple[str, ...] = ()) -> Iterator[list[str]]:
    """The words of each verb and group of verbs."""
    yield list(words)
    for name, inner in getattr(command, "commands", {}).items():
        yield from every_verb(inner, (*words, name))


VERB_WORDS = list(every_verb(typer.main.get_command(app)))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["imbalance", "imbalance.yaml", "sweeps/imbalance.yaml"])
@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_takes_a_shipped_sweep_by_its_name(verb: str, name: str) -> None:
    words, expected, code = VERBS[verb]

    answer = gapctl(*[name if word == "N" else word for word in words])

    assert answer.exit_code == code, answer.err
    assert expected.replace("N", name) in answer.out + answer.err
    assert answer.err.count(f"{name}: {NOTE}") == 1


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_answers_a_slip_with_the_nearest_name(verb: str) -> None:
    words, _, _ = VERBS[verb]

    answer = gapctl(*["imbalnace" if word == "N" else word for word in words])

    assert answer.exit_code == 2
    assert answer.err.startswith("gapctl: imbalnace: no such file; expected a sweep file")
    assert answer.err.endswith("; did you mean imbalance?\n")


def test_a_file_that_was_named_by_its_path_is_not_told() -> None:
    assert gapctl("plan", str(SHIPPED)).err == ""


def test_several_sweeps_are_named_side_by_side() -> None:
    answer = gapctl("analyze", "imbalance.yaml", "sweeps/rivals.yaml")

    assert answer.exit_code == 2
    for typed in ("imbalance.yaml", "sweeps/rivals.yaml"):
        assert f"{typed}: the sweep that comes with gapctl" in answer.err
        assert f"run `gapctl sweep {typed}` first" in answer.err


def test_json_stays_one_document() -> None:
    by_name, by_path = gapctl("plan", "imbalance", "--json"), gapctl("plan", str(SHIPPED), "--json")

    plans = [json.loads(answer.out) for answer in (by_name, by_path)]
    for plan in plans:
        del plan["totals"]["disks"]  # what is free on a disk changes from call to call
    assert plans[0] == plans[1]


def test_the_ledger_keeps_what_was_typed(folder: Path) -> None:
    gapctl("sweep", "imbalance", "--address", "127.0.0.1:1")

    declared = json.loads((folder / "runs" / "imbalance.sweep.json").read_text())
    assert declared["asked"]["laptop"]["file"] == "imbalance"


def test_paths_in_a_shipped_sweep_begin_at_the_working_folder(folder: Path) -> None:
    (folder / "shards").mkdir()
    (folder / "shards" / "mad").write_bytes(b"no folder")

    answer = gapctl("plan", "imbalance", "--scale", "paper")

    assert answer.exit_code == 2
    assert "shards/mad" in answer.err


def test_questions_are_listed_by_the_name_that_every_verb_takes() -> None:
    answer = gapctl("list", "imbalance")

    assert answer.exit_code == 0
    assert "\n  gapctl sweep imbalance\n" in answer.out


@pytest.mark.parametrize("words", VERB_WORDS, ids=" ".join)
def test_help_names_nothing_that_only_the_repository_has(words: list[str]) -> None:
    answer = gapctl(*words, "--help")

    assert answer.exit_code == 0
    assert not re.search(r"docs/|README|cluster\.yaml", answer.out)
