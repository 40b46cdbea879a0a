"""Read files of class prompts: the classes to distinguish, and their words.

A line is a class as the samples' JSON names it; `name = words` gives it other words in prompts. A line with `{}` is a
template, in which each class's words take the place of the braces; several are averaged. `#` begins a comment line. A
file of attributes has such lines in sections, each below `[key]`: the key of the samples' JSON with the attribute.
"""

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from gapctl.config.base import format_word_suggestion
from gapctl.config.yaml_file import read_text_file
from gapctl.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PLACEHOLDER: Final = "{}"
MAX_NAMED: Final = 12
"""Keys that a message names."""

LINE_ENDS: Final = re.compile(r"\r\n|\r|\n")
"""The only line ends; a form feed or Unicode's separators may occur within a caption."""


class PromptSet(NamedTuple):
    """The classes by name, in order, each with its prompts."""

    prompts: dict[str, tuple[str, ...]]


def read_class_prompts(path: Path) -> PromptSet:
    """Read a file without sections. Raise InputError for any fault in it."""
    sections = _read_sections("--classes", path)
    if set(sections) != {""}:
        key = next(key for key in sections if key)
        raise InputError(f"--classes {path}: a section [{key}]; expected one class per line. Is it for --attributes?")
    return _parse_prompts("--classes", path, "", sections[""])


def read_attribute_prompts(path: Path, option: str = "--attributes") -> dict[str, PromptSet]:
    """Read a file of sections.

    Raise InputError for any fault in it, with the option or key that names the file.
    """
    sections = _read_sections(option, path)
    if "" in sections:
        first = sections[""][0]
        raise InputError(f"{option} {path}: {first!r} before any section; expected [key] lines, the json's keys")
    return {key: _parse_prompts(option, path, key, lines) for key, lines in sections.items()}


def _read_sections(option: str, path: Path) -> dict[str, list[str]]:
    sections: dict[str, list[str]] = {}
    key = ""
    text = read_text_file(path, f"{option} {path}", "a text file with one class per line")
    for line in map(str.strip, text.split("\n")):
        if not line or line.startswith("#"):
            continue
        if line.startswith("[") and line.endswith("]"):
            key = line[1:-1].strip()
            if not key or key in sections:
                problem = "given twice" if key else "without a key"
                raise InputError(f"{option} {path}: a section {line} {problem}; expected each key once")
            sections[key] = []
        else:
            sections.setdefault(key, []).append(line)
    if not sections:
        raise InputError(f"{option} {path}: nothing in it; expected one class per line")
    return sections


def _parse_prompts(option: str, path: Path, key: str, lines: Sequence[str]) -> PromptSet:
    place = f"{option} {path}" + (f": [{key}]" if key else "")
    templates = [line for line in lines if PLACEHOLDER in line] or [PLACEHOLDER]
    prompts: dict[str, tuple[str, ...]] = {}
    for line in lines:
        if PLACEHOLDER in line:
            continue
        name, equals, words = (part.strip() for part in line.partition(" = "))
        if name in prompts:
            raise InputError(f"{place}: {name} given twice; expected each class once")
        prompts[name] = tuple(template.replace(PLACEHOLDER, words if equals else name) for template in templates)
    if len(prompts) < 2:
        raise InputError(
            f"{place}: {len(prompts)} class{'es' if not prompts else ''}; expected at least 2 to tell apart"
        )
    return PromptSet(prompts)


class HasMetadata(Protocol):
    """A sample with its key and the content of its JSON."""

    @property
    def key(self) -> str:
        """The sample's key in its shard."""

    @property
    def about(self) -> Mapping[str, object]:
        """The content of its JSON."""


class Labels(NamedTuple):
    """A number per sample, and the classes that the numbers stand for."""

    label_N: "NDArray[np.int64]"
    names: tuple[str, ...]


def read_sample_labels(
    option: str, samples: Sequence[HasMetadata], key: str, classes: Sequence[str] | None = None
) -> Labels:
    """Return the number of each sample's class, which its JSON has under `key`.

    Classes are numbered by `classes`, or without them by the sorted values. Raise InputError for a sample without a
    value, with several values, or with another class.
    """
    import numpy as np

    values = [_read_label(option, sample, key) for sample in samples]
    names = tuple(sorted(set(values)) if classes is None else classes)
    number = {name: index for index, name in enumerate(names)}
    for sample, value in zip(samples, values, strict=True):
        if value not in number:
            close = format_word_suggestion(value, names)
            raise InputError(
                f"{option}: sample {sample.key}: {key} is {value!r}, which is none of the {len(names)} "
                f"classes{close or '.'} Add it to the file, or leave such samples out"
            )
    return Labels(np.array([number[value] for value in values], dtype=np.int64), names)


def _read_label(option: str, sample: HasMetadata, key: str) -> str:
    if key not in sample.about:
        present = sorted(sample.about)
        listed = f"it has {', '.join(present[:MAX_NAMED])}" if present else "it has no json, or an empty one"
        close = format_word_suggestion(key, present)
        raise InputError(f"{option}: sample {sample.key} has no label `{key}` in its json; {listed}{close}")
    value = sample.about[key]
    if not isinstance(value, str | int | float) or value == "":
        raise InputError(f"{option}: sample {sample.key}: `{key}` is {value!r}; expected a single word or number")
    return str(value)


MAX_CAPTIONS: Final = 1000
"""Most captions of one image. A text of more lines is no list of captions, and may not fit into memory."""


class CaptionLineMode(StrEnum):
    """The reading of a `.txt` with several lines: a caption per line, or one caption."""

    LINES = "lines"
    WHOLE = "whole"


def split_caption_lines(text: str) -> list[str]:
    """Return the lines that are not blank, stripped."""
    return [line.strip() for line in LINE_ENDS.split(text) if line.strip()]


def split_captions(text: str, rule: CaptionLineMode) -> list[str]:
    """Return the captions of a sample's text; none if it is blank."""
    if rule is CaptionLineMode.LINES:
        return split_caption_lines(text)
    return [text.strip()] if text.strip() else []


def count_captions(text: str, about: Mapping[str, object], rule: CaptionLineMode | None) -> int:
    """Return how many captions a sample's text holds: one a line, or 1 if it is a single caption.

    Without a rule the sample decides: img2dataset writes the text as `caption` into the json too, so line breaks in a
    text that is there as a whole belong to the one caption. A text of more than `MAX_CAPTIONS` lines is one caption.
    """
    lines = len(split_caption_lines(text))
    if rule is CaptionLineMode.WHOLE or not 1 < lines <= MAX_CAPTIONS:
        return 1
    written = about.get("caption")
    whole = rule is None and isinstance(written, str) and written.split() == text.split()
    return 1 if whole else lines
