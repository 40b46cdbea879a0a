"""Ray, once for all tests of a file that make shards: it takes seconds to start."""

from collections.abc import Iterator

import pytest

from gapctl.cli.sweep import start_local_ray


@pytest.fixture(scope="module")
def ray_session() -> Iterator[None]:
    """A local Ray with two CPUs."""
    with start_local_ray(2):
        yield
