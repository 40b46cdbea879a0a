"""A sweep with the verdicts on its own hypotheses, and what it still lacks."""

from collections.abc import Sequence
from dataclasses import dataclass

from gapctl.analysis.results import Analysis
from gapctl.ledger.declaring import scale_name
from gapctl.plan.trials import Plan, Trial


@dataclass(frozen=True)
class Judged:
    """One scale of a sweep: verdicts and Holm's correction are of its own file, whatever it is shown beside.

    `damaged` says why trials of it were left out.
    """

    plan: Plan
    analysis: Analysis
    damaged: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What tells it from other sweeps of a ledger."""
        return f"{self.analysis.sweep} ({scale_name(self.plan)})"

    @property
    def file_name(self) -> str:
        """The same as the beginning of a file's name."""
        return f"{self.analysis.sweep}.{scale_name(self.plan)}"

    @property
    def missing(self) -> tuple[Trial, ...]:
        """The planned trials that have no sound result."""
        done = set(self.analysis.trials["trial"])
        return tuple(trial for trial in self.plan.trials if trial.id not in done)


def arms_words(missing: Sequence[Trial], planned: Sequence[Trial], most: int = 6) -> str:
    """Trials by their labels, an arm that is missing at every seed once; cut after `most` of them."""
    left = {trial.id for trial in missing}
    whole = {arm for arm in map(_arm, missing) if all(trial.id in left for trial in planned if _arm(trial) == arm)}
    said = dict.fromkeys(f"{_arm(trial)} at all seeds" if _arm(trial) in whole else trial.label for trial in missing)
    shown = list(said)[:most]
    more = [f"and {len(said) - most} more"] if len(said) > most else []
    return ", ".join([*shown, *more])


def _arm(trial: Trial) -> str:
    return trial.label.removesuffix(f" seed={trial.seed}")
