"""The JSON Schema beside the sweeps is that of the code, and an editor that follows it underlines mistakes."""

import re
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from gapctl.config.base import replace_at_path
from gapctl.config.json_schema import build_schema, format_schema
from gapctl.config.metrics import METRICS
from sweep_schema import FILE, SCHEMA, VALIDATOR
from sweep_texts import REPOSITORY, SHIPPED, document


def test_the_file_is_what_the_models_say() -> None:
    assert FILE.read_text() == format_schema(), "run python -m gapctl.config.json_schema > sweeps/schema.json"


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(build_schema())


@pytest.mark.parametrize("path", sorted((REPOSITORY / "sweeps").glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_sweep_names_it_and_follows_it(path: Any) -> None:
    assert path.read_text().startswith("# yaml-language-server: $schema=schema.json\n")
    VALIDATOR.validate(yaml.safe_load(path.read_text()))


MISTAKES: list[tuple[str, Any]] = [
    ("sedes", 3),
    ("seeds", 0),
    ("base.train.smaples", 3),
    ("base.train.lr", "fast"),
    ("base.loss.kind", "two words"),
    ("vary", {}),
    ("vary", {"train.rl": [1]}),
    ("vary", {"train.lr": []}),
    ("vary", {"train.lr": [None]}),
    ("scales.quick", {"base.train.smaples": 3}),
    ("scales", {"../up": {}}),
    ("scales", {"a" * 81: {}}),
    ("resources.workers", 0),
    ("hypotheses", [{**document()["hypotheses"][0], "response": "gap/rgm"}]),
    ("hypotheses", [{**document()["hypotheses"][0], "test": "trnd"}]),
    ("hypotheses", [{**document()["hypotheses"][1], "factor": "data.captions"}]),
    ("hypotheses", [{**document()["hypotheses"][1], "between": [0]}]),
]


@pytest.mark.parametrize(("path", "value"), MISTAKES)
def test_it_finds_a_mistake_while_one_types(path: str, value: Any) -> None:
    assert VALIDATOR.is_valid(document())
    assert not VALIDATOR.is_valid(replace_at_path(document(), path.split("."), value))


def test_it_knows_every_metric_and_that_packages_have_others() -> None:
    known, others = SCHEMA["$defs"]["Trend"]["properties"]["response"]["anyOf"]

    assert set(known["enum"]) == set(METRICS)
    assert re.search(others["pattern"], "spread/mean_norm")
    assert not re.search(others["pattern"], "gap/rgm")


def test_the_shipped_sweep_is_the_one_that_messages_name() -> None:
    assert SHIPPED.is_file()
