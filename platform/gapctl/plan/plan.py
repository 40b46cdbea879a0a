"""From a sweep to its ordered trials: the full factorial of the treatments, once per seed."""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from gapctl.config.arms import find_origin, list_arms, list_changes, resolve_arm
from gapctl.config.base import Problem, hash_value, select_hashed_fields, write_canonical_json
from gapctl.config.hypotheses import Level
from gapctl.config.load import Sweep
from gapctl.config.sweep import Domain, Search, SweepFile
from gapctl.config.trial import Data, MadCaptions, MadData, TrialConfig
from gapctl.errors import InputError


@dataclass(frozen=True)
class Trial:
    """One training: `factors` are the treatments by their dotted path, `label` names them for people.

    `parent` is the id of the training whose last weights it begins with.
    """

    id: str
    label: str
    seed: int
    factors: Mapping[str, Level]
    config: TrialConfig
    data_fingerprint: str
    parent: str | None = None


@dataclass(frozen=True)
class Plan:
    """A resolved sweep and its trials: every arm at the first seed, then every arm at the next.

    `recipe_version` is that of the code which gives the trials their numbers. `preparations` are trainings that others
    begin with (`init_from`) and that are no arm themselves: no hypothesis looks at them.
    """

    sweep: Sweep
    trials: tuple[Trial, ...]
    recipe_version: int
    preparations: tuple[Trial, ...] = ()

    @property
    def trainings(self) -> tuple[Trial, ...]:
        """All that is trained, in an order in which each comes after what it begins with."""
        return (*self.preparations, *self.trials)


RECIPE_VERSION = 3
"""Raised whenever the same configuration would give other numbers than before."""


TREATMENTS_WITH_SETTING = {"rate": ("words", "length_matched"), "sentences": ("sentences",), "field": ("enriched",)}
"""Which caption treatments have a setting; it decides nothing with any other."""


def compute_trial_id(
    config: TrialConfig,
    seed: int,
    data_fingerprint: str,
    recipe_version: int = RECIPE_VERSION,
    parent: str | None = None,
) -> str:
    """The first 12 hex digits of the sha256 of configuration, seed, data, recipe version and the parent's id.

    The data's address is left out: its fingerprint stands for it, so a moved folder keeps its trials. So is how a
    parent was described, as its id stands for that, and the learning rate of a temperature that is not learned.
    """
    described = strip_address(config)
    described.pop("init_from", None)
    if config.temperature.mode != "learned":
        described["temperature"].pop("lr", None)
    payload = {
        "config": described,
        "seed": seed,
        "data": data_fingerprint,
        "recipe": recipe_version,
        **({"parent": parent} if parent else {}),
    }
    return hashlib.sha256(write_canonical_json(payload).encode()).hexdigest()[:12]


def strip_address(config: TrialConfig) -> dict[str, Any]:
    """The configuration as plain values, less where its data lies and what later fields leave as it was."""
    values = select_hashed_fields(config)
    data = values["data"]
    if config.data.dataset == "cc12m" and data["held_out"]:
        del data["held_out_share"]
    for name in ("source", "held_out", "classes", "bad_share"):
        data.pop(name, None)
    for setting, keeps in TREATMENTS_WITH_SETTING.items():
        if setting in data["captions"] and data["captions"]["keep"] not in keeps:
            del data["captions"][setting]
    return values


def hash_design(plan: Plan) -> str:
    """The hash of what is trained on which data from which seed on: to change it after a look is to choose.

    How many seeds there are is declared beside it. A first seed of 0 is left out, as it was before it could be set.
    """
    spec = plan.sweep.spec
    data = sorted({trial.data_fingerprint for trial in plan.trainings})
    first = {"first_seed": spec.first_seed} if spec.first_seed else {}
    named = {"treatments": spec.treatments} if spec.treatments else {}
    return hash_value({"base": strip_address(spec.base), "vary": spec.vary, "data": data, **named, **first})


def make_plan(sweep: Sweep, fingerprint_of: Callable[[Data], str], recipe_version: int = RECIPE_VERSION) -> Plan:
    """Lists every trial of the sweep; `fingerprint_of` is asked once for each data source.

    An InputError of it is raised anew with the place of the source in the sweep file.

    Trainings that others begin with are listed once, as preparations. Seeds are the outer loop, so that a whole
    dose-response curve is there after the first one. Another recipe version than that of this code gives the trials
    that an earlier one made.
    """
    grid = _build_grid(sweep.spec)
    fingerprints = _collect_fingerprints(sweep, grid, fingerprint_of)
    made = [_build_trial(arm, seed, fingerprints, recipe_version) for seed in sweep.spec.replicates for arm in grid]
    trials = tuple(trial for trial, _ in made)
    _require_different(sweep, trials)
    arms_too = {trial.id for trial in trials}
    parents = {parent.id: parent for _, parent in made if parent and parent.id not in arms_too}
    return Plan(sweep, trials, recipe_version, tuple(parents.values()))


def shorten_paths(paths: Sequence[str]) -> dict[str, str]:
    """The last component of each dotted path, or the whole path where that would be ambiguous."""
    last = [path.rsplit(".", 1)[-1] for path in paths]
    return {path: name if last.count(name) == 1 else path for path, name in zip(paths, last, strict=True)}


def locate_error(sweep: Sweep, factors: Mapping[str, Level], path: str, text: str) -> InputError:
    """An error about a trial's value, with the place in the sweep file that it comes from."""
    return InputError(sweep.locate_problem(Problem(find_origin(sweep.spec, factors, path), text)))


def _require_different(sweep: Sweep, trials: Sequence[Trial]) -> None:
    """Raises InputError where two arms are one training, whose difference is nothing, whatever comes of them."""
    seen: dict[str, Trial] = {}
    for trial in trials:
        other = seen.setdefault(trial.id, trial)
        if other is not trial:
            factor = next(name for name, level in trial.factors.items() if other.factors[name] != level)
            place = ("vary", factor, sweep.spec.vary[factor].index(trial.factors[factor]))
            text = f"{trial.label} is the same training as {other.label}; expected levels that train otherwise"
            raise InputError(sweep.locate_problem(Problem(place, text)))


class _Arm(NamedTuple):
    """A combination of levels, its configuration, and how it and the training that it begins with are called."""

    factors: Mapping[str, Level]
    config: TrialConfig
    label: str
    preparation: str


def _build_grid(spec: SweepFile) -> list[_Arm]:
    names = shorten_paths(list(spec.vary))
    return [_build_arm(spec, factors, names) for factors in list_arms(spec)]


def _build_arm(spec: SweepFile, factors: Mapping[str, Level], names: Mapping[str, str]) -> _Arm:
    config = resolve_arm(spec, factors)

    def shared(factor: str) -> bool:
        """Whether the preparation has this treatment too; how a training is measured does not tell it from others."""
        paths = [path for path, _ in list_changes(spec, factor, factors[factor])]
        return not any(path in config.init_from or path.startswith(("init_from.", "evaluate.")) for path in paths)

    own = {names[factor]: level for factor, level in factors.items()}
    kept = {names[factor]: level for factor, level in factors.items() if shared(factor)}
    changed = {path.rsplit(".", 1)[-1]: level for path, level in config.init_from.items()}
    return _Arm(factors, config, _format_levels(own), f"preparation {_format_levels(kept | changed)}")


def _format_levels(levels: Mapping[str, Level]) -> str:
    return " ".join(f"{name}={level}" for name, level in levels.items())


def _collect_fingerprints(sweep: Sweep, grid: Sequence[_Arm], fingerprint_of: Callable[[Data], str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for arm in grid:
        for data in [arm.config.data, *([arm.config.parent.data] if arm.config.parent else [])]:
            if data.address not in found:
                try:
                    found[data.address] = fingerprint_of(data)
                except InputError as error:
                    raise locate_error(sweep, arm.factors, getattr(error, "key", "data.source"), str(error)) from error
    return found


def _build_trial(
    arm: _Arm, seed: int, fingerprints: Mapping[str, str], recipe_version: int
) -> tuple[Trial, Trial | None]:
    """An arm's trial, and the training that it begins with."""
    fingerprint = fingerprints[arm.config.data.address]
    parent = _build_parent(arm, seed, fingerprints, recipe_version)
    parent_id = parent.id if parent else None
    trial = Trial(
        id=compute_trial_id(arm.config, seed, fingerprint, recipe_version, parent_id),
        label=f"{arm.label} seed={seed}",
        seed=seed,
        factors=dict(arm.factors),
        config=arm.config,
        data_fingerprint=fingerprint,
        parent=parent_id,
    )
    return trial, parent


def _build_parent(arm: _Arm, seed: int, fingerprints: Mapping[str, str], recipe_version: int) -> Trial | None:
    first = arm.config.parent
    if first is None:
        return None
    fingerprint = fingerprints[first.data.address]
    return Trial(
        id=compute_trial_id(first, seed, fingerprint, recipe_version),
        label=f"{arm.preparation} seed={seed}",
        seed=seed,
        factors={},
        config=first,
        data_fingerprint=fingerprint,
    )


SIGNIFICANT_DIGITS: Final = 3
SearchPoint = Mapping[str, Level]
"""A value for each path of a search's space."""


def get_search(sweep: Sweep) -> Search:
    """The search that a sweep file asks for, which has one."""
    assert sweep.spec.search is not None
    return sweep.spec.search


def round_value(value: Level, domain: Domain) -> Level:
    """A drawn value as it is trained with: numbers of a range to three digits, so that a winner can be typed."""
    if domain.choice is not None or not isinstance(value, float):
        return value
    low, high = domain.ends
    return min(max(float(f"{value:.{SIGNIFICANT_DIGITS}g}"), low), high)


def make_search_plan(
    sweep: Sweep,
    points: Sequence[SearchPoint],
    fingerprint_of: Callable[[Data], str],
    recipe_version: int = RECIPE_VERSION,
) -> Plan:
    """The trials of these points, each once, in their order; the plan's treatments are the values that they have.

    Raises InputError as `make_plan` does.
    """
    made = [_plan_point(sweep, point, fingerprint_of, recipe_version) for point in points]
    trials = {plan.trials[0].id: plan.trials[0] for plan in made}
    preparations = {trial.id: trial for plan in made for trial in plan.preparations}
    names = shorten_paths(list(get_search(sweep).space))
    labelled = tuple(replace(trial, label=label_point(trial, names)) for trial in trials.values())
    drawn = {path: _sort_levels([point[path] for point in points]) for path in get_search(sweep).space if points}
    return Plan(_replace_vary(sweep, drawn), labelled, recipe_version, tuple(preparations.values()))


def list_planned_trainings(plan: Plan) -> tuple[Trial, ...]:
    """All trainings of a plan; of a search, as many like its base as it asks for, should none be stopped early."""
    search = plan.sweep.spec.search
    return plan.trainings if search is None else plan.trials[:1] * search.trials


def label_point(trial: Trial, names: Mapping[str, str]) -> str:
    """A point in words: `lr=0.00137 batch_size=128`."""
    return " ".join(f"{names[path]}={level}" for path, level in trial.factors.items())


def name_study(sweep: Sweep, data_fingerprint: str) -> str:
    """The study that points of this search belong to: another space, metric, base, data or recipe is another study.

    How many points are drawn is not part of it, so that a study can go on.
    """
    asked = {
        "search": {name: value for name, value in select_hashed_fields(get_search(sweep)).items() if name != "trials"},
        "base": strip_address(sweep.spec.base),
        "first_seed": sweep.spec.first_seed,
        "data": data_fingerprint,
        "recipe": RECIPE_VERSION,
    }
    return f"{sweep.scale or 'base'}-{hash_value(asked)[:12]}"


def _plan_point(sweep: Sweep, point: SearchPoint, fingerprint_of: Callable[[Data], str], recipe_version: int) -> Plan:
    return make_plan(
        _replace_vary(sweep, {path: [level] for path, level in point.items()}), fingerprint_of, recipe_version
    )


def _replace_vary(sweep: Sweep, levels: Mapping[str, list[Level]]) -> Sweep:
    return replace(sweep, spec=sweep.spec.model_copy(update={"vary": dict(levels)}))


def _sort_levels(drawn: Sequence[Level]) -> list[Level]:
    """Each value once, in the order of numbers where they are."""
    once = list(dict.fromkeys(drawn))
    numbers = all(isinstance(level, int | float) and not isinstance(level, bool) for level in once)
    return sorted(once, key=float) if numbers else once


def list_remaining_trials(plan: Plan, finished: Collection[str]) -> tuple[Trial, ...]:
    """The trainings without those of the finished ids; a preparation only where an unfinished trial begins with it."""
    needed = {trial.parent for trial in plan.trials if trial.id not in finished}
    return tuple(
        trial
        for trial in plan.trainings
        if trial.id not in finished and (trial.id in needed or trial not in plan.preparations)
    )


def find_trial(plan: Plan, prefix: str) -> Trial:
    """The trial whose id begins with `prefix`; raises InputError where none or several do."""
    found = [trial for trial in plan.trainings if trial.id.startswith(prefix)]
    if len(found) == 1:
        return found[0]
    file = plan.sweep.path
    problem = f"{len(found)} trials of {file} begin" if found else f"no trial of {file} begins"
    raise InputError(
        f"--trial {prefix}: {problem} with that; expected one of the "
        f"{len(plan.trainings)} ids that `gapctl plan {file}` lists (with the same --scale and --set)"
    )


Pack = tuple[Trial, ...]


def pack_trials(trials: Sequence[Trial], size: int) -> tuple[Pack, ...]:
    """Groups of at most `size` trials of one shape; trials keep their order, packs that of their first trials.

    Trials on image-text pairs are trained alone.
    """
    waiting: dict[str, list[Trial]] = {}
    packs: list[list[Trial]] = []
    for trial in trials:
        shape = extract_shape(trial.config).model_dump_json() if trial.config.data.dataset == "mad" else trial.id
        pack = waiting.get(shape)
        if pack is None or len(pack) == size:
            pack = waiting[shape] = []
            packs.append(pack)
        pack.append(trial)
    return tuple(tuple(pack) for pack in packs)


def extract_shape(config: TrialConfig) -> TrialConfig:
    """A configuration without what packed trials may differ in: captions, main factor, where a temperature begins."""
    assert isinstance(config.data, MadData)  # others are trained alone
    data = MadData(source=config.data.source, captions=MadCaptions(), sides=config.data.sides)
    temperature = config.temperature.model_copy(update={"init": 0.07})
    return config.model_copy(update={"data": data, "temperature": temperature})
