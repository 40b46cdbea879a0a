"""The arms of a sweep: every combination of its factors' levels, and the configuration that each stands for.

`list_arms` and `resolve_arm_config` serve plans. `ArmGrid` describes the arms of one correlation and counts in how many
ways a permutation test can reassign them.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from types import MappingProxyType
from typing import Final

from gapctl.config.base import KeyPath, replace_at_path
from gapctl.config.cohort import SHORT_PATHS, CohortModel
from gapctl.config.hypotheses import Correlation, Hypothesis, Level, Mediation, Prediction, Threshold, Trend
from gapctl.config.sweep import SweepFile
from gapctl.config.trial import TrialConfig


def list_arms(spec: SweepFile) -> list[dict[str, Level]]:
    """List every combination of levels in the file's order; the last factor varies fastest."""
    return select_arms(spec.vary, {})


def resolve_arm_config(
    spec: SweepFile,
    arm: Mapping[str, Level],
    model: CohortModel | None = None,
    recipe: Mapping[str, Level] = MappingProxyType({}),
) -> TrialConfig:
    """Return the configuration of an arm, of one model of a cohort or by one recipe's values where there are any.

    Raise pydantic's ValidationError where levels or these values do not fit.
    """
    changes = {path: level for factor in arm for path, level in list_factor_level_settings(spec, factor, arm[factor])}
    return resolve_config(spec.base, {**(model.changes if model else {}), **recipe, **changes})


def resolve_config(base: TrialConfig, values: Mapping[str, Level]) -> TrialConfig:
    """Return `base` with each dotted path set; raise pydantic's ValidationError where a level or path does not fit."""
    document = base.model_dump()
    for path, level in values.items():
        document = replace_at_path(document, path.split("."), level)
    return TrialConfig.model_validate(document)


def list_factor_level_settings(spec: SweepFile, factor: str, level: Level) -> list[tuple[str, Level]]:
    """List what a factor at this level sets, as (dotted path, value): itself, or its treatment's changes."""
    return list(spec.treatments[factor][str(level)].items()) if factor in spec.treatments else [(factor, level)]


def locate_trial_value_in_file(
    spec: SweepFile, arm: Mapping[str, Level], path: str, model: CohortModel | None = None
) -> KeyPath:
    """Return the place in the sweep file of the value that a trial of this arm and model has at a dotted path."""
    for factor, level in arm.items():
        if any(path == changed for changed, _ in list_factor_level_settings(spec, factor, level)):
            listed = ("vary", factor, spec.vary[factor].index(level))
            return ("treatments", factor, str(level), path) if factor in spec.treatments else listed
    if model is not None and path in model.changes:
        row = {} if spec.cohort is None else spec.cohort.models[model.place]
        written = next((short for short, whole in SHORT_PATHS.items() if whole == path and short in row), path)
        return ("cohort", "models", model.place, written)
    if spec.replicates is not None and path in spec.replicates.space:
        return ("replicates", "space", path)
    return ("base", *path.split("."))


Arm = Mapping[str, Level]
MOST_COUNTED: Final = 5_040
"""A correlation's permutation test counts all orders up to this number."""
RANDOM_PERMUTATIONS: Final = 2_999
"""How many random orders it draws where there are more."""


def select_arms(vary: Mapping[str, Sequence[Level]], where: Mapping[str, Level]) -> list[dict[str, Level]]:
    """List the arms, in the file's order, that have the levels of `where`."""
    kept = _select_levels(vary, where)
    return [dict(zip(kept, levels, strict=True)) for levels in product(*kept.values())]


def is_in_arm(levels: Mapping[str, Level], arm: Arm) -> bool:
    """Return whether a training with these levels has all the levels of `arm`."""
    return all(levels.get(path) == level for path, level in arm.items())


def list_cells(hypothesis: Hypothesis, spec: SweepFile) -> tuple[Arm, ...]:
    """List what a hypothesis compares: levels of its factor, both by both of a mediation, or whole arms.

    A threshold's test has one cell with all trainings.
    """
    if isinstance(hypothesis, Threshold):
        return ({},)
    if isinstance(hypothesis, Correlation):
        return tuple(select_arms(spec.vary, hypothesis.where))
    if isinstance(hypothesis, Mediation):
        sides = (hypothesis.free, hypothesis.fixed)
        pairs = [(level, side) for side in sides for level in hypothesis.between]
        return tuple({hypothesis.factor: level, hypothesis.mediator: side} for level, side in pairs)
    if isinstance(hypothesis, Trend):
        levels = sort_trend_levels(hypothesis, spec)
    else:
        levels = spec.vary[hypothesis.factor] if isinstance(hypothesis, Prediction) else list(hypothesis.between)
    return tuple({hypothesis.factor: level} for level in levels)


def sort_trend_levels(hypothesis: Trend, spec: SweepFile) -> Sequence[Level]:
    """Return the levels of a trend's factor from the least to the greatest."""
    return sorted(spec.vary[hypothesis.factor], key=float)


def _select_levels(vary: Mapping[str, Sequence[Level]], where: Mapping[str, Level]) -> dict[str, list[Level]]:
    return {
        path: [level for level in levels if path not in where or level == where[path]] for path, levels in vary.items()
    }


@dataclass(frozen=True)
class ArmGrid:
    """The arms of a correlation: a full grid with `levels[i]` levels of factor i, the last factor varying fastest.

    Arms that differ in a `given` factor are not compared. `doses[i]` has the places of factor i's levels from the
    smallest number to the largest; it is empty for names, and so is `doses` where no factor has numbers.
    """

    levels: tuple[int, ...]
    given: tuple[bool, ...]
    doses: tuple[tuple[int, ...], ...] = ()

    @property
    def arms(self) -> int:
        """The number of arms."""
        return math.prod(self.levels)

    @cached_property
    def strata(self) -> tuple[tuple[int, ...], ...]:
        """The places of arms, grouped by the levels of the given factors."""
        found: dict[tuple[int, ...], list[int]] = {}
        for place, arm in enumerate(product(*map(range, self.levels))):
            held = tuple(level for level, given in zip(arm, self.given, strict=True) if given)
            found.setdefault(held, []).append(place)
        return tuple(map(tuple, found.values()))

    @property
    def pairs(self) -> int:
        """The number of pairs of arms that may be compared."""
        return sum(math.comb(len(arms), 2) for arms in self.strata)

    @property
    def orders(self) -> int:
        """The number of ways to permute the levels of the factors that are not given: names in all, doses in two."""
        return math.prod(
            2 if dose else math.factorial(count)
            for count, given, dose in zip(self.levels, self.given, self.list_doses(), strict=True)
            if not given
        )

    def list_doses(self) -> tuple[tuple[int, ...], ...]:
        """Return `doses` with an entry for each factor."""
        return self.doses or ((),) * len(self.levels)

    @property
    def has_doses(self) -> bool:
        """Whether any factor whose levels are permuted is a dose, so that its order is kept or reversed."""
        return any(dose for dose, given in zip(self.list_doses(), self.given, strict=True) if not given)

    @property
    def counted(self) -> int:
        """The number of orders that p is counted over, the observed one included."""
        return self.orders if self.orders <= MOST_COUNTED else RANDOM_PERMUTATIONS + 1

    def compute_least_p(self, sides: int) -> float:
        """Return the smallest p that a test with 1 or 2 `sides` can reach on this grid, whatever the data."""
        return min(1.0, sides / self.counted)


def build_correlation_arm_grid(
    vary: Mapping[str, Sequence[Level]], where: Mapping[str, Level], given: Collection[str]
) -> ArmGrid:
    """Build the grid of the arms with the levels of `where`; ignore names in `given` that are not factors."""
    kept = _select_levels(vary, where).values()
    doses = tuple(map(_order_dose, kept))
    return ArmGrid(tuple(map(len, kept)), tuple(path in given for path in vary), doses if any(doses) else ())


def _order_dose(levels: Sequence[Level]) -> tuple[int, ...]:
    """Return the places of three or more numbers from the smallest to the largest; () for names, and for two levels.

    Two levels have two orders, whichever they are.
    """
    numbers = [float(level) for level in levels if isinstance(level, int | float) and not isinstance(level, bool)]
    if len(numbers) < len(levels) or len(levels) <= 2:
        return ()
    return tuple(sorted(range(len(numbers)), key=numbers.__getitem__))
