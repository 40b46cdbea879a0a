"""What a sweep file must satisfy beyond the types of its values."""

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from gapctl.spec.grid import leaves, resolve
from gapctl.spec.nearest import did_you_mean
from gapctl.spec.sweep import Contrast, Hypothesis, SweepFile
from gapctl.spec.vocabulary import METRICS
from gapctl.spec.yaml_source import Path_

Problem = tuple[Path_, str]


def problems_of(spec: SweepFile) -> list[Problem]:
    """Every problem with its path in the file."""
    return [*_factors(spec), *_hypotheses(spec), *_scales(spec)]


def _factors(spec: SweepFile) -> Iterator[Problem]:
    known = leaves(spec.base.model_dump())
    for path, levels in spec.vary.items():
        if path not in known:
            yield (
                ("vary", path),
                f"no such path in base; expected one of {', '.join(known)}{did_you_mean(path, known)}",
            )
            continue
        for index, level in enumerate(levels):
            if level in levels[:index]:
                yield ("vary", path, index), f"found {level!r} twice; expected each level once"
            elif (reason := _misfit(spec, path, level)) is not None:
                yield ("vary", path, index), reason


def _misfit(spec: SweepFile, path: str, level: Any) -> str | None:
    try:
        resolve(spec.base, {path: level})
    except ValidationError as error:
        message = error.errors()[0]["msg"].replace("Input should be", "expected").replace("Value error, ", "")
        return f"found {level!r}; {message}"
    return None


def _hypotheses(spec: SweepFile) -> Iterator[Problem]:
    for index, hypothesis in enumerate(spec.hypotheses):
        at: Path_ = ("hypotheses", index)
        if hypothesis.id in [other.id for other in spec.hypotheses[:index]]:
            yield (*at, "id"), f"found {hypothesis.id!r} twice; expected each id once"
        if hypothesis.response not in METRICS:
            close = did_you_mean(hypothesis.response, METRICS)
            yield (
                (*at, "response"),
                f"found {hypothesis.response!r}, which is no metric{close or '; see docs/metrics.md'}",
            )
        if hypothesis.factor not in spec.vary:
            known = ", ".join(spec.vary)
            close = did_you_mean(hypothesis.factor, spec.vary)
            yield (
                (*at, "factor"),
                f"found {hypothesis.factor!r}, which does not vary; expected one of {known}{close}",
            )
        else:
            yield from _levels(spec, hypothesis, at)


def _levels(spec: SweepFile, hypothesis: Hypothesis, at: Path_) -> Iterator[Problem]:
    levels = spec.vary[hypothesis.factor]
    if isinstance(hypothesis, Contrast):
        for side, level in enumerate(hypothesis.between):
            if level not in levels:
                yield (
                    (*at, "between", side),
                    f"found {level!r}; expected a level of {hypothesis.factor}: {levels}",
                )
        if hypothesis.between[0] == hypothesis.between[1]:
            yield (*at, "between"), f"found {hypothesis.between[0]!r} twice; expected two different levels"
    elif len(levels) < 2:
        yield (
            (*at, "factor"),
            f"{hypothesis.factor} has {len(levels)} level; expected at least two for a trend",
        )
    elif any(isinstance(level, bool | str) for level in levels):
        yield (*at, "factor"), f"{hypothesis.factor} has levels {levels}; expected numbers for a trend"


def _scales(spec: SweepFile) -> Iterator[Problem]:
    known = _settings(spec)
    for name, recipe in spec.scales.items():
        for setting in recipe or {}:
            if setting not in known and not setting.startswith("base."):
                yield ("scales", name, setting), f"no such setting{did_you_mean(setting, known)}"
            elif setting.startswith("base.") and setting not in known:
                yield ("scales", name, setting), f"no such path in base{did_you_mean(setting, known)}"


def _settings(spec: SweepFile) -> list[str]:
    base = [f"base.{path}" for path in leaves(spec.base.model_dump())]
    varied = [f"vary.{path}" for path in leaves(spec.base.model_dump())]
    resources = [f"resources.{name}" for name in type(spec.resources).model_fields]
    return ["seeds", "alpha", "tracking.uri", *base, *varied, *resources]
