"""Which hypotheses were written down, and when: before the first trial, or after results could be seen."""

import json
from dataclasses import asdict, dataclass, field
from typing import Final

from pydantic import TypeAdapter, with_config

from gapctl.errors import WorkError
from gapctl.ledger.json_document import AS_WRITTEN, parsed

UNDECLARED: Final = ""
"""The design of a scale whose trials had begun, under another name or scale, before it was declared."""


@with_config(AS_WRITTEN)
@dataclass(frozen=True)
class Asked:
    """The sweep file as it was asked for at one of its scales, so that its plan can be made again without the file.

    `file` is its path as typed, `text` its content, `scale` and `overrides` the options. `fingerprints` are those of
    the data by their source, `recipe_version` that of the code.
    """

    file: str
    text: str
    scale: str | None
    overrides: list[str]
    recipe_version: int
    fingerprints: dict[str, str]


@with_config(AS_WRITTEN)
@dataclass(frozen=True)
class Declaration:
    """`runs/<sweep>.sweep.json`: the question and the hypotheses' hash as they stood before any of its trials began.

    `preregistered` is false where trials of the sweep had already begun when its hypotheses were first seen.
    `trials` lists by scale every trial that the sweep ever asked for, and `begun` the scales of which one was ever seen
    to have begun, so that nothing that began is forgotten. `design_sha256`, `seeds` and `declared` are those of each
    scale before its first trial, `spec_sha256` and `asked` the latest. Ledgers of older versions lack `declared` and
    `begun`, still older ones `asked`.
    """

    sweep: str
    question: str
    hypotheses_sha256: str
    preregistered: bool
    spec_sha256: dict[str, str]
    trials: dict[str, list[str]]
    design_sha256: dict[str, str] = field(default_factory=dict)
    seeds: dict[str, int] = field(default_factory=dict)
    asked: dict[str, Asked] = field(default_factory=dict)
    declared: dict[str, Asked] = field(default_factory=dict)
    begun: list[str] = field(default_factory=list)

    @property
    def declared_sha256(self) -> str | None:
        """The hash that a confirmatory verdict must match; None where nothing was declared in time."""
        return self.hypotheses_sha256 if self.preregistered else None


_DOCUMENT: Final = TypeAdapter(Declaration)


def declaration_to_json(declaration: Declaration) -> bytes:
    """The file's content."""
    return (json.dumps(asdict(declaration), indent=1) + "\n").encode()


def declaration_from_json(content: bytes, path: str) -> Declaration:
    """Reads the file's content; raises WorkError where it is damaged."""
    try:
        return parsed(_DOCUMENT, content)
    except ValueError as error:
        raise WorkError(
            f"{path}: damaged: {error}; expected what `gapctl sweep` wrote. Restore it from a backup, or move it "
            "away and run the sweep again: trials are kept, but the verdicts will be marked exploratory"
        ) from error
