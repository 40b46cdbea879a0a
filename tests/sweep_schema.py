"""The JSON Schema of sweep files as an editor applies it; checking the schema itself takes longer than a document."""

import json
from typing import Any, Final

from jsonschema import Draft202012Validator

from sweep_texts import REPOSITORY

FILE: Final = REPOSITORY / "sweeps" / "schema.json"
SCHEMA: Final[dict[str, Any]] = json.loads(FILE.read_text())
VALIDATOR: Final = Draft202012Validator(SCHEMA)
"""Of the file, which a test compares with the code."""


def validator_of(name: str) -> Draft202012Validator:
    """The part of the schema that describes one model, such as `Correlation`."""
    return Draft202012Validator({**SCHEMA["$defs"][name], "$defs": SCHEMA["$defs"]})
