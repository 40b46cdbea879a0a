"""From a sweep file, a scale and overrides to a checked sweep; every error says where it is.

1. `find_sweep_file` turns a path or a shipped sweep's name into a file, and `yaml_file.py` parses it.
2. `_check_file_and_scales` checks the file itself and every scale in it, chosen or not.
3. `_choose_scale` takes one of these, or applies the scale and the `--set` overrides as `Setting`s and checks the
   result again; `resolve_override` finds the whole path of a short form.
4. A table of models that `cohort.models` names is read first, each time, so that all checks see its rows. Its text and
   those of its models' architecture files are kept with the sweep.
5. The result is a `LoadedSweep`. It remembers the source and the settings, so that later errors can name the line or
   option that a value came from (`LoadedSweep.locate_problem`).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import yaml

from gapctl.config.architectures import LOCAL_FOLDER, MODEL_PATHS, is_architecture_file, override_architecture_texts
from gapctl.config.base import (
    KeyPath,
    Problem,
    SpecError,
    build_spec_error,
    cut_text,
    find_nearest,
    format_choices,
    format_key_path,
    format_yaml_value,
    get_value_at_path,
    replace_at_path,
)
from gapctl.config.checks import validate_sweep_document
from gapctl.config.cohort import SHORT_PATHS, expand_cohort_table
from gapctl.config.settings import (
    explain_unknown_setting,
    find_settings_by_ending,
    list_evaluation_set_settings,
    list_setting_paths,
)
from gapctl.config.sweep import SweepFile, hypotheses_sha256, spec_sha256
from gapctl.config.yaml_file import (
    SWEEP_KIND,
    YamlSource,
    describe_missing_file,
    parse_yaml,
    parse_yaml_value,
    read_yaml,
)
from gapctl.errors import InputError
from gapctl.folders import expand_home
from gapctl.io.passwords import hide_password
from gapctl.text import join_or

IN_THE_FILE_ONLY = ("hypotheses", "treatments", "scales", "default_scale")
SWEEPS: Final = "sweeps"
SUFFIX: Final = ".yaml"


class Setting(NamedTuple):
    """One change: `written` is its whole path, `source` the scale's path in the file or `--set` and its text."""

    written: str
    value: object
    source: KeyPath | str

    @property
    def path(self) -> KeyPath:
        """The path in the document; what follows `vary.` or `treatments.` is one key, itself dotted."""
        return tuple(self.written.split(".", 1 if self.written.startswith(("vary.", "treatments.")) else -1))

    @property
    def in_the_file(self) -> bool:
        """Whether a scale makes the change."""
        return not isinstance(self.source, str)

    def report(self, problem: Problem, source: YamlSource) -> str:
        """Describe a problem that this change caused, with the place where the change is written."""
        if isinstance(self.source, str):
            return f"{self.source}: {format_key_path(problem.path)}: {problem.text}"
        at = (*self.source, *problem.path[len(self.path) :])
        return f"{source.locate(at)}: {format_key_path(at)}: {problem.text}"


DEFAULT_SCALE_NAME: Final = "base"
"""Names the run size of a file without scales."""


@dataclass(frozen=True)
class LoadedSweep:
    """A sweep file with its scale and overrides applied: `settings`, later ones over earlier ones.

    `path` is the file or name as typed, which every verb accepts again; `source` is the file that was read. `overrides`
    are the texts of `--set`, with whole paths. `tables` are the texts of tables of models, by the names in the file,
    and of their architecture files, by absolute path. `folder` is the absolute one from which the file names others.
    """

    path: Path
    source: YamlSource
    scale: str | None
    settings: tuple[Setting, ...]
    spec: SweepFile
    spec_sha256: str
    hypotheses_sha256: str
    overrides: tuple[str, ...] = ()
    tables: Mapping[str, str] = field(default_factory=dict)
    folder: Path = Path()

    @property
    def scale_name_or_base(self) -> str:
        """The scale's name in the ledger and in MLflow."""
        return self.scale or DEFAULT_SCALE_NAME

    @property
    def text(self) -> str:
        """The text of the sweep file."""
        return self.source.text

    def locate_problem(self, problem: Problem) -> str:
        """Describe a problem that only the data or the machine reveals, with the place of the value that caused it."""
        cause = _find_cause(problem, self.settings)
        return cause.report(problem, self.source) if cause else _locate_in_file(problem, self.source)


def load_sweep(path: Path, scale: str | None = None, overrides: Sequence[str] = ()) -> LoadedSweep:
    """Read and check the sweep file of a path or name; raise SpecError with a line for each problem."""
    return _build_sweep(path, read_yaml(find_sweep_file(path)), scale, overrides)


def load_sweep_text(
    text: str,
    path: Path,
    scale: str | None = None,
    overrides: Sequence[str] = (),
    tables: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> LoadedSweep:
    """Check a sweep file's text, such as one from a ledger; `path` is what messages call it.

    `tables` are the texts of tables of models by the names that the file has, in place of files. `folder` is
    the one from which it names files, if not that of `path`.
    """
    return _build_sweep(path, parse_yaml(path, text), scale, overrides, tables, folder)


def load_scales(path: Path, text: str | None = None) -> tuple[LoadedSweep, dict[str | None, LoadedSweep]]:
    """Check a sweep file, or its text from a ledger, once; return it at its default scale, and at each scale by name.

    A file without scales is there under None. Raise SpecError with a line for each problem.
    """
    source = read_yaml(path) if text is None else parse_yaml(path, text)
    files = _Files(source.path.parent.absolute(), {})
    specs = _check_file_and_scales(source, files)
    names: list[str | None] = [*specs[None].scales] or [None]
    at_default, *at_each = (_choose_scale(path, source, specs, name, (), files) for name in (None, *names))
    return at_default, dict(zip(names, at_each, strict=True))


def _build_sweep(
    path: Path,
    source: YamlSource,
    scale: str | None,
    overrides: Sequence[str],
    kept: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> LoadedSweep:
    files = _Files((folder or source.path.parent).absolute(), dict(kept or {}))
    return _choose_scale(path, source, _check_file_and_scales(source, files), scale, overrides, files)


def _choose_scale(
    path: Path,
    source: YamlSource,
    specs: Mapping[str | None, SweepFile],
    scale: str | None,
    overrides: Sequence[str],
    files: "_Files",
) -> LoadedSweep:
    """Return a checked file at a scale, with overrides; `specs` are the file itself, under None, and its scales."""
    plain = specs[None]
    chosen = plain.default_scale if scale is None else scale
    if chosen is not None and chosen not in plain.scales:
        raise SpecError(
            f"--scale {chosen}: {path} has no scale {format_yaml_value(chosen)}; {_describe_scales(plain, chosen)}"
        )
    from_scale = [] if chosen is None else list_scale_settings(plain.scales, chosen)
    chosen_by_option = [resolve_override(parse_override(text), plain) for text in overrides]
    wanted = (*from_scale, *chosen_by_option)
    spec = specs[chosen]
    if overrides:
        changed, lines = _check_settings(source, plain, wanted, chosen, files, values=True)
        if changed is None or lines:
            raise build_spec_error(lines)
        spec = changed
    hashes = spec_sha256(spec), hypotheses_sha256(spec)
    whole = (
        f"{setting.written}={text.partition('=')[2]}" for setting, text in zip(chosen_by_option, overrides, strict=True)
    )
    return LoadedSweep(path, source, chosen, wanted, spec, *hashes, tuple(whole), files.texts, files.folder)


class _Files(NamedTuple):
    """Where a sweep file's other files lie, and the texts of those that are kept with it."""

    folder: Path
    texts: dict[str, str]


def _check_file_and_scales(source: YamlSource, files: _Files) -> dict[str | None, SweepFile]:
    """Check the file and all its scales, chosen or not, so that a typo in one shows before it is needed.

    Return the file itself, under None, and at each scale.
    """
    expanded = _expand_tables(source.document, source, files, "")
    spec, problems = _check_with_model_files(expanded, files)
    if spec is not None and spec.default_scale not in (None, *spec.scales):
        wrong = str(spec.default_scale)
        problems.append(
            Problem(("default_scale",), f"found {format_yaml_value(wrong)}; {_describe_scales(spec, wrong)}")
        )
    lines = [
        _locate_in_file(problem, source) for problem in sorted(problems, key=lambda found: source.place(found.path))
    ]
    specs: dict[str | None, SweepFile | None] = {None: spec}
    if spec is not None:
        for name in spec.scales:
            settings = list_scale_settings(spec.scales, name)
            specs[name], found = _check_settings(source, spec, settings, name, files, values=not problems)
            lines += found
    checked = {name: each for name, each in specs.items() if each is not None}
    if lines or len(checked) < len(specs):
        raise build_spec_error(lines)
    return checked


def _expand_tables(document: Mapping[str, object], source: YamlSource, files: _Files, where: str) -> dict[str, object]:
    """Return the values with the rows of a table that `cohort.models` names, and keep the table's text."""
    try:
        expanded, found = expand_cohort_table(document, files.folder, files.texts)
    except SpecError as error:
        raise SpecError(f"{where or source.locate(('cohort', 'models'))}: {error}") from error
    files.texts.update(found)
    return expanded


def _check_settings(
    source: YamlSource,
    plain: SweepFile,
    settings: Sequence[Setting],
    scale: str | None,
    files: _Files,
    *,
    values: bool,
) -> tuple[SweepFile | None, list[str]]:
    """Return the file with the settings applied, and what is wrong with them.

    Their `values` are checked only where the file itself has no problem.
    """
    lines = [setting.report(problem, source) for setting, problem in find_unknown_settings(settings, plain)]
    if lines or not values:
        return None, lines
    document = source.document
    for setting in settings:
        document = replace_at_path(document, [str(step) for step in setting.path], setting.value)
    expanded = _expand_tables(document, source, files, f"{source.path}: scale {scale}")
    spec, problems = _check_with_model_files(expanded, files)
    return spec, list(dict.fromkeys(_format_problem(problem, source, settings, scale) for problem in problems))


def _check_with_model_files(document: Mapping[str, object], files: _Files) -> tuple[SweepFile | None, list[Problem]]:
    """Check values with what the architecture files of a cohort's rows say, of which the texts are kept."""
    resolved = _resolve_model_files(document, files.folder)
    rows = _read_mapping(resolved.get("cohort")).get("models")
    for row in rows if isinstance(rows, list) else ():
        for name in ("architecture", SHORT_PATHS["architecture"]):
            path = _read_mapping(row).get(name)
            if isinstance(path, str) and is_architecture_file(path) and path not in files.texts:
                with suppress(OSError, UnicodeDecodeError):  # the check says what is wrong with it
                    files.texts[path] = Path(path).read_text(encoding="utf-8")
    with override_architecture_texts(files.texts):
        return validate_sweep_document(resolved)


MODEL_SUFFIXES: Final = (".json", ".pt", ".pth", ".bin", ".safetensors")


def _resolve_model_files(document: Mapping[str, object], folder: Path) -> dict[str, object]:
    """Return the document with files of models, which are named from the sweep file's folder, as absolute paths.

    Names and tags stay as they are. What is written as a file is one whether it is there or not, so that a plan is
    the same after it has gone.
    """

    def resolve(value: object) -> object:
        if isinstance(value, list):
            return [resolve(each) for each in value]
        if not isinstance(value, str) or not value:
            return value
        scheme = LOCAL_FOLDER if value.startswith(LOCAL_FOLDER) else ""
        path = (folder / expand_home(value.removeprefix(scheme))).absolute()
        is_file = bool(scheme) or value.endswith(MODEL_SUFFIXES) or path.is_file()
        return f"{scheme}{path}" if is_file and value != scheme else value

    def resolve_hypothesis(hypothesis: object) -> object:
        asked = {**_read_mapping(hypothesis)}
        if asked.get("factor") in MODEL_PATHS and isinstance(asked.get("between"), list):
            asked["between"] = resolve(asked["between"])
        if asked.get("mediator") in MODEL_PATHS:
            asked |= {arm: resolve(asked[arm]) for arm in ("free", "fixed") if arm in asked}
        if isinstance(where := asked.get("where"), Mapping):
            asked["where"] = {path: resolve(level) if path in MODEL_PATHS else level for path, level in where.items()}
        return asked or hypothesis

    def resolve_row(row: object) -> object:
        values = _read_mapping(row)
        named = {name: values.get(name) for name in (*MODEL_PATHS, *SHORT_PATHS)}
        files = {name: resolve(value) for name, value in named.items() if isinstance(value, str)}
        return {**values, **files} or row

    found = {**document}
    for path in MODEL_PATHS:
        for place in (("base", *path.split(".")), ("vary", path)):
            value = get_value_at_path(found, place)
            if isinstance(value, str | list):
                found = replace_at_path(found, place, resolve(value))
    for name, levels in _read_mapping(document.get("treatments")).items():
        for level, changes in _read_mapping(levels).items():
            for path in MODEL_PATHS:
                if isinstance(value := _read_mapping(changes).get(path), str):
                    found = replace_at_path(found, ("treatments", name, level, path), resolve(value))
    if isinstance(hypotheses := document.get("hypotheses"), list):
        found["hypotheses"] = [resolve_hypothesis(each) for each in hypotheses]
    cohort = _read_mapping(document.get("cohort"))
    if isinstance(rows := cohort.get("models"), list):
        found["cohort"] = {**cohort, "models": [resolve_row(row) for row in rows]}
    return found


def _read_mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _format_problem(problem: Problem, source: YamlSource, settings: Sequence[Setting], scale: str | None) -> str:
    cause = _find_cause(problem, settings)
    if cause is not None:
        return cause.report(problem, source)
    # The file alone is valid: other levels make a hypothesis wrong, another base makes a level wrong.
    about = problem.path[0] == "hypotheses"
    causes = [setting for setting in settings if (setting.path[0] == "vary") == about]
    changes = dict.fromkeys(
        f"{cause.source}" if isinstance(cause.source, str) else f"scale {scale}" for cause in causes
    )
    return f"{_locate_in_file(problem, source)} (with {', '.join(changes)})"


def _find_cause(problem: Problem, settings: Sequence[Setting]) -> Setting | None:
    """Return the last change whose path contains the problem's, or is contained in it."""
    for setting in reversed(settings):
        shared = min(len(problem.path), len(setting.path))
        if shared and problem.path[:shared] == setting.path[:shared]:
            return setting
    return None


def _locate_in_file(problem: Problem, source: YamlSource) -> str:
    return f"{source.locate(problem.path)}: {format_key_path(problem.path)}: {problem.text}"


def _describe_scales(spec: SweepFile, wrong: str) -> str:
    return format_choices(wrong, spec.scales) if spec.scales else "expected none, as it lists none; leave --scale out"


def list_scale_settings(scales: Mapping[str, Mapping[str, object]], name: str) -> list[Setting]:
    """List the changes of one scale."""
    return [Setting(path, value, ("scales", name, path)) for path, value in scales[name].items()]


def parse_override(text: str) -> Setting:
    """Return the change that `--set TEXT` asks for; raise SpecError where TEXT is not PATH=VALUE."""
    written, equals, value = text.partition("=")
    source = f"--set {cut_text(hide_password(' '.join(text.split())))}"
    if not equals or not written.strip():
        raise SpecError(f"{source}: no value; expected PATH=VALUE such as base.train.samples=20_000")
    try:
        return Setting(written.strip(), parse_yaml_value(value)[1], source)
    except yaml.YAMLError as error:
        raise SpecError(f"{source}: the value is not YAML; expected a number, a word or [a, list]") from error


def resolve_override(setting: Setting, spec: SweepFile) -> Setting:
    """Return the setting with its whole path, where a short form such as `lr` was written.

    Raise SpecError, with the candidates, where that may mean several. What means none stays as it is.
    """
    if setting.written in list_setting_paths(spec.base):
        return setting
    meant = find_settings_by_ending(setting.written, spec)
    if len(meant) > 1:
        raise SpecError(f"{setting.source}: may mean {join_or(meant)}; expected one of them, written whole")
    return setting._replace(written=meant[0]) if meant else setting


def find_unknown_settings(settings: Sequence[Setting], spec: SweepFile) -> Iterator[tuple[Setting, Problem]]:
    """Yield the changes of paths that do not exist or can only be changed in the file, each with its problem."""
    known = [
        *list_setting_paths(spec.base),
        *(f"vary.{name}" for name in spec.treatments),
        *list_evaluation_set_settings(spec),
    ]
    treatments = [f"treatments.{name}" for name in spec.treatments]
    for setting in settings:
        if setting.in_the_file and setting.written in treatments:
            continue
        if setting.path[0] in IN_THE_FILE_ONLY:
            text = f"{setting.path[0]} cannot be set; expected it to be changed in the file"
            yield setting, Problem(setting.path, text)
        elif setting.written not in known:
            text = f"no such setting; {explain_unknown_setting(setting.written, setting.value, known)}"
            yield setting, Problem(setting.path, text)


def find_sweep_file(typed: Path) -> Path:
    """Return the file that `typed` means; raise SpecError, with the nearest name, where there is none.

    A path that exists but cannot be read is returned as it is: reading it raises the better error.
    """
    candidates = [typed, *_list_places(typed)]
    if (found := next((path for path in candidates if _is_readable(path)), None)) is not None:
        return found
    try:
        typed.stat()
    except FileNotFoundError as error:
        raise SpecError(describe_missing_file(typed, SWEEP_KIND) + _name_similar_file(typed)) from error
    except OSError:
        pass
    return typed


def is_shipped_sweep(path: Path) -> bool:
    """Return whether a sweep file is one that comes with gapctl."""
    return path.parent == locate_shipped_sweeps()


def list_sweep_files(place: Path | None) -> list[Path]:
    """List the sweep files of a folder by name, or the one file that a path or name means.

    Without a place, list those of `sweeps/` below the working folder, or else those that come with gapctl. Raise
    InputError where there are none.
    """
    if place is not None and not place.is_dir():
        return [find_sweep_file(place)]
    folders = [place] if place is not None else [Path(SWEEPS), locate_shipped_sweeps()]
    for each in folders:
        if found := _list_yaml_files(each):
            return found
    looked = ", ".join(map(str, folders))
    raise InputError(f"no sweep file in {looked}; expected a folder with files that end in {SUFFIX}")


def locate_shipped_sweeps() -> Path:
    """Return the folder of the sweeps that come with gapctl: in an installed package, or at the clone's root."""
    package = Path(__file__).parents[1]
    installed = package / SWEEPS
    return installed if installed.is_dir() else package.parents[1] / SWEEPS


def _list_places(typed: Path) -> list[Path]:
    """List the files that a bare name may mean; none for any other path."""
    if typed.name in ("", "..") or typed.parent not in (Path(), Path(SWEEPS)):
        return []
    name = typed.name if typed.suffix == SUFFIX else f"{typed.name}{SUFFIX}"
    return [Path(SWEEPS, name), locate_shipped_sweeps() / name]


def _is_readable(path: Path) -> bool:
    """Return whether a file, a pipe or the like is there; False where the system refuses to answer."""
    try:
        return path.exists() and not path.is_dir()
    except OSError:
        return False


def _name_similar_file(typed: Path) -> str:
    """Suggest what `typed` may be a slip of: the path of a file beside it, or a shipped sweep's name."""
    beside = {path.stem: str(path) for path in _list_yaml_files(typed.parent)}
    named = {
        path.stem: path.stem for folder in (Path(SWEEPS), locate_shipped_sweeps()) for path in _list_yaml_files(folder)
    }
    close = find_nearest(typed.stem, {**named, **beside})
    return "" if close is None else f"; did you mean {beside.get(close) or named[close]}?"


def _list_yaml_files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{SUFFIX}"))
