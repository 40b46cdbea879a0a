"""Ask a verb about a wrong sweep file, and require that it was refused with nothing begun."""

from collections.abc import Callable
from pathlib import Path

from command_line import gapctl

FACTOR = "data.captions.attributes"
LEVELS = f"{FACTOR}: [0, 5]"
VERBS = ["plan", "status", "train", "sweep", "analyze"]
Damage = Callable[[Path], object]


def answer_to(verb: str, path: Path, folder: Path, *options: str) -> tuple[int, str, str]:
    """What a verb answers about a sweep file; F stands for the file's path and D for the folder's."""
    more = ["--trial", "0"] if verb == "train" else []
    places = [] if verb == "plan" else ["--runs", str(folder / "runs")]
    code, out, err = gapctl(verb, str(path), *more, *places, *options)
    return code, out, err.replace(str(path), "F").replace(str(folder), "D")


def assert_nothing_begun(answer: tuple[int, str, str], expected: str, folder: Path) -> None:
    """Require exit code 2, a message with this text and no traceback, and no ledger in the folder."""
    code, out, err = answer
    assert (code, out) == (2, ""), err
    assert err.startswith("gapctl: "), err
    assert expected in err, err
    assert "Traceback" not in err
    assert not (folder / "runs").exists()


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
