"""What a drill found, and the table of it."""

from dataclasses import dataclass, field
from typing import NamedTuple

HEAD = "| fault | times | went on | median s until then | longest | training lost, {unit} |\n|---|---|---|---|---|---|"


class Happened(NamedTuple):
    """One accident: at which second of the sweep, how long until trials were trained again, and what was lost.

    `recovered` is None where nothing went on within the time that is waited; `lost` is the training since the last
    checkpoints of trials that another process had to take up, in the outcome's unit.
    """

    kind: str
    at: float
    recovered: float | None
    lost: float


@dataclass
class Outcome:
    """A whole drill; `problems` are broken promises, one a line."""

    trials: int
    quiet_seconds: float
    seconds: float = 0.0
    commands: int = 0
    attempts: int = 0
    unit: str = "s"
    happened: list[Happened] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """The faults by kind, then the whole."""
        kinds = list(dict.fromkeys(each.kind for each in self.happened))
        rows = [_row(kind, [each for each in self.happened if each.kind == kind]) for kind in sorted(kinds)]
        return "\n".join([HEAD.format(unit=self.unit), *rows, _row("all", self.happened), "", self.summary()])

    def summary(self) -> str:
        """What is not by kind."""
        overhead = self.seconds - self.quiet_seconds
        return (
            f"{len(self.happened)} faults over {self.trials} trials in {self.seconds:.0f} s; in peace the same sweep "
            f"took {self.quiet_seconds:.0f} s, so the faults cost {overhead:.0f} s. The command was given "
            f"{self.commands} times{f', and the trials took {self.attempts} attempts' if self.attempts else ''}. "
            f"{_broken(len(self.problems))}"
        )


def _broken(count: int) -> str:
    if not count:
        return "No promise was broken."
    return "1 promise was broken." if count == 1 else f"{count} promises were broken."


def _row(name: str, happened: list[Happened]) -> str:
    went_on = sorted(each.recovered for each in happened if each.recovered is not None)
    median, longest = (f"{went_on[len(went_on) // 2]:.0f}", f"{went_on[-1]:.0f}") if went_on else ("", "")
    lost = sum(each.lost for each in happened)
    return f"| {name} | {len(happened)} | {len(went_on)} | {median} | {longest} | {lost:.1f} |"
