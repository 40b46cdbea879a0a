"""What files hold reaches a terminal as text alone, and a terminal that lacks a character loses nothing else."""

import ast
import json
import os
import pty
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

from command_line import gapctl, gapctl_in_turn, gapctl_process, in_turn
from gapctl.cli.console import SafeConsole
from gapctl.cli.output import escape_controls, guard_output
from pair_shards import pair, write_shard
from sweep_texts import TINY, written

PACKAGE = Path(__file__).parents[2] / "platform" / "gapctl"

# Not UTF-8 by Python's own setting, and by the locale of bare containers and of cron.
TERMINALS: dict[str, dict[str, str]] = {
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "ascii, strict": {"PYTHONIOENCODING": "ascii:strict"},
    "the C locale": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}
HOSTILE = {
    "clear the screen": ("\x1b[2J", r"\x1b[2J"),
    "set the title": ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
    "a C1 control sequence": ("\x9b2J", r"\x9b2J"),
    "overwrite the line": ("sound\rwrong", r"sound\x0dwrong"),
    "backspaces": ("no\b\bok", r"no\x08\x08ok"),
    "delete": ("\x7f", r"\x7f"),
    "right to left": ("\u202egpj-exe", r"\u202egpj-exe"),
    "an isolate": ("\u2066x\u2069", r"\u2066x\u2069"),
}


@pytest.fixture(autouse=True)
def _at_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def shard_of(caption: str, key: str = "0") -> str:
    whole = {**json.loads(pair(0)["json"]), "caption": caption}  # as img2dataset says that lines are one caption
    bad = {**pair(1), "jpg": b"no picture"}
    return str(
        write_shard(
            Path("a.tar"),
            [(key, {**pair(0), "txt": caption.encode(), "json": json.dumps(whole).encode()}), (f"bad{key}", bad)],
        )
    )


@pytest.mark.parametrize("name", HOSTILE)
def test_control_characters_of_captions_and_keys_are_shown(name: str) -> None:
    sent, shown = HOSTILE[name]
    shard = shard_of(f"red {sent} cat", key=f"k{sent}")
    captions = gapctl("data", "captions", shard, "--show", "1", "--keep", "full")
    verified = gapctl("data", "verify", shard)

    assert (captions.exit_code, verified.exit_code) == (0, 1)
    assert f"k{shown}" in captions.out
    assert f"full           red {shown} cat" in captions.out
    assert f"badk{shown}" in verified.out
    for answer in (captions, verified):
        assert escape_controls(answer.out) == answer.out
        assert sent not in answer.out


@pytest.mark.parametrize("name", HOSTILE)
def test_control_characters_of_names_are_shown_in_errors(name: str) -> None:
    sent, shown = HOSTILE[name]
    shard = shard_of("a cat")
    Path("w.pt").touch()
    classes = Path("classes.txt")
    in_a_line = sent.replace("\r", "\x1b")
    classes.write_bytes(f"cat\nx{in_a_line}x\nx{in_a_line}x\n".encode())
    model = ("measure", "--model", "ViT-S-32-alt", "--pretrained", "w.pt", "--data", shard, "--label-key", "shape")
    twice = gapctl(*model, "--classes", "classes.txt")
    missing = gapctl("plan", f"no{sent}such.yaml")
    unknown = gapctl("plan", "a.yaml", f"b{sent}b")
    sweep = Path("sweep.yaml")
    sweep.write_text(TINY + f'"wrong{sent.encode("unicode_escape").decode()}": 1\n', encoding="utf-8")
    wrong = gapctl("plan", "sweep.yaml")

    for answer, quoted in ((twice, "x given twice"), (missing, f"no{shown}such"), (unknown, f"b{shown}b")):
        assert (answer.exit_code, answer.out) == (2, "")
        assert quoted in answer.err
    assert wrong.exit_code == 2
    for answer in (twice, missing, unknown, wrong):
        assert escape_controls(answer.err) == answer.err


@pytest.mark.parametrize("caption", ["[red]a cat[/red]", "[/] :smile: [bold", "[link=x]y[/link]"])
def test_markup_in_captions_is_text(caption: str) -> None:
    answer = gapctl("data", "captions", shard_of(caption), "--show", "1", "--keep", "full")

    assert f"full           {caption}" in answer.out


def test_line_ends_tabs_and_every_writing_are_left_alone() -> None:
    text = "a\tb\r\nनमस्ते مرحبا שלום 漢字 👩\u200d🔬 e\u0301 \\x1b"

    assert escape_controls(text) == text


def test_halves_of_characters_are_shown(capfd: pytest.CaptureFixture[str]) -> None:
    guard_output()
    print("half \ud83d", "whole 😀")
    SafeConsole().print("half \ud83d")

    assert capfd.readouterr().out == "half \\ud83d whole 😀\nhalf \\ud83d\n"


def test_a_table_has_room_for_what_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    guard_output()
    table = Table("name", "number", box=None, pad_edge=False)
    table.add_row("a\x1b[2Jb", "1")
    table.add_row(Text("c\x9bd"), "[2]")
    SafeConsole().print(table)
    SafeConsole().print(Text("\x1b" * 30, "bold"))

    out = capsys.readouterr().out
    assert "a\\x1b[2Jb  1" in out
    assert "c\\x9bd" in out
    assert "[2]" in out
    assert out.replace("\n", "").count("\\x1b") == 31


def on_a_terminal(*commands: Sequence[str]) -> list[bytes]:
    """What each command sends to a terminal with colours."""
    process, terminal = pty.fork()
    if process == 0:
        environment = {**os.environ, "TERM": "xterm-256color", "NO_COLOR": ""}
        os.execve(sys.executable, in_turn(*commands), environment)
    sent = b""
    while True:
        try:
            part = os.read(terminal, 1 << 16)
        except OSError:  # Linux says so where the other end was closed
            break
        sent += part
    os.waitpid(process, 0)
    os.close(terminal)
    return re.split(rb"\x1e\d+\x1e\x1e", sent)[:-1]


def test_a_terminal_gets_our_colours_and_no_one_elses() -> None:
    shard = shard_of("red \x1b[31m cat", key="k\x1b[2J")
    verified, helped, refused = on_a_terminal(("data", "verify", shard), ("plan", "--help"), ("plan", "a", "b\x1b[2J"))
    assert b"bad" in verified
    assert b"k\\x1b[2J" in verified
    assert b"k\x1b" not in verified

    assert b"\x1b[1m" in helped
    assert b"\x1b[31m" in refused
    assert b"(b\\x1b[2J)" in refused


@pytest.mark.parametrize("name", TERMINALS)
def test_other_terminals_get_what_they_can_show(name: str) -> None:
    shard = shard_of("a café 🐈 漢字")
    path = written(Path(), TINY.replace("question: ", "question: Läuft 🚀 es — "))
    show = ("data", "captions", shard, "--show", "1")
    planned, captions, refused, asked, answer = gapctl_in_turn(
        ("plan", str(path)), show, ("plan", "🚀.yaml"), ("data", "captions", "--help"), (*show, "--json"),
        **TERMINALS[name],
    )  # fmt: skip

    assert (planned.exit_code, planned.err) == (0, "")
    assert "\\U0001f680 es" in planned.out
    assert captions.exit_code == 0
    assert "\\U0001f408 \\u6f22\\u5b57" in captions.out
    assert refused.exit_code == 2
    assert "no such file" in refused.err
    assert asked.exit_code == 0
    assert "\\u25" not in asked.out, "boxes are drawn with what the terminal has"
    assert json.loads(answer.out)["samples"][0]["caption"] == "a café 🐈 漢字", "JSON is whole everywhere"


@pytest.mark.parametrize("name", ["ascii", "the C locale"])
def test_files_are_utf8_whatever_the_terminal_is(name: str) -> None:
    shard = shard_of("漢字 漢字 🐈")
    answer = gapctl_process("data", "stats", shard, "--report", "page.html", **TERMINALS[name])

    assert answer.exit_code == 0
    assert "漢字" in Path("page.html").read_text(encoding="utf-8")


def test_no_verb_makes_a_console_of_its_own() -> None:
    def makes_console(node: ast.AST) -> bool:
        return isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Console"

    wrong = [
        str(path.relative_to(PACKAGE))
        for path in sorted(PACKAGE.rglob("*.py"))
        if any(makes_console(node) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    ]
    assert wrong == [], "expected SafeConsole, which sends no control character of a file's to the terminal"
