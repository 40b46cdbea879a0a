"""The YAML that a sweep file may use: plain mappings, lists, text, true, false, null and numbers as people write them.

YAML 1.1 as PyYAML reads it has surprises (`1e-3` is text, `no` is false, `010` is 8, `1:30` is 90, dates are
objects), aliases let a small file unfold without end, and tags ask for other types than a question has. None of
them is read.
"""

import re
from typing import Any

import yaml


class PlainLoader(yaml.SafeLoader):
    """A safe loader whose unquoted words are text unless they are null, true, false or a number."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuses aliases and tags: raises MarkedYAMLError at their place."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if self.check_event(yaml.AliasEvent):
            raise _refused(f"found the alias *{event.anchor}; write the value out", event.start_mark)
        if getattr(event, "tag", None) is not None:
            raise _refused(f"found the tag {_short(event.tag)}; write the plain value", event.start_mark)
        return super().compose_node(parent, index)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """A node's value; raises MarkedYAMLError at its place where Python cannot hold or print it."""
        try:
            value = super().construct_object(node, deep)
        except ValueError as error:
            raise _refused(f"found a number of {len(node.value)} digits", node.start_mark) from error
        if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise _refused("found half of a character (a lone surrogate)", node.start_mark)
        return value


def _refused(problem: str, at: yaml.Mark | None) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=at)


def _short(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")


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


def parse(text: str) -> tuple[yaml.Node | None, Any]:
    """A text's nodes, which know their places, and its value; raises yaml.YAMLError, also where Python gives up."""
    loader = PlainLoader(text)
    try:
        node = loader.get_single_node()
        return node, None if node is None else loader.construct_document(node)
    except RecursionError as error:
        raise _refused("nested too deeply", loader.get_mark()) from error
    finally:
        loader.dispose()
