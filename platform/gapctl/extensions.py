"""Metrics, caption treatments and losses of other packages, named in sweep files as gapctl's own are.

1. `register_metric`, `register_treatment` and `register_loss` are decorators that give a function its name.
2. A package announces its functions by entry points of the groups `gapctl.metrics`, `gapctl.treatments` and
   `gapctl.losses`, so that every process finds them: those that train on a cluster, too.
3. `find_extension` looks a name up; `hash_extensions` gives what a trial's id contains of the code behind its names.

A name that is only registered, in a notebook say, works with `gapctl.measure`; a sweep needs the entry point.
"""

import hashlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeVar

from gapctl.errors import InputError

Kind = Literal["metrics", "treatments", "losses"]
KINDS: Final[tuple[Kind, ...]] = ("metrics", "treatments", "losses")
Function = TypeVar("Function", bound=Callable[..., Any])


class Extension(NamedTuple):
    """A function of another package: its kind and name, what it means, and the unit of a metric."""

    kind: Kind
    name: str
    function: Callable[..., Any]
    meaning: str
    unit: str = ""

    @property
    def source(self) -> Path | None:
        """The file that defines the function; None for one that was typed into a notebook or a prompt."""
        try:
            file = inspect.getsourcefile(inspect.unwrap(self.function))
        except TypeError:
            return None
        return Path(file) if file is not None and Path(file).is_file() else None


_REGISTERED: Final[dict[tuple[Kind, str], Extension]] = {}


def register_metric(name: str, *, unit: str = "") -> Callable[[Function], Function]:
    """Return a decorator that registers a metric: a function from `Embeddings` to a number, NaN where undefined.

    `name` is a group and a key with a slash between them, such as `spread/mean_norm`. The first line of the function's
    docstring is the metric's meaning. Raise InputError for a name that is taken or is none.
    """
    group, slash, key = name.partition("/")
    if not (slash and group and key) or "/" in key or not name.replace("/", "").replace("_", "").isalnum():
        raise InputError(f"metric {name!r}: expected a group and a key, such as 'spread/mean_norm'")
    return _register("metrics", name, unit)


def register_treatment(name: str) -> Callable[[Function], Function]:
    """Return a decorator that registers a caption treatment: a function from a caption and a generator to a caption.

    Its name can stand for `data.captions.keep` of image-text pairs. The generator is numpy's, seeded by sample and
    epoch, so that a resumed training sees the same captions. Raise InputError for a name that is taken or is none.
    """
    return _register("treatments", _require_word(name), "")


def register_loss(name: str) -> Callable[[Function], Function]:
    """Return a decorator that registers a loss, whose name can stand for `loss.kind`.

    The function takes normalised image and text features (B, D), the logit scale and the logit bias (None unless the
    model has one) as torch tensors, and returns a scalar. Raise InputError for a name that is taken or is none.
    """
    return _register("losses", _require_word(name), "")


def find_extension(kind: Kind, name: str) -> Extension | None:
    """Return the extension of this name, registered or announced by an entry point, or None.

    Raise InputError for an entry point whose package cannot be imported, or that does not register its name.
    """
    if (kind, name) not in _REGISTERED and (entry := _list_entry_points(kind).get(name)) is not None:
        _load_entry_point(kind, name, entry)
    return _REGISTERED.get((kind, name))


def list_extensions(kind: Kind) -> list[str]:
    """Return the names of a kind, registered or announced, in sorted order; nothing is imported."""
    return sorted({*_list_entry_points(kind), *(name for known, name in _REGISTERED if known == kind)})


def hash_extensions(names: Iterable[tuple[Kind, str]]) -> dict[str, str]:
    """Return the sha256 of the file behind each extension, by kind and name.

    Raise InputError for one without a file or without an entry point, which other processes could not find.
    """
    found = {}
    for kind, name in names:
        extension = find_extension(kind, name)
        if extension is None:
            raise InputError(f"{kind}: {name}: no such extension is installed; expected one of {_join(kind)}")
        if extension.source is None or name not in _list_entry_points(kind):
            raise InputError(
                f"{name}: registered in this process alone, so that no other could train with it; expected an entry "
                f"point of the group gapctl.{kind} in an installed package"
            )
        found[f"{kind}/{name}"] = hashlib.sha256(extension.source.read_bytes()).hexdigest()
    return found


def _join(kind: Kind) -> str:
    return ", ".join(list_extensions(kind)) or "none, as no installed package announces any"


def _require_word(name: str) -> str:
    if not name.isidentifier():
        raise InputError(f"{name!r}: expected a name of letters, digits and underscores")
    return name


def _register(kind: Kind, name: str, unit: str) -> Callable[[Function], Function]:
    def register(function: Function) -> Function:
        known = _REGISTERED.get((kind, name))
        again = known is not None and known.function.__qualname__ == function.__qualname__
        if known is not None and not again:
            raise InputError(f"{name}: registered already, by {known.function.__module__}; choose another name")
        meaning = (inspect.getdoc(function) or "").partition("\n")[0].rstrip(".")
        _REGISTERED[kind, name] = Extension(kind, name, function, meaning, unit)
        return function

    return register


@cache
def _list_entry_points(kind: Kind) -> Mapping[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=f"gapctl.{kind}")}


def _load_entry_point(kind: Kind, name: str, entry: EntryPoint) -> None:
    where = f"{name}: announced as {entry.value}"
    try:
        function = entry.load()
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"{where}, which cannot be imported ({reason}); mend or uninstall that package") from error
    if (kind, name) not in _REGISTERED:
        if not callable(function):
            raise InputError(f"{where}, which is a {type(function).__name__}; expected a function")
        register = register_metric(name) if kind == "metrics" else _register(kind, _require_word(name), "")
        register(function)
