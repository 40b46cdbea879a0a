"""Every option that takes a path takes an address as well, or refuses it before anything is written."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer

from command_line import assert_refused, gapctl
from gapctl.cli.main import LOCAL_TEXTS, VERBS
from pair_shards import write_pairs

ADDRESS = "s3://bucket/place"


def list_commands() -> Iterator[tuple[str, Any]]:
    """Yield the words of each command with the command, those of groups included."""
    for verb in VERBS:
        module = import_module(f"gapctl.cli.{verb}")
        group = getattr(module, f"{verb}_app", None)
        if group is None:
            group = typer.Typer()
            group.command(verb)(getattr(module, f"{verb}_command"))
        command = typer.main.get_command(group)
        commands = getattr(command, "commands", None)
        yield from ((f"{verb} {name}", each) for name, each in commands.items()) if commands else [(verb, command)]


def is_path(parameter: Any) -> bool:
    """Return whether Typer makes paths of a parameter's values."""
    return "pathlib.Path" in str(parameter.type_descriptor.annotation)


PATHS = [
    (words, command, parameter)
    for words, command in list_commands()
    for parameter in command.params
    if is_path(parameter) or parameter.opts[0] in LOCAL_TEXTS
]


def write_words(parameter: Any, value: str) -> list[str]:
    """Return the words of a command line that give a parameter this value."""
    return [parameter.opts[0], value] if parameter.opts[0].startswith("-") else [value]


def test_paths_are_found_among_the_options() -> None:
    assert {("data mad", "--out"), ("analyze", "--export"), ("measure", "--embeddings"), ("plan", "file")} <= {
        (words, parameter.opts[0]) for words, _, parameter in PATHS
    }


@pytest.mark.parametrize(
    ("words", "command", "parameter"), PATHS, ids=[f"{words} {parameter.opts[0]}" for words, _, parameter in PATHS]
)
def test_an_option_for_paths_of_this_machine_refuses_an_address(
    words: str, command: Any, parameter: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [
        word
        for each in command.params
        if each.required or each is parameter
        for word in write_words(each, ADDRESS if each is parameter else "other")
    ]

    ran = gapctl(*words.split(), *given)

    shown = parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.metavar
    assert_refused(ran, f"{shown} {ADDRESS}: an address; expected a path on this machine. Copy it from or to a store")
    assert not list(tmp_path.iterdir())


def test_digits_at_an_address_are_refused_where_a_sweep_names_them() -> None:
    ran = gapctl("plan", "imbalance", "--set", "base.data.source=s3://bucket/mnist")

    assert (ran.exit_code, ran.out) == (2, "")
    assert "s3://bucket/mnist: an address, and MAD's images are mapped into memory from a disk" in ran.err


@pytest.mark.parametrize("verb", [("index", "a.tar"), ("reshard", "a.tar"), ("pack", "a.csv")])
@pytest.mark.parametrize("place", ["https://example.org/out", "hf://datasets/a/b/out"])
def test_what_is_only_read_is_not_written_to(verb: tuple[str, str], place: str, tmp_path: Path) -> None:
    write_pairs(tmp_path / "a.tar", range(2))
    (tmp_path / "a.csv").write_text("path,caption\n", encoding="utf-8")
    name, scheme = "/manifest.parquet" if verb[0] == "index" else "", place.partition(":")[0]

    ran = gapctl("data", verb[0], str(tmp_path / verb[1]), "--out", place + name)

    assert_refused(ran, f"--out {place}: nothing can be written by {scheme}://. Write to a folder, and")
