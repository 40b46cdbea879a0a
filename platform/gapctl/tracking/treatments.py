"""A trial's treatments as MLflow's columns: short names, and values that sort as text in the order of their levels."""

from collections.abc import Sequence
from decimal import Decimal

from gapctl.plan.make import short_names
from gapctl.plan.trials import Plan, Trial
from gapctl.spec.sweep import Level


class Treatments:
    """The columns of a plan: MLflow keeps parameters as text, so numbers are padded to the width of the widest."""

    def __init__(self, plan: Plan) -> None:
        vary = plan.sweep.spec.vary
        self._names = short_names(list(vary))
        self._texts = {path: dict(zip(levels, padded(levels), strict=True)) for path, levels in vary.items()}
        self._seeds = dict(zip(plan.sweep.spec.replicates, padded(plan.sweep.spec.replicates), strict=True))

    @property
    def names(self) -> list[str]:
        """The columns, in the order of the sweep file."""
        return list(self._names.values())

    def name(self, path: str) -> str:
        """The column of a treatment's dotted path."""
        return self._names[path]

    def params(self, trial: Trial) -> dict[str, str]:
        """A trial's value in each column."""
        return {self._names[path]: self._texts[path][level] for path, level in trial.factors.items()}

    def seed(self, trial: Trial) -> str:
        """A trial's seed, padded likewise."""
        return self._seeds[trial.seed]

    def run_name(self, trial: Trial) -> str:
        """`attributes=05 seed=1`: sorted as text, runs stand by treatment and then by seed; a preparation's label."""
        if not trial.factors:
            return trial.label
        return " ".join(f"{name}={value}" for name, value in {**self.params(trial), "seed": self.seed(trial)}.items())


def padded(levels: Sequence[Level]) -> list[str]:
    """The levels as texts; numbers that are not negative get zeros on both sides of the point until they sort."""
    if not all(isinstance(level, int | float) and not isinstance(level, bool) and level >= 0 for level in levels):
        return [str(level) for level in levels]
    plain = [format(Decimal(str(level)), "f") for level in levels]
    whole = max(len(text.partition(".")[0]) for text in plain)
    places = max(len(text.partition(".")[2]) for text in plain)
    return [_filled(text, whole, places) for text in plain]


def _filled(text: str, whole: int, places: int) -> str:
    before, _, after = text.partition(".")
    return before.zfill(whole) + (f".{after.ljust(places, '0')}" if places else "")
