"""One trial's folder: its resolved configuration, history, checkpoints and, once it is done, its result."""

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
"""Why a search stopped the trial: neither failed nor done, with its checkpoint and history."""

CHECKPOINTS_KEPT = 2


class TrialFolder:
    """`runs/<trial id>/`; every file in it is written whole or not at all.

    Who trains the trial takes its lease first, and what it then writes says whose it is.
    """

    def __init__(self, runs: Folder, trial_id: str) -> None:
        self._runs = runs
        self.trial_id = trial_id
        self.hold: LeaseHandle | None = None

    def path(self, name: str = "") -> str:
        """The address of a file of this trial."""
        return self._runs.path(f"{self.trial_id}/{name}")

    def take(self, claimant: LeaseOwner, expired: bytes | None = None) -> Lease | None:
        """Makes the trial this process's to train, or returns the lease of the one that has it.

        `expired` is the content of a lease that the caller saw go without renewal for its time.
        """
        found = acquire_lease(self._runs, self.trial_id, claimant, expired)
        if isinstance(found, Lease):
            return found
        self.hold = found
        return None

    def share(self, lease: Lease) -> None:
        """Takes part in the training whose lease another process took: renews it, and writes in its name."""
        self.hold = LeaseHandle(self._runs, self.trial_id, lease)

    def lease(self) -> Lease | None:
        """Whose the trial is, or None."""
        return parse_lease(self._read_file(LEASE_FILE))

    def clear_lease(self, run: str) -> None:
        """Removes what a process of this run, which has ended, left."""
        found = self.lease()
        if found is not None and found.run == run:
            self._runs.remove(f"{self.trial_id}/{LEASE_FILE}")

    def abandon_trial(self, run: str, message: str) -> Lease | None:
        """Keeps why this run's process, which has ended, did not finish the trial, and removes the lease that it left.

        Does neither where another run took the trial since, whose lease it returns: clocks of machines differ, so
        whether that one still trains is for its renewals to show.
        """
        found = self.lease()
        if found is not None and found.run != run and not is_gone(found.process):
            return found
        self._write_file(FAILURE, message.encode())
        self.clear_lease(run)
        return None

    def begin(self, trial: Trial) -> None:
        """Writes `trial.yaml` and forgets an earlier failure, and that a search had stopped it."""
        if self._read_file(CONFIGURATION) is None:
            self._write_file(CONFIGURATION, yaml.safe_dump(describe_trial(trial), sort_keys=False).encode())
        self._runs.remove(f"{self.trial_id}/{FAILURE}")
        self._runs.remove(f"{self.trial_id}/{STOPPED}")

    def trial_yaml(self) -> str | None:
        """The resolved configuration as it was when the trial began, or None."""
        content = self._read_file(CONFIGURATION)
        try:
            return None if content is None else content.decode()
        except UnicodeDecodeError as error:
            raise self.damaged(CONFIGURATION, str(error)) from error

    def began(self) -> float | None:
        """When the trial first began, in seconds since 1970, or None where it has not."""
        return self._runs.modified(f"{self.trial_id}/{CONFIGURATION}")

    def heartbeat(self, samples_seen: int) -> None:
        """Says that the trial is being trained now; raises LeaseLostError where another process took it over."""
        if self.hold is not None:
            self.hold.renew_lease(samples_seen)

    def rest(self) -> None:
        """Says that this process trains the trial no more; it goes on from its checkpoint."""
        if self.hold is not None:
            self.hold.release()
            self.hold = None

    def read_live_samples(self) -> int | None:
        """How far a live training has come, or None where none has reported lately."""
        lease = self.lease()
        return lease.samples_seen if lease is not None and lease.seems_alive else None

    def save_checkpoint(self, samples_seen: int, content: bytes) -> None:
        """Keeps the newest two checkpoints, so that a damaged newest one costs little."""
        self._write_file(f"checkpoints/{samples_seen:012d}.pt", content)
        for name in self._list_checkpoints()[:-CHECKPOINTS_KEPT]:
            self._runs.remove(f"{self.trial_id}/checkpoints/{name}")

    def checkpoints(self) -> list[tuple[str, bytes]]:
        """The saved checkpoints, newest first, each with its address."""
        found = []
        for name in reversed(self._list_checkpoints()):
            content = self._read_file(f"checkpoints/{name}")
            if content is not None:
                found.append((self.path(f"checkpoints/{name}"), content))
        return found

    def save_history(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Writes `history.parquet`: a row per evaluation, a column per metric."""
        import polars as pl

        self._write_table(HISTORY, pl.DataFrame([dict(row) for row in rows], infer_schema_length=None))

    def history(self) -> "polars.DataFrame | None":
        """The evaluations over training, or None where there are none yet."""
        content = self.read_history_file()
        return None if content is None else self._parse_table(HISTORY, content)

    def read_history_file(self) -> bytes | None:
        """`history.parquet` as it lies there, or None."""
        return self._read_file(HISTORY)

    def save_machine(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Writes `machine.parquet`: what the process asked of its machine, by `samples_seen` and `seconds` of work.

        No two runs of a trial write the same, and nothing is computed from it.
        """
        import polars as pl

        self._write_table(MACHINE, pl.DataFrame([dict(row) for row in rows], infer_schema_length=None))

    def read_machine_rows(self) -> list[dict[str, float]]:
        """The rows of `machine.parquet`, each with what was measured; none where it is missing or damaged."""
        content = self._read_file(MACHINE)
        try:
            found = None if content is None else self._parse_table(MACHINE, content)
        except WorkError:
            return []
        if found is None or not {"samples_seen", "seconds"} <= set(found.columns):
            return []
        return [{key: value for key, value in row.items() if value is not None} for row in found.iter_rows(named=True)]

    def save_dimensions(self, image_mean_D: Sequence[float], text_mean_D: Sequence[float]) -> None:
        """Writes `dimensions.parquet`: a row per embedding dimension with both modalities' mean coordinates there."""
        import polars as pl

        columns = {"image_mean": list(image_mean_D), "text_mean": list(text_mean_D)}
        self._write_table(DIMENSIONS, pl.DataFrame(columns).with_row_index("dimension"))

    def dimensions(self) -> "polars.DataFrame | None":
        """`dimension`, `image_mean` and `text_mean` by embedding dimension at the end, or None where there are none.

        Their difference is the gap's vector. Trials of recipe 2 and before kept none.
        """
        content = self._read_file(DIMENSIONS)
        return None if content is None else self.parse_dimensions(content)

    def parse_dimensions(self, content: bytes) -> "polars.DataFrame":
        """The same of the file's content; raises WorkError where it is damaged."""
        found = self._parse_table(DIMENSIONS, content)
        if not {"dimension", "image_mean", "text_mean"} <= set(found.columns):
            raise self.damaged(DIMENSIONS, f"its columns are {', '.join(found.columns)}")
        return found

    def save_axis(
        self, image_N: Sequence[float], text_N: Sequence[float], on_mean_N: Sequence[float], label_N: Sequence[int]
    ) -> None:
        """Writes `axis.parquet`: a row per pair of the gallery, with where its image and text lie along the gap.

        `on_mean_N` is where the image lies along the mean image, and `label_N` what it shows.
        """
        import polars as pl

        places = {"image": image_N, "text": text_N, "image_on_mean": on_mean_N}
        columns = {name: pl.Series(values, dtype=pl.Float32) for name, values in places.items()}
        self._write_table(AXIS, pl.DataFrame({**columns, "label": pl.Series(label_N, dtype=pl.Int32)}))

    def axis(self) -> "polars.DataFrame | None":
        """`image` and `text` by pair of the gallery: projections on the unit vector from mean text to mean image.

        `image_on_mean` and `label` stand beside them, but in trials of earlier versions. None where there is no such
        file: not every trial kept it.
        """
        content = self._read_file(AXIS)
        return None if content is None else self.parse_axis(content)

    def parse_axis(self, content: bytes) -> "polars.DataFrame":
        """The same of the file's content; raises WorkError where it is damaged."""
        found = self._parse_table(AXIS, content)
        numbers = all(kind.is_numeric() for kind in found.dtypes)
        if not numbers or found.columns not in (["image", "text"], ["image", "text", "image_on_mean", "label"]):
            raise self.damaged(AXIS, f"its columns are {', '.join(found.columns)}")
        return found

    def finish(self, result: Result, weights: bytes) -> None:
        """Keeps the final weights, drops the checkpoints, and last of all writes `result.json`.

        Raises LeaseLostError, and writes nothing, where another process took the trial over.
        """
        if self.hold is not None:
            self.hold.require_ownership()
        self._write_file("checkpoints/final.pt", weights)
        self._write_file(RESULT_FILE, serialize_result(result))
        for name in self._list_checkpoints():
            self._runs.remove(f"{self.trial_id}/checkpoints/{name}")
        self.rest()

    def weights(self) -> bytes | None:
        """The final weights of a finished trial, or None."""
        return self._read_file("checkpoints/final.pt")

    def result(self) -> Result | None:
        """The result of a finished trial, or None; raises WorkError where the file is damaged."""
        content = self._read_file(RESULT_FILE)
        return None if content is None else self.parse_result(content)

    def parse_result(self, content: bytes) -> Result:
        """The result in the file's content; raises WorkError where it is damaged."""
        try:
            result = parse_result(content)
        except ValueError as error:
            raise self.damaged(RESULT_FILE, str(error)) from error
        if result.trial != self.trial_id:
            raise self.damaged(RESULT_FILE, f"it is the result of trial {result.trial}")
        return result

    def fail(self, message: str) -> None:
        """Keeps the traceback of a training that went wrong.

        Raises LeaseLostError, and writes nothing, where another process took the trial over.
        """
        if self.hold is not None:
            self.hold.require_ownership()
        self._write_file(FAILURE, message.encode())
        self.rest()

    def failure(self) -> str | None:
        """The traceback of the last attempt, if it failed."""
        content = self._read_file(FAILURE)
        return None if content is None else decode_failure(content)

    def stop(self, reason: str) -> None:
        """Says that a search stopped the trial; whoever trains it goes on from its checkpoint."""
        self._write_file(STOPPED, reason.encode())

    def read_stop_reason(self) -> str | None:
        """Why a search stopped the trial, or None."""
        content = self._read_file(STOPPED)
        return None if content is None else content.decode(errors="replace")

    def damaged(self, name: str, reason: str) -> WorkError:
        """The error that says what is wrong with one of its files, and how to get a sound one."""
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
    """The traceback in a failure's file."""
    return content.decode(errors="replace")


def describe_trial(trial: Trial) -> dict[str, Any]:
    """What `trial.yaml` says: enough to rerun the trial without the sweep file."""
    return {
        "trial": trial.id,
        "label": trial.label,
        "seed": trial.seed,
        "data_fingerprint": trial.data_fingerprint,
        **({"parent": trial.parent} if trial.parent else {}),
        "recipe_version": RECIPE_VERSION,
        "config": trial.config.model_dump(mode="json"),
    }
