"""No text whatsoever makes the loader raise anything but its own error, and what loads can be planned."""

from contextlib import suppress
from math import isfinite
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapctl.config.base import SpecError
from gapctl.config.load import load_sweep
from gapctl.plan.estimate import count_parallel_trials, estimate_training_cost
from gapctl.plan.plan import make_plan
from sweep_texts import SHIPPED, written

TEXT = SHIPPED.read_text()
BODY = TEXT[TEXT.index("name: ") :]
PIECES = [
    *"[]{}:,-&*!|>'\"%@#?\n\t\0~",
    "\n  ", ": ", "- ", "[]", "{}", "null", "true", "no", "1e-3", ".nan", ".inf", "-0.0", "1e999", "9" * 30, "9" * 4400,
    "*a", "&a ", "!!bool x", "!!float ''", "!!timestamp x", "!!set {a}", "<<: {}", "---\n", "...\n", "%YAML 1.1\n",
    r'"\ud800"', r'"\x00"', "é", "\ufeff", "\u2028", "\U0001f600", "2024-01-01", "0x1f", "1:30", "? ",
    "[" * 400, "{a: " * 400, "vary:", "hypotheses:", "scales:", "base:", "data.captions.attributes", "seeds: 1",
    "between: [0, 5]", "test: trend",
]  # fmt: skip
POSITIONS = st.integers(0, len(BODY))


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """The shipped sweep with a few things cut out of it, put into it, or copied about."""
    text = BODY
    for _ in range(draw(st.integers(1, 4))):
        start = draw(POSITIONS)
        length = draw(st.sampled_from([0, 0, 1, 2, 5, 20, 200]))
        piece = draw(st.sampled_from(PIECES) | st.text(max_size=4))
        if draw(st.booleans()):
            copied = draw(POSITIONS)
            piece = text[copied : copied + draw(st.integers(1, 80))]
        text = text[:start] + piece + text[start + length :]
    return text


@st.composite
def line_edited(draw: st.DrawFn) -> str:
    """The shipped sweep with the values of a few lines replaced, or lines moved, doubled or indented otherwise."""
    lines = BODY.splitlines(keepends=True)
    for _ in range(draw(st.integers(1, 3))):
        index = draw(st.integers(0, len(lines) - 1))
        key, colon, _ = lines[index].partition(":")
        kind = draw(st.sampled_from(["value", "value", "move", "double", "indent", "drop"]))
        if kind == "value":
            lines[index] = f"{key}{colon} {draw(st.sampled_from(PIECES) | st.text(max_size=6))}\n"
        elif kind == "indent":
            lines[index] = " " * draw(st.integers(0, 6)) + lines[index].lstrip()
        elif kind == "drop" and len(lines) > 1:
            del lines[index]
        else:
            lines.insert(draw(st.integers(0, len(lines))), lines[index])
    return "".join(lines)


def load(path: Path, scale: str | None = None, overrides: tuple[str, ...] = ()) -> None:
    with suppress(SpecError):
        plan = make_plan(load_sweep(path, scale, overrides), lambda data: "fingerprint")
        assert plan.trials
        assert isfinite(estimate_training_cost(plan.trials, count_parallel_trials(plan, 2)).wall_hours)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any-text")


@settings(max_examples=100)
@given(text=mutated(), scale=st.sampled_from([None, "smoke", "paper"]))
def test_a_mutated_sweep_loads_or_is_answered(folder: Path, text: str, scale: str | None) -> None:
    load(written(folder, text.encode("utf-8", "surrogatepass")), scale)


@settings(max_examples=100)
@given(text=line_edited())
def test_a_sweep_with_other_lines_loads_or_is_answered(folder: Path, text: str) -> None:
    load(written(folder, text.encode("utf-8", "surrogatepass")))


@given(content=st.binary(max_size=200))
def test_bytes_are_answered(folder: Path, content: bytes) -> None:
    load(written(folder, content))


@given(text=st.text(max_size=200))
def test_text_is_answered(folder: Path, text: str) -> None:
    load(written(folder, text))


PATHS = [
    "seeds",
    "alpha",
    "name",
    "base.train.lr",
    "base.train.samples",
    "vary.data.captions.attributes",
    "base",
    "vary",
]


@settings(max_examples=60)
@given(
    path=st.sampled_from(PATHS) | st.text(max_size=8),
    value=st.sampled_from(PIECES) | st.text(max_size=12),
    scale=st.none() | st.text(max_size=4),
)
def test_any_override_and_any_scale_is_answered(path: str, value: str, scale: str | None) -> None:
    load(SHIPPED, scale, (f"{path}={value}", value))
    load(SHIPPED, None, (f"{path}={value}",))
