"""A YAML file as plain values, with the line and column of every key."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from gapctl.spec.problem import KeyPath, Problem, SpecError, dotted, refusal, show
from gapctl.spec.text_file import decode_text
from gapctl.spec.yaml_loader import parse

MOST_BYTES = 100_000


class Place(NamedTuple):
    """A 1-based line and column."""

    line: int
    column: int


class Kind(NamedTuple):
    """What a file should be, in the words of messages: a noun, an example of it, and the keys that it begins with."""

    noun: str
    example: str
    keys: str


SWEEP = Kind("a sweep file", "sweeps/imbalance.yaml", "name, question, base, vary")


class YamlSource(NamedTuple):
    """A file's text, its values, and where each path in them begins."""

    path: Path
    text: str
    document: dict[str, Any]
    places: dict[KeyPath, Place]

    def locate(self, path: KeyPath) -> str:
        """`file:line:column` of a path, or of the nearest enclosing one that is in the file."""
        place = self.place(path)
        return f"{self.path}:{place.line}:{place.column}"

    def place(self, path: KeyPath) -> Place:
        """The line and column that `locate` shows."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, Place(1, 1))


def read_yaml(path: Path, kind: Kind = SWEEP) -> YamlSource:
    """Reads a mapping; raises SpecError for a missing or unreadable file, bad YAML or a key given twice."""
    return parse_yaml(path, read_text(path, kind), kind)


def parse_yaml(path: Path, text: str, kind: Kind = SWEEP) -> YamlSource:
    """The mapping in a text that was read from `path`; raises SpecError for bad YAML or a key given twice."""
    try:
        node, document = parse(text)
    except yaml.YAMLError as error:
        raise SpecError(f"{path}{_not_yaml(error, text)}; expected YAML like that of {kind.example}") from error
    places: dict[KeyPath, Place] = {}
    wrong = list(_walk(node, (), places)) if node is not None else []
    if wrong:
        raise refusal([f"{path}:{at.line}:{at.column}: {dotted(key)}: {said}" for at, (key, said) in wrong])
    if not isinstance(document, dict):
        raise SpecError(f"{path}:1:1: found {show(document)}; expected {kind.noun}: a mapping with {kind.keys}")
    return YamlSource(path, text, document, places)


def read_text(path: Path, kind: Kind = SWEEP) -> str:
    """A small text file; raises SpecError where there is none, or another thing than text."""
    content = _content(path, kind)
    if len(content) > MOST_BYTES:
        raise SpecError(f"{path}: longer than {MOST_BYTES:,} bytes; expected {kind.noun} like {kind.example}")
    return decode_text(content, str(path))


def missing_file(path: Path, kind: Kind) -> str:
    """Say that there is no file at a path."""
    return f"{path}: no such file; expected {kind.noun} such as {kind.example}"


def _content(path: Path, kind: Kind) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise SpecError(missing_file(path, kind)) from error
    except IsADirectoryError as error:
        name = Path(kind.example).name
        raise SpecError(f"{path}: is a folder; expected {kind.noun} in it, such as {name}") from error
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}; check its path and permissions") from error


def _walk(node: yaml.Node, path: KeyPath, places: dict[KeyPath, Place]) -> Iterator[tuple[Place, Problem]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            step, place = (*path, str(key.value)), _place(key)
            if key.tag != "tag:yaml.org,2002:str":
                yield place, Problem(step, "this key is no text; expected a name, in quotes if need be")
            elif step in places:
                yield place, Problem(step, f"given twice, first in line {places[step].line}; expected it once")
            else:
                places[step] = place
                yield from _walk(value, step, places)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            places[(*path, index)] = _place(value)
            yield from _walk(value, (*path, index), places)


def _place(node: yaml.Node) -> Place:
    return Place(node.start_mark.line + 1, node.start_mark.column + 1)


def _not_yaml(error: yaml.YAMLError, text: str) -> str:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        tab = "\\t" in (error.problem or "")
        return f"{place}: not YAML: {'found a tab; indent with spaces' if tab else error.problem}"
    if isinstance(error, yaml.reader.ReaderError):
        before = text[: error.position]
        column = error.position - (before.rfind("\n") + 1) + 1
        return f":{before.count(chr(10)) + 1}:{column}: not YAML: the character {error.character:#04x} is not allowed"
    return f": not YAML: {error}"
