"""Changes to a sweep file by dotted path: what a scale lists and `--set path=value` asks for."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import yaml

from gapctl.spec.nearest import did_you_mean
from gapctl.spec.paths import leaves, placed
from gapctl.spec.problem import KeyPath, Problem, SpecError, cut, dotted
from gapctl.spec.search import Search, StopEarly
from gapctl.spec.secrets import without_password
from gapctl.spec.sweep import Limits, Resources, SweepFile, Tracking
from gapctl.spec.trial import TrialConfig
from gapctl.spec.yaml_loader import parse
from gapctl.spec.yaml_source import YamlSource

PLAIN = ("name", "question", "seeds", "first_seed", "alpha")
IN_THE_FILE_ONLY = ("hypotheses", "treatments", "scales", "default_scale")


class Setting(NamedTuple):
    """One change: `written` is its path as typed, `source` the scale's path in the file or the whole `--set`."""

    written: str
    value: Any
    source: KeyPath | str

    @property
    def path(self) -> KeyPath:
        """The path in the document; what follows `vary.` or `treatments.` is one key, itself dotted."""
        return tuple(self.written.split(".", 1 if self.written.startswith(("vary.", "treatments.")) else -1))

    @property
    def in_the_file(self) -> bool:
        """Whether a scale makes the change."""
        return not isinstance(self.source, str)

    def touches(self, path: KeyPath) -> bool:
        """Whether a problem at `path` may come from this change: it lies in it, or around it."""
        shared = min(len(path), len(self.path))
        return shared > 0 and path[:shared] == self.path[:shared]

    def report(self, problem: Problem, source: YamlSource) -> str:
        """A problem that this change brought, with the place where the change is written."""
        if isinstance(self.source, str):
            return f"{self.source}: {dotted(problem.path)}: {problem.text}"
        at = (*self.source, *problem.path[len(self.path) :])
        return f"{source.locate(at)}: {dotted(at)}: {problem.text}"


def scale_settings(scales: Mapping[str, Mapping[str, Any]], name: str) -> list[Setting]:
    """The changes of one scale."""
    return [Setting(path, value, ("scales", name, path)) for path, value in scales[name].items()]


def override(text: str) -> Setting:
    """The change that `--set TEXT` asks for; raises SpecError where it is no PATH=VALUE."""
    written, equals, value = text.partition("=")
    source = f"--set {cut(without_password(' '.join(text.split())))}"
    if not equals or not written.strip():
        raise SpecError(f"{source}: no value; expected PATH=VALUE such as base.train.samples=20_000")
    try:
        return Setting(written.strip(), parse(value)[1], source)
    except yaml.YAMLError as error:
        raise SpecError(f"{source}: the value is not YAML; expected a number, a word or [a, list]") from error


def applied(document: Mapping[str, Any], settings: Sequence[Setting]) -> dict[str, Any]:
    """A copy of the document with the changes made, later ones over earlier ones."""
    changed = dict(document)
    for setting in settings:
        changed = placed(changed, [str(step) for step in setting.path], setting.value)
    return changed


def unknown(settings: Sequence[Setting], spec: SweepFile) -> Iterator[tuple[Setting, Problem]]:
    """The changes of what is not in a sweep file, or not to be changed from outside it."""
    known = [*known_paths(spec.base), *(f"vary.{name}" for name in spec.treatments)]
    treatments = [f"treatments.{name}" for name in spec.treatments]
    for setting in settings:
        if setting.in_the_file and setting.written in treatments:
            continue
        if setting.path[0] in IN_THE_FILE_ONLY:
            text = f"{setting.path[0]} cannot be set; expected it to be changed in the file"
            yield setting, Problem(setting.path, text)
        elif setting.written not in known:
            inside = f"base.{setting.written}"
            close = did_you_mean(inside if inside in known else setting.written, known)
            text = f"no such setting; expected a path such as seeds or base.train.samples{close}"
            yield setting, Problem(setting.path, text)


def known_paths(base: TrialConfig) -> list[str]:
    """Every dotted path that a scale or `--set` may change."""
    paths = leaves(base.model_dump())
    resources = [f"resources.{name}" for name in Resources.model_fields]
    tracking = [f"tracking.{name}" for name in Tracking.model_fields]
    limits = [f"limits.{name}" for name in Limits.model_fields]
    search = [f"search.{name}" for name in Search.model_fields]
    stops = [f"search.stop_early.{name}" for name in StopEarly.model_fields]
    inits = [f"base.init_from.{path}" for path in paths if not path.startswith("init_from.")]
    settings = [f"{top}.{path}" for top in ("base", "vary") for path in paths]
    return list(dict.fromkeys([*PLAIN, *resources, *tracking, *limits, *search, *stops, *settings, *inits]))
