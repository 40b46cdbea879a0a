"""One run in MLflow that knows what it holds already and writes only what is missing."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from gapctl.tracking.story import Row, Status

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Metric, Run

LOGGED = "gapctl.samples_logged"
"""The tag that says up to which evaluation a run's metrics are complete."""

METRICS_IN_A_REQUEST = 1000
"""More are refused."""


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
        self._work_logged = -1
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

    def log(self, rows: Sequence[Row], work: Sequence[Row] = ()) -> None:
        """Logs the evaluations that are not there yet, and of `work` what was measured until the last of them.

        An evaluation's time is the run's start plus the work until then. So it is the same at every attempt, MLflow
        recognises what it has, and charts over time leave out pauses.
        """
        from mlflow.entities import RunTag

        fresh = [row for row in rows if row.samples_seen > self._logged]
        until = fresh[-1].samples_seen if fresh else self._logged
        beside = [row for row in self._unlogged(work) if row.samples_seen <= until] if fresh else []
        for batch in _batches([*fresh, *beside]):
            metrics = [metric for row in batch for metric in self._metrics_of(row)]
            reached = max(self._logged, *(row.samples_seen for row in batch))
            self._client.log_batch(self.run_id, metrics=metrics, tags=[RunTag(LOGGED, str(reached))])
            self._remember(batch)
        self._work_logged = max([self._work_logged, *(row.samples_seen for row in beside)])

    def complete(
        self,
        params: Mapping[str, str],
        tags: Mapping[str, str],
        rows: Sequence[Row],
        work: Sequence[Row],
        model_id: str,
    ) -> None:
        """Writes all that a finished run lacks in one request, or few: databases take as long to begin as to write.

        The last evaluation is the model's too. `work` is about the machine, and `contradicts` knows nothing of it.
        Tags come last: whoever finds them finds the rest.
        """
        from mlflow.entities import Param, RunTag

        fresh = [row for row in rows[:-1] if row.samples_seen > self._logged]
        metrics = [metric for row in (*fresh, *self._unlogged(work)) for metric in self._metrics_of(row)]
        metrics += [metric for row in rows[-1:] for metric in self._metrics_of(row, model_id)]
        *before, last = [
            metrics[i : i + METRICS_IN_A_REQUEST] for i in range(0, len(metrics), METRICS_IN_A_REQUEST)
        ] or [[]]
        for part in before:
            self._client.log_batch(self.run_id, metrics=part)
        logged = {LOGGED: str(rows[-1].samples_seen)} if rows else {}
        new_params = {key: value for key, value in params.items() if key not in self._params}
        self._client.log_batch(
            self.run_id,
            metrics=last,
            params=[Param(key, value) for key, value in new_params.items()],
            tags=[RunTag(key, value) for key, value in {**tags, **logged}.items() if self._tags.get(key) != value],
        )
        self._params.update(new_params)
        self._tags.update(tags)
        self._remember(rows)

    def _remember(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self._tags[LOGGED] = str(max(self._logged, row.samples_seen))
            self._metrics.update(row.metrics)
        self.changed = True

    def _unlogged(self, work: Sequence[Row]) -> list[Row]:
        """What this process has not sent; what an earlier one sent, MLflow recognises."""
        return [row for row in work if row.samples_seen > self._work_logged]

    def _metrics_of(self, row: Row, model_id: str | None = None) -> "list[Metric]":
        from mlflow.entities import Metric

        time_ms = self.began_ms + round(row.seconds * 1000)
        return [Metric(key, value, time_ms, row.samples_seen, model_id) for key, value in row.metrics.items()]

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

    def tag(self, key: str) -> str | None:
        """A tag's value, or None."""
        return self._tags.get(key)

    def remove(self, model_id: str | None = None) -> None:
        """Moves the run, and its model if it has one, to MLflow's deleted ones."""
        if model_id is not None:
            self._client.delete_logged_model(model_id)
        self._client.delete_run(self.run_id)

    @property
    def _logged(self) -> int:
        return int(self._tags.get(LOGGED, -1))


def _batches(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """The rows in as few requests as MLflow takes."""
    batch: list[Row] = []
    for row in rows:
        if batch and sum(len(held.metrics) for held in batch) + len(row.metrics) > METRICS_IN_A_REQUEST:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
