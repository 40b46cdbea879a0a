"""The one place where cluster files and jobs use parts of Ray that it does not call public.

Tried with Ray 2.60. `find_config_error` needs the autoscaler's own check of a file for `ray up`, which Ray offers to
its command line alone. `quiet_job_client` needs the names of the loggers with which Ray's client tells of each upload.
"""

import contextlib
import io
import logging
from collections.abc import Iterator
from typing import Final, NamedTuple

import yaml

from gapctl.config.base import KeyPath, cut_text

CLIENT_LOGGERS: Final = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)


class ConfigError(NamedTuple):
    """What Ray refuses in a file for `ray up`, and where."""

    path: KeyPath
    message: str


def find_config_error(text: str) -> ConfigError | None:
    """Return Ray's error for a file's text, or None. Ray's code raises any error for files that it did not expect."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    with _silence_ray():
        try:
            validate_config(prepare_config(yaml.safe_load(text)))
        except KeyError as error:
            return ConfigError((), f"{error} is missing")
        except Exception as error:
            first, *_ = str(getattr(error, "message", error)).strip().splitlines() or [type(error).__name__]
            # jsonschema's errors have a path, and repeat the whole value.
            short = first if len(first) <= 160 else f"{cut_text(first)} {first[-60:]}"
            return ConfigError(tuple(getattr(error, "absolute_path", ())), short)
    return None


@contextlib.contextmanager
def _silence_ray() -> Iterator[None]:
    """Suppress what Ray logs and prints while it corrects a file."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def quiet_job_client() -> None:
    """Keep Ray's client of the job server from telling of each upload."""
    for name in CLIENT_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
