"""The YAML that a sweep file may use: mappings, lists, text, true, false, null and numbers as people write them.

YAML 1.1 as PyYAML reads it has surprises (`1e-3` is text, `no` is false, `010` is 8, `1:30` is 90, dates are objects).
Aliases let a small file unfold without end, and tags ask for types that a sweep file does not have. None of these is
accepted.

`read_yaml` is the entry: it returns a `YamlSource`, which has the values and the line and column of each path.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from gapctl.config.base import KeyPath, Problem, SpecError, build_spec_error, format_key_path, format_yaml_value
from gapctl.errors import InputError

UTF16: Final = (b"\xff\xfe", b"\xfe\xff")
_MARK_AT_LINE_START: Final = re.compile("^\ufeff", re.MULTILINE)
MOST_BYTES = 100_000
MOST_LEVELS = 100


class FilePosition(NamedTuple):
    """A 1-based line and column."""

    line: int
    column: int


class FileKind(NamedTuple):
    """What a file should be, for messages: a noun, an example of it, and the keys that it begins with."""

    noun: str
    example: str
    keys: str


SWEEP_KIND = FileKind("a sweep file", "sweeps/imbalance.yaml", "name, question, base, vary")


class YamlSource(NamedTuple):
    """A file's text, its values, and the place where each path in them begins."""

    path: Path
    text: str
    document: dict[str, object]
    places: dict[KeyPath, FilePosition]

    def locate(self, path: KeyPath) -> str:
        """Return `file:line:column` of a path, or of the nearest enclosing one that is in the file."""
        place = self.place(path)
        return f"{self.path}:{place.line}:{place.column}"

    def place(self, path: KeyPath) -> FilePosition:
        """Return the line and column that `locate` shows."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, FilePosition(1, 1))


def read_yaml(path: Path, kind: FileKind = SWEEP_KIND) -> YamlSource:
    """Read a mapping; raise SpecError for a missing or unreadable file, bad YAML or a key given twice."""
    return parse_yaml(path, read_text(path, kind), kind)


def parse_yaml(path: Path, text: str, kind: FileKind = SWEEP_KIND) -> YamlSource:
    """Return the mapping in a text that was read from `path`; raise SpecError for bad YAML or a key given twice."""
    try:
        node, document = parse_yaml_value(text)
    except yaml.YAMLError as error:
        problem = _describe_yaml_error(error, text)
        raise SpecError(f"{path}{problem}; expected YAML like that of {kind.example}") from error
    places: dict[KeyPath, FilePosition] = {}
    wrong = list(_walk_nodes(node, (), places)) if node is not None else []
    if wrong:
        raise build_spec_error(
            [f"{path}:{at.line}:{at.column}: {format_key_path(key)}: {problem}" for at, (key, problem) in wrong]
        )
    if not isinstance(document, dict):
        raise SpecError(
            f"{path}:1:1: found {format_yaml_value(document)}; expected {kind.noun}: a mapping with {kind.keys}"
        )
    return YamlSource(path, text, document, places)


def read_text(path: Path, kind: FileKind = SWEEP_KIND) -> str:
    """Read a small text file; raise SpecError where there is none, or it is not text."""
    content = _read_content(path, kind)
    if len(content) > MOST_BYTES:
        raise SpecError(f"{path}: longer than {MOST_BYTES:,} bytes; expected {kind.noun} like {kind.example}")
    return decode_text(content, str(path))


def describe_missing_file(path: Path, kind: FileKind) -> str:
    """Return the message that there is no file at a path."""
    return f"{path}: no such file; expected {kind.noun} such as {kind.example}"


def _read_content(path: Path, kind: FileKind) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise SpecError(describe_missing_file(path, kind)) from error
    except IsADirectoryError as error:
        name = Path(kind.example).name
        raise SpecError(f"{path}: is a folder; expected {kind.noun} in it, such as {name}") from error
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}; check its path and permissions") from error


def decode_text(content: bytes, name: str) -> str:
    r"""Decode UTF-8 to lines that end in \n, without byte order marks; raise SpecError with line and byte.

    Files that were joined from several have such marks inside, at the beginning of a line.
    """
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - (content.rfind(b"\n", 0, error.start) + 1) + 1
        found = f"the byte {content[error.start]:#04x}{', as UTF-16 begins' if content.startswith(UTF16) else ''}"
        raise SpecError(f"{name}:{line}:{column}: not UTF-8: found {found}; expected a text file in UTF-8") from error
    return _MARK_AT_LINE_START.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def read_text_file(path: Path, name: str, expected: str) -> str:
    """Read a text file; `name` is what messages call it, `expected` what it should be.

    Raise InputError where there is no such file, or it is not text.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{name}: no such file; expected {expected}") from error
    except IsADirectoryError as error:
        raise InputError(f"{name}: is a folder; expected {expected}") from error
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {error.strerror}; expected {expected}") from error
    text = decode_text(content, name)
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(f"{name}:{line}: found the byte 0x00; expected {expected}, in UTF-8")
    return text


def _walk_nodes(
    node: yaml.Node, path: KeyPath, places: dict[KeyPath, FilePosition]
) -> Iterator[tuple[FilePosition, Problem]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            step, place = (*path, str(key.value)), _locate_node(key)
            if key.tag != "tag:yaml.org,2002:str":
                yield place, Problem(step, "this key is no text; expected a name, in quotes if need be")
            elif step in places:
                yield place, Problem(step, f"given twice, first in line {places[step].line}; expected it once")
            else:
                places[step] = place
                yield from _walk_nodes(value, step, places)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            places[(*path, index)] = _locate_node(value)
            yield from _walk_nodes(value, (*path, index), places)


def _locate_node(node: yaml.Node) -> FilePosition:
    return FilePosition(node.start_mark.line + 1, node.start_mark.column + 1)


def _describe_yaml_error(error: yaml.YAMLError, text: str) -> str:
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


def parse_yaml_value(text: str) -> tuple[yaml.Node | None, object]:
    """Return a text's node tree and its value; raise yaml.YAMLError."""
    loader = PlainLoader(text)
    try:
        node = loader.get_single_node()
        return node, None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()


class PlainLoader(yaml.SafeLoader):
    """A safe loader whose unquoted words are text unless they are null, true, false or a number."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012
    _level = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuse aliases, tags and more than `MOST_LEVELS` of nesting: raise MarkedYAMLError at their place."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if self.check_event(yaml.AliasEvent):
            raise _make_yaml_error(f"found the alias *{event.anchor}; write the value out", event.start_mark)
        if getattr(event, "tag", None) is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            raise _make_yaml_error(f"found the tag {tag}; write the plain value", event.start_mark)
        if self._level > MOST_LEVELS:
            raise _make_yaml_error("nested too deeply", event.start_mark)
        self._level += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._level -= 1

    def construct_object(self, node: yaml.Node, deep: bool = False) -> object:
        """Return a node's value; raise MarkedYAMLError at its place where Python cannot hold or print it."""
        try:
            value = super().construct_object(node, deep)
        except ValueError as error:
            raise _make_yaml_error(f"found a number of {len(node.value)} digits", node.start_mark) from error
        if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise _make_yaml_error("found half of a character (a lone surrogate)", node.start_mark)
        return value


def _make_yaml_error(problem: str, at: yaml.Mark | None) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=at)


_FRACTION = r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?"
_POWER = r"[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"


_WORDS = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9_]*)", list("-+0123456789")),
    ("float", rf"{_FRACTION}|{_POWER}|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+0123456789.")),
)


for _tag, _pattern, _first in _WORDS:
    PlainLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^({_pattern})$"), _first)
