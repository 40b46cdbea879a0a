"""One trial's folder, `runs/<trial id>/`.

| file | content |
|---|---|
| `trial.yaml` | resolved configuration, written when the trial begins |
| `lease.json` | which process trains it now |
| `history.parquet` | a row per evaluation |
| `machine.parquet` | use of the machine |
| `dimensions.parquet`, `axis.parquet` | final embeddings: means by dimension, projections on the gap |
| `checkpoints/*.pt` | the newest two checkpoints; `final.pt` once it is done |
| `failure.txt`, `stopped.txt` | why the last attempt failed; why a search stopped it |
| `result.json` | final metrics; written last, so it exists if and only if the trial is done |
"""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import yaml

from gapctl.errors import WorkError
from gapctl.io.files import Folder
from gapctl.ledger.documents import RESULT_FILE, Result, parse_result, serialize_result
from gapctl.ledger.lease import LEASE_FILE, Lease, LeaseHandle, LeaseOwner, acquire_lease, is_gone, parse_lease
from gapctl.plan.plan import RECIPE_VERSION, Trial

if TYPE_CHECKING:
    import polars


CONFIGURATION: Final = "trial.yaml"
HISTORY: Final = "history.parquet"
MACHINE: Final = "machine.parquet"
DIMENSIONS: Final = "dimensions.parquet"
AXIS: Final = "axis.parquet"
FAILURE: Final = "failure.txt"
STOPPED: Final = "stopped.txt"
"""Why a search stopped the trial, which is then neither failed nor done and keeps its checkpoint and history."""

CHECKPOINTS_KEPT = 2


class TrialFolder:
    """Read and write the files of one trial. Each file appears whole or not at all.

    Whoever trains the trial acquires its lease first; results and failures are written only while it is held.
    """

    def __init__(self, runs: Folder, trial_id: str) -> None:
        self._runs = runs
        self.trial_id = trial_id
        self.handle: LeaseHandle | None = None

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
        return parse_lease(self._read_file(LEASE_FILE))

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
        if found is not None and found.run != run and not is_gone(found.process):
            return found
        self._write_file(FAILURE, message.encode())
        self.clear_lease(run)
        return None

    def begin(self, trial: Trial) -> None:
        """Write `trial.yaml`, and remove the records of an earlier failure or of a stop by a search."""
        if self._read_file(CONFIGURATION) is None:
            self._write_file(CONFIGURATION, yaml.safe_dump(describe_trial(trial), sort_keys=False).encode())
        self._runs.remove(f"{self.trial_id}/{FAILURE}")
        self._runs.remove(f"{self.trial_id}/{STOPPED}")

    def trial_yaml(self) -> str | None:
        """Return the configuration as it was when the trial began, or None."""
        content = self._read_file(CONFIGURATION)
        try:
            return None if content is None else content.decode()
        except UnicodeDecodeError as error:
            raise self.damaged(CONFIGURATION, str(error)) from error

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
            self.handle = None

    def read_live_samples(self) -> int | None:
        """Return the samples seen by a training in progress, or None if no process has reported lately."""
        lease = self.lease()
        return lease.samples_seen if lease is not None and lease.seems_alive else None

    def save_checkpoint(self, samples_seen: int, content: bytes) -> None:
        """Write a checkpoint and keep the newest two, so that a damaged newest one costs little."""
        self._write_file(f"checkpoints/{samples_seen:012d}.pt", content)
        for name in self._list_checkpoints()[:-CHECKPOINTS_KEPT]:
            self._runs.remove(f"{self.trial_id}/checkpoints/{name}")

    def checkpoints(self) -> list[tuple[str, bytes]]:
        """Return addresses and contents of the checkpoints, newest first."""
        found = []
        for name in reversed(self._list_checkpoints()):
            content = self._read_file(f"checkpoints/{name}")
            if content is not None:
                found.append((self.path(f"checkpoints/{name}"), content))
        return found

    def save_history(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Write `history.parquet`: a row per evaluation, a column per metric."""
        import polars as pl

        self._write_table(HISTORY, pl.DataFrame([dict(row) for row in rows], infer_schema_length=None))

    def history(self) -> "polars.DataFrame | None":
        """Return the evaluations over training, or None if there are none yet."""
        content = self.read_history_file()
        return None if content is None else self._parse_table(HISTORY, content)

    def read_history_file(self) -> bytes | None:
        """Return the bytes of `history.parquet`, or None."""
        return self._read_file(HISTORY)

    def save_machine(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Write `machine.parquet`: use of the machine by `samples_seen` and `seconds` of work.

        It differs between runs of the same trial, and no result depends on it.
        """
        import polars as pl

        self._write_table(MACHINE, pl.DataFrame([dict(row) for row in rows], infer_schema_length=None))

    def read_machine_rows(self) -> list[dict[str, float]]:
        """Return the rows of `machine.parquet` without missing values; [] if it is missing or damaged."""
        content = self._read_file(MACHINE)
        try:
            found = None if content is None else self._parse_table(MACHINE, content)
        except WorkError:
            return []
        if found is None or not {"samples_seen", "seconds"} <= set(found.columns):
            return []
        return [{key: value for key, value in row.items() if value is not None} for row in found.iter_rows(named=True)]

    def save_dimensions(self, image_mean_D: Sequence[float], text_mean_D: Sequence[float]) -> None:
        """Write `dimensions.parquet`: a row per embedding dimension with each modality's mean coordinate."""
        import polars as pl

        columns = {"image_mean": list(image_mean_D), "text_mean": list(text_mean_D)}
        self._write_table(DIMENSIONS, pl.DataFrame(columns).with_row_index("dimension"))

    def dimensions(self) -> "polars.DataFrame | None":
        """Return `dimension`, `image_mean` and `text_mean` at the end of training, or None if there are none.

        A row per embedding dimension; the difference of the means is the gap vector. Trials of recipe 2 and before have
        none.
        """
        content = self._read_file(DIMENSIONS)
        return None if content is None else self.parse_dimensions(content)

    def parse_dimensions(self, content: bytes) -> "polars.DataFrame":
        """Parse the content of `dimensions.parquet`. Raises WorkError if it is damaged."""
        found = self._parse_table(DIMENSIONS, content)
        if not {"dimension", "image_mean", "text_mean"} <= set(found.columns):
            raise self.damaged(DIMENSIONS, f"its columns are {', '.join(found.columns)}")
        return found

    def save_axis(
        self, image_N: Sequence[float], text_N: Sequence[float], on_mean_N: Sequence[float], label_N: Sequence[int]
    ) -> None:
        """Write `axis.parquet`: a row per pair of the gallery, with its image's and text's projections on the gap.

        `on_mean_N` is the image's projection on the mean image, `label_N` its class.
        """
        import polars as pl

        places = {"image": image_N, "text": text_N, "image_on_mean": on_mean_N}
        columns = {name: pl.Series(values, dtype=pl.Float32) for name, values in places.items()}
        self._write_table(AXIS, pl.DataFrame({**columns, "label": pl.Series(label_N, dtype=pl.Int32)}))

    def axis(self) -> "polars.DataFrame | None":
        """Return each gallery pair's projections on the unit vector from mean text to mean image, or None.

        Columns are `image` and `text`, and in newer trials `image_on_mean` and `label`. Not every trial has the file.
        """
        content = self._read_file(AXIS)
        return None if content is None else self.parse_axis(content)

    def parse_axis(self, content: bytes) -> "polars.DataFrame":
        """Parse the content of `axis.parquet`. Raises WorkError if it is damaged."""
        found = self._parse_table(AXIS, content)
        numbers = all(kind.is_numeric() for kind in found.dtypes)
        if not numbers or found.columns not in (["image", "text"], ["image", "text", "image_on_mean", "label"]):
            raise self.damaged(AXIS, f"its columns are {', '.join(found.columns)}")
        return found

    def finish(self, result: Result, weights: bytes) -> None:
        """Write the final weights, remove the checkpoints, and last of all write `result.json`; release the lease.

        Raises LeaseLostError, and writes nothing, if another process has taken the trial over.
        """
        if self.handle is not None:
            self.handle.require_ownership()
        self._write_file("checkpoints/final.pt", weights)
        self._write_file(RESULT_FILE, serialize_result(result))
        for name in self._list_checkpoints():
            self._runs.remove(f"{self.trial_id}/checkpoints/{name}")
        self.release()

    def weights(self) -> bytes | None:
        """Return the final weights of a finished trial, or None."""
        return self._read_file("checkpoints/final.pt")

    def result(self) -> Result | None:
        """Return the result of a finished trial, or None. Raises WorkError if the file is damaged."""
        content = self._read_file(RESULT_FILE)
        return None if content is None else self.parse_result(content)

    def parse_result(self, content: bytes) -> Result:
        """Parse the content of `result.json`. Raises WorkError if it is damaged."""
        try:
            result = parse_result(content)
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
        self._write_file(FAILURE, message.encode())
        self.release()

    def failure(self) -> str | None:
        """Return the traceback of the last attempt if it failed, or None."""
        content = self._read_file(FAILURE)
        return None if content is None else decode_failure(content)

    def stop(self, reason: str) -> None:
        """Record that a search stopped the trial. It can be resumed from its checkpoint."""
        self._write_file(STOPPED, reason.encode())

    def read_stop_reason(self) -> str | None:
        """Return why a search stopped the trial, or None."""
        content = self._read_file(STOPPED)
        return None if content is None else content.decode(errors="replace")

    def damaged(self, name: str, reason: str) -> WorkError:
        """Return the error for a damaged file, with what is wrong and how to get a sound one."""
        return WorkError(
            f"{self.path(name)}: damaged: {reason}; "
            f"expected what a finished trial writes. Move the folder {self.path()} away and run the sweep again: "
            "it trains this trial anew and no other"
        )

    def _list_checkpoints(self) -> list[str]:
        return self._runs.names(
            f"{self.trial_id}/checkpoints", keep=lambda name: name[:-3].isdigit() and name.endswith(".pt")
        )

    def _write_table(self, name: str, table: "polars.DataFrame") -> None:
        buffer = io.BytesIO()
        table.write_parquet(buffer)
        self._write_file(name, buffer.getvalue())

    def _parse_table(self, name: str, content: bytes) -> "polars.DataFrame":
        import polars as pl

        try:
            return pl.read_parquet(io.BytesIO(content))
        except (pl.exceptions.PolarsError, OSError) as error:
            raise self.damaged(name, str(error)) from error

    def _read_file(self, name: str) -> bytes | None:
        return self._runs.read(f"{self.trial_id}/{name}")

    def _write_file(self, name: str, content: bytes) -> None:
        self._runs.write(f"{self.trial_id}/{name}", content)


def decode_failure(content: bytes) -> str:
    """Return the text of a failure file."""
    return content.decode(errors="replace")


def describe_trial(trial: Trial) -> dict[str, Any]:
    """Return the content of `trial.yaml`: enough to rerun the trial without the sweep file."""
    return {
        "trial": trial.id,
        "label": trial.label,
        "seed": trial.seed,
        "data_fingerprint": trial.data_fingerprint,
        **({"parent": trial.parent} if trial.parent else {}),
        "recipe_version": RECIPE_VERSION,
        "config": trial.config.model_dump(mode="json"),
    }
