"""The example package, installed for real, and packages made importable for one test."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from extension_packages import install_example
from gapctl import extensions


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the example is installed in, which no test changes."""
    return install_example(tmp_path_factory.mktemp("example"))


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """Make packages of a folder importable here and in processes that start from here, and forget them afterwards."""
    before = set(sys.modules)
    monkeypatch.setattr(extensions, "_REGISTERED", {})

    def make_importable(site: Path) -> None:
        monkeypatch.syspath_prepend(str(site))
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]))

    yield make_importable
    for name in set(sys.modules) - before:
        if name.startswith(("gapctl_example", "gapctl_wrong", "gapctl_other")):
            del sys.modules[name]


@pytest.fixture
def installed(example: Path, use: Callable[[Path], None], tmp_path: Path) -> Path:
    """A copy of the installed example, which a test may change."""
    site = shutil.copytree(example, tmp_path / "site")
    use(site)
    return site
