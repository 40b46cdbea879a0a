"""A search's points as trials: what they are called, which study they belong to, and the plan of those drawn so far."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from gapctl.plan.identity import RECIPE_VERSION, without_address
from gapctl.plan.make import make_plan, short_names
from gapctl.plan.trials import Plan, Trial
from gapctl.spec.added_later import lasting
from gapctl.spec.canonical import sha256_of
from gapctl.spec.data import Data
from gapctl.spec.load import Sweep
from gapctl.spec.search import Domain, Search
from gapctl.spec.sweep import Level

DIGITS: Final = 3
Point = Mapping[str, Level]
"""A value for each path of a search's space."""


def search_of(sweep: Sweep) -> Search:
    """The search that a sweep file asks for, which has one."""
    assert sweep.spec.search is not None
    return sweep.spec.search


def written(value: Level, domain: Domain) -> Level:
    """A drawn value as it is trained with: numbers of a range to three digits, so that a winner can be typed."""
    if domain.choice is not None or not isinstance(value, float):
        return value
    low, high = domain.ends
    return min(max(float(f"{value:.{DIGITS}g}"), low), high)


def search_plan(
    sweep: Sweep, points: Sequence[Point], fingerprint_of: Callable[[Data], str], recipe_version: int = RECIPE_VERSION
) -> Plan:
    """The trials of these points, each once, in their order; the plan's treatments are the values that they have.

    Raises InputError as `make_plan` does.
    """
    made = [_at(sweep, point, fingerprint_of, recipe_version) for point in points]
    trials = {plan.trials[0].id: plan.trials[0] for plan in made}
    preparations = {trial.id: trial for plan in made for trial in plan.preparations}
    names = short_names(list(search_of(sweep).space))
    labelled = tuple(replace(trial, label=label_of(trial, names)) for trial in trials.values())
    drawn = {path: _levels([point[path] for point in points]) for path in search_of(sweep).space if points}
    return Plan(_varied(sweep, drawn), labelled, recipe_version, tuple(preparations.values()))


def to_be_trained(plan: Plan) -> tuple[Trial, ...]:
    """All trainings of a plan; of a search, as many like its base as it asks for, should none be stopped early."""
    search = plan.sweep.spec.search
    return plan.trainings if search is None else plan.trials[:1] * search.trials


def label_of(trial: Trial, names: Mapping[str, str]) -> str:
    """A point in words: `lr=0.00137 batch_size=128`."""
    return " ".join(f"{names[path]}={level}" for path, level in trial.factors.items())


def study_name(sweep: Sweep, data_fingerprint: str) -> str:
    """The study that points of this search belong to: another space, metric, base, data or recipe is another study.

    How many points are drawn is not part of it, so that a study can go on.
    """
    asked = {
        "search": {name: value for name, value in lasting(search_of(sweep)).items() if name != "trials"},
        "base": without_address(sweep.spec.base),
        "first_seed": sweep.spec.first_seed,
        "data": data_fingerprint,
        "recipe": RECIPE_VERSION,
    }
    return f"{sweep.scale or 'base'}-{sha256_of(asked)[:12]}"


def _at(sweep: Sweep, point: Point, fingerprint_of: Callable[[Data], str], recipe_version: int) -> Plan:
    return make_plan(_varied(sweep, {path: [level] for path, level in point.items()}), fingerprint_of, recipe_version)


def _varied(sweep: Sweep, levels: Mapping[str, list[Level]]) -> Sweep:
    return replace(sweep, spec=sweep.spec.model_copy(update={"vary": dict(levels)}))


def _levels(drawn: Sequence[Level]) -> list[Level]:
    """Each value once, in the order of numbers where they are."""
    once = list(dict.fromkeys(drawn))
    numbers = all(isinstance(level, int | float) and not isinstance(level, bool) for level in once)
    return sorted(once, key=float) if numbers else once
