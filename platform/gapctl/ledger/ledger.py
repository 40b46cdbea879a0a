"""A runs folder: trials by id, and one declaration per sweep."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeVar

from pydantic import TypeAdapter, with_config

from gapctl.errors import InputError, WorkError
from gapctl.folders import expand_home
from gapctl.io.files import Folder
from gapctl.ledger.documents import AS_WRITTEN, RESULT, Result, parsed
from gapctl.ledger.preregistration import (
    Declaration,
    HasBegun,
    declaration_from_json,
    declaration_to_json,
    declared,
    scale_name,
    with_begun,
)
from gapctl.ledger.search_record import SearchRecord, record_from_json, record_to_json
from gapctl.ledger.trial import AXIS, CONFIGURATION, DIMENSIONS, HISTORY, TrialFolder
from gapctl.plan.plan import Plan

if TYPE_CHECKING:
    import polars


Kind = Literal["half-written file", "checkpoint of a finished training", "final weights"]
PART: Final = re.compile(r"\..+\.[0-9a-f]{8}\.part")
CHECKPOINT: Final = re.compile(r"\d+\.pt")
WEIGHTS: Final = "final.pt"
ABANDONED_SECONDS: Final = 900.0
"""A writer that lives adds to its file more often, whichever machine it is on and however slow the disk."""


@dataclass(frozen=True)
class Leftover:
    """A file below the ledger's root, and what is gained where it is deleted."""

    name: str
    kind: Kind
    bytes: int


def leftovers(
    runs: Folder, trial_ids: Sequence[str], finished: set[str], *, weights_of: Sequence[str] = ()
) -> list[Leftover]:
    """What may go of these trials: of unfinished ones nothing but what was half written a while ago.

    Of those in `weights_of`, if they are finished, the final weights too.
    """
    found = list(_parts(runs, ""))
    for trial_id in trial_ids:
        found += _parts(runs, trial_id)
        found += _parts(runs, f"{trial_id}/checkpoints")
        if trial_id in finished:
            found += _checkpoints(runs, trial_id, weights=trial_id in weights_of)
    return found


def _parts(runs: Folder, under: str) -> Iterator[Leftover]:
    for entry in runs.entries(under, PART):
        if entry.age is not None and entry.age > ABANDONED_SECONDS:
            yield Leftover(f"{under}/{entry.name}".lstrip("/"), "half-written file", entry.bytes)


def _checkpoints(runs: Folder, trial_id: str, *, weights: bool) -> Iterator[Leftover]:
    under = f"{trial_id}/checkpoints"
    for entry in runs.entries(under, CHECKPOINT):
        yield Leftover(f"{under}/{entry.name}", "checkpoint of a finished training", entry.bytes)
    if weights:
        for entry in runs.entries(under, re.compile(re.escape(WEIGHTS))):
            yield Leftover(f"{under}/{entry.name}", "final weights", entry.bytes)


@with_config(AS_WRITTEN)
@dataclass(frozen=True)
class RunSpent:
    """One run of `gapctl sweep`: when it began (seconds since 1970), its hours, and what its machines cost."""

    run: str
    scale: str
    began: float
    hours: float
    cost: float


class Spent(NamedTuple):
    """Hours and money together, of so many runs."""

    hours: float
    cost: float
    runs: int


_DOCUMENT: Final = TypeAdapter(list[RunSpent])


def spent_to_json(runs: Sequence[RunSpent]) -> bytes:
    """The file's content."""
    return (json.dumps([asdict(run) for run in runs], indent=1) + "\n").encode()


def spent_from_json(content: bytes, path: str) -> list[RunSpent]:
    """Reads the file's content; raises WorkError where it is damaged."""
    try:
        return parsed(_DOCUMENT, content)
    except ValueError as error:
        raise WorkError(
            f"{path}: damaged: {error}; expected what `gapctl sweep` wrote. Move it away, and lower the file's limits "
            "by what was spent: nothing else depends on it"
        ) from error


def together(runs: Sequence[RunSpent], scale: str) -> Spent:
    """What all runs of a scale spent."""
    mine = [run for run in runs if run.scale == scale]
    return Spent(sum(run.hours for run in mine), sum(run.cost for run in mine), len(mine))


DECLARATION: Final = ".sweep.json"
SEARCH: Final = ".search.json"
SEARCH_FOLDER: Final = ".search"
SPENT: Final = ".spent"
"""A folder with a file for each run; before it was one, all runs were in a file of that name and `.json`."""
TRIAL_ID: Final = re.compile("[0-9a-f]{12}")
_TRACES: Final = (CONFIGURATION, HISTORY, RESULT)
"""What a trial leaves of itself. A failure before it begins leaves none of these."""
Document = TypeVar("Document")


class Ledger:
    """Everything that was computed, below a local path or any fsspec address (`s3://bucket/runs`)."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._runs = Folder(root)

    @property
    def everywhere(self) -> str:
        """The same address for a process in another folder."""
        return self.root if "://" in self.root else str(expand_home(self.root).absolute())

    @property
    def disk(self) -> Path | None:
        """The folder, where the ledger is one of this machine."""
        return self._runs.disk

    def trial(self, trial_id: str) -> TrialFolder:
        """The folder of one trial, whether it exists yet or not."""
        return TrialFolder(self._runs, trial_id)

    def trial_ids(self) -> list[str]:
        """The ids of all trials that have begun here, of whatever sweep, sorted."""
        return self._runs.names("", keep=lambda name: bool(TRIAL_ID.fullmatch(name)))

    def result(self, trial_id: str) -> Result | None:
        """A finished trial's result, or None; raises WorkError where it is damaged."""
        return self.trial(trial_id).result()

    def results(self, trial_ids: Sequence[str]) -> list[Result | WorkError | None]:
        """Many trials' results in this order: None where one is not finished, an error where it is damaged."""
        return self._documents(trial_ids, RESULT, TrialFolder.result_in)

    def dimensions(self, trial_ids: Sequence[str]) -> "list[polars.DataFrame | WorkError | None]":
        """Many trials' mean embeddings in this order: None where one kept none, an error where they are damaged."""
        return self._documents(trial_ids, DIMENSIONS, TrialFolder.dimensions_in)

    def axes(self, trial_ids: Sequence[str]) -> "list[polars.DataFrame | WorkError | None]":
        """Many trials' galleries along their gaps in this order: None where one kept none, an error where damaged."""
        return self._documents(trial_ids, AXIS, TrialFolder.axis_in)

    def contents(self, trial_ids: Sequence[str], name: str) -> list[bytes | WorkError | None]:
        """One file of many trials, read at once where that saves time: None where it is not there."""
        return self._runs.read_all([f"{trial_id}/{name}" for trial_id in trial_ids])

    def finished(self, trial_ids: Sequence[str]) -> set[str]:
        """Which of the trials have a result; whether it is sound is not looked at."""
        here = set(self.trial_ids()) if trial_ids else set()
        return self.having([trial_id for trial_id in trial_ids if trial_id in here], RESULT)

    def having(self, trial_ids: Sequence[str], name: str) -> set[str]:
        """Which of the trials have a file of this name."""
        found = self._runs.present([f"{trial_id}/{name}" for trial_id in trial_ids])
        return {path.partition("/")[0] for path in found}

    def history(self, trial_id: str) -> "polars.DataFrame | None":
        """A trial's evaluations over training, or None."""
        return self.trial(trial_id).history()

    def trial_yaml(self, trial_id: str) -> str | None:
        """A trial's resolved configuration, or None."""
        return self.trial(trial_id).trial_yaml()

    def require_writable(self) -> None:
        """Raises InputError where nothing can be written below the root; to be asked before work begins."""
        try:
            self._runs.write(".writable", b"")
            self._runs.remove(".writable")
        except WorkError as error:
            raise InputError(f"{error}, or give another folder with --runs") from error

    def declare(self, plan: Plan) -> Declaration:
        """Writes down the plan's hypotheses and design; what has begun stays as it was first declared."""
        has_begun = self._has_begun()  # first, as another sweep declares before it begins
        declaration = declared(self.declaration(plan.sweep.spec.name), plan, has_begun)
        self._keep_declaration(declaration)
        return declaration

    def note_begun(self, sweep_name: str) -> None:
        """Keeps in a sweep's declaration that it has begun, so that it has even once its trials are moved away."""
        earlier = self.declaration(sweep_name)
        if earlier is not None and (now := with_begun(earlier, self._has_begun())) != earlier:
            self._keep_declaration(now)

    def declaration(self, sweep_name: str) -> Declaration | None:
        """What was declared for a sweep, or None where it never ran here."""
        name = _declaration_name(sweep_name)
        content = self._runs.read(name)
        return None if content is None else declaration_from_json(content, self.declaration_path(sweep_name))

    def sweep_names(self) -> list[str]:
        """The sweeps that were declared here, sorted."""
        files = self._runs.names("", keep=lambda name: name.endswith(DECLARATION))
        return [name.removesuffix(DECLARATION) for name in files]

    def declaration_path(self, sweep_name: str) -> str:
        """The address of a sweep's declaration."""
        return self._runs.path(_declaration_name(sweep_name))

    def keep(self, name: str, content: bytes) -> str:
        """Writes a file that is made from the ledger directly below its root; returns its address."""
        self._runs.write(name, content)
        return self._runs.path(name)

    def keep_report(self, plan: Plan, page: bytes) -> str:
        """Keeps the newest report of a sweep's scale beside its declaration; returns its address."""
        return self.keep(f"{plan.sweep.spec.name}.{scale_name(plan)}.report.html", page)

    def keep_search(self, name: str, record: SearchRecord) -> None:
        """Writes down what a search, named `<sweep>.<scale>`, has drawn and found."""
        self._runs.write(f"{name}{SEARCH}", record_to_json(record))

    def search(self, name: str) -> SearchRecord | None:
        """What a search, named `<sweep>.<scale>`, has drawn and found; None where it never ran here."""
        content = self._runs.read(f"{name}{SEARCH}")
        return None if content is None else record_from_json(content, self._runs.path(f"{name}{SEARCH}"))

    def search_of_study(self, name: str, study: str) -> SearchRecord | None:
        """The same of one study of that search: of the current one, or of one that gave way to another."""
        current = self.search(name)
        return current if current is not None and current.study == study else self.search(_set_aside(name, study))

    def set_aside_search(self, name: str, besides: str) -> None:
        """Keeps the record of a search under the name of its study, unless that is `besides`, which follows it."""
        current = self.search(name)
        if current is not None and current.study != besides:
            self.keep_search(_set_aside(name, current.study), current)

    def search_folder(self, name: str) -> TrialFolder:
        """Where the lease of a search lies, named `<sweep>.<scale>`, as those of trials do in theirs."""
        return self.trial(f"{name}{SEARCH_FOLDER}")

    def keep_shown(self, sweep_name: str, content: bytes) -> None:
        """Notes where MLflow shows a sweep's trials, for whoever links to them without asking MLflow."""
        self._runs.write(f"{sweep_name}.mlflow.json", content)

    def shown(self, sweep_name: str) -> bytes | None:
        """What was noted of where MLflow shows a sweep's trials, or None."""
        return self._runs.read(f"{sweep_name}.mlflow.json")

    def leftovers(self, trial_ids: Sequence[str], *, weights_of: Sequence[str] = ()) -> list[Leftover]:
        """Files of these trials that nobody needs; of finished ones in `weights_of` also the final weights."""
        here = set(self.trial_ids())
        asked = [trial_id for trial_id in dict.fromkeys(trial_ids) if trial_id in here]
        return leftovers(self._runs, asked, self.having(asked, RESULT), weights_of=weights_of)

    def delete(self, files: Sequence[Leftover]) -> None:
        """Deletes leftovers that are still there."""
        for file in files:
            self._runs.remove(file.name)

    def spent(self, sweep_name: str, scale: str, besides: str = "") -> Spent:
        """The hours and the money of all runs of a sweep's scale that had limits, but for the run `besides`."""
        return together([run for run in self._runs_of(sweep_name) if run.run != besides], scale)

    def keep_spent(self, sweep_name: str, run: RunSpent) -> None:
        """Notes what a run has spent so far, in the place of what was noted of it before."""
        self._runs.write(f"{sweep_name}{SPENT}/{run.run}.json", spent_to_json([run]))

    def _runs_of(self, sweep_name: str) -> list[RunSpent]:
        folder = f"{sweep_name}{SPENT}"
        names = [f"{folder}.json", *(f"{folder}/{name}" for name in self._runs.names(folder, keep=_is_document))]
        runs: list[RunSpent] = []
        for name, content in zip(names, self._runs.read_all(names), strict=True):
            if isinstance(content, WorkError):
                raise content
            runs += [] if content is None else spent_from_json(content, self._runs.path(name))
        return runs

    def _has_begun(self) -> HasBegun:
        """A question about trials that costs one listing for all times that it is asked, and a look at one or two."""
        here = set(self.trial_ids())

        def has_begun(trial_ids: Sequence[str]) -> bool:
            candidates = (trial_id for trial_id in trial_ids if trial_id in here)
            return any(self._runs.exists(f"{trial_id}/{name}") for trial_id in candidates for name in _TRACES)

        return has_begun

    def _keep_declaration(self, declaration: Declaration) -> None:
        self._runs.write(_declaration_name(declaration.sweep), declaration_to_json(declaration))

    def _documents(
        self, trial_ids: Sequence[str], name: str, read: Callable[[TrialFolder, bytes], Document]
    ) -> list[Document | WorkError | None]:
        contents = self.contents(trial_ids, name)
        each = zip(trial_ids, contents, strict=True)
        return [_read(read, self.trial(trial_id), content) for trial_id, content in each]


def _read(
    read: Callable[[TrialFolder, bytes], Document], folder: TrialFolder, content: bytes | WorkError | None
) -> Document | WorkError | None:
    if not isinstance(content, bytes):
        return content
    try:
        return read(folder, content)
    except WorkError as error:
        return error


def _is_document(name: str) -> bool:
    return name.endswith(".json") and not name.startswith(".")


def _declaration_name(sweep_name: str) -> str:
    return f"{sweep_name}{DECLARATION}"


def _set_aside(name: str, study: str) -> str:
    return f"{name}.{study.replace('/', '_')}"


class AsRead(Ledger):
    """Keeps what it read of results and declarations: a report tells of no more trials than the verdicts beside it."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self._results: dict[str, Result | WorkError | None] = {}
        self._declarations: dict[str, Declaration | None] = {}

    def results(self, trial_ids: Sequence[str]) -> list[Result | WorkError | None]:
        """As `Ledger.results`."""
        new = [trial_id for trial_id in dict.fromkeys(trial_ids) if trial_id not in self._results]
        self._results.update(zip(new, super().results(new), strict=True))
        return [self._results[trial_id] for trial_id in trial_ids]

    def result(self, trial_id: str) -> Result | None:
        """As `Ledger.result`."""
        (found,) = self.results([trial_id])
        if isinstance(found, WorkError):
            raise found
        return found

    def declaration(self, sweep_name: str) -> Declaration | None:
        """As `Ledger.declaration`."""
        if sweep_name not in self._declarations:
            self._declarations[sweep_name] = super().declaration(sweep_name)
        return self._declarations[sweep_name]
