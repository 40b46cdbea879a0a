"""Ray for the length of a sweep: a quiet local instance, or the cluster at an address."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from gapctl.errors import InputError
from gapctl.sweep.address import REMEDY

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
    """Starts or joins Ray, and lets go of it in the end; a cluster that cannot be joined raises InputError.

    Ray waits minutes for one that does not answer: `check_address` asks first.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    try:
        ray.init(
            address=address or "local",
            include_dashboard=False if address is None else None,
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        if address is None:
            raise
        raise InputError(
            f"--address {address}: Ray cannot join a cluster there: {_first_line(error)}. {REMEDY}"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
