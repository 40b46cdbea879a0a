"""One run in MLflow that knows what it holds already and writes only what is missing."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from gapctl.tracking.story import Row, Status

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Run

LOGGED = "gapctl.samples_logged"
"""The tag that says up to which evaluation a run's metrics are complete."""


class Mirror:
    """A run as MLflow has it; every write can be repeated, so that a kill between two of them does no harm."""

    def __init__(self, client: "MlflowClient", run: "Run") -> None:
        self._client = client
        self.run_id: str = run.info.run_id
        self.began_ms: int = run.info.start_time
        self._tags = dict(run.data.tags)
        self._params = dict(run.data.params)
        self._metrics: dict[str, float] = dict(run.data.metrics)
        self._ended = (run.info.status, run.info.end_time)
        self.changed = False

    @property
    def described(self) -> bool:
        """Whether its parameters are there; they are written after files and inputs."""
        return bool(self._params)

    def describe(self, tags: Mapping[str, str], params: Mapping[str, str] | None = None) -> None:
        """Sets tags that differ and parameters that are missing; MLflow lets no parameter change."""
        from mlflow.entities import Param, RunTag

        new_tags = {key: value for key, value in tags.items() if self._tags.get(key) != value}
        new_params = {key: value for key, value in (params or {}).items() if key not in self._params}
        if not new_tags and not new_params:
            return
        self._client.log_batch(
            self.run_id,
            params=[Param(key, value) for key, value in new_params.items()],
            tags=[RunTag(key, value) for key, value in new_tags.items()],
        )
        self._tags.update(new_tags)
        self._params.update(new_params)
        self.changed = True

    def untag(self, key: str) -> None:
        """Removes a tag that no longer holds."""
        if key in self._tags:
            self._client.delete_tag(self.run_id, key)
            del self._tags[key]
            self.changed = True

    def take_input(self, dataset: "DatasetInput") -> None:
        """Lists the data set that the run was trained on."""
        self._client.log_inputs(self.run_id, [dataset])

    def put(self, files: Mapping[str, bytes]) -> None:
        """Writes the run's files by their name, over older ones of that name."""
        with TemporaryDirectory(prefix="gapctl-artifacts-") as folder:
            for name, content in files.items():
                target = Path(folder) / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
            self._client.log_artifacts(self.run_id, folder)

    def log(self, rows: Sequence[Row]) -> None:
        """Logs the evaluations that are not there yet, each in one request.

        An evaluation's time is the run's start plus the work until then. So it is the same at every attempt, MLflow
        recognises what it has, and charts over time leave out pauses.
        """
        from mlflow.entities import Metric, RunTag

        for row in rows:
            if row.samples_seen <= self._logged:
                continue
            time_ms = self.began_ms + round(row.seconds * 1000)
            metrics = [Metric(key, value, time_ms, row.samples_seen) for key, value in row.metrics.items()]
            mark = str(row.samples_seen)
            self._client.log_batch(self.run_id, metrics=metrics, tags=[RunTag(LOGGED, mark)])
            self._tags[LOGGED] = mark
            self._metrics.update(row.metrics)
            self.changed = True

    def contradicts(self, rows: Sequence[Row], *, complete: bool) -> bool:
        """Whether it shows other numbers than the ledger, or more of them than a `complete` history has.

        Metrics cannot be taken back in MLflow: such a run, of a training that was since done anew, is to be replaced.
        """
        reached = rows[-1].samples_seen if rows else -1
        if reached < self._logged:
            return complete
        latest = {key: value for row in rows if row.samples_seen <= self._logged for key, value in row.metrics.items()}
        return any(
            not math.isclose(self._metrics.get(key, math.nan), value, rel_tol=1e-12) for key, value in latest.items()
        )

    def settle(self, status: Status, seconds: float) -> None:
        """Says how the run stands; one that has ended ended `seconds` of work after its start."""
        end_ms = None if status == "RUNNING" else self.began_ms + round(seconds * 1000)
        if self._ended == (status, end_ms) or (status == "RUNNING" and self._ended[0] == status):
            return
        if end_ms is None:
            self._client.update_run(self.run_id, status=status)
        else:
            self._client.set_terminated(self.run_id, status=status, end_time=end_ms)
        self._ended = (status, end_ms)
        self.changed = True

    def remove(self) -> None:
        """Moves the run to MLflow's deleted ones."""
        self._client.delete_run(self.run_id)

    @property
    def _logged(self) -> int:
        return int(self._tags.get(LOGGED, -1))
