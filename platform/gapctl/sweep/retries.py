"""Processes that vanish: forgiven as long as a trial gets on between two of them, and explained where it does not."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

RETRIES: Final = 3
"""How often a trial is tried again from one and the same checkpoint."""
RAY_MEMORY_KILL_TEXTS: Final = ("memory usage threshold", "running low on memory")
"""What Ray says of a process that its memory monitor ended, and of no other."""
TASK_ERROR_TEXT: Final = "RayTaskError("
"""What it says of a process that is well, in which something raised."""
MEMORY_ADVICE: Final = (
    "let fewer trials run at once (more resources.cpus for each) or fewer share a process (resources.pack), give "
    "train.micro_batches, or take a machine with more memory"
)


@dataclass
class _RetryState:
    """Of one process's trials: where their checkpoints stand, and how often it was lost since they last moved."""

    saved: int = 0
    losses: int = 0
    counted: int = 0
    for_memory: int = 0


class RetryBudget:
    """Tells Tune how many more losses each of its trials may have: `RETRIES` since the last checkpoint.

    So a trial on spot machines may be lost any number of times, and one that ends its own process is given up soon.
    """

    def __init__(self) -> None:
        self._courses: dict[str, _RetryState] = {}
        self._saved: dict[str, int] = {}
        self._kernel_kills = count_kernel_kills()

    def progressed(self, tune_trial: Any, reports: list[Mapping[str, Any]]) -> None:
        """Takes note of new checkpoints, after which all losses are forgiven."""
        course = self._get_state(tune_trial)
        for report in reports:
            if "saved" in report:
                self._saved[report["trial"]] = max(report["saved"], self._saved.get(report["trial"], 0))
        saved = sum(self._saved.get(trial_id, 0) for trial_id in tune_trial.config["pack"])
        if saved > course.saved:
            course.saved, course.losses, course.for_memory = saved, 0, 0
            tune_trial.max_failures = tune_trial.num_failures + RETRIES

    def lost(self, tune_trial: Any) -> None:
        """Counts a loss, unless Ray announced it beforehand (a machine that was to be taken away)."""
        course = self._get_state(tune_trial)
        if tune_trial.num_failures > course.counted:
            course.counted = tune_trial.num_failures
            course.losses += 1
            course.for_memory += self._was_out_of_memory(str(tune_trial.get_error() or ""))
        tune_trial.max_failures = tune_trial.num_failures + RETRIES - course.losses

    def explain_failure(self, tune_trial: Any) -> str:
        """What became of a trial that Tune gave up, its last line in plain words."""
        self.lost(tune_trial)
        course, told = self._get_state(tune_trial), str(tune_trial.get_error() or "").strip()
        if told.rpartition("\n")[2].startswith("gapctl."):
            return told
        if TASK_ERROR_TEXT in _extract_last_failure(told):
            return f"{told}\nan error outside its training ended it: {told.splitlines()[-1]}"
        times = "once" if course.losses == 1 else f"{course.losses} times"
        place = f"{times} at the same place, after {course.saved:,} samples"
        if course.for_memory:
            why = f"its process was ended for want of memory, {place}: {MEMORY_ADVICE}"
        else:
            why = (
                f"its process vanished {place}. Most likely its machine had too little memory (`dmesg` then says so) "
                f"or a library crashed; against the first, {MEMORY_ADVICE}"
            )
        return f"{told}\n{why}".strip()

    def _get_state(self, tune_trial: Any) -> _RetryState:
        return self._courses.setdefault(tune_trial.trial_id, _RetryState())

    def _was_out_of_memory(self, told: str) -> bool:
        """Whether Ray says so of the latest loss, or the kernel of this machine ended a process meanwhile."""
        before, self._kernel_kills = self._kernel_kills, count_kernel_kills()
        return self._kernel_kills > before or any(
            words in _extract_last_failure(told) for words in RAY_MEMORY_KILL_TEXTS
        )


def _extract_last_failure(told: str) -> str:
    """What Tune tells of a trial's last failure, out of all of them."""
    return told.rpartition("Failure # ")[2]


def count_kernel_kills(counts: Path = Path("/proc/vmstat")) -> int:
    """How many processes this machine's kernel ended for want of memory since it started; 0 where it does not say."""
    try:
        lines = counts.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
