"""A plan's trials in MLflow: whatever the ledger has and MLflow lacks is added, and nothing twice."""

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from gapctl.ledger import Ledger
from gapctl.plan.trials import Plan, Trial
from gapctl.tracking.description import (
    FAILURE,
    SCALE,
    TRIAL,
    dataset_input,
    scale_of,
    sweep_files,
    sweep_name,
    sweep_tags,
    trial_params,
    trial_tags,
)
from gapctl.tracking.experiment import experiment_of
from gapctl.tracking.mirror import Mirror
from gapctl.tracking.shown import note_shown
from gapctl.tracking.store import open_store
from gapctl.tracking.story import Status, Story, story_of

if TYPE_CHECKING:
    from mlflow.entities import Run

Change = Literal["created", "updated", "unchanged"]
PAGE = 1000


class Projection:
    """An experiment with a parent run for the sweep's scale and a child run per trial, found again by their tags.

    Opening it takes seconds, and anything that MLflow, its database or the network raise may come out of each method;
    a new projection then goes on from whatever was reached.
    """

    def __init__(self, plan: Plan, ledger: Ledger, uri: str) -> None:
        self._plan, self._ledger, self._uri = plan, ledger, uri
        self._client = open_store(uri)
        self.experiment_id = experiment_of(self._client, plan.sweep, uri)
        self._trials: dict[str, Mirror] = {}
        self._parent: Mirror | None = None
        self._parent_is_current = False
        self._find()
        self._stories: dict[str, Story] = {}

    def show(self, trial: Trial, *, running: bool | None = None) -> Change | None:
        """Brings a trial's run up to what the ledger says now; None where the trial has not begun.

        `running` is whether its process is known to be at work, None where nothing is known of it.
        """
        story = story_of(self._ledger, trial.id, running=running)
        if story is None:
            return None
        self._stories[trial.id] = story
        mirror = self._trials.get(trial.id)
        if mirror is not None and mirror.contradicts(story.rows, complete=story.status == "FINISHED"):
            mirror.remove()
            mirror = None
        created = mirror is None
        mirror = mirror or self._create(trial, story)
        self._bring_up(mirror, trial, story)
        changed, mirror.changed = mirror.changed, False
        return "created" if created else "updated" if changed else "unchanged"

    def attach(self, files: Mapping[str, bytes]) -> None:
        """Puts files into the sweep's own run."""
        self._sweep_run().put(files)

    def settle(self, *, closing: bool) -> None:
        """Says how the sweep stands: at work until `closing`, then by what became of its trials."""
        states = {story.status for story in self._stories.values()}
        parent = self._sweep_run()
        runs = {trial_id: mirror.run_id for trial_id, mirror in self._trials.items()}
        note_shown(self._ledger, self._plan.sweep.spec.name, self._uri, self.experiment_id, runs)
        ends = [story.began + story.seconds for story in self._stories.values()]
        parent.settle(self._status(states, closing), max(0.0, max(ends, default=0.0) - parent.began_ms / 1000))

    def _status(self, states: set[Status], closing: bool) -> Status:
        if len(self._stories) == len(self._plan.trials) and states == {"FINISHED"}:
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
            elif tags.get(SCALE) == scale_of(self._plan.sweep) and self._parent is None:
                self._parent = mirror

    def _runs(self) -> "Iterator[Run]":
        token: Any = None
        while True:
            page = self._client.search_runs(
                [self.experiment_id],
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
            self._parent = self._new_run(sweep_name(sweep), self._began(), sweep_tags(sweep))
        if not self._parent_is_current:
            self._parent.put(sweep_files(sweep))
            self._parent.describe(sweep_tags(sweep))
            self._parent_is_current = True
        return self._parent

    def _began(self) -> float:
        times = [self._ledger.trial(trial.id).began() for trial in self._plan.trials]
        return min((began for began in times if began is not None), default=time.time())

    def _create(self, trial: Trial, story: Story) -> Mirror:
        self._trials[trial.id] = self._new_run(trial.label, story.began, self._tags(trial))
        return self._trials[trial.id]

    def _tags(self, trial: Trial) -> dict[str, str]:
        """A trial that two scales share has one run, below the sweep that showed it last."""
        return trial_tags(self._plan, trial, self._sweep_run().run_id)

    def _new_run(self, name: str, began: float, tags: Mapping[str, str]) -> Mirror:
        run = self._client.create_run(self.experiment_id, round(began * 1000), dict(tags), name)
        return Mirror(self._client, run)

    def _bring_up(self, mirror: Mirror, trial: Trial, story: Story) -> None:
        if not mirror.described:
            mirror.put({"trial.yaml": story.trial_yaml.encode()})
            mirror.take_input(dataset_input(trial))
        failure = {} if story.failure is None else {FAILURE: story.failure}
        mirror.describe({**self._tags(trial), **failure}, trial_params(trial))
        if story.failure is None:
            mirror.untag(FAILURE)
        mirror.log(story.rows)
        mirror.settle(story.status, story.seconds)
