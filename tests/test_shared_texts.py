"""What every package shares: lists of names in sentences, first lines of errors, and files that appear whole."""

from pathlib import Path

import pytest

from gapctl.errors import first_line_of_error
from gapctl.io.atomic import TEMPORARY, stage_file_replacement, write_file_atomically
from gapctl.text import format_first_names, join_and, join_or


@pytest.mark.parametrize(
    ("names", "with_and", "with_or"),
    [(["a"], "a", "a"), (["a", "b"], "a and b", "a or b"), (["a", "b", "c"], "a, b and c", "a, b or c")],
)
def test_names_are_joined_as_a_sentence_has_them(names: list[str], with_and: str, with_or: str) -> None:
    assert (join_and(names), join_or(names)) == (with_and, with_or)


def test_an_alternative_is_named_once() -> None:
    assert join_or(["a number", "text", "a number"]) == "a number or text"


def test_of_many_names_the_first_are_listed_with_the_number_of_the_others() -> None:
    assert format_first_names(["a", "b", "c"], 2) == "a, b and 1 more"
    assert format_first_names(["a", "b", "c"], 3) == "a, b, c"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("  No such row.\nSee the log.  "), "No such row"),
        (KeyError(), "KeyError"),
        (OSError("full"), "full"),
    ],
)
def test_an_error_has_one_line(error: Exception, line: str) -> None:
    assert first_line_of_error(error) == line


def write_half(file: Path) -> None:
    with stage_file_replacement(file) as temporary:
        temporary.write_bytes(b"half")
        assert (temporary.name[:11], temporary.suffix) == (".page.html.", TEMPORARY)
        raise ZeroDivisionError


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    write_file_atomically(file, b"before")

    with pytest.raises(ZeroDivisionError):
        write_half(file)

    assert file.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [file]
