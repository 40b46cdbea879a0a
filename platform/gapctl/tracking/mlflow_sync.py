"""Bring MLflow up to the ledger, for one trial or a whole sweep.

1. `sync_sweep` (`gapctl track sync`) opens a `Projection` and shows each trial, then verdicts and status. The tracker
   thread uses the same `Projection` during a sweep.
2. `Projection` finds the runs of a sweep by their tags. For a trial it takes a snapshot of the ledger, finds, creates
   or replaces the run, and writes the difference.
3. `log_measurement` logs a run of `gapctl measure --log`.
4. `RunMirror` is one run: it remembers what MLflow has, and sends only what differs.
5. `RunLinks` notes beside the ledger where MLflow shows each trial, for reports.

Every write can be repeated, so a kill at any time does no harm.
"""

import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from pydantic import TypeAdapter

from gapctl.config.trial import Model, get_model_name
from gapctl.errors import GapctlError, InputError, WorkError
from gapctl.io.passwords import hide_password
from gapctl.io.scratch import ScratchFolder
from gapctl.ledger import Ledger
from gapctl.ledger.trial import CLOUDS, CONFIGURATION, NEIGHBORS
from gapctl.ledger.trial import WEIGHTS as WEIGHTS_FILE
from gapctl.plan.estimate import count_logged_weight_bytes
from gapctl.plan.plan import Plan, Trial
from gapctl.tracking.run_contents import (
    FAILURE,
    MODEL,
    OVERRIDES,
    SCALE,
    TRIAL,
    EvaluationRow,
    Status,
    TrialSnapshot,
    build_dataset_input,
    build_fact_params,
    build_model_files,
    build_sweep_files,
    build_sweep_params,
    build_sweep_tags,
    build_treatment_columns,
    build_trial_params,
    build_trial_tags,
    format_trial_overrides,
    read_trial_snapshot,
)
from gapctl.tracking.store import (
    check_uri,
    explain_error,
    find_database_file,
    is_server_address,
    locate_artifact_root,
    open_mlflow_client,
    stage_new_tracking_store,
)
from gapctl.tracking.views import (
    LONGEST_NOTE,
    MARKS,
    NOTE,
    REPORT,
    VERDICTS,
    SweepFindings,
    build_view_tags,
    format_curves_address,
    format_file_address,
    format_run_address,
    format_sweep_note,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run


LOGGED = "gapctl.samples_logged"
"""Tag with the samples up to which a run's metrics are complete."""

METRICS_IN_A_REQUEST = 1000
"""MLflow refuses requests with more metrics."""


class RunMirror:
    """A run as MLflow has it. Every write can be repeated, so that a kill in between does no harm."""

    def __init__(self, client: "MlflowClient", run: "Run") -> None:
        self._client = client
        self.run_id: str = run.info.run_id
        self.began_ms: int = run.info.start_time
        self.tags = dict(run.data.tags)
        self._params = dict(run.data.params)
        self._metrics: dict[str, float] = dict(run.data.metrics)
        self._ended = (run.info.status, run.info.end_time)
        self._work_logged = -1
        self.changed = False

    @property
    def described(self) -> bool:
        """Whether its parameters are written, which happens after files and inputs."""
        return bool(self._params)

    def write(
        self, tags: Mapping[str, str], params: Mapping[str, str] | None = None, metrics: "Sequence[Metric]" = ()
    ) -> None:
        """Write metrics, tags that differ and parameters that are missing, in one request.

        MLflow writes tags last, so whoever finds them finds the rest, and does not let parameters change.
        """
        from mlflow.entities import Param, RunTag

        new_tags = {key: value for key, value in tags.items() if self.tags.get(key) != value}
        new_params = {key: value for key, value in (params or {}).items() if key not in self._params}
        if not (new_tags or new_params or metrics):
            return
        self._client.log_batch(
            self.run_id,
            metrics=metrics,
            params=[Param(key, value) for key, value in new_params.items()],
            tags=[RunTag(key, value) for key, value in new_tags.items()],
        )
        self.tags.update(new_tags)
        self._params.update(new_params)
        self.changed = True

    def update_metrics(self, values: Mapping[str, float]) -> None:
        """Log values that differ from MLflow's as of now; NaN for those that MLflow has and `values` lacks."""
        from mlflow.entities import Metric

        now = round(time.time() * 1000)
        wanted = {**dict.fromkeys(self._metrics, math.nan), **values}
        new = {key: value for key, value in wanted.items() if not _is_equal(self._metrics.get(key), value)}
        self.write({}, metrics=[Metric(key, value, now, 0) for key, value in new.items()])
        self._metrics.update(new)

    def contradicts_params(self, params: Mapping[str, str]) -> bool:
        """Return whether MLflow has other parameters, which it does not let change."""
        return any(self._params.get(key, value) != value for key, value in params.items())

    def remove_tag(self, key: str) -> None:
        """Remove a tag if it is there."""
        if key in self.tags:
            self._client.delete_tag(self.run_id, key)
            del self.tags[key]
            self.changed = True

    def put(self, files: Mapping[str, bytes]) -> None:
        """Write the run's files by name, over older ones."""
        with _spread_files(files) as folder:
            self._client.log_artifacts(self.run_id, folder)

    def log(self, rows: Sequence[EvaluationRow], work: Sequence[EvaluationRow] = ()) -> None:
        """Log evaluations that are missing, and rows of `work` up to the last of them.

        An evaluation's time is the run's start plus its seconds of work. So it is equal at every attempt, MLflow
        recognises what it has, and charts over time leave out pauses.
        """
        fresh = [row for row in rows if row.samples_seen > self._logged]
        until = fresh[-1].samples_seen if fresh else self._logged
        beside = [row for row in self._select_unlogged(work) if row.samples_seen <= until] if fresh else []
        for batch in _split_batches([*fresh, *beside]):
            reached = max(self._logged, *(row.samples_seen for row in batch))
            self.write({LOGGED: str(reached)}, metrics=[metric for row in batch for metric in self._build_metrics(row)])
            for row in batch:
                self._metrics.update(row.metrics)
        self._work_logged = max([self._work_logged, *(row.samples_seen for row in beside)])

    def complete(
        self,
        params: Mapping[str, str],
        tags: Mapping[str, str],
        rows: Sequence[EvaluationRow],
        work: Sequence[EvaluationRow],
        model_id: str,
    ) -> None:
        """Write all that a finished run lacks in as few requests as possible, as a transaction is slow to begin.

        The last evaluation also belongs to the model. Rows of `work` are about the machine, and `contradicts_ledger`
        ignores them.
        """
        fresh = [row for row in rows[:-1] if row.samples_seen > self._logged]
        metrics = [metric for row in (*fresh, *self._select_unlogged(work)) for metric in self._build_metrics(row)]
        metrics += [metric for row in rows[-1:] for metric in self._build_metrics(row, model_id)]
        while len(metrics) > METRICS_IN_A_REQUEST:
            self.write({}, metrics=metrics[:METRICS_IN_A_REQUEST])
            metrics = metrics[METRICS_IN_A_REQUEST:]
        logged = {LOGGED: str(rows[-1].samples_seen)} if rows else {}
        self.write({**tags, **logged}, params, metrics)
        for row in rows:
            self._metrics.update(row.metrics)

    def _select_unlogged(self, work: Sequence[EvaluationRow]) -> list[EvaluationRow]:
        """Return rows that this process has not sent. MLflow recognises what an earlier process sent."""
        return [row for row in work if row.samples_seen > self._work_logged]

    def _build_metrics(self, row: EvaluationRow, model_id: str | None = None) -> "list[Metric]":
        from mlflow.entities import Metric

        time_ms = self.began_ms + round(row.seconds * 1000)
        return [Metric(key, value, time_ms, row.samples_seen, model_id) for key, value in row.metrics.items()]

    def contradicts_ledger(self, rows: Sequence[EvaluationRow], *, complete: bool) -> bool:
        """Return whether MLflow has other numbers than the ledger, or more of them than a `complete` history.

        MLflow cannot delete metrics, so a run whose trial was trained anew must be replaced.
        """
        reached = rows[-1].samples_seen if rows else -1
        if reached < self._logged:
            return complete
        latest = {key: value for row in rows if row.samples_seen <= self._logged for key, value in row.metrics.items()}
        return any(
            not math.isclose(self._metrics.get(key, math.nan), value, rel_tol=1e-12) for key, value in latest.items()
        )

    def update_status(self, status: Status, seconds: float) -> None:
        """Set the run's status; a run that has ended ends `seconds` of work after its start."""
        end_ms = None if status == "RUNNING" else self.began_ms + round(seconds * 1000)
        if self._ended == (status, end_ms) or (status == "RUNNING" and self._ended[0] == status):
            return
        if end_ms is None:
            self._client.update_run(self.run_id, status=status)
        else:
            self._client.set_terminated(self.run_id, status=status, end_time=end_ms)
        self._ended = (status, end_ms)
        self.changed = True

    def remove(self, model_id: str | None = None) -> None:
        """Delete the run, and its model if it has one, reversibly as MLflow does."""
        if model_id is not None:
            self._client.delete_logged_model(model_id)
        self._client.delete_run(self.run_id)

    @property
    def _logged(self) -> int:
        return int(self.tags.get(LOGGED, -1))


@contextmanager
def _spread_files(files: Mapping[str, bytes]) -> Iterator[str]:
    """Yield a temporary folder with these files."""
    with ScratchFolder("artifacts") as folder:
        for name, content in files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        yield str(folder)


def _is_equal(one: float | None, other: float) -> bool:
    """Return whether two numbers are equal, NaN being equal to itself."""
    return one == other or (one is not None and math.isnan(one) and math.isnan(other))


def _split_batches(rows: Sequence[EvaluationRow]) -> Iterator[list[EvaluationRow]]:
    """Split rows into as few requests as MLflow accepts."""
    batch: list[EvaluationRow] = []
    for row in rows:
        if batch and sum(len(held.metrics) for held in batch) + len(row.metrics) > METRICS_IN_A_REQUEST:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


KIND = "mlflow.experimentKind"


def ensure_experiment(client: "MlflowClient", name: str, note: str, uri: str) -> str:
    """Return the id of the experiment of a name. Create it with a note, or restore it if it was deleted."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        root = locate_artifact_root(uri)
        # Without a kind, MLflow's pages guess or ask whether this is about language models.
        tags = {"mlflow.note.content": note, KIND: "custom_model_development"}
        try:
            return str(client.create_experiment(name, artifact_location=root and f"{root}/{name}", tags=tags))
        except MlflowException as error:
            found = client.get_experiment_by_name(name)  # another process may have made it meanwhile
            if error.error_code != "RESOURCE_ALREADY_EXISTS" or found is None:
                raise
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


LOGGED_TRIAL: Final = "gapctl.trial"
WEIGHTS: Final = "gapctl.weights"
LOAD: Final = "gapctl.load"
"""The tag with the Python call that loads the model."""
NOT_IN_A_NAME: Final = str.maketrans(dict.fromkeys("/:.%\"'", "_"))
"""Characters that MLflow refuses in a model's name."""


@dataclass(frozen=True)
class RunLinks:
    """Where a sweep's trials are shown: MLflow's address, the experiment's id, and run ids by trial."""

    uri: str
    experiment: str
    runs: dict[str, str]

    @property
    def pages(self) -> dict[str, str]:
        """Each trial's page, relative to MLflow's address."""
        return {trial: format_run_address(self.experiment, run) for trial, run in self.runs.items()}


_NOTE: Final = TypeAdapter(RunLinks)
LINKS_SUFFIX: Final = ".mlflow.json"
"""The ledger's file of links to runs, so that reports have them without asking MLflow."""


def save_run_links(ledger: Ledger, sweep_name: str, uri: str, experiment: str, runs: Mapping[str, str]) -> None:
    """Add run ids to the links beside the ledger, or replace them if MLflow's address or experiment is another.

    Does nothing if the ledger cannot be written.
    """
    before = read_run_links(ledger, sweep_name)
    here = hide_password(uri)
    kept = before.runs if before is not None and (before.uri, before.experiment) == (here, experiment) else {}
    found = RunLinks(here, experiment, {**kept, **runs})
    if found == before:
        return
    try:
        ledger.keep(
            f"{sweep_name}{LINKS_SUFFIX}", (json.dumps(asdict(found), indent=1, sort_keys=True) + "\n").encode()
        )
    except WorkError:
        return


def read_run_links(ledger: Ledger, sweep_name: str) -> RunLinks | None:
    """Return the links, or None if there are none or the database that they name is gone."""
    content = ledger.read(f"{sweep_name}{LINKS_SUFFIX}")
    try:
        found = None if content is None else _NOTE.validate_json(content)
    except ValueError:
        return None
    if found is None or is_server_address(found.uri):
        return found
    file = find_database_file(found.uri)
    return found if file is None or file.exists() else None


Change = Literal["created", "updated", "unchanged"]
PAGE = 1000


class Projection:
    """The runs of a sweep in MLflow: a parent run per scale and `--set`, a child run per trial, found by their tags.

    Opening it takes seconds. Each method may raise any error of MLflow, its database or the network; a new projection
    then continues from what was reached.
    """

    def __init__(self, plan: Plan, ledger: Ledger, uri: str, filled_at: str | None = None) -> None:
        """Open the experiment. `filled_at` is where the store is until it is moved to `uri`."""
        self._plan, self._ledger, self._uri = plan, ledger, uri
        self._client = open_mlflow_client(filled_at or uri)
        self.experiment_id = ensure_experiment(self._client, plan.sweep.spec.name, plan.sweep.spec.question, uri)
        self._mirrors: dict[str, RunMirror] = {}
        self._parent: RunMirror | None = None
        self._parent_is_current = False
        self._adopt_runs()
        self._snapshots: dict[str, TrialSnapshot] = {}
        self._shown_final: set[str] = set()
        self._noted: dict[str, str] = {}

    def update_plan(self, plan: Plan) -> None:
        """Replace the plan; the sweep's own run stays."""
        self._plan = plan

    def show(self, trial: Trial, *, running: bool | None = None) -> Change | None:
        """Bring a trial's run up to the ledger and return what changed, or None if the trial has not begun.

        `running` is whether its process runs, None if unknown.
        """
        snapshot = read_trial_snapshot(self._ledger, trial.id, running=running, before=self._snapshots.get(trial.id))
        if snapshot is None:
            return None
        self._snapshots[trial.id] = snapshot
        mirror = self._mirrors.get(trial.id) or self._find_new_run(TRIAL, trial.id, lambda tags: True)
        complete = snapshot.status == "FINISHED"
        if mirror is not None and (
            mirror.contradicts_ledger(snapshot.rows, complete=complete) or self._has_other_facts(mirror, trial)
        ):
            mirror.remove(mirror.tags.get(MODEL))
            mirror = None
        created = mirror is None
        mirror = self._mirrors[trial.id] = mirror or self._start_run(snapshot.began, self._tags(trial))
        self._update_run(mirror, trial, snapshot, anew=created)
        if complete:
            self._shown_final.add(trial.id)
        changed, mirror.changed = mirror.changed, False
        return "created" if created else "updated" if changed else "unchanged"

    def is_final(self, trial_id: str) -> bool:
        """Return whether this projection shows a trial as finished, after which nothing of it changes."""
        return trial_id in self._shown_final

    def _has_other_facts(self, mirror: RunMirror, trial: Trial) -> bool:
        """Return whether this scale's run says otherwise of a cohort's model: a fact was corrected since.

        Another scale's run is left as it is, or two would replace it in turns.
        """
        same = mirror.tags.get(SCALE) == self._plan.sweep.scale_name_or_base
        return same and mirror.contradicts_params(build_fact_params(self._plan, trial))

    def tell(self, summary: SweepFindings) -> None:
        """Show verdicts, their numbers and the report's files in the sweep's own run."""
        parent = self._ensure_sweep_run()
        parent.put(summary.files)
        report = format_file_address(self.experiment_id, parent.run_id, REPORT)
        note = format_sweep_note(self._plan.sweep, summary, report, format_curves_address(self.experiment_id))
        if not summary.marks:
            parent.remove_tag(MARKS)
        marks = {MARKS: summary.marks[:LONGEST_NOTE]} if summary.marks else {}
        parent.update_metrics(summary.metrics)
        parent.write({VERDICTS: summary.verdicts, NOTE: note, **marks})

    def note(self) -> None:
        """Write the run links beside the ledger; a report made afterwards links to all runs."""
        runs = {trial_id: mirror.run_id for trial_id, mirror in self._mirrors.items()}
        if runs != self._noted:
            save_run_links(self._ledger, self._plan.sweep.spec.name, self._uri, self.experiment_id, runs)
            self._noted = runs

    def update_status(self, *, closing: bool) -> None:
        """Set the sweep's status: running until `closing`, then by its trials' status."""
        states = {snapshot.status for snapshot in self._snapshots.values()}
        parent = self._ensure_sweep_run()
        self.note()
        ends = [snapshot.began + snapshot.seconds for snapshot in self._snapshots.values()]
        parent.update_status(
            self._determine_status(states, closing), max(0.0, max(ends, default=0.0) - parent.began_ms / 1000)
        )

    def _determine_status(self, states: set[Status], closing: bool) -> Status:
        if all(trial.id in self._snapshots for trial in self._plan.trials) and states == {"FINISHED"}:
            return "FINISHED"
        if not closing or "RUNNING" in states:
            return "RUNNING"
        return "FAILED" if "FAILED" in states else "KILLED"

    def _adopt_runs(self) -> None:
        """Collect this sweep's runs. Of two for one trial, as after a request that timed out, keep the first."""
        for run in self._runs():
            mirror, tags = RunMirror(self._client, run), run.data.tags
            if TRIAL in tags:
                if self._mirrors.setdefault(tags[TRIAL], mirror) is not mirror:
                    mirror.remove()
            elif self._parent is None and self._is_of_this_sweep(tags):
                self._parent = mirror

    def _is_of_this_sweep(self, tags: Mapping[str, str]) -> bool:
        sweep = self._plan.sweep
        asked = sweep.scale_name_or_base, format_trial_overrides(sweep)
        return TRIAL not in tags and (tags.get(SCALE), tags.get(OVERRIDES, "")) == asked

    def _find_new_run(self, tag: str, value: str, wanted: Callable[[Mapping[str, str]], bool]) -> RunMirror | None:
        """Return the run that another sweep over the same trials created meanwhile, or None."""
        runs = (run for run in self._runs(f"tags.`{tag}` = '{value}'") if wanted(run.data.tags))
        return next((RunMirror(self._client, run) for run in runs), None)

    def _runs(self, where: str = "") -> "Iterator[Run]":
        token: str | None = None
        while True:
            page = self._client.search_runs(
                [self.experiment_id],
                where,
                max_results=PAGE,
                order_by=["attributes.start_time ASC", "attributes.run_id ASC"],
                page_token=token,
            )
            yield from page
            if not (token := page.token):
                return

    def _ensure_sweep_run(self) -> RunMirror:
        sweep = self._plan.sweep
        params = build_sweep_params(sweep)
        if self._parent is None:
            self._parent = self._find_new_run(SCALE, sweep.scale_name_or_base, self._is_of_this_sweep)
        if self._parent is not None and not self._parent_is_current and self._parent.contradicts_params(params):
            self._parent.remove()
            self._parent = None
        if self._parent is None:
            self._parent = self._start_run(self._began(), build_sweep_tags(sweep))
        if not self._parent_is_current:
            self._parent.put(build_sweep_files(sweep))
            note = {} if self._parent.tags.get(VERDICTS) else {NOTE: format_sweep_note(sweep, None, "", "")}
            self._parent.write({**build_sweep_tags(sweep), **note}, params)
            views = self._client.get_experiment(self.experiment_id).tags
            for key, value in build_view_tags(self._plan).items():
                if views.get(key) != value:
                    self._client.set_experiment_tag(self.experiment_id, key, value)
            self._parent_is_current = True
        return self._parent

    def _began(self) -> float:
        here = set(self._ledger.list_trial_ids())
        times = [self._ledger.trial(trial.id).began() for trial in self._plan.trainings if trial.id in here]
        return min((began for began in times if began is not None), default=time.time())

    def _tags(self, trial: Trial) -> dict[str, str]:
        """Return a trial's tags. A trial that two scales share has one run, below the scale that showed it last."""
        return build_trial_tags(self._plan, trial, self._ensure_sweep_run().run_id)

    def _start_run(self, began: float, tags: Mapping[str, str]) -> RunMirror:
        run = self._client.create_run(self.experiment_id, round(began * 1000), dict(tags))
        return RunMirror(self._client, run)

    def _update_run(self, mirror: RunMirror, trial: Trial, snapshot: TrialSnapshot, *, anew: bool) -> None:
        if not mirror.described:
            mirror.put({"trial.yaml": snapshot.trial_yaml.encode()})
            self._client.log_inputs(mirror.run_id, [build_dataset_input(trial)])
        if snapshot.failure is None:
            mirror.remove_tag(FAILURE)
        tags, params = self._tags(trial), build_trial_params(self._plan, trial)
        if snapshot.status == "FINISHED" and mirror.tags.get(MODEL) is None:
            read = {name: self._ledger.trial(trial.id).read(name) for name in (CLOUDS, NEIGHBORS)}
            if pictures := {name: picture for name, picture in read.items() if picture is not None}:
                mirror.put(pictures)
            model_id = self._make_model(mirror.run_id, trial, anew=anew)
            mirror.complete(params, {**tags, MODEL: model_id}, snapshot.rows, snapshot.work, model_id)
        else:
            failure = {} if snapshot.failure is None else {FAILURE: snapshot.failure}
            mirror.write({**tags, **failure}, params)
            mirror.log(snapshot.rows, snapshot.work)
        mirror.update_status(snapshot.status, snapshot.seconds)

    def _make_model(self, run_id: str, trial: Trial, *, anew: bool) -> str:
        """Create a run's model and return its id. Unless the run is new (`anew`), delete what a kill left halfway.

        Until the tag that names it is written, a model counts as incomplete. It is ready once MLflow has files from
        which `mlflow.pytorch.load_model` builds it. Without weights, or with too large ones,
        it stays pending and its tags say where the weights are and how to load them.
        """
        from mlflow.entities import LoggedModelOutput

        if not anew:
            for half_made in self._client.search_logged_models([self.experiment_id], f"source_run_id = '{run_id}'"):
                self._client.delete_logged_model(half_made.model_id)
        runs = self._ledger.everywhere
        weights = Ledger(runs).trial(trial.id).path(WEIGHTS_FILE)
        how = f"gapctl.load_model({trial.id!r}, runs={runs!r})"
        model = self._client.create_logged_model(
            self.experiment_id,
            name=trial.label.translate(NOT_IN_A_NAME),
            source_run_id=run_id,
            tags={LOGGED_TRIAL: trial.id, WEIGHTS: weights, LOAD: how},
            params={**_describe_model(trial), **build_treatment_columns(self._plan, trial)},
            model_type=get_model_name(trial.config.model),
        )
        folder = self._ledger.trial(trial.id)
        content, about = (
            folder.read(WEIGHTS_FILE) if count_logged_weight_bytes(trial) else None,
            folder.read(CONFIGURATION),
        )
        if content and about:
            with _spread_files(build_model_files(trial.id, model.model_id, run_id, content, about)) as files:
                self._client.log_model_artifacts(model.model_id, files)
            self._client.finalize_logged_model(model.model_id, "READY")
        self._client.log_outputs(run_id, [LoggedModelOutput(model.model_id, trial.config.train.samples)])
        return str(model.model_id)


def _describe_model(trial: Trial) -> dict[str, str]:
    model = trial.config.model
    if isinstance(model, Model):
        return {"model.preset": model.preset}
    weights = {"model.weights": model.weights, "model.weights_sha256": trial.weights_sha256}
    return {"model.architecture": model.architecture, **{name: value for name, value in weights.items() if value}}


@dataclass(frozen=True)
class SyncReport:
    """How many trials got a new run, a changed one, an unchanged one, or have not begun (`missing`)."""

    created: int
    updated: int
    unchanged: int
    missing: int


def sync_sweep(
    plan: Plan, ledger: Ledger, uri: str, find: Callable[[], SweepFindings | None] = lambda: None
) -> SyncReport:
    """Show every trial of the plan in MLflow, then the summary that `find` returns in the sweep's own run.

    Raises InputError for an impossible address or a ledger without any of the trials, WorkError if MLflow cannot be
    reached or written.
    """
    check_uri(uri)
    if all(ledger.trial(trial.id).read(CONFIGURATION) is None for trial in plan.trainings):
        raise InputError(
            f"{ledger.root}: none of the {len(plan.trials)} trials of {plan.sweep.path} has begun there; expected the "
            "runs folder of a sweep. Give it with --runs, and the same --scale and --set as the sweep had"
        )
    try:
        try:
            with stage_new_tracking_store(uri) as store:
                return _show_sweep(Projection(plan, ledger, uri, store), plan, find)
        except FileExistsError:  # another process made the database meanwhile
            return _show_sweep(Projection(plan, ledger, uri), plan, find)
    except GapctlError:
        raise
    except Exception as error:
        raise WorkError(
            f"MLflow at {hide_password(uri)} could not be brought up to date: {explain_error(error)}; "
            f"nothing is lost, since {ledger.root} holds the results. Run the command again when this is mended"
        ) from error


def _show_sweep(projection: Projection, plan: Plan, find: Callable[[], SweepFindings | None]) -> SyncReport:
    changes = Counter(projection.show(trial) for trial in plan.trainings)
    projection.note()
    summary = find()
    if summary is not None:
        projection.tell(summary)
    projection.update_status(closing=True)
    return SyncReport(changes["created"], changes["updated"], changes["unchanged"], changes[None])


MEASUREMENTS: Final = "measurements"
MEASUREMENTS_NOTE: Final = (
    "What `gapctl measure --log` measured: gap, bias, entropy and quality of models and of saved embeddings."
)


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
        client = open_mlflow_client(uri)
        experiment = ensure_experiment(client, MEASUREMENTS, MEASUREMENTS_NOTE, uri)
        tags = {"mlflow.source.name": "gapctl", "gapctl.kind": "measurement"}
        run = RunMirror(client, client.create_run(experiment, round(time.time() * 1000), tags, measurement.name))
        run.write(tags, measurement.params)
        run.put(measurement.files)
        run.log([EvaluationRow(0, 0.0, dict(measurement.metrics))])
        run.update_status("FINISHED", 0.0)
    except Exception as error:
        raise WorkError(
            f"MLflow at {hide_password(uri)} cannot be written: {explain_error(error)}. Run the command again"
        ) from error
    return run.run_id
