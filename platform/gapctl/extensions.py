"""Metrics, caption treatments, losses and evaluation sets of other packages, named in sweep files as gapctl's own are.

1. `register_metric`, `register_treatment`, `register_loss` and `register_evaluation_set` are decorators that give a
   function its name. Users spell them `gapctl.metrics.register`, `gapctl.treatments.register` and so on.
2. A package announces its functions by entry points of the groups `gapctl.metrics`, `gapctl.treatments`,
   `gapctl.losses` and `gapctl.evaluation_sets`, so that every process finds them: those that train on a cluster, too.
3. `find_extension` looks a name up; `explain_unusable` says why a sweep file cannot name it.
4. `collect_extension_code` gives the package, version and sha256 of the code behind names, which enters trials' ids.
5. `raise_as_extension_error` turns whatever a function of another package raises into one error that names it.

A name that is only registered, in a notebook say, works with `gapctl.measure`; a sweep needs the entry point.
"""

import hashlib
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeVar

from gapctl.errors import InputError, first_line_of_error

Kind = Literal["metrics", "treatments", "losses", "evaluation_sets"]
KINDS: Final[tuple[Kind, ...]] = ("metrics", "treatments", "losses", "evaluation_sets")
SINGULAR: Final[Mapping[Kind, str]] = {
    "metrics": "metric",
    "treatments": "treatment",
    "losses": "loss",
    "evaluation_sets": "evaluation set",
}
Function = TypeVar("Function", bound=Callable[..., object])


class ExtensionError(Exception):
    """A function of another package raised an error, or returned what it may not; a training with it fails."""


class Extension(NamedTuple):
    """A function of another package: its kind and name, and what it means.

    `unit` is a metric's, and `initial_bias` where the logit bias of a loss starts, None for a loss without one.
    """

    kind: Kind
    name: str
    function: Callable[..., object]
    meaning: str
    unit: str = ""
    initial_bias: float | None = None

    @property
    def source(self) -> Path | None:
        """The file that defines the function; None for one that was typed into a notebook or a prompt.

        For an object that is called like a function, it is the file of the module that the entry point names.
        """
        entry = _list_entry_points(self.kind).get(self.name)
        try:
            file = inspect.getsourcefile(inspect.unwrap(self.function))
        except TypeError:
            file = None if entry is None else inspect.getsourcefile(import_module(entry.module))
        return Path(file) if file is not None and Path(file).is_file() else None

    @property
    def title(self) -> str:
        """The function for messages: `metric spread/mean_norm of gapctl-spread 1.0`."""
        entry = _list_entry_points(self.kind).get(self.name)
        origin = name_package(entry) if entry is not None else _locate_function(self.function)[0]
        return f"{SINGULAR[self.kind]} {self.name} of {origin}"


@dataclass(frozen=True)
class ExtensionCode:
    """The code behind a name that a trial uses: package, version, and the sha256 of the file with the function."""

    package: str
    version: str
    sha256: str


_REGISTERED: Final[dict[tuple[Kind, str], Extension]] = {}


def register_metric(name: str, *, unit: str = "") -> Callable[[Function], Function]:
    """Return a decorator that registers a metric: a function from `Embeddings` to a number, NaN where undefined.

    The rows of the embeddings are L2-normalised. `name` is a group and a key with a slash between them, such as
    `spread/mean_norm`. The first line of the function's docstring is the metric's meaning. Raise InputError for a name
    that is taken or is none.
    """
    return _register("metrics", name, unit)


def register_treatment(name: str) -> Callable[[Function], Function]:
    """Return a decorator that registers a caption treatment: a function from a caption and a generator to a caption.

    Its name can stand for `data.captions.keep` of image-text pairs. The generator is numpy's, seeded by the trial's
    seed, the epoch and the sample, so that a resumed training sees the same captions. Raise InputError for a name that
    is taken or is none.
    """
    return _register("treatments", name)


def register_loss(name: str, *, initial_bias: float | None = None) -> Callable[[Function], Function]:
    """Return a decorator that registers a loss, whose name can stand for `loss.kind`.

    The function takes L2-normalised image and text features (B, D) of a whole batch, the logit scale and the logit
    bias as torch tensors, and returns a scalar. With `initial_bias` models get a learned logit bias that starts there,
    as SigLIP's does at -10; without it the function is given None. Raise InputError for a name that is taken or is
    none.
    """
    return _register("losses", name, initial_bias=initial_bias)


def register_evaluation_set(name: str) -> Callable[[Function], Function]:
    """Return a decorator that registers an evaluation set, whose name can stand in `evaluate.sets`.

    The function takes nothing and returns what a sweep file says under `evaluation_sets`, as a mapping: the kind, the
    place of the images, and what else its kind needs. A trial's id holds the set's content, not this function. Raise
    InputError for a name that is taken or is none.
    """
    return _register("evaluation_sets", name)


def find_extension(kind: Kind, name: str) -> Extension | None:
    """Return the extension of this name, registered or announced by an entry point, or None.

    Raise InputError for an entry point whose package cannot be imported, that names no function, or that two packages
    have: which of them trains would be a matter of chance.
    """
    if (kind, name) not in _REGISTERED and (entry := _list_entry_points(kind).get(name)) is not None:
        _load_entry_point(kind, name, entry)
    return _REGISTERED.get((kind, name))


def require_extension(kind: Kind, name: str) -> Extension:
    """Return the extension of this name; raise InputError where there is none."""
    found = find_extension(kind, name)
    if found is None:
        raise InputError(f"{SINGULAR[kind]} {name}: {_explain_unknown(kind, name, list_extensions(kind))}")
    return found


def list_extensions(kind: Kind) -> list[str]:
    """Return the names of a kind, registered or announced, in sorted order; nothing is imported."""
    return sorted({*_list_entry_points(kind), *(name for known, name in _REGISTERED if known == kind)})


def list_announced(kind: Kind) -> list[str]:
    """Return the names of a kind that installed packages announce, which sweep files can use, in sorted order."""
    return sorted(_list_entry_points(kind))


def explain_unusable(kind: Kind, name: str) -> str:
    """Explain why a sweep file cannot use an extension of this name; return an empty text where it can."""
    try:
        extension = find_extension(kind, name)
    except InputError as error:
        return str(error)
    if extension is None:
        return f"found {name!r}; {_explain_unknown(kind, name, list_announced(kind))}"
    if extension.source is None or name not in _list_entry_points(kind):
        return (
            f"found {name!r}, which is registered in this process alone, so no other could train with it; expected an "
            f"entry point of the group gapctl.{kind} in an installed package"
        )
    return ""


def _explain_unknown(kind: Kind, name: str, known: list[str]) -> str:
    """Return the second half of the message for a name that no package has: what is there, and which is nearest."""
    if not known:
        return f"expected a {SINGULAR[kind]} that an installed package announces in the group gapctl.{kind}; none does"
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    return f"expected one of {', '.join(known)}{f'; did you mean {close[0]}?' if close else ''}"


def collect_extension_code(names: Iterable[tuple[Kind, str]]) -> dict[str, ExtensionCode]:
    """Return the code behind each extension by `kind/name`, such as `metrics/spread/mean_norm`.

    Raise InputError for one without a file or without an entry point, which other processes could not find.
    """
    found = {}
    for kind, name in names:
        if why := explain_unusable(kind, name):
            raise InputError(f"{SINGULAR[kind]} {name}: {why}")
        source = require_extension(kind, name).source
        assert source is not None  # as explain_unusable has checked
        entry = _list_entry_points(kind)[name]
        digest = hashlib.sha256(source.read_bytes()).hexdigest()
        dist = entry.dist
        package, version = (entry.module, "unknown") if dist is None else (dist.name, dist.version)
        found[f"{kind}/{name}"] = ExtensionCode(package, version, digest)
    return found


def require_planned_extension_code(names: Iterable[tuple[Kind, str]], planned: Mapping[str, ExtensionCode]) -> None:
    """Raise ExtensionError where this machine's code of an extension is not what a trial was planned with."""
    for key, here in collect_extension_code(names).items():
        there = planned.get(key)
        if there is not None and there.sha256 != here.sha256:
            raise ExtensionError(
                f"{key}: this process has other code than the sweep was planned with ({here.package} {here.version}, "
                f"sha256 {here.sha256[:12]}, not {there.version}, {there.sha256[:12]}); install the same package on "
                "every machine, and run the sweep again"
            )


@contextmanager
def raise_as_extension_error(extension: Extension) -> Iterator[None]:
    """Raise ExtensionError, which names the function and its package, for whatever a call of it raises."""
    try:
        yield
    except ExtensionError:
        raise
    except Exception as error:
        raise ExtensionError(
            f"{extension.title} raised {type(error).__name__}: {first_line_of_error(error)}"
        ) from error


def name_package(entry: EntryPoint) -> str:
    """Return the package of an entry point with its version, or its module where that is not known."""
    return entry.module if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"


def _require_name(kind: Kind, name: str) -> None:
    """Raise InputError for what cannot be the name of a metric, of a treatment or loss, or of an evaluation set."""
    if not isinstance(name, str):
        raise InputError(f"{SINGULAR[kind]}: found {name!r} as its name; expected a text: @register('NAME')")
    parts = name.split("/")
    if kind == "metrics" and not (len(parts) == 2 and all(re.fullmatch(r"\w+", part) for part in parts)):
        raise InputError(f"metric {name!r}: expected a group and a key, such as 'spread/mean_norm'")
    if kind == "evaluation_sets":
        from gapctl.config.evaluation_sets import explain_wrong_name

        if why := explain_wrong_name(name):
            raise InputError(f"evaluation set: {why}")
    elif kind != "metrics" and not name.isidentifier():
        raise InputError(f"{SINGULAR[kind]} {name!r}: expected a name of letters, digits and underscores")


def _register(
    kind: Kind, name: str, unit: str = "", initial_bias: float | None = None
) -> Callable[[Function], Function]:
    _require_name(kind, name)

    def register(function: Function) -> Function:
        _require_free(kind, name, function)
        _store(kind, name, function, unit, initial_bias)
        return function

    return register


def _store(
    kind: Kind, name: str, function: Callable[..., object], unit: str = "", initial_bias: float | None = None
) -> None:
    meaning = (inspect.getdoc(function) or "").partition("\n")[0].rstrip(".")
    _REGISTERED[kind, name] = Extension(kind, name, function, meaning, unit, initial_bias)


def _locate_function(function: Callable[..., object]) -> tuple[str, str]:
    """Return a function's module and its name there, which objects that are called like functions may lack."""
    return str(getattr(function, "__module__", "this process")), str(getattr(function, "__qualname__", repr(function)))


def _require_free(kind: Kind, name: str, function: Callable[..., object]) -> None:
    """Raise InputError for a name of gapctl's own, of another function, or that another package announces.

    The same function may register again, as a notebook's cell does that runs twice.
    """
    _require_other_than_own(kind, name)
    known, place = _REGISTERED.get((kind, name)), _locate_function(function)
    if known is not None and _locate_function(known.function) != place:
        raise InputError(f"{SINGULAR[kind]} {name}: registered already, by {known.title}; choose another name")
    entry = _list_entry_points(kind).get(name)
    if entry is not None and entry.module.partition(".")[0] != place[0].partition(".")[0]:
        raise InputError(f"{SINGULAR[kind]} {name}: {name_package(entry)} has one of that name; choose another name")


def _require_other_than_own(kind: Kind, name: str) -> None:
    if name in _list_own_names(kind):
        raise InputError(f"{SINGULAR[kind]} {name}: gapctl has its own of that name; choose another name")


def _list_own_names(kind: Kind) -> Iterable[str]:
    # Imported late: these modules look names up here.
    from gapctl.config.evaluation_sets import load_shipped_sets
    from gapctl.config.metrics import METRICS
    from gapctl.config.trial import LOSSES, TREATMENT_NAMES

    own: dict[Kind, Iterable[str]] = {"metrics": METRICS, "treatments": TREATMENT_NAMES, "losses": LOSSES}
    return own[kind] if kind in own else load_shipped_sets()


def _list_entry_points(kind: Kind) -> Mapping[str, EntryPoint]:
    """Return the entry points of a kind by name, the first of each."""
    return {name: entries[0] for name, entries in _read_entry_points(kind, tuple(sys.path)).items()}


@cache
def _read_entry_points(kind: Kind, paths: tuple[str, ...]) -> Mapping[str, tuple[EntryPoint, ...]]:
    """Return all entry points of a kind by name; `paths` is where packages are found, as another may come there."""
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for entry in entry_points(group=f"gapctl.{kind}"):
        found[entry.name] = (*found.get(entry.name, ()), entry)
    return found


def _load_entry_point(kind: Kind, name: str, entry: EntryPoint) -> None:
    titles = list(dict.fromkeys(map(name_package, _read_entry_points(kind, tuple(sys.path))[name])))
    if len(titles) > 1:
        raise InputError(
            f"{SINGULAR[kind]} {name}: {' and '.join(titles)} have one of that name each; uninstall all but one of them"
        )
    where = f"{SINGULAR[kind]} {name}: {titles[0]} announces it as {entry.value}"
    try:
        function = entry.load()
    except InputError as error:
        raise InputError(f"{where}, which was refused: {error}") from error
    except Exception as error:
        reason = f"{type(error).__name__}: {first_line_of_error(error)}"
        raise InputError(f"{where}, which cannot be imported ({reason}); mend or uninstall that package") from error
    if (kind, name) in _REGISTERED:  # by its decorator
        return
    if not callable(function):
        raise InputError(f"{where}, which is no function but a value of type {type(function).__name__}")
    _require_name(kind, name)
    _require_other_than_own(kind, name)
    _store(kind, name, function)
