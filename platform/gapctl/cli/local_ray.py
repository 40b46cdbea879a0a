"""Ray for one verb's work on this machine: quiet, with as many CPUs as it has workers."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def local_ray(workers: int) -> Iterator[None]:
    """Start Ray with `workers` CPUs, whatever the machine has, so that no task waits for one; stop it in the end."""
    from gapctl.sweep.cluster import prepare_environment, started_ray

    prepare_environment(RAY_DATA_DISABLE_PROGRESS_BARS="1")
    import ray
    import ray.data

    with started_ray(num_cpus=workers):
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # a failure reaches the user as one message
        ray.data.DataContext.get_current().enable_progress_bars = False
        try:
            yield
        finally:
            ray.shutdown()
