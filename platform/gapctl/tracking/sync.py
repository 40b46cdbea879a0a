"""Brings MLflow up to the ledger at once, for a whole sweep."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gapctl.errors import GapctlError, InputError, WorkError
from gapctl.ledger import Ledger
from gapctl.plan.trials import Plan
from gapctl.spec.secrets import without_password
from gapctl.tracking.findings import Findings
from gapctl.tracking.projection import Projection
from gapctl.tracking.reasons import in_plain_words
from gapctl.tracking.store import filled_aside
from gapctl.tracking.uri import check_uri


@dataclass(frozen=True)
class Synced:
    """How many of the sweep's trials got a run, had theirs changed, or were complete; `missing` have not begun."""

    created: int
    updated: int
    unchanged: int
    missing: int


def sync(plan: Plan, ledger: Ledger, uri: str, find: Callable[[], Findings | None] = lambda: None) -> Synced:
    """Shows every trial of the plan in MLflow as the ledger has it, and in the sweep's own run what `find` finds then.

    Raises InputError for an impossible address or a ledger without any of the trials, WorkError where MLflow cannot
    be reached or written.
    """
    check_uri(uri)
    if all(ledger.trial_yaml(trial.id) is None for trial in plan.trainings):
        raise InputError(
            f"{ledger.root}: none of the {len(plan.trials)} trials of {plan.sweep.path} has begun there; expected the "
            "runs folder of a sweep. Give it with --runs, and the same --scale and --set as the sweep had"
        )
    with _explained(ledger, uri):
        return _sync(plan, ledger, uri, find)


def _sync(plan: Plan, ledger: Ledger, uri: str, find: Callable[[], Findings | None]) -> Synced:
    try:
        with filled_aside(uri) as store:
            return _show(Projection(plan, ledger, uri, store), plan, find)
    except FileExistsError:
        return _show(Projection(plan, ledger, uri), plan, find)


def _show(projection: Projection, plan: Plan, find: Callable[[], Findings | None]) -> Synced:
    changes = Counter(projection.show(trial) for trial in plan.trainings)
    projection.note()
    findings = find()
    if findings is not None:
        projection.tell(findings)
    projection.settle(closing=True)
    return Synced(changes["created"], changes["updated"], changes["unchanged"], changes[None])


@contextmanager
def _explained(ledger: Ledger, uri: str) -> Iterator[None]:
    try:
        yield
    except GapctlError:
        raise
    except Exception as error:
        raise WorkError(
            f"MLflow at {without_password(uri)} could not be brought up to date: {in_plain_words(error)}; "
            f"nothing is lost, since {ledger.root} holds the results. Run the command again when this is mended"
        ) from error
