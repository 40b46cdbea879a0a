"""What a person has to add to a claim on the page of one ledger: notes by claim, as a YAML file."""

from collections.abc import Mapping
from typing import Any

import yaml

from gapctl.errors import InputError
from gapctl.report.findings.claims import claims
from gapctl.spec.yaml_loader import parse

Notes = Mapping[str, str]
"""Markdown by the number of a claim, such as `claim 1`."""


def notes_of(text: str, name: str) -> Notes:
    """The notes that a file's text holds; `name` is what messages call the file.

    Raises InputError where it is no mapping of claims to texts.
    """
    try:
        _, document = parse(text)
    except yaml.YAMLError as error:
        raise InputError(f"{name}: is not YAML that gapctl reads: {' '.join(str(error).split())}") from error
    return {number: " ".join(_text(number, note, name).split()) for number, note in _mapping(document, name).items()}


def _mapping(document: Any, name: str) -> Mapping[Any, Any]:
    known = [claim.number for claim in claims()]
    if not isinstance(document, dict):
        raise InputError(f"{name}: found no mapping; expected a text for some of {', '.join(known)}")
    for number in document:
        if number not in known:
            raise InputError(f"{name}: found {number!r}; expected one of {', '.join(known)}")
    return document


def _text(number: str, note: Any, name: str) -> str:
    if not isinstance(note, str) or not note.strip():
        raise InputError(f"{name}: {number}: found {note!r}; expected a text in Markdown")
    return note
