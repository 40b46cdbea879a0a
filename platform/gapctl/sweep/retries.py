"""Retry lost processes, and explain failures.

A trial may be lost any number of times as long as its checkpoint advances in between.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ray.tune.experiment import Trial as TuneTrial

from gapctl.sweep.progress import WorkerReport
from gapctl.sweep.spot_notice import MACHINE_TAKEN_TEXT

RETRIES: Final = 3
"""Retries of a trial from one and the same checkpoint."""
RAY_MEMORY_KILL_TEXTS: Final = ("memory usage threshold", "running low on memory")
"""Texts in the error of a process that Ray's memory monitor killed, and in no other."""
TASK_ERROR_TEXT: Final = "RayTaskError("
"""Text in the error of a live process in which a task raised."""
MEMORY_ADVICE: Final = (
    "let fewer trials run at once (more resources.cpus for each) or fewer share a process (resources.pack), give "
    "train.micro_batches, or take a machine with more memory"
)


@dataclass
class _RetryState:
    """Retry state of one process's trials: samples at the checkpoint, and losses since it last advanced."""

    saved: int = 0
    losses: int = 0
    counted: int = 0
    for_memory: int = 0


class RetryBudget:
    """Tells Tune how many more losses each of its trials may have: `RETRIES` since the last checkpoint.

    So a trial on spot machines may be lost any number of times, and one that crashes its process is soon given up.
    """

    def __init__(self) -> None:
        self._states: defaultdict[str, _RetryState] = defaultdict(_RetryState)
        self._saved: dict[str, int] = {}
        self._kernel_kills = count_kernel_kills()

    def note_checkpoints(self, tune_trial: TuneTrial, reports: Sequence[WorkerReport]) -> None:
        """Record new checkpoints. If one advanced, reset the count of losses."""
        state = self._states[tune_trial.trial_id]
        for report in reports:
            if "saved" in report:
                self._saved[report["trial"]] = max(report["saved"], self._saved.get(report["trial"], 0))
        saved = sum(self._saved.get(trial_id, 0) for trial_id in tune_trial.config["pack"])
        if saved > state.saved:
            state.saved, state.losses, state.for_memory = saved, 0, 0
            tune_trial.max_failures = tune_trial.num_failures + RETRIES

    def count_failure(self, tune_trial: TuneTrial) -> None:
        """Count a loss, unless it was announced, to Ray or to the process (a machine that was to be taken away)."""
        state = self._states[tune_trial.trial_id]
        if tune_trial.num_failures > state.counted:
            state.counted = tune_trial.num_failures
            last_failure = _extract_last_failure(str(tune_trial.get_error() or ""))
            state.losses += MACHINE_TAKEN_TEXT not in last_failure
            before, self._kernel_kills = self._kernel_kills, count_kernel_kills()
            state.for_memory += self._kernel_kills > before or any(
                words in last_failure for words in RAY_MEMORY_KILL_TEXTS
            )
        tune_trial.max_failures = tune_trial.num_failures + RETRIES - state.losses

    def explain_failure(self, tune_trial: TuneTrial) -> str:
        """Return Tune's error of a trial that was given up, with a last line in plain words."""
        self.count_failure(tune_trial)
        state, error_text = self._states[tune_trial.trial_id], str(tune_trial.get_error() or "").strip()
        if error_text.rpartition("\n")[2].startswith("gapctl."):
            return error_text
        if TASK_ERROR_TEXT in _extract_last_failure(error_text):
            return f"{error_text}\nan error outside its training ended it: {error_text.splitlines()[-1]}"
        times = "once" if state.losses == 1 else f"{state.losses} times"
        place = f"{times} at the same place, after {state.saved:,} samples"
        if state.for_memory:
            why = f"its process was ended for want of memory, {place}: {MEMORY_ADVICE}"
        else:
            why = (
                f"its process vanished {place}. Most likely its machine had too little memory (`dmesg` then says so) "
                f"or a library crashed; against the first, {MEMORY_ADVICE}"
            )
        return f"{error_text}\n{why}".strip()


def _extract_last_failure(error_text: str) -> str:
    """Return the last failure in Tune's error file, which lists all of them."""
    return error_text.rpartition("Failure # ")[2]


def count_kernel_kills(counts: Path = Path("/proc/vmstat")) -> int:
    """Return how many processes the kernel has killed for lack of memory since boot; 0 if unknown."""
    try:
        lines = counts.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
