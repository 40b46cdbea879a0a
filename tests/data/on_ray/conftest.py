"""Ray, once for all tests of this folder."""

from collections.abc import Iterator

import pytest

from gapctl.cli.sweep import start_local_ray


@pytest.fixture(scope="package")
def ray_session() -> Iterator[None]:
    """A local Ray with two CPUs."""
    with start_local_ray(2):
        yield
