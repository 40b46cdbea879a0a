"""Files of class prompts: what there is to tell apart, in whose words.

A line is a class as the samples' JSON names it; `name = words` gives it other words in prompts. A line with `{}` is a
template, in which each class's words take the place of the braces; several are averaged. `#` begins a comment line.
A file of attributes is the same in sections, each below `[key]`: the key of the samples' JSON that holds the attribute.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from gapctl.errors import InputError
from gapctl.spec.text_file import read_text_file

PLAIN: Final = "{}"


class Question(NamedTuple):
    """The classes by name, in order, each with its prompts."""

    prompts: dict[str, tuple[str, ...]]


def read_classes(path: Path) -> Question:
    """A file without sections; raises InputError for whatever is wrong with it."""
    sections = _sections("--classes", path)
    if set(sections) != {""}:
        key = next(key for key in sections if key)
        raise InputError(f"--classes {path}: a section [{key}]; expected one class per line. Is it for --attributes?")
    return _question("--classes", path, "", sections[""])


def read_attributes(path: Path, option: str = "--attributes") -> dict[str, Question]:
    """A file of sections; raises InputError for whatever is wrong with it, with the option or key that named it."""
    sections = _sections(option, path)
    if "" in sections:
        first = sections[""][0]
        raise InputError(f"{option} {path}: {first!r} before any section; expected [key] lines, the json's keys")
    return {key: _question(option, path, key, lines) for key, lines in sections.items()}


def _sections(option: str, path: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    key = ""
    for line in _lines(option, path):
        if line.startswith("[") and line.endswith("]"):
            key = line[1:-1].strip()
            if not key or key in found:
                problem = "given twice" if key else "without a key"
                raise InputError(f"{option} {path}: a section {line} {problem}; expected each key once")
            found[key] = []
        else:
            found.setdefault(key, []).append(line)
    if not found:
        raise InputError(f"{option} {path}: nothing in it; expected one class per line")
    return found


def _lines(option: str, path: Path) -> list[str]:
    text = read_text_file(path, f"{option} {path}", "a text file with one class per line")
    stripped = (line.strip() for line in text.split("\n"))
    return [line for line in stripped if line and not line.startswith("#")]


def _question(option: str, path: Path, key: str, lines: Sequence[str]) -> Question:
    place = f"{option} {path}" + (f": [{key}]" if key else "")
    templates = [line for line in lines if PLAIN in line] or [PLAIN]
    prompts: dict[str, tuple[str, ...]] = {}
    for line in lines:
        if PLAIN in line:
            continue
        name, equals, words = (part.strip() for part in line.partition(" = "))
        if name in prompts:
            raise InputError(f"{place}: {name} given twice; expected each class once")
        prompts[name] = tuple(template.replace(PLAIN, words if equals else name) for template in templates)
    if len(prompts) < 2:
        raise InputError(
            f"{place}: {len(prompts)} class{'es' if not prompts else ''}; expected at least 2 to tell apart"
        )
    return Question(prompts)
