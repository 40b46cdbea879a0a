"""A YAML file as plain values, with the line and column of every key."""

from pathlib import Path
from typing import Any, NamedTuple

import yaml

from gapctl.errors import InputError

Path_ = tuple[str | int, ...]


class Place(NamedTuple):
    """A 1-based line and column."""

    line: int
    column: int


class YamlSource(NamedTuple):
    """A file's text, its values, and where each path in them begins."""

    path: Path
    text: str
    document: dict[str, Any]
    places: dict[Path_, Place]

    def locate(self, path: Path_) -> str:
        """`file:line:column` of a path, or of the nearest enclosing one that is in the file."""
        while path and path not in self.places:
            path = path[:-1]
        place = self.places.get(path, Place(1, 1))
        return f"{self.path}:{place.line}:{place.column}"


def read_yaml(path: Path) -> YamlSource:
    """Reads a mapping; raises InputError for a missing or unreadable file, bad YAML or a duplicate key."""
    text = _read(path)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        places: dict[Path_, Place] = {}
        if isinstance(node, yaml.MappingNode):
            _walk(node, (), places, path)
        document = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        raise InputError(_bad_yaml(path, error)) from error
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML: {error}; expected a sweep file") from error
    if not isinstance(document, dict):
        found = "nothing" if document is None else f"a {type(document).__name__}"
        raise InputError(f"{path}:1:1: found {found}; expected a sweep file: a mapping with name, question, base ...")
    return YamlSource(path, text, document, places)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; expected a sweep file such as sweeps/imbalance.yaml") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: is a folder; expected a sweep file in it, such as imbalance.yaml") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}; expected a text file") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}; check its permissions") from error


def _walk(node: yaml.Node, path: Path_, places: dict[Path_, Place], file: Path) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            step = (*path, _key(key))
            if step in places:
                first = places[step]
                raise InputError(
                    f"{file}:{key.start_mark.line + 1}:{key.start_mark.column + 1}: {dotted(step)}: "
                    f"given twice, first in line {first.line}; expected it once"
                )
            places[step] = Place(key.start_mark.line + 1, key.start_mark.column + 1)
            _walk(value, step, places, file)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            places[(*path, index)] = Place(value.start_mark.line + 1, value.start_mark.column + 1)
            _walk(value, (*path, index), places, file)


def _key(node: yaml.Node) -> str:
    return str(node.value)


def _bad_yaml(path: Path, error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
    return f"{path}{place}: not YAML: {error.problem}; expected a mapping like the one in sweeps/imbalance.yaml"


def dotted(path: Path_) -> str:
    """A path as a person writes it: `hypotheses[0].factor`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text
