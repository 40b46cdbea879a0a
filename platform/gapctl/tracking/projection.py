"""A plan's trials in MLflow: whatever the ledger has and MLflow lacks is added, and nothing twice."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from gapctl.ledger import Ledger
from gapctl.plan.trials import Plan, Trial
from gapctl.tracking.description import (
    FAILURE,
    MODEL,
    OVERRIDES,
    SCALE,
    TRIAL,
    columns,
    dataset_input,
    overrides_of,
    scale_of,
    sweep_files,
    sweep_tags,
    trial_params,
    trial_tags,
)
from gapctl.tracking.experiment import experiment_of
from gapctl.tracking.findings import LONGEST_NOTE, MARKS, NOTE, REPORT, VERDICTS, Findings, sweep_note
from gapctl.tracking.logged_model import RunPlace, make_model, weights_address
from gapctl.tracking.mirror import Mirror
from gapctl.tracking.page import curves_address, file_address
from gapctl.tracking.shown import note_shown
from gapctl.tracking.store import open_store
from gapctl.tracking.story import Status, Story, story_of
from gapctl.tracking.views import views

if TYPE_CHECKING:
    from mlflow.entities import Run

Change = Literal["created", "updated", "unchanged"]
PAGE = 1000


class Projection:
    """An experiment with a parent run for the sweep's scale and `--set` and a child run per trial, found by their tags.

    Opening it takes seconds, and anything that MLflow, its database or the network raise may come out of each method;
    a new projection then goes on from whatever was reached.
    """

    def __init__(self, plan: Plan, ledger: Ledger, uri: str, filled_at: str | None = None) -> None:
        """`filled_at` is where the store lies until it is moved to `uri`."""
        self._plan, self._ledger, self._uri = plan, ledger, uri
        self._client = open_store(filled_at or uri)
        self.experiment_id = experiment_of(self._client, plan.sweep, uri)
        self._trials: dict[str, Mirror] = {}
        self._parent: Mirror | None = None
        self._parent_is_current = False
        self._find()
        self._stories: dict[str, Story] = {}

    def replan(self, plan: Plan) -> None:
        """The plan has other trials now; its sweep's own run stays."""
        self._plan = plan

    def show(self, trial: Trial, *, running: bool | None = None) -> Change | None:
        """Brings a trial's run up to what the ledger says now; None where the trial has not begun.

        `running` is whether its process is known to be at work, None where nothing is known of it.
        """
        story = story_of(self._ledger, trial.id, running=running)
        if story is None:
            return None
        self._stories[trial.id] = story
        mirror = self._trials.get(trial.id) or self._made_meanwhile(TRIAL, trial.id, lambda tags: True)
        if mirror is not None and mirror.contradicts(story.rows, complete=story.status == "FINISHED"):
            mirror.remove(mirror.tag(MODEL))
            mirror = None
        created = mirror is None
        mirror = self._trials[trial.id] = mirror or self._create(trial, story)
        self._bring_up(mirror, trial, story, anew=created)
        changed, mirror.changed = mirror.changed, False
        return "created" if created else "updated" if changed else "unchanged"

    def tell(self, findings: Findings) -> None:
        """Says in the sweep's own run how the hypotheses fared, and puts the report's files there."""
        parent = self._sweep_run()
        parent.put(findings.files)
        report = file_address(self.experiment_id, parent.run_id, REPORT)
        note = sweep_note(self._plan.sweep, findings, report, curves_address(self.experiment_id))
        if not findings.marks:
            parent.untag(MARKS)
        marks = {MARKS: findings.marks[:LONGEST_NOTE]} if findings.marks else {}
        parent.describe({VERDICTS: findings.verdicts, NOTE: note, **marks})

    def note(self) -> None:
        """Says beside the ledger which run shows which trial; a report that is made after it links to all of them."""
        runs = {trial_id: mirror.run_id for trial_id, mirror in self._trials.items()}
        note_shown(self._ledger, self._plan.sweep.spec.name, self._uri, self.experiment_id, runs)

    def settle(self, *, closing: bool) -> None:
        """Says how the sweep stands: at work until `closing`, then by what became of its trials."""
        states = {story.status for story in self._stories.values()}
        parent = self._sweep_run()
        self.note()
        ends = [story.began + story.seconds for story in self._stories.values()]
        parent.settle(self._status(states, closing), max(0.0, max(ends, default=0.0) - parent.began_ms / 1000))

    def _status(self, states: set[Status], closing: bool) -> Status:
        if all(trial.id in self._stories for trial in self._plan.trials) and states == {"FINISHED"}:
            return "FINISHED"
        if not closing or "RUNNING" in states:
            return "RUNNING"
        return "FAILED" if "FAILED" in states else "KILLED"

    def _find(self) -> None:
        """Takes over the runs of this sweep; of two for one trial (a request that was answered too late), the first."""
        for run in self._runs():
            mirror, tags = Mirror(self._client, run), run.data.tags
            if TRIAL in tags:
                if self._trials.setdefault(tags[TRIAL], mirror) is not mirror:
                    mirror.remove()
            elif self._parent is None and self._is_of_this_sweep(tags):
                self._parent = mirror

    def _is_of_this_sweep(self, tags: Mapping[str, str]) -> bool:
        sweep = self._plan.sweep
        asked = scale_of(sweep), overrides_of(sweep)
        return TRIAL not in tags and (tags.get(SCALE), tags.get(OVERRIDES, "")) == asked

    def _made_meanwhile(self, tag: str, value: str, wanted: Callable[[Mapping[str, str]], bool]) -> Mirror | None:
        """The run that another sweep over the same trials made since this was opened, if it did."""
        runs = (run for run in self._runs(f"tags.`{tag}` = '{value}'") if wanted(run.data.tags))
        return next((Mirror(self._client, run) for run in runs), None)

    def _runs(self, where: str = "") -> "Iterator[Run]":
        token: Any = None
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

    def _sweep_run(self) -> Mirror:
        sweep = self._plan.sweep
        if self._parent is None:
            there = self._made_meanwhile(SCALE, scale_of(sweep), self._is_of_this_sweep)
            self._parent = there or self._new_run(self._began(), sweep_tags(sweep))
        if not self._parent_is_current:
            self._parent.put(sweep_files(sweep))
            note = {} if self._parent.tag(VERDICTS) else {NOTE: sweep_note(sweep, None, "", "")}
            self._parent.describe({**sweep_tags(sweep), **note})
            self._offer_views()
            self._parent_is_current = True
        return self._parent

    def _offer_views(self) -> None:
        there = self._client.get_experiment(self.experiment_id).tags
        for key, value in views(self._plan).items():
            if there.get(key) != value:
                self._client.set_experiment_tag(self.experiment_id, key, value)

    def _began(self) -> float:
        times = [self._ledger.trial(trial.id).began() for trial in self._plan.trainings]
        return min((began for began in times if began is not None), default=time.time())

    def _create(self, trial: Trial, story: Story) -> Mirror:
        return self._new_run(story.began, self._tags(trial))

    def _tags(self, trial: Trial) -> dict[str, str]:
        """A trial that two scales share has one run, below the sweep that showed it last."""
        return trial_tags(self._plan, trial, self._sweep_run().run_id)

    def _new_run(self, began: float, tags: Mapping[str, str]) -> Mirror:
        run = self._client.create_run(self.experiment_id, round(began * 1000), dict(tags))
        return Mirror(self._client, run)

    def _bring_up(self, mirror: Mirror, trial: Trial, story: Story, *, anew: bool) -> None:
        if not mirror.described:
            mirror.put({"trial.yaml": story.trial_yaml.encode()})
            mirror.take_input(dataset_input(trial))
        if story.failure is None:
            mirror.untag(FAILURE)
        tags, params = self._tags(trial), trial_params(self._plan, trial)
        if story.status == "FINISHED" and mirror.tag(MODEL) is None:
            model_id = self._model(mirror, trial, anew=anew)
            mirror.complete(params, {**tags, MODEL: model_id}, story.rows, story.work, model_id)
        else:
            failure = {} if story.failure is None else {FAILURE: story.failure}
            mirror.describe({**tags, **failure}, params)
            mirror.log(story.rows, story.work)
        mirror.settle(story.status, story.seconds)

    def _model(self, mirror: Mirror, trial: Trial, *, anew: bool) -> str:
        """The run's tag that names the model comes later: without it, a model is half-made and goes."""
        place = RunPlace(self.experiment_id, mirror.run_id)
        weights = weights_address(self._ledger, trial)
        return make_model(self._client, place, trial, columns(self._plan, trial), weights, anew=anew)
