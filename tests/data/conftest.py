"""Ray, once for all tests of a file that make shards: it takes seconds to start. And a cache for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gapctl.cli.sweep import start_local_ray


@pytest.fixture(scope="module")
def ray_session() -> Iterator[None]:
    """A local Ray with two CPUs."""
    with start_local_ray(2):
        yield


@pytest.fixture
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for each test."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("GAPCTL_CACHE", str(folder))
    return folder
