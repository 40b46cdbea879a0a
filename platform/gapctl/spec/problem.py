"""What is wrong with a sweep file: a path in it and the finding in words."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from gapctl.errors import InputError

KeyPath = tuple[str | int, ...]
LONGEST = 60
MOST_LINES = 20


class SpecError(InputError):
    """A sweep file, a scale or an override is wrong; the message has one line per problem, each with its place."""


def refusal(lines: Sequence[str]) -> SpecError:
    """The error that tells all of these problems, or the first of very many."""
    more = [f"and {len(lines) - MOST_LINES} more"] if len(lines) > MOST_LINES else []
    return SpecError("\n".join([*lines[:MOST_LINES], *more]))


class Problem(NamedTuple):
    """`text` reads `what was found; what was expected` and says nothing of the place, which `path` tells."""

    path: KeyPath
    text: str


def dotted(path: KeyPath) -> str:
    """A path as a person writes it: `hypotheses[0].factor`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text or "the file"


def show(value: Any) -> str:
    """A value as the file writes it, cut where it is long."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list | tuple):
        return cut(f"[{', '.join(show(item) for item in value)}]") if value else "an empty list"
    return cut(repr(value))


def cut(text: str) -> str:
    """A text that fits into a message."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
