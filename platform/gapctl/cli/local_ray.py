"""Ray for one verb's work on this machine: quiet, with as many CPUs as it has workers."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def local_ray(workers: int) -> Iterator[None]:
    """Start Ray with `workers` CPUs, whatever the machine has, so that no task waits for one; stop it in the end."""
    from gapctl.sweep.cluster import QUIET

    for name, value in {**QUIET, "RAY_DATA_DISABLE_PROGRESS_BARS": "1"}.items():
        os.environ.setdefault(name, value)
    import ray
    import ray.data

    context = ray.init(
        address="local", num_cpus=workers, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False
    )
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # a failure reaches the user as one message
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        with context:
            yield
    finally:
        ray.shutdown()
