"""Log a measurement as a run in MLflow's experiment `measurements`."""

import time
from collections.abc import Mapping
from typing import Final, NamedTuple

from gapctl.errors import WorkError
from gapctl.io.passwords import hide_password
from gapctl.tracking.mlflow_sync import RunMirror, ensure_experiment
from gapctl.tracking.snapshot import EvaluationRow
from gapctl.tracking.store import check_uri, explain_error, open_store

EXPERIMENT: Final = "measurements"
NOTE: Final = "What `gapctl measure --log` measured: gap, bias, entropy and quality of models and of saved embeddings."


class Measurement(NamedTuple):
    """Content of a run: name, parameters, metrics, and files by name."""

    name: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    files: Mapping[str, bytes]


def log_measurement(uri: str, measurement: Measurement) -> str:
    """Log a finished run and return its id. Raises InputError for a wrong address, WorkError if MLflow fails."""
    check_uri(uri)
    try:
        return _log_run(uri, measurement)
    except Exception as error:
        raise WorkError(
            f"MLflow at {hide_password(uri)} cannot be written: {explain_error(error)}. Run the command again"
        ) from error


def _log_run(uri: str, measurement: Measurement) -> str:
    client = open_store(uri)
    experiment = ensure_experiment(client, EXPERIMENT, NOTE, uri)
    tags = {"mlflow.source.name": "gapctl", "gapctl.kind": "measurement"}
    run = RunMirror(client, client.create_run(experiment, round(time.time() * 1000), tags, measurement.name))
    run.describe_run(tags, measurement.params)
    run.put(measurement.files)
    run.log([EvaluationRow(0, 0.0, dict(measurement.metrics))])
    run.update_status("FINISHED", 0.0)
    return run.run_id
