"""What `ray up` itself would refuse."""

import contextlib
import io
import logging
from collections.abc import Iterator
from typing import Any

import yaml

from gapctl.cluster.description import Cluster
from gapctl.cluster.finding import Finding
from gapctl.spec.problem import KeyPath, cut


def what_ray_refuses(cluster: Cluster) -> Iterator[Finding]:
    """Ray's own preparation and validation of the file, as `ray up` does them before it asks a cloud.

    KubeRay's manifests are checked by its operator alone, so that nothing is found in them here.
    """
    if cluster.cloud != "kuberay":
        refusal = _refusal(yaml.safe_load(cluster.source.text))
        if refusal is not None:
            where, said = refusal
            yield cluster.error("ray-schema", where, f"`ray up` refuses the file: {said}", "correct it")


def _refusal(config: Any) -> tuple[KeyPath, str] | None:
    """Where Ray finds something wrong, and what. Ray's code raises anything on a file that it did not expect."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    with _silence():
        try:
            validate_config(prepare_config(config))
        except KeyError as error:
            return (), f"{error} is missing"
        except Exception as error:
            where = tuple(getattr(error, "absolute_path", ()))  # of jsonschema's errors
            return where, _first_line(str(getattr(error, "message", error)) or type(error).__name__)
    return None


def _first_line(message: str) -> str:
    """The first line of a message; jsonschema repeats the whole value in its."""
    first, *_ = message.strip().splitlines() or [""]
    return first if len(first) <= 160 else f"{cut(first)} {first[-60:]}"


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Ray logs and prints what it corrects."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)
