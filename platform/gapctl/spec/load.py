"""From a sweep file, a scale and overrides to a checked sweep; every error says where it is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from gapctl.errors import InputError
from gapctl.spec.canonical import sha256_of
from gapctl.spec.checks import problems_of
from gapctl.spec.messages import explain
from gapctl.spec.sweep import SweepFile
from gapctl.spec.yaml_source import Path_, YamlSource, dotted, read_yaml


@dataclass(frozen=True)
class Sweep:
    """A sweep file with its scale and overrides applied; `text` is the file as it was read."""

    path: Path
    scale: str | None
    spec: SweepFile
    text: str
    spec_sha256: str
    hypotheses_sha256: str


def load_sweep(path: Path, scale: str | None = None, overrides: Sequence[str] = ()) -> Sweep:
    """Reads and checks a sweep file; raises InputError that lists every problem, one per line."""
    source = read_yaml(path)
    _validated(source.document, source.locate)
    chosen = _scale(source, scale)
    document, origin = source.document, {}
    for setting, value in _recipe(source, chosen):
        document = _with(document, setting, value)
        origin[tuple(setting.split("."))] = source.locate(("scales", chosen or "", setting))
    for text in overrides:
        setting, value = _override(text)
        document = _with(document, setting, value)
        origin[tuple(setting.split("."))] = f"--set {text}"
    spec = _validated(document, lambda at: _origin(at, origin) or source.locate(at))
    return Sweep(path, chosen, spec, source.text, _spec_sha256(spec), _hypotheses_sha256(spec))


def _validated(document: dict[str, Any], locate: Callable[[Path_], str]) -> SweepFile:
    try:
        spec = SweepFile.model_validate(document)
    except ValidationError as error:
        lines = [explain(problem, document, locate) for problem in error.errors()]
        raise InputError("\n".join(dict.fromkeys(lines))) from error
    problems = problems_of(spec)
    if problems:
        raise InputError("\n".join(f"{locate(at)}: {dotted(at)}: {text}" for at, text in problems))
    return spec


def _scale(source: YamlSource, asked: str | None) -> str | None:
    known = source.document.get("scales") or {}
    scale = asked or source.document.get("default_scale")
    if scale is None or scale in known:
        return scale
    place = f"--scale {asked}" if asked else f"{source.locate(('default_scale',))}: default_scale"
    raise InputError(f"{place}: {source.path} has no scale {scale!r}; expected one of {', '.join(known) or 'none'}")


def _recipe(source: YamlSource, scale: str | None) -> list[tuple[str, Any]]:
    return list((source.document["scales"][scale] or {}).items()) if scale else []


def _override(text: str) -> tuple[str, Any]:
    setting, found, value = text.partition("=")
    if not found or not setting:
        raise InputError(f"--set {text}: no value; expected PATH=VALUE such as base.train.samples=20_000")
    try:
        return setting, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InputError(f"--set {text}: the value is not YAML; expected a number, word or [list]") from error


def _with(document: dict[str, Any], setting: str, value: Any) -> dict[str, Any]:
    """A copy with one dotted path set; what follows `vary.` is one key, itself dotted."""
    head, _, rest = setting.partition(".")
    if not rest:
        return {**document, head: value}
    inner = dict(document.get(head) or {})
    return {**document, head: {**inner, rest: value} if head == "vary" else _with(inner, rest, value)}


def _origin(at: Path_, origin: dict[tuple[str, ...], str]) -> str | None:
    flat = tuple(part for step in at if isinstance(step, str) for part in step.split("."))
    return next((place for setting, place in origin.items() if flat[: len(setting)] == setting), None)


def _spec_sha256(spec: SweepFile) -> str:
    return sha256_of(spec.model_dump(mode="json", exclude={"resources", "tracking", "scales", "default_scale"}))


def _hypotheses_sha256(spec: SweepFile) -> str:
    return sha256_of({"hypotheses": [item.model_dump(mode="json") for item in spec.hypotheses], "alpha": spec.alpha})
