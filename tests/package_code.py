"""The package's code, parsed once for all tests that look at it."""

import ast
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "platform" / "gapctl"


@cache
def parsed(path: Path) -> ast.Module:
    """The code of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def calls(module: str, name: str) -> Sequence[ast.Call]:
    """Every call of `module.name(...)` in the package."""
    return _calls()[module, name]


@cache
def _calls() -> Mapping[tuple[str, str], list[ast.Call]]:
    found: dict[tuple[str, str], list[ast.Call]] = defaultdict(list)
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(parsed(path)):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id=module), attr=name)):
                    found[module, name].append(node)
    return found
