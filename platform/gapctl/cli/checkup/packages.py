"""Python and the packages: are they there, and is each as new as gapctl and the others require?"""

import platform
from collections.abc import Collection, Iterator
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from typing import TYPE_CHECKING, NamedTuple

from gapctl.cli.checkup.check import Check, State

if TYPE_CHECKING:
    from packaging.requirements import Requirement

OURS = "gapctl"


class Need(NamedTuple):
    """A package that another one requires."""

    owner: str
    requirement: "Requirement"


def python_check() -> Check:
    """Python's version against what gapctl asks for."""
    from packaging.specifiers import SpecifierSet

    found, wanted = platform.python_version(), metadata(OURS)["Requires-Python"]
    if found in SpecifierSet(wanted):
        return Check("Python", "ok", found)
    return Check("Python", "problem", f"{found}, and gapctl requires {wanted}", "make .venv anew with a newer Python")


def package_checks(package: str = OURS) -> list[Check]:
    """One line for all packages that are as required, and one for each that is not.

    What `package` itself requires is a problem if it is too old; so is anything missing. Raises PackageNotFoundError
    where `package` is not installed.
    """
    needs = list(_all_needs(package))
    wrong = [check for need in needs for check in _check(need, ours=need.owner == package)]
    if wrong:
        return wrong
    ours = sum(need.owner == package for need in needs)
    others = len({need.requirement.name.lower() for need in needs}) - ours
    return [Check("packages", "ok", f"{ours} and the {others} that they need, all as required")]


def required_packages() -> list[str]:
    """The packages that gapctl itself asks for on this system; raises PackageNotFoundError if it is not installed."""
    return [requirement.name for requirement in _requirements(OURS, ())]


def _all_needs(package: str) -> Iterator[Need]:
    """Every requirement of a package and of what it requires, each once."""
    seen, todo = set(), [Need(package, requirement) for requirement in _requirements(package, ())]
    while todo:
        need = todo.pop(0)
        if str(need.requirement) in seen:
            continue
        seen.add(str(need.requirement))
        yield need
        name = need.requirement.name
        if _installed(name):
            todo += [Need(name, requirement) for requirement in _requirements(name, need.requirement.extras)]


def _requirements(package: str, extras: Collection[str]) -> "list[Requirement]":
    from packaging.requirements import Requirement

    listed = [Requirement(line) for line in requires(package) or []]
    asked = ("", *extras)
    return [
        requirement
        for requirement in listed
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in asked)
    ]


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _check(need: Need, *, ours: bool) -> Iterator[Check]:
    name, wanted = need.requirement.name, need.requirement.specifier
    found, fix = _installed(name), f'python -m pip install "{need.requirement.name}{wanted}"'
    if found is None:
        yield Check(name, "problem", f"not installed; {need.owner} requires it", fix)
    elif not wanted.contains(found, prereleases=True):
        state: State = "problem" if ours else "warning"
        yield Check(name, state, f"{found}, and {need.owner} requires {name}{wanted}", fix)
