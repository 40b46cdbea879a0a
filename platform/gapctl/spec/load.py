"""From a sweep file, a scale and overrides to a checked sweep; every error says where it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gapctl.spec.checks import examine
from gapctl.spec.hashes import hypotheses_sha256, spec_sha256
from gapctl.spec.nearest import did_you_mean
from gapctl.spec.problem import Problem, SpecError, dotted, refusal, show
from gapctl.spec.settings import Setting, applied, override, scale_settings, unknown
from gapctl.spec.sweep import SweepFile
from gapctl.spec.sweep_files import find_sweep_file
from gapctl.spec.yaml_source import YamlSource, parse_yaml, read_yaml


@dataclass(frozen=True)
class Sweep:
    """A sweep file with its scale and overrides applied: `settings`, later ones over earlier ones.

    `path` is the file or the name that was typed, which every verb takes again; `source` knows the file that was read.
    `overrides` are the texts of `--set`.
    """

    path: Path
    source: YamlSource
    scale: str | None
    settings: tuple[Setting, ...]
    spec: SweepFile
    spec_sha256: str
    hypotheses_sha256: str
    overrides: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The file as it was read."""
        return self.source.text

    def located(self, problem: Problem) -> str:
        """A problem that only the data or the machine shows, with the place of the value that brought it."""
        cause = _cause(problem, self.settings)
        return cause.report(problem, self.source) if cause else _in_file(problem, self.source)


def load_sweep(path: Path, scale: str | None = None, overrides: Sequence[str] = ()) -> Sweep:
    """Reads and checks the sweep file of a path or name; raises SpecError, an InputError, with a line per problem."""
    return _sweep(path, read_yaml(find_sweep_file(path)), scale, overrides)


def load_text(text: str, path: Path, scale: str | None = None, overrides: Sequence[str] = ()) -> Sweep:
    """The same from a text that was kept; `path` is what messages call it."""
    return _sweep(path, parse_yaml(path, text), scale, overrides)


def _sweep(path: Path, source: YamlSource, scale: str | None, overrides: Sequence[str]) -> Sweep:
    plain = _plain(source)
    chosen = plain.default_scale if scale is None else scale
    if chosen is not None and chosen not in plain.scales:
        raise SpecError(f"--scale {chosen}: {path} has no scale {show(chosen)}; {_scales(plain, chosen)}")
    wanted = (*_recipe(plain, chosen), *map(override, overrides))
    spec = _changed(source, plain, wanted, chosen)
    return Sweep(path, source, chosen, wanted, spec, spec_sha256(spec), hypotheses_sha256(spec), tuple(overrides))


def _plain(source: YamlSource) -> SweepFile:
    """The file as it stands, all its scales checked, chosen or not: a typo in one shows before it is needed."""
    spec, problems = examine(source.document)
    if spec is not None and spec.default_scale not in (None, *spec.scales):
        wrong = str(spec.default_scale)
        problems.append(Problem(("default_scale",), f"found {show(wrong)}; {_scales(spec, wrong)}"))
    lines = [_in_file(problem, source) for problem in sorted(problems, key=lambda found: source.place(found.path))]
    if spec is not None:
        for name in spec.scales:
            lines += _problems(source, spec, _recipe(spec, name), name, values=not problems)[1]
    if spec is None or lines:
        raise refusal(lines)
    return spec


def _changed(source: YamlSource, plain: SweepFile, wanted: Sequence[Setting], scale: str | None) -> SweepFile:
    spec, lines = _problems(source, plain, wanted, scale, values=True)
    if spec is None or lines:
        raise refusal(lines)
    return spec


def _problems(
    source: YamlSource, plain: SweepFile, settings: Sequence[Setting], scale: str | None, *, values: bool
) -> tuple[SweepFile | None, list[str]]:
    """The file with the settings made and what is wrong with them; their `values` only once all else is right."""
    lines = [setting.report(problem, source) for setting, problem in unknown(settings, plain)]
    if lines or not values:
        return None, lines
    spec, problems = examine(applied(source.document, settings))
    return spec, list(dict.fromkeys(_line(problem, source, settings, scale) for problem in problems))


def _line(problem: Problem, source: YamlSource, settings: Sequence[Setting], scale: str | None) -> str:
    cause = _cause(problem, settings)
    if cause is not None:
        return cause.report(problem, source)
    # The file alone is right: a hypothesis is wrong now because of other levels, a level because of another base.
    about = problem.path[0] == "hypotheses"
    causes = [setting for setting in settings if (setting.path[0] == "vary") == about]
    changes = dict.fromkeys(
        f"{cause.source}" if isinstance(cause.source, str) else f"scale {scale}" for cause in causes
    )
    return f"{_in_file(problem, source)} (with {', '.join(changes)})"


def _cause(problem: Problem, settings: Sequence[Setting]) -> Setting | None:
    return next((setting for setting in reversed(settings) if setting.touches(problem.path)), None)


def _in_file(problem: Problem, source: YamlSource) -> str:
    return f"{source.locate(problem.path)}: {dotted(problem.path)}: {problem.text}"


def _recipe(spec: SweepFile, scale: str | None) -> list[Setting]:
    return [] if scale is None else scale_settings(spec.scales, scale)


def _scales(spec: SweepFile, wrong: str) -> str:
    known = ", ".join(spec.scales)
    return f"expected one of {known}{did_you_mean(wrong, spec.scales)}" if known else "expected none, as it lists none"
