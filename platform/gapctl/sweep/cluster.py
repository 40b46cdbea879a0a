"""Ray for the length of a sweep: a quiet local instance, or the cluster at an address."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}


@contextmanager
def ray_session(address: str | None) -> Iterator[None]:
    """Starts or joins Ray, and lets go of it in the end; an unreachable address raises InputError."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    from gapctl.errors import InputError

    try:
        ray.init(
            address=address or "local",
            include_dashboard=False if address is None else None,
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
    except ConnectionError as error:
        raise InputError(
            f"--address {address}: no Ray cluster answers there: {error}; "
            "start one with `ray start --head` or `ray up cluster.yaml`, or leave --address out"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()
