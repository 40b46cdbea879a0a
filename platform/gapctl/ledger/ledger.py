"""A runs folder: trials by id, one declaration per sweep, searches, reports and spending.

`Ledger` is the way to all of it. In an object store `results.pack` has the results of many trials beside their own
files (`Ledger.pack_results`). Below it are garbage collection (`find_garbage`), the hours and money spent by each run
(`Spending`), and `LedgerSnapshot`, which reads each result once.
"""

import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from pydantic import TypeAdapter, with_config

from gapctl.errors import InputError, WorkError
from gapctl.folders import expand_home
from gapctl.io.files import FEW_FILES, Folder
from gapctl.ledger.json_files import (
    RESULT_FILE,
    STRICT_DOCUMENT,
    Document,
    DocumentKind,
    Result,
    serialize_result,
)
from gapctl.ledger.preregistration import DECLARATION, Declaration, HasBegun, mark_begun_scales, merge_declaration
from gapctl.ledger.search_record import SEARCH, SearchRecord
from gapctl.ledger.trial import CONFIGURATION, HISTORY, TrialFolder
from gapctl.plan.plan import Plan

if TYPE_CHECKING:
    import polars


GarbageKind = Literal["half-written file", "checkpoint of a finished training", "final weights"]
PART_PATTERN: Final = re.compile(r"\..+\.[0-9a-f]{8}\.part")
CHECKPOINT_PATTERN: Final = re.compile(r"\d+\.pt")
WEIGHTS_PATTERN: Final = re.compile(r"final\.pt")
ABANDONED_SECONDS: Final = 900.0
"""Age from which a half-written file is abandoned: a live writer adds to its file more often, even on a slow disk."""


@dataclass(frozen=True)
class GarbageFile:
    """A file below the ledger's root that may be deleted, and its size."""

    name: str
    kind: GarbageKind
    bytes: int


@with_config(STRICT_DOCUMENT)
@dataclass(frozen=True)
class RunSpending:
    """One run of `gapctl sweep`: its start (seconds since 1970), hours, and cost of its machines."""

    run: str
    scale: str
    began: float
    hours: float
    cost: float


class Spending(NamedTuple):
    """Total hours and cost, and the number of runs."""

    hours: float
    cost: float
    runs: int


SPENDING: Final = DocumentKind(
    TypeAdapter(list[RunSpending]),
    "Move it away, and lower the file's limits by what was spent: nothing else depends on it",
)

DECLARATION_SUFFIX: Final = ".sweep.json"
SEARCH_SUFFIX: Final = ".search.json"
SEARCH_FOLDER_SUFFIX: Final = ".search"
PACKED_RESULTS: Final = "results.pack"
SPENDING_SUFFIX: Final = ".spent"
"""A folder with a file per run. Older versions wrote all runs into one file of that name plus `.json`."""
TRIAL_ID_PATTERN: Final = re.compile("[0-9a-f]{12}")
_TRACES: Final = (CONFIGURATION, HISTORY, RESULT_FILE)
"""Files that a trial leaves once it has begun. A failure before that leaves none of these."""


class Ledger:
    """All trials and declarations below a local path or any fsspec address (`s3://bucket/runs`)."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._runs = Folder(root)

    @property
    def everywhere(self) -> str:
        """The same address for a process in another working folder."""
        return self.root if "://" in self.root else str(expand_home(self.root).absolute())

    @property
    def disk(self) -> Path | None:
        """The folder if the ledger is on this machine, otherwise None."""
        return self._runs.disk

    def trial(self, trial_id: str) -> TrialFolder:
        """Return the folder of one trial, whether it exists yet or not."""
        return TrialFolder(self._runs, trial_id)

    def list_trial_ids(self) -> list[str]:
        """Return the sorted ids of all trials that have begun here, of any sweep."""
        return self._runs.names("", keep=lambda name: bool(TRIAL_ID_PATTERN.fullmatch(name)))

    def result(self, trial_id: str) -> Result | None:
        """Return a finished trial's result, or None. Raises WorkError if it is damaged."""
        (found,) = self.results([trial_id])
        if isinstance(found, WorkError):
            raise found
        return found

    def results(self, trial_ids: Sequence[str]) -> list[Result | WorkError | None]:
        """Return results in the order of the ids: None for an unfinished trial, WorkError for a damaged one."""
        listing = self._runs.list_files_for(len(trial_ids))
        packed = self._read_packed_results(listing)
        single = [trial_id for trial_id in trial_ids if trial_id not in packed]
        read = dict(zip(single, self._runs.read_all([_name_result(each) for each in single], listing), strict=True))
        contents = [packed[trial_id] if trial_id in packed else read[trial_id] for trial_id in trial_ids]
        return self._parse_documents(trial_ids, contents, TrialFolder.parse_result)

    def tables(self, trial_ids: Sequence[str], name: str) -> "list[polars.DataFrame | WorkError | None]":
        """Return a table of each trial in the order of the ids: None where missing, WorkError where damaged.

        DIMENSIONS are the mean embeddings, AXIS the gallery's projections on the gap.
        """
        return self._read_documents(trial_ids, name, lambda folder, content: folder.parse_table(name, content))

    def contents(self, trial_ids: Sequence[str], name: str) -> list[bytes | WorkError | None]:
        """Read one file of many trials, in parallel from an object store; None where a trial has none."""
        return self._runs.read_all([f"{trial_id}/{name}" for trial_id in trial_ids])

    def finished(self, trial_ids: Sequence[str]) -> set[str]:
        """Return those trials that have a result, without checking that it is sound."""
        if self.disk is None and len(trial_ids) > FEW_FILES:
            return self.filter_by_file(trial_ids, RESULT_FILE)
        here = set(self.list_trial_ids()) if trial_ids else set()
        return self.filter_by_file([trial_id for trial_id in trial_ids if trial_id in here], RESULT_FILE)

    def pack_results(self, trial_ids: Sequence[str]) -> int:
        """Write one file with the results of these trials and of those packed before; return how many are new in it.

        It spares later commands a request for each trial. Each result keeps its own file, and a packed one counts only
        while the store has that file in the same version. A ledger on a disk has no such file, and a few new results
        are left to their own.
        """
        listing = self._runs.list_files_for(len(trial_ids))
        if listing is None:
            return 0
        packed = self._read_packed_results(listing)
        new = [each for each in dict.fromkeys(trial_ids) if each not in packed and listing.get(_name_result(each))]
        if len(new) <= FEW_FILES:
            return 0
        results = [result for result in self.results(new) if isinstance(result, Result)]
        found = {result.trial: serialize_result(result) for result in results}
        self._runs.write(PACKED_RESULTS, _pack_results({**packed, **found}, listing))
        return len(found)

    def _read_packed_results(self, listing: Mapping[str, str] | None) -> dict[str, bytes]:
        """Return the packed results that are still those of their trials, by a listing of the store."""
        if listing is None or PACKED_RESULTS not in listing:
            return {}
        try:
            packed = _unpack_results(self._runs.read(PACKED_RESULTS) or b"")
        except (
            OSError,
            ValueError,
            zlib.error,
        ):  # of another version, or damaged: the files themselves are read
            return {}
        return {
            trial_id: content.encode()
            for trial_id, (tag, content) in packed.items()
            if tag and listing.get(_name_result(trial_id)) == tag
        }

    def filter_by_file(self, trial_ids: Sequence[str], name: str) -> set[str]:
        """Return those trials that have a file of this name."""
        found = self._runs.select_present([f"{trial_id}/{name}" for trial_id in trial_ids])
        return {path.partition("/")[0] for path in found}

    def require_writable(self) -> None:
        """Raise InputError if nothing can be written below the root. Call this before work begins."""
        try:
            self._runs.write(".writable", b"")
            self._runs.remove(".writable")
        except WorkError as error:
            raise InputError(f"{error}, or give another folder with --runs") from error

    def declare_plan(self, plan: Plan) -> Declaration:
        """Record the plan's hypotheses and design. What has begun keeps its first declaration."""
        has_begun = self._make_begun_check()  # list trials first: another sweep declares before it begins
        declaration = merge_declaration(self.read_declaration(plan.sweep.spec.name), plan, has_begun)
        self._save_declaration(declaration)
        return declaration

    def record_start(self, sweep_name: str) -> None:
        """Record in a sweep's declaration which scales have begun, in case their trials are moved away later."""
        earlier = self.read_declaration(sweep_name)
        if earlier is not None and (now := mark_begun_scales(earlier, self._make_begun_check())) != earlier:
            self._save_declaration(now)

    def read_declaration(self, sweep_name: str) -> Declaration | None:
        """Return a sweep's declaration, or None if it never ran here."""
        return self._read_document(DECLARATION, f"{sweep_name}{DECLARATION_SUFFIX}")

    def list_sweeps(self) -> list[str]:
        """Return the sorted names of the declared sweeps."""
        files = self._runs.names("", keep=lambda name: name.endswith(DECLARATION_SUFFIX))
        return [name.removesuffix(DECLARATION_SUFFIX) for name in files]

    def locate_declaration(self, sweep_name: str) -> str:
        """Return the address of a sweep's declaration."""
        return self._runs.path(f"{sweep_name}{DECLARATION_SUFFIX}")

    def keep(self, name: str, content: bytes) -> str:
        """Write a derived file directly below the root and return its address."""
        self._runs.write(name, content)
        return self._runs.path(name)

    def read(self, name: str) -> bytes | None:
        """Return a file that `keep` wrote, or None."""
        return self._runs.read(name)

    def save_search(self, name: str, record: SearchRecord) -> None:
        """Write the record of a search, named `<sweep>.<scale>`."""
        self._runs.write(f"{name}{SEARCH_SUFFIX}", SEARCH.serialize(record))

    def search(self, name: str) -> SearchRecord | None:
        """Return the record of a search, named `<sweep>.<scale>`, or None if it never ran here."""
        return self._read_document(SEARCH, f"{name}{SEARCH_SUFFIX}")

    def list_searches(self) -> list[str]:
        """Return the sorted names of the searches, `<sweep>.<scale>` each, archived studies too."""
        files = self._runs.names("", keep=lambda name: name.endswith(SEARCH_SUFFIX))
        return [name.removesuffix(SEARCH_SUFFIX) for name in files]

    def read_study_search(self, name: str, study: str) -> SearchRecord | None:
        """Return the record of one study of a search, current or archived, or None."""
        current = self.search(name)
        archived = current is None or current.study != study
        return self.search(_name_archived_search(name, study)) if archived else current

    def set_aside_search(self, name: str, besides: str) -> None:
        """Archive the record of a search under its study's name, unless that study is `besides`."""
        current = self.search(name)
        if current is not None and current.study != besides:
            self.save_search(_name_archived_search(name, current.study), current)

    def open_search_folder(self, name: str) -> TrialFolder:
        """Return the folder of a search's lease, named `<sweep>.<scale>`."""
        return self.trial(f"{name}{SEARCH_FOLDER_SUFFIX}")

    def find_garbage(self, trial_ids: Sequence[str], *, weights_of: Sequence[str] = ()) -> list[GarbageFile]:
        """Return files of these trials that nobody needs.

        Of unfinished trials, these are only abandoned half-written files. Of finished ones, checkpoints too, and the
        final weights if the trial is in `weights_of`.
        """
        here = set(self.list_trial_ids())
        asked = [trial_id for trial_id in dict.fromkeys(trial_ids) if trial_id in here]
        finished = self.filter_by_file(asked, RESULT_FILE)
        found = list(self._find_garbage("", PART_PATTERN, "half-written file"))
        for trial_id in asked:
            checkpoints = f"{trial_id}/checkpoints"
            found += self._find_garbage(trial_id, PART_PATTERN, "half-written file")
            found += self._find_garbage(checkpoints, PART_PATTERN, "half-written file")
            if trial_id in finished:
                found += self._find_garbage(checkpoints, CHECKPOINT_PATTERN, "checkpoint of a finished training")
                if trial_id in weights_of:
                    found += self._find_garbage(checkpoints, WEIGHTS_PATTERN, "final weights")
        return found

    def _find_garbage(self, under: str, pattern: re.Pattern[str], kind: GarbageKind) -> Iterator[GarbageFile]:
        for entry in self._runs.list_entries(under, pattern):
            if pattern is not PART_PATTERN or (entry.age is not None and entry.age > ABANDONED_SECONDS):
                yield GarbageFile(f"{under}/{entry.name}".lstrip("/"), kind, entry.bytes)

    def delete_files(self, files: Sequence[GarbageFile]) -> None:
        """Delete garbage files that still exist."""
        for file in files:
            self._runs.remove(file.name)

    def spent(self, sweep_name: str, scale: str, besides: str = "") -> Spending:
        """Return hours and cost of all limited runs of a sweep's scale, except the run `besides`."""
        runs = [run for run in self._read_runs(sweep_name) if run.scale == scale and run.run != besides]
        return Spending(sum(run.hours for run in runs), sum(run.cost for run in runs), len(runs))

    def save_spending(self, sweep_name: str, run: RunSpending) -> None:
        """Write what a run has spent so far, over its earlier note."""
        self._runs.write(f"{sweep_name}{SPENDING_SUFFIX}/{run.run}.json", SPENDING.serialize([run]))

    def _read_runs(self, sweep_name: str) -> list[RunSpending]:
        folder = f"{sweep_name}{SPENDING_SUFFIX}"
        listed = self._runs.names(folder, keep=lambda name: name.endswith(".json") and not name.startswith("."))
        names = [f"{folder}.json", *(f"{folder}/{name}" for name in listed)]
        runs: list[RunSpending] = []
        for name, content in zip(names, self._runs.read_all(names), strict=True):
            if isinstance(content, WorkError):
                raise content
            runs += [] if content is None else SPENDING.parse_file(content, self._runs.path(name))
        return runs

    def _make_begun_check(self) -> HasBegun:
        """Return a check whether any of some trials has begun, which lists the root only once."""
        here = set(self.list_trial_ids())

        def has_begun(trial_ids: Sequence[str]) -> bool:
            candidates = (trial_id for trial_id in trial_ids if trial_id in here)
            return any(self._runs.exists(f"{trial_id}/{name}") for trial_id in candidates for name in _TRACES)

        return has_begun

    def _save_declaration(self, declaration: Declaration) -> None:
        self._runs.write(f"{declaration.sweep}{DECLARATION_SUFFIX}", DECLARATION.serialize(declaration))

    def _read_document(self, kind: DocumentKind[Document], name: str) -> Document | None:
        content = self._runs.read(name)
        return None if content is None else kind.parse_file(content, self._runs.path(name))

    def _read_documents(
        self, trial_ids: Sequence[str], name: str, read: Callable[[TrialFolder, bytes], Document]
    ) -> list[Document | WorkError | None]:
        return self._parse_documents(trial_ids, self.contents(trial_ids, name), read)

    def _parse_documents(
        self,
        trial_ids: Sequence[str],
        contents: Sequence[bytes | WorkError | None],
        read: Callable[[TrialFolder, bytes], Document],
    ) -> list[Document | WorkError | None]:
        found: list[Document | WorkError | None] = []
        for trial_id, content in zip(trial_ids, contents, strict=True):
            try:
                found.append(read(self.trial(trial_id), content) if isinstance(content, bytes) else content)
            except WorkError as error:
                found.append(error)
        return found


def _name_result(trial_id: str) -> str:
    return f"{trial_id}/{RESULT_FILE}"


_PACKED: Final = TypeAdapter(dict[str, tuple[str, str]])


def _pack_results(contents: Mapping[str, bytes], tags: Mapping[str, str]) -> bytes:
    """Return results by trial, each with its file's tag, as compressed JSON."""
    packed = {trial_id: (tags[_name_result(trial_id)], content.decode()) for trial_id, content in contents.items()}
    return zlib.compress(json.dumps(packed, sort_keys=True).encode(), level=1)


def _unpack_results(content: bytes) -> dict[str, tuple[str, str]]:
    return _PACKED.validate_json(zlib.decompress(content))


def _name_archived_search(name: str, study: str) -> str:
    return f"{name}.{study.replace('/', '_')}"


class LedgerSnapshot(Ledger):
    """A ledger that reads each result and declaration once, so that a report and its verdicts agree on the trials."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self._runs = Folder(root, keeps_listing=True)
        self._results: dict[str, Result | WorkError | None] = {}
        self._declarations: dict[str, Declaration | None] = {}

    def results(self, trial_ids: Sequence[str]) -> list[Result | WorkError | None]:
        """Return results as `Ledger.results` does, from the cache."""
        new = [trial_id for trial_id in dict.fromkeys(trial_ids) if trial_id not in self._results]
        self._results.update(zip(new, super().results(new), strict=True))
        return [self._results[trial_id] for trial_id in trial_ids]

    def read_declaration(self, sweep_name: str) -> Declaration | None:
        """Return a declaration as `Ledger.read_declaration` does, from the cache."""
        if sweep_name not in self._declarations:
            self._declarations[sweep_name] = super().read_declaration(sweep_name)
        return self._declarations[sweep_name]
