"""Runs the `gapctl` command, in this process or as one of its own, standard output and error apart."""

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from gapctl.cli.main import run


class Answer(NamedTuple):
    """What the command line gave back."""

    exit_code: int
    out: str
    err: str


def gapctl(*arguments: str) -> Answer:
    """The command in this process, its errors included."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = _exit_code(arguments)
    return Answer(code, out.getvalue(), err.getvalue())


def gapctl_process(*arguments: str, folder: Path | None = None, **environment: str) -> Answer:
    """The command as a user starts it, in `folder`, with these environment variables besides the usual ones."""
    done = _run([sys.executable, "-m", "gapctl", *arguments], folder, environment, 60)
    return Answer(done.returncode, done.stdout, done.stderr)


IN_TURN = """
import os, sys
from gapctl.cli.main import run
commands = [[]]
for word in sys.argv[1:]:
    commands.append([]) if word == ";" else commands[-1].append(word)
for arguments in commands:
    code = 0
    try:
        run(arguments)
    except SystemExit as left:
        code = left.code or 0
    sys.stdout.flush(), sys.stderr.flush()
    os.write(1, b"\\x1e%d\\x1e" % code), os.write(2, b"\\x1e")
"""
"""Runs the commands that `;` stands between; a record separator, which gapctl never writes, ends what each said."""


def in_turn(*commands: Sequence[str], before: str = "") -> list[str]:
    """A new Python that runs these commands one after another: most of a short command's time is its imports."""
    return [sys.executable, "-c", before + IN_TURN, *[word for command in commands for word in (";", *command)][1:]]


def gapctl_in_turn(
    *commands: Sequence[str], folder: Path | None = None, before: str = "", **environment: str
) -> list[Answer]:
    """What `gapctl_process` gives for each of these commands, which share one process that runs `before` first."""
    done = _run(in_turn(*commands, before=before), folder, environment, 120)
    done.check_returncode()
    said, complained = done.stdout.split("\x1e")[:-1], done.stderr.split("\x1e")[:-1]
    return [Answer(int(code), out, err) for out, code, err in zip(said[::2], said[1::2], complained, strict=True)]


def _run(
    command: Sequence[str], folder: Path | None, environment: Mapping[str, str], seconds: float
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=seconds,
        check=False,
    )


def _exit_code(arguments: tuple[str, ...]) -> int:
    try:
        run(list(arguments))
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else 0 if left.code is None else 1
    return 0


def assert_refused(ran: Answer, message: str) -> None:
    """Require exit code 2 and one line with this text."""
    assert (ran.exit_code, ran.out) == (2, ""), ran
    assert ran.err.count("\n") == 1, ran.err
    assert ran.err.startswith("gapctl: "), ran.err
    assert message in ran.err, ran.err
