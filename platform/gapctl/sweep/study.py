"""The points of a search and their outcomes, kept in an Optuna study on disk.

Each step is in the file before the next is taken, so a search survives a kill at any time. Ray Tune's own OptunaSearch
cannot do that: it keeps open points in Tune's experiment folder, and after a kill would leave them running for ever
and draw others. Here a point without an outcome stays open.

`lock_study_file` keeps other processes of the machine away; `Study` is the search; `Study.restore_record` fills it
from the ledger's record if the file was lost.
"""

import errno
import fcntl
import math
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, Final, Literal, NamedTuple, ParamSpec, Protocol, TypeVar, get_args

from gapctl.config.hypotheses import Level
from gapctl.config.sweep import Domain, Search
from gapctl.errors import InputError, WorkError, first_line_of_error
from gapctl.ledger import Ledger
from gapctl.ledger.search_record import PointRecord, PointState, SearchRecord
from gapctl.plan.plan import SearchPoint, round_value
from gapctl.tracking.store import format_sqlite_address

if TYPE_CHECKING:
    import optuna


NO_LOCK_ERRORS: Final = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
"""Errors of file systems without locks, where only the lease in the ledger keeps other processes away."""
Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


class HasFile(Protocol):
    """An object whose state is in a study's file."""

    @property
    def file(self) -> Path: ...


Keeper = TypeVar("Keeper", bound=HasFile)


def locate_study_file(ledger: Ledger, sweep: str, working_folder: Path) -> Path:
    """Return the path of a search's study: beside the ledger, or in the working folder if that is an object store."""
    far = "://" in ledger.everywhere and not ledger.everywhere.startswith("file://")
    folder = working_folder if far else Path(ledger.everywhere.removeprefix("file://"))
    return folder / f"{sweep}.study.db"


@contextmanager
def lock_study_file(file: Path) -> Iterator[None]:
    """Lock the study's file against other processes of this machine, until the process ends.

    Raises InputError if another process has it, or if no file can be written beside it.
    """
    lock = file.with_name(f".{file.name}.lock")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        held = lock.open("w")
    except OSError as error:
        raise InputError(
            f"{lock}: cannot be written: {error.strerror or error}; expected a folder for the study of the search: "
            "that of --runs, or with an object store the one where gapctl is called. Check its rights and space, or "
            "choose another"
        ) from error
    with held:
        _lock_file(held.fileno(), file)
        yield


def _lock_file(descriptor: int, file: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(descriptor, f"{os.getpid()}\n".encode())
    except BlockingIOError as error:
        raise InputError(
            f"{file}: another gapctl runs a search of this study; expected one at a time, as each would draw "
            "the other's points. Wait for it, or end it: the same command then goes on"
        ) from error
    except OSError as error:
        if error.errno not in NO_LOCK_ERRORS:
            raise InputError(
                f"{file}: cannot be locked: {error.strerror or error}; expected a disk with locks and space for the "
                "study of the search. Check the disk, or name another folder"
            ) from error


@contextmanager
def raise_study_errors(file: Path) -> Iterator[None]:
    """Raise errors of the database or the disk as WorkError."""
    import optuna
    import sqlalchemy.exc

    try:
        yield
    except (optuna.exceptions.OptunaError, sqlalchemy.exc.SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise WorkError(
            f"{file}: the study of the search cannot be read or written: {_extract_root_cause(error)}; "
            "expected Optuna's database "
            "on a disk with space and rights. Where the disk is full, make room, and the same command goes on. Where "
            "the file is damaged, move it away: it is filled again from the ledger"
        ) from error


def wrap_study_errors(
    method: Callable[Concatenate[Keeper, Arguments], Answer],
) -> Callable[Concatenate[Keeper, Arguments], Answer]:
    """Decorate a method so that errors of database and disk name the file."""

    @wraps(method)
    def named(self: Keeper, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Answer:
        with raise_study_errors(self.file):
            return method(self, *args, **kwargs)

    return named


def _extract_root_cause(error: BaseException) -> str:
    """Return the innermost cause's first line; Optuna's and SQLAlchemy's own messages are long."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line_of_error(error)


REPEATS: Final = "gapctl.repeats"
"""User attribute of a point: the number of the failed point that it repeats."""
OptunaState = Literal["ended", "running", "waiting", "failed"]
OPTUNA_STATES: Final[tuple[OptunaState, ...]] = get_args(OptunaState)


class UnmatchedPoints:
    """Points of a study that are not matched to a record yet. Each matches once, as twins are separate points."""

    def __init__(
        self, trials: "Sequence[optuna.trial.FrozenTrial]", key: "Callable[[optuna.trial.FrozenTrial], SearchPoint]"
    ) -> None:
        repeated = {trial.user_attrs.get(REPEATS) for trial in trials}
        self._left = [
            (_read_optuna_state(trial), key(trial), trial) for trial in trials if trial.number not in repeated
        ]

    def claim_trial(self, point: SearchPoint, *states: OptunaState) -> "optuna.trial.FrozenTrial | None":
        """Remove and return a point equal to this one, trying the states in order, or None."""
        for wanted in states:
            for place, (state, found, trial) in enumerate(self._left):
                if state == wanted and found == point:
                    del self._left[place]
                    return trial
        return None


def _read_optuna_state(trial: "optuna.trial.FrozenTrial") -> OptunaState:
    name = trial.state.name
    if name == "FAIL":
        return "failed"
    return "ended" if trial.state.is_finished() else "running" if name == "RUNNING" else "waiting"


STARTUP_POINTS: Final = 10
"""Points drawn at random before the sampler uses outcomes; Optuna's default."""

END_STATES: Final = ("done", "stopped")


class NumberedPoint(NamedTuple):
    """A point and its number in drawing order."""

    number: int
    point: SearchPoint


class Study:
    """One search: `ask` for a point, `record_measure` it, `tell` its outcome. Each call is on disk when it returns."""

    def __init__(self, search: Search, name: str, file: Path) -> None:
        """Open the study, or create it if the file has none of this name.

        This and all other methods raise WorkError if the file cannot be read or written.
        """
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._search, self._name, self.file = search, name, file
        self._distributions = {path: _build_distribution(domain) for path, domain in search.space.items()}
        self._study = self._open_study()

    @wrap_study_errors
    def _open_study(self) -> "optuna.Study":
        import optuna

        _make_database(self.file)
        return optuna.create_study(
            storage=_open_storage(self.file),
            study_name=self._name,
            direction=self._search.direction,
            sampler=_build_sampler(self._search, 0),
            pruner=_build_pruner(self._search),
            load_if_exists=True,
        )

    @property
    def name(self) -> str:
        """The study's name in its file."""
        return self._name

    @wrap_study_errors
    def ask(self) -> NumberedPoint:
        """Return the next point: a failed one to repeat, otherwise one that the sampler draws."""
        self._study.sampler = _build_sampler(self._search, len(self._list_trials()))
        return self._draw_values(self._study.ask())

    @wrap_study_errors
    def list_open_points(self) -> list[NumberedPoint]:
        """Return points without an outcome, in order. A point that a kill left half drawn is completed."""
        import optuna

        open_trials = [trial for trial in self._list_trials() if trial.state == optuna.trial.TrialState.RUNNING]
        found = []
        for trial in open_trials:
            self._study.sampler = _build_sampler(self._search, trial.number)
            found.append(self._draw_values(optuna.trial.Trial(self._study, trial._trial_id)))
        return found

    @wrap_study_errors
    def list_ended_points(self) -> list[NumberedPoint]:
        """Return the points that have ended in any way."""
        return [
            NumberedPoint(trial.number, self._read_point(trial.params))
            for trial in self._list_trials()
            if trial.state.is_finished()
        ]

    @wrap_study_errors
    def count_points(self) -> int:
        """Return the number of points, counting a repeated one once."""
        repeats = sum(REPEATS in trial.user_attrs for trial in self._list_trials())
        return len(self._list_trials()) - repeats

    @wrap_study_errors
    def count_waiting(self) -> int:
        """Return the number of failed points waiting to be repeated."""
        import optuna

        return sum(trial.state == optuna.trial.TrialState.WAITING for trial in self._list_trials())

    @wrap_study_errors
    def requeue_failures(self) -> None:
        """Queue each failed point for repetition, unless its last failure is queued already."""
        import optuna

        repeated = {trial.user_attrs.get(REPEATS) for trial in self._list_trials()}
        for trial in self._list_trials():
            if trial.state == optuna.trial.TrialState.FAIL and trial.number not in repeated:
                self._study.enqueue_trial(dict(trial.params), user_attrs={REPEATS: trial.number})

    @wrap_study_errors
    def record_measure(self, number: int, value: float, samples_seen: int) -> bool:
        """Record a measure of a point in training and return whether to stop it. A known measure stays as it is."""
        trial = self._get_trial(number)
        if samples_seen in self._list_trials()[number].intermediate_values:
            return False
        trial.report(value, samples_seen)
        return trial.should_prune()

    @wrap_study_errors
    def tell(self, number: int, value: float) -> None:
        """Record the final value of a fully trained point. NaN or infinity counts as worse than any number."""
        import optuna

        state = optuna.trial.TrialState
        if math.isfinite(value):
            self._study.tell(number, value)
        else:
            self._study.tell(number, state=state.PRUNED)

    @wrap_study_errors
    def tell_stop(self, number: int, like: int | None = None) -> None:
        """Record that a point was stopped. A twin of the earlier point `like` gets the same measures."""
        import optuna

        if like is not None:
            for samples_seen, value in self._list_trials()[like].intermediate_values.items():
                self._get_trial(number).report(value, samples_seen)
        self._study.tell(number, state=optuna.trial.TrialState.PRUNED)

    @wrap_study_errors
    def tell_failure(self, number: int) -> None:
        """Record that a point's training failed."""
        import optuna

        self._study.tell(number, state=optuna.trial.TrialState.FAIL)

    @wrap_study_errors
    def restore_record(self, record: SearchRecord) -> None:
        """Add what the ledger's record has and the file lacks, if the file was lost or the search continued elsewhere.

        Points that were in training are drawn again and resume from their checkpoints.
        """
        if record.study != self._name:
            return
        here = UnmatchedPoints(self._list_trials(), self._read_fixed_point)
        for drawn in record.drawn:
            if drawn.state in END_STATES and not here.claim_trial(drawn.point, "ended"):
                self._end_point(drawn, here)
        for drawn in record.drawn:
            if drawn.state not in END_STATES and not here.claim_trial(drawn.point, *OPTUNA_STATES):
                self._study.enqueue_trial(dict(drawn.point))
                self._begin_point(self._list_trials()[-1])

    def _end_point(self, drawn: PointRecord, here: UnmatchedPoints) -> None:
        """Give a point the outcome that it had elsewhere: an open one here, or a new one."""
        import optuna

        known = math.isfinite(drawn.value)
        done = drawn.state == "done" and known
        state = optuna.trial.TrialState.COMPLETE if done else optuna.trial.TrialState.PRUNED
        if found := here.claim_trial(drawn.point, "running", "waiting"):
            trial = self._begin_point(found)
            if known and drawn.samples_seen not in found.intermediate_values:
                trial.report(drawn.value, drawn.samples_seen)
            self._study.tell(trial, drawn.value if done else None, state)
            return
        failed = here.claim_trial(drawn.point, "failed")
        ended = optuna.trial.create_trial(
            state=state,
            value=drawn.value if done else None,
            params=dict(drawn.point),
            distributions=self._distributions,
            intermediate_values={drawn.samples_seen: drawn.value} if known else {},
            user_attrs={} if failed is None else {REPEATS: failed.number},
        )
        self._study.add_trial(ended)

    def _begin_point(self, trial: "optuna.trial.FrozenTrial") -> "optuna.Trial":
        """Mark a point that may wait to be drawn as running."""
        import optuna

        if trial.state == optuna.trial.TrialState.WAITING:
            self._study._storage.set_trial_state_values(trial._trial_id, optuna.trial.TrialState.RUNNING)
        begun = optuna.trial.Trial(self._study, trial._trial_id)
        self._draw_values(begun)
        return begun

    def _read_fixed_point(self, trial: "optuna.trial.FrozenTrial") -> SearchPoint:
        """Return a point as it is trained, also one that waits to be drawn."""
        return self._read_point({**trial.system_attrs.get("fixed_params", {}), **trial.params})

    @wrap_study_errors
    def build_record(self, trial_ids: Mapping[int, str], finished: Mapping[int, float], samples: int) -> SearchRecord:
        """Return the study as a record for the ledger.

        `trial_ids` are by point number, `finished` the values of points trained to their end at `samples`. A failed
        point that was repeated appears as its repetition. `importance` is left empty, as it takes longest to compute.
        """
        trials = {trial.number: trial for trial in self._list_trials() if trial.number in trial_ids}
        repeated = {trial.user_attrs.get(REPEATS) for trial in trials.values()}
        drawn = [
            self._build_drawn_record(trial, trial_ids[number], finished, samples)
            for number, trial in trials.items()
            if number not in repeated
        ]
        search = self._search
        return SearchRecord(self._name, search.metric, search.direction, search.trials, drawn)

    def _build_drawn_record(
        self, trial: "optuna.trial.FrozenTrial", trial_id: str, finished: Mapping[int, float], samples: int
    ) -> PointRecord:
        measured = trial.intermediate_values
        last = max(measured, default=0)
        point = self._read_point(trial.params)
        if trial.number in finished:
            return PointRecord(trial.number, trial_id, dict(point), "done", finished[trial.number], samples)
        value = trial.value if trial.value is not None else measured.get(last, math.nan)
        state = _RECORD_STATES[trial.state.name]
        return PointRecord(trial.number, trial_id, dict(point), state, value, samples if state == "done" else last)

    @wrap_study_errors
    def compute_importance(self) -> dict[str, float]:
        """Return each path's share of the metric's variation (PED-ANOVA, arXiv 2304.10255), {} for few points."""
        import optuna

        done = self._study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
        if len(done) <= len(self._distributions) or len({trial.value for trial in done}) < 2:
            return {}
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        found = optuna.importance.get_param_importances(self._study, evaluator=evaluator)
        return {path: round(float(share), 6) for path, share in found.items()}

    def _draw_values(self, trial: "optuna.Trial") -> NumberedPoint:
        """Draw each value that is not drawn yet."""
        for path, domain in self._search.space.items():
            if domain.choice is not None:
                trial.suggest_categorical(path, list(domain.choice))
            else:
                trial.suggest_float(path, *domain.ends, log=domain.kind == "log")
        return NumberedPoint(trial.number, self._read_point(trial.params))

    def _read_point(self, params: Mapping[str, Level]) -> SearchPoint:
        return {
            path: round_value(params[path], domain) for path, domain in self._search.space.items() if path in params
        }

    def _get_trial(self, number: int) -> "optuna.Trial":
        import optuna

        return optuna.trial.Trial(self._study, self._list_trials()[number]._trial_id)

    def _list_trials(self) -> "Sequence[optuna.trial.FrozenTrial]":
        return self._study.get_trials(deepcopy=False)


_RECORD_STATES: Final[Mapping[str, PointState]] = {
    "COMPLETE": "done",
    "PRUNED": "stopped",
    "FAIL": "failed",
    "RUNNING": "running",
    "WAITING": "running",
}


def _build_sampler(search: Search, number: int) -> "optuna.samplers.BaseSampler":
    """Build a sampler seeded for this one point, so that a resumed search draws the same points."""
    import optuna

    seed = search.seed * 10_007 + number
    if search.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP_POINTS, constant_liar=True)


def _build_pruner(search: Search) -> "optuna.pruners.BasePruner":
    import optuna

    if search.stop_early is None:
        return optuna.pruners.NopPruner()
    return optuna.pruners.SuccessiveHalvingPruner(search.stop_early.after, search.stop_early.reduce)


def _build_distribution(domain: Domain) -> "optuna.distributions.BaseDistribution":
    import optuna

    if domain.choice is not None:
        return optuna.distributions.CategoricalDistribution(list(domain.choice))
    return optuna.distributions.FloatDistribution(*domain.ends, log=domain.kind == "log")


def _open_storage(file: Path) -> "optuna.storages.RDBStorage":
    import optuna

    # Optuna formats `{...}` in an address; SQLAlchemy's escaping leaves none.
    return optuna.storages.RDBStorage(format_sqlite_address(file.absolute()))


def _make_database(file: Path) -> None:
    """Create the database elsewhere and move it into place, so that a kill leaves a whole one or none."""
    if file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{file.name}.", dir=file.parent) as folder:
        made = Path(folder) / file.name
        storage = _open_storage(made)
        storage.remove_session()
        storage.engine.dispose()
        made.replace(file)
