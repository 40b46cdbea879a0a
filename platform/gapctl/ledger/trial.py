"""One trial's folder, `runs/<trial id>/`.

| file | content |
|---|---|
| `trial.yaml` | resolved configuration, written when the trial begins |
| `lease.json` | which process trains it now |
| `history.parquet` | a row per evaluation |
| `machine.parquet` | use of the machine |
| `steps.parquet` | a row every few training steps: loss, learning rate, gradient norm, temperature |
| `dimensions.parquet`, `axis.parquet` | final embeddings: means by dimension, projections on the gap |
| `clouds.png` | both clouds of the final embeddings in two dimensions |
| `neighbors.png` | some held-out images, their captions, and what is nearest to each |
| `checkpoints/*.pt` | the newest two checkpoints; `final.pt` once it is done |
| `failure.txt`, `stopped.txt` | why the last attempt failed; why a search stopped it |
| `result.json` | final metrics; written last, so it exists if and only if the trial is done |
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import yaml

from gapctl.errors import WorkError
from gapctl.io.files import Folder
from gapctl.ledger.json_files import RESULT, RESULT_FILE, Result, serialize_result
from gapctl.ledger.lease import (
    LEASE_FILE,
    Lease,
    LeaseHandle,
    LeaseOwner,
    acquire_lease,
    has_process_ended,
    parse_lease,
)
from gapctl.plan.plan import Trial
from gapctl.plan.trial_id import RECIPE_VERSION

if TYPE_CHECKING:
    import polars


CONFIGURATION: Final = "trial.yaml"
HISTORY: Final = "history.parquet"
MACHINE: Final = "machine.parquet"
STEPS: Final = "steps.parquet"
DIMENSIONS: Final = "dimensions.parquet"
AXIS: Final = "axis.parquet"
CLOUDS: Final = "clouds.png"
NEIGHBORS: Final = "neighbors.png"
FAILURE: Final = "failure.txt"
STOPPED: Final = "stopped.txt"
"""Why a search stopped the trial, which is then neither failed nor done and keeps its checkpoint and history."""

WEIGHTS: Final = "checkpoints/final.pt"

AXIS_COLUMNS: Final = (["image", "text"], ["image", "text", "image_on_mean", "label"])
"""Columns of `axis.parquet`, in older trials and now."""
REQUIRED_COLUMNS: Final = {
    MACHINE: ["samples_seen", "seconds"],
    STEPS: ["samples_seen", "seconds"],
    DIMENSIONS: ["dimension", "image_mean", "text_mean"],
}
CHECKPOINTS_KEPT = 2
FILES_AT_ONCE = 8


class TrialFolder:
    """Read and write the files of one trial. Each file appears whole or not at all.

    Whoever trains the trial acquires its lease first; results and failures are written only while it is held.
    """

    def __init__(self, runs: Folder, trial_id: str) -> None:
        self._runs = runs
        self.trial_id = trial_id
        self.handle: LeaseHandle | None = None
        self._checkpoints: list[str] | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._writing: list[Future[None]] = []

    def path(self, name: str = "") -> str:
        """Return the address of a file of this trial."""
        return self._runs.path(f"{self.trial_id}/{name}")

    def acquire(self, claimant: LeaseOwner, expired: bytes | None = None) -> Lease | None:
        """Acquire the trial's lease and return None, or return the lease of the process that has it.

        `expired` is the content of a lease that the caller saw go without renewal for `LEASE_SECONDS`.
        """
        found = acquire_lease(self._runs, self.trial_id, claimant, expired)
        if isinstance(found, Lease):
            return found
        self.handle = found
        return None

    def attach(self, lease: Lease) -> None:
        """Attach to a lease that another process acquired: renew it, and write under it."""
        self.handle = LeaseHandle(self._runs, self.trial_id, lease)

    def lease(self) -> Lease | None:
        """Return the trial's lease, or None."""
        return parse_lease(self.read(LEASE_FILE))

    def clear_lease(self, run: str) -> None:
        """Remove the lease if this run, whose process has ended, left it."""
        found = self.lease()
        if found is not None and found.run == run:
            self._runs.remove(f"{self.trial_id}/{LEASE_FILE}")

    def abandon_trial(self, run: str, message: str) -> Lease | None:
        """Record why this run's process, which has ended, did not finish the trial, and remove its lease.

        If another run has taken the trial since, do neither and return its lease. Whether that run still trains is
        judged by its renewals, as clocks of machines differ.
        """
        found = self.lease()
        if found is not None and found.run != run and not has_process_ended(found.process):
            return found
        self.write(FAILURE, message.encode())
        self.clear_lease(run)
        return None

    def read(self, name: str) -> bytes | None:
        """Return the content of one of the trial's files, or None if it has none of that name."""
        return self._runs.read(f"{self.trial_id}/{name}")

    def write(self, name: str, content: bytes) -> None:
        """Write one of the trial's files atomically."""
        place = f"{self.trial_id}/{name}"
        if self._pool is None:
            self._runs.write(place, content)
        else:
            self._writing.append(self._pool.submit(self._runs.write, place, content))

    @contextmanager
    def write_in_parallel(self) -> Iterator[None]:
        """Write the files of this block, each of another name, side by side; all are there once it ends.

        A disk makes several files safe from a power cut in the time of one, and a store takes several at once.
        """
        with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
            self._pool = pool
            try:
                yield
            finally:
                self._pool, writing, self._writing = None, self._writing, []
        for write in writing:
            write.result()

    def read_text(self, name: str) -> str | None:
        """Return a text such as `failure.txt`, or None. Raises WorkError if `trial.yaml` is damaged."""
        content = self.read(name)
        if content is None or name != CONFIGURATION:
            return None if content is None else decode_failure(content)
        try:
            return content.decode()
        except UnicodeDecodeError as error:
            raise self.damaged(name, str(error)) from error

    def read_table(self, name: str) -> "polars.DataFrame | None":
        """Return a parquet file such as `history.parquet`, or None. Raises WorkError if it is damaged."""
        content = self.read(name)
        return None if content is None else self.parse_table(name, content)

    def parse_table(self, name: str, content: bytes) -> "polars.DataFrame":
        """Parse the content of a parquet file. Raises WorkError if it is damaged or has other columns."""
        import polars as pl

        try:
            found = pl.read_parquet(io.BytesIO(content))
        except (pl.exceptions.PolarsError, OSError) as error:
            raise self.damaged(name, str(error)) from error
        sound = set(REQUIRED_COLUMNS.get(name, ())) <= set(found.columns)
        if name == AXIS:
            sound = found.columns in AXIS_COLUMNS and all(kind.is_numeric() for kind in found.dtypes)
        if not sound:
            raise self.damaged(name, f"its columns are {', '.join(found.columns)}")
        return found

    def write_table(self, name: str, table: "polars.DataFrame") -> None:
        """Write a parquet file."""
        buffer = io.BytesIO()
        table.write_parquet(buffer)
        self.write(name, buffer.getvalue())

    def begin(self, trial: Trial) -> None:
        """Write `trial.yaml`, and remove the records of an earlier failure or of a stop by a search."""
        if self.read(CONFIGURATION) is None:
            self.write(CONFIGURATION, yaml.safe_dump(describe_trial(trial), sort_keys=False).encode())
            self._remember_checkpoints([])  # nobody began it before, so there is none to list
        self._runs.remove(f"{self.trial_id}/{FAILURE}")
        self._runs.remove(f"{self.trial_id}/{STOPPED}")

    def began(self) -> float | None:
        """Return when the trial first began, in seconds since 1970, or None if it has not."""
        return self._runs.modified(f"{self.trial_id}/{CONFIGURATION}")

    def heartbeat(self, samples_seen: int) -> None:
        """Renew the lease and record the samples seen. Raises LeaseLostError if another process has taken it over."""
        if self.handle is not None:
            self.handle.renew_lease(samples_seen)

    def release(self) -> None:
        """Release the lease, so that any process can resume the trial from its checkpoint."""
        if self.handle is not None:
            self.handle.release()
            self.handle = self._checkpoints = None

    def save_checkpoint(self, samples_seen: int, content: bytes) -> None:
        """Write a checkpoint and keep the newest two, so that a damaged newest one costs little."""
        name = f"{samples_seen:012d}.pt"
        self.write(f"checkpoints/{name}", content)
        names = sorted({*self._list_checkpoints(), name})
        self._remove_checkpoints(names[:-CHECKPOINTS_KEPT])
        self._remember_checkpoints(names[-CHECKPOINTS_KEPT:])

    def checkpoints(self) -> list[tuple[str, bytes]]:
        """Return addresses and contents of the checkpoints, newest first."""
        names = [f"checkpoints/{name}" for name in reversed(self._list_checkpoints())]
        contents = [(self.path(name), self.read(name)) for name in names]
        return [(path, content) for path, content in contents if content is not None]

    def save_rows(self, name: str, rows: Sequence[Mapping[str, float]]) -> None:
        """Write rows of numbers: evaluations (HISTORY), or MACHINE and STEPS, on which no result depends."""
        import polars as pl

        self.write_table(name, pl.DataFrame([dict(row) for row in rows], infer_schema_length=None))

    def save_history(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Write `history.parquet`: a row per evaluation, a column per metric."""
        self.save_rows(HISTORY, rows)

    def save_steps(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Write `steps.parquet`: a row every few training steps. Older trials have none."""
        self.save_rows(STEPS, rows)

    def read_steps_or_empty(self) -> list[dict[str, float]]:
        """Return the rows of `steps.parquet`."""
        return self.read_rows_or_empty(STEPS)

    def read_rows_or_empty(self, name: str) -> list[dict[str, float]]:
        """Return the rows of MACHINE or STEPS without missing values; [] if the file is missing or damaged."""
        try:
            found = self.read_table(name)
        except WorkError:
            return []
        rows = () if found is None else found.iter_rows(named=True)
        return [{key: value for key, value in row.items() if value is not None} for row in rows]

    def save_dimensions(self, image_mean_D: Sequence[float], text_mean_D: Sequence[float]) -> None:
        """Write `dimensions.parquet`: a row per embedding dimension with each modality's mean coordinate.

        The difference of the means is the gap vector. Trials of recipe 2 and before have none.
        """
        import polars as pl

        columns = {"image_mean": list(image_mean_D), "text_mean": list(text_mean_D)}
        self.write_table(DIMENSIONS, pl.DataFrame(columns).with_row_index("dimension"))

    def save_axis(
        self, image_N: Sequence[float], text_N: Sequence[float], on_mean_N: Sequence[float], label_N: Sequence[int]
    ) -> None:
        """Write `axis.parquet`: a row per pair of the gallery, with its image's and text's projections on the gap.

        That is the unit vector from mean text to mean image. `on_mean_N` is the image's projection on the mean image,
        `label_N` its class.
        """
        import polars as pl

        places = {"image": image_N, "text": text_N, "image_on_mean": on_mean_N}
        columns = {name: pl.Series(values, dtype=pl.Float32) for name, values in places.items()}
        self.write_table(AXIS, pl.DataFrame({**columns, "label": pl.Series(label_N, dtype=pl.Int32)}))

    def save_clouds(self, picture: bytes) -> None:
        """Write `clouds.png`. Older trials have none."""
        self.write(CLOUDS, picture)

    def save_neighbors(self, picture: bytes) -> None:
        """Write `neighbors.png`. Older trials have none."""
        self.write(NEIGHBORS, picture)

    def finish(self, result: Result, weights: bytes) -> None:
        """Write the final weights, remove the checkpoints, and last of all write `result.json`; release the lease.

        Raises LeaseLostError, and writes nothing, if another process has taken the trial over.
        """
        if self.handle is not None:
            self.handle.require_ownership()
        self.write(WEIGHTS, weights)
        self.write(RESULT_FILE, serialize_result(result))
        self._remove_checkpoints(self._list_checkpoints())
        self.release()

    def result(self) -> Result | None:
        """Return the result of a finished trial, or None. Raises WorkError if the file is damaged."""
        content = self.read(RESULT_FILE)
        return None if content is None else self.parse_result(content)

    def parse_result(self, content: bytes) -> Result:
        """Parse the content of `result.json`. Raises WorkError if it is damaged."""
        try:
            result = RESULT.parse(content)
        except ValueError as error:
            raise self.damaged(RESULT_FILE, str(error)) from error
        if result.trial != self.trial_id:
            raise self.damaged(RESULT_FILE, f"it is the result of trial {result.trial}")
        return result

    def fail(self, message: str) -> None:
        """Write the traceback of a failed training and release the lease.

        Raises LeaseLostError, and writes nothing, if another process has taken the trial over.
        """
        if self.handle is not None:
            self.handle.require_ownership()
        self.write(FAILURE, message.encode())
        self.release()

    def damaged(self, name: str, reason: str) -> WorkError:
        """Return the error for a damaged file, with what is wrong and how to get a sound one."""
        return WorkError(
            f"{self.path(name)}: damaged: {reason}; "
            f"expected what a finished trial writes. Move the folder {self.path()} away and run the sweep again: "
            "it trains this trial anew and no other"
        )

    def _list_checkpoints(self) -> list[str]:
        if self._checkpoints is not None:
            return self._checkpoints
        names = self._runs.names(
            f"{self.trial_id}/checkpoints", keep=lambda name: name[:-3].isdigit() and name.endswith(".pt")
        )
        self._remember_checkpoints(names)
        return names

    def _remember_checkpoints(self, names: list[str]) -> None:
        """Remember the names while the lease is held: nobody else writes any, and to list them again costs requests."""
        self._checkpoints = names if self.handle is not None else None

    def _remove_checkpoints(self, names: Sequence[str]) -> None:
        for name in names:
            self._runs.remove(f"{self.trial_id}/checkpoints/{name}")


def decode_failure(content: bytes) -> str:
    """Return the text of a failure file."""
    return content.decode(errors="replace")


def describe_trial(trial: Trial) -> dict[str, object]:
    """Return the content of `trial.yaml`: enough to rerun the trial without the sweep file."""
    return {
        "trial": trial.id,
        "label": trial.label,
        "seed": trial.seed,
        "data_fingerprint": trial.data_fingerprint,
        **({"parent": trial.parent} if trial.parent else {}),
        **({"model_fingerprint": trial.model_fingerprint} if trial.model_fingerprint else {}),
        "recipe_version": RECIPE_VERSION,
        **({"extensions": {name: asdict(code) for name, code in trial.extensions.items()}} if trial.extensions else {}),
        **_describe_sets(trial),
        "config": trial.config.model_dump(mode="json"),
    }


def _describe_sets(trial: Trial) -> dict[str, object]:
    """Return the evaluation sets of a trial, with the fingerprint of each; nothing where it has none."""
    sets = {
        name: {
            "fingerprint": each.fingerprint,
            "definition": each.definition.model_dump(mode="json", exclude_defaults=True),
        }
        for name, each in trial.evaluation_sets.items()
    }
    return {"evaluation_sets": sets} if sets else {}
