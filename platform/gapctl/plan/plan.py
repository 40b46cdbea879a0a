"""From a sweep to its ordered trials: every arm of the grid, once for each seed, recipe or model.

1. `make_plan` resolves each arm to a configuration (`_build_arm`) and asks for the fingerprint of its data.
2. `trial_id.ArmHasher` hashes what decides its numbers: the id under which the ledger keeps a trial.
3. A training that others start from (`init_from`) becomes a preparation, once for each seed.
4. `make_search_plan` does the same for the points that a search has drawn.
5. `list_remaining_trials`, `find_trial` and `pack_trials` choose from a plan what to train, and together with what.

Trials of an arm share one configuration object, so what follows from it is worked out once (`compute_by_arm`).
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from gapctl.config.architectures import MODEL_PATHS, strip_model_folder
from gapctl.config.arms import list_arms, list_factor_level_settings, locate_trial_value_in_file, resolve_arm_config
from gapctl.config.base import (
    KeyPath,
    Problem,
    hash_value,
    replace_at_path,
    select_hashed_fields,
)
from gapctl.config.cohort import SHORT_PATHS, Cohort, CohortModel
from gapctl.config.evaluation_sets import NamedSet, PlannedEvaluationSet, require_set
from gapctl.config.hypotheses import Level
from gapctl.config.load import LoadedSweep
from gapctl.config.recipes import list_recipes
from gapctl.config.sweep import Search, SweepFile
from gapctl.config.trial import (
    LOSSES,
    Data,
    MadCaptions,
    MadData,
    OpenClipModel,
    Start,
    TrialConfig,
    is_table,
    reset_caption_wording,
)
from gapctl.errors import InputError, MissingDataError, UnknownWeightsError
from gapctl.extensions import ExtensionCode, Kind, collect_extension_code
from gapctl.plan.trial_id import (
    PROVISIONAL,
    RECIPE_VERSION,
    ArmHasher,
    hash_extensions,
    select_trial_id_fields,
)


@dataclass(frozen=True, slots=True)
class Trial:
    """One training: `factors` are the treatments by their dotted path, `label` names them for people.

    `parent` is the id of the training whose last weights it starts from. `extensions` is the code of the metrics,
    treatment and loss of other packages that the configuration names, `evaluation_sets` are the sets that it names.
    `model` is the one of a cohort's, `recipe` has the values of the recipe that is its replicate. `model_fingerprint`
    stands for a public model's architecture, image settings and weights (`fingerprint_model_parts`); "" for a preset.
    Where the weights' sha256 is not known, both it and the id end in `PROVISIONAL`.
    """

    id: str
    label: str
    seed: int
    factors: Mapping[str, Level]
    config: TrialConfig
    data_fingerprint: str
    parent: str | None = None
    extensions: Mapping[str, ExtensionCode] = field(default_factory=dict)
    evaluation_sets: Mapping[str, PlannedEvaluationSet] = field(default_factory=dict)
    model: CohortModel | None = None
    model_fingerprint: str = ""
    recipe: Mapping[str, Level] = field(default_factory=dict)

    @property
    def replicate_noun(self) -> str:
        """What tells trials of one arm apart: `seed`, `recipe` or `model`."""
        return _name_replicate(self.model, self.recipe)

    @property
    def replicate(self) -> int:
        """The number that trials of one replicate share: their seed or recipe, or their model's in the cohort."""
        return self.seed if self.model is None else self.model.replicate

    @property
    def replicate_label(self) -> str:
        """The end of the label: `seed=1`, `recipe=1`, or `model=ViT-B-32 openai`."""
        return _format_replicate_label(self.seed, self.model, self.recipe)

    @property
    def arm_label(self) -> str:
        """The beginning of the label, which all replicates of an arm share."""
        return self.label.removesuffix(self.replicate_label).rstrip()

    @property
    def weights_sha256(self) -> str:
        """The sha256 of the public weights that the training begins with; "" for random ones, and where not known."""
        known = not self.model_fingerprint.endswith(PROVISIONAL)
        return self.model_fingerprint.partition("-")[2] if known else ""

    @property
    def is_provisional(self) -> bool:
        """Whether the weights' sha256 is not known, or data are not here, so that the id is not that of the trial."""
        return self.id.endswith(PROVISIONAL)


def _name_replicate(model: CohortModel | None, recipe: Mapping[str, Level]) -> str:
    return "model" if model is not None else "recipe" if recipe else "seed"


def _format_replicate_label(seed: int, model: CohortModel | None, recipe: Mapping[str, Level]) -> str:
    return f"{_name_replicate(model, recipe)}={seed if model is None else model.name}"


Value = TypeVar("Value")


def compute_by_arm(trials: Iterable[Trial], compute: Callable[[Trial], Value]) -> list[Value]:
    """Return a value for each trial, computed once for all that share a configuration.

    `compute` may look at the configuration and at the model of a cohort, and at nothing else of a trial.
    """
    known: dict[int, Value] = {}
    found = []
    for trial in trials:
        key = id(trial.config)
        if key not in known:
            known[key] = compute(trial)
        found.append(known[key])
    return found


def list_arm_trials(trials: Iterable[Trial]) -> list[Trial]:
    """List the first trial of each arm."""
    first: dict[int, Trial] = {}
    for trial in trials:
        first.setdefault(id(trial.config), trial)
    return list(first.values())


class UnknownWeights(NamedTuple):
    """What went wrong about a model's weights, with its place in the sweep file, and the file that would help."""

    message: str
    source: str


@dataclass(frozen=True)
class Plan:
    """A resolved sweep and its trials: every arm at the first seed, then every arm at the next.

    `recipe_version` is the version of the training code that gives the trials their numbers. `preparations` are
    trainings that others start from (`init_from`) and that are not arms themselves: no hypothesis looks at them.
    `unknown_weights` are the models, by their address, of which the sha256 of the weights is not known, `missing_data`
    messages about data that are not where the file says.
    """

    sweep: LoadedSweep
    trials: tuple[Trial, ...]
    recipe_version: int
    preparations: tuple[Trial, ...] = ()
    unknown_weights: Mapping[str, UnknownWeights] = field(default_factory=dict)
    missing_data: tuple[str, ...] = ()

    @property
    def trainings(self) -> tuple[Trial, ...]:
        """All trainings, each after the one whose weights it starts from."""
        return (*self.preparations, *self.trials)


DataSource = Data | NamedSet | OpenClipModel
"""What has a fingerprint: a trial's data, its public model, or an evaluation set by its name."""


class _Arm(NamedTuple):
    """A combination of levels, its configuration, and the labels of its training and of its preparation."""

    factors: Mapping[str, Level]
    config: TrialConfig
    label: str
    preparation: str
    model: CohortModel | None = None
    recipe: Mapping[str, Level] = MappingProxyType({})


def make_plan(
    sweep: LoadedSweep,
    fingerprint_of: Callable[[DataSource], str],
    recipe_version: int = RECIPE_VERSION,
    *,
    provisional: bool = False,
) -> Plan:
    """List every trial of the sweep; call `fingerprint_of` once for each data source, public model and evaluation set.

    Raise its InputError again with the place of the source in the sweep file, and one where two arms are the same
    training.

    Trainings that others start from are listed once, as preparations. Seeds are the outer loop, so that a whole
    dose-response curve is complete after the first seed. An older recipe version gives the ids of trials that older
    code trained.

    Models whose weights' sha256 is not known are an error that lists them all. With `provisional`, their trials are
    listed under ids that end in `PROVISIONAL`, and so are those whose pairs or evaluation sets are still to be fetched.
    """
    spec = sweep.spec
    names = shorten_paths(list(spec.vary))
    arms = list_arms(spec)
    if spec.cohort is not None:
        members = spec.cohort.members
        rounds = [(spec.first_seed, [_build_arm(spec, each, names, model) for model in members for each in arms])]
    elif spec.replicates is not None:
        rounds = [
            (recipe.number, [_build_arm(spec, each, names, recipe=recipe.values) for each in arms])
            for recipe in list_recipes(spec)
        ]
    else:
        every = [_build_arm(spec, each, names) for each in arms]
        rounds = [(seed, every) for seed in spec.replicate_numbers]
    grid = list({id(arm): arm for _, some in rounds for arm in some}.values())
    fingerprints, unknown, missing = _collect_fingerprints(sweep, grid, fingerprint_of)
    if missing and not provisional:
        raise MissingDataError(missing[0], absent=True)
    if unknown and not provisional:
        raise _build_unknown_weights_error(sweep, unknown)
    sets, missing_sets = _plan_evaluation_sets(sweep, grid, fingerprint_of, provisional=provisional)
    builders = {id(arm): _TrialBuilder(arm, fingerprints, sets, recipe_version) for arm in grid}
    made = [builders[id(arm)].build_trial(seed) for seed, some in rounds for arm in some]
    trials = tuple(trial for trial, _ in made)
    _require_different(sweep, trials)
    arms_too = {trial.id for trial in trials}
    parents = {parent.id: parent for _, parent in made if parent and parent.id not in arms_too}
    return Plan(sweep, trials, recipe_version, tuple(parents.values()), unknown, (*missing, *missing_sets))


def _build_arm(
    spec: SweepFile,
    factors: Mapping[str, Level],
    names: Mapping[str, str],
    model: CohortModel | None = None,
    recipe: Mapping[str, Level] = MappingProxyType({}),
) -> _Arm:
    config = resolve_arm_config(spec, factors, model, recipe)

    def shared(factor: str) -> bool:
        """Return whether the preparation has this treatment too; evaluation settings never tell preparations apart."""
        paths = [path for path, _ in list_factor_level_settings(spec, factor, factors[factor])]
        return not any(path in config.init_from or path.startswith(("init_from.", "evaluate.")) for path in paths)

    shown = {
        level: name
        for path, levels in spec.vary.items()
        if path in MODEL_PATHS
        for level, name in name_model_files(levels).items()
    }
    own = {names[factor]: level for factor, level in factors.items()}
    kept = {names[factor]: level for factor, level in factors.items() if shared(factor)}
    changed = {path.rsplit(".", 1)[-1]: level for path, level in config.init_from.items()}
    prepared = f"preparation {_format_levels(kept | changed, shown)}"
    return _Arm(factors, config, _format_levels(own, shown), prepared, model, recipe)


def _format_levels(levels: Mapping[str, Level], shown: Mapping[Level, Level] = MappingProxyType({})) -> str:
    return " ".join(f"{name}={shown.get(level, level)}" for name, level in levels.items())


def name_model_files(levels: Sequence[Level]) -> dict[Level, Level]:
    """Map each file of a model among a factor's levels to its name, where no other level has that name."""
    names = {level: strip_model_folder(level) for level in levels if isinstance(level, str)}
    return {level: name for level, name in names.items() if list(names.values()).count(name) == 1 and name != level}


def _plan_evaluation_sets(
    sweep: LoadedSweep, grid: Sequence[_Arm], fingerprint_of: Callable[[DataSource], str], *, provisional: bool
) -> tuple[dict[str, PlannedEvaluationSet], list[str]]:
    """Return the evaluation sets that any arm names; raise InputError with the place of one that cannot be used.

    With `provisional`, those that are not here have a message beside them, and `PROVISIONAL` for a fingerprint.
    """
    found: dict[str, PlannedEvaluationSet] = {}
    missing: list[str] = []
    for arm in grid:
        for index, name in enumerate(arm.config.evaluate.sets):
            if name in found:
                continue
            definition = None
            try:
                definition = require_set(name, sweep.spec.evaluation_sets)
                found[name] = PlannedEvaluationSet(definition, fingerprint_of(NamedSet(name, definition)))
            except InputError as error:
                place: KeyPath = ("base", "evaluate", "sets", index)
                if name in sweep.spec.evaluation_sets:
                    place = ("evaluation_sets", name)
                located = sweep.locate_problem(Problem(place, str(error)))
                if definition is None or not (provisional and isinstance(error, MissingDataError) and error.absent):
                    raise InputError(located) from error
                found[name] = PlannedEvaluationSet(definition, f"{name} {PROVISIONAL}")
                missing.append(located)
    return found, missing


def _collect_fingerprints(
    sweep: LoadedSweep, grid: Sequence[_Arm], fingerprint_of: Callable[[DataSource], str]
) -> tuple[dict[str, str], dict[str, UnknownWeights], tuple[str, ...]]:
    """Return the fingerprints by address, the models whose weights are not known, and messages about missing data."""
    found: dict[str, str] = {}
    missing: list[str] = []
    unknown: dict[str, UnknownWeights] = {}
    for arm in grid:
        sources: list[DataSource] = [arm.config.data, *([arm.config.parent.data] if arm.config.parent else [])]
        sources += [arm.config.model] if isinstance(arm.config.model, OpenClipModel) else []
        for source in sources:
            if source.address not in found:
                usual = "model.weights" if isinstance(source, OpenClipModel) else "data.source"
                try:
                    found[source.address] = fingerprint_of(source)
                except InputError as error:
                    located = build_located_error(
                        sweep, arm.factors, getattr(error, "key", usual), str(error), arm.model
                    )
                    if isinstance(error, UnknownWeightsError):
                        unknown[source.address] = UnknownWeights(str(located), error.source)
                    elif isinstance(error, MissingDataError) and error.absent:
                        missing.append(str(located))
                    else:
                        raise located from error
                    found[source.address] = f"{source.address} {PROVISIONAL}"
    return found, unknown, tuple(missing)


def _build_unknown_weights_error(sweep: LoadedSweep, unknown: Mapping[str, UnknownWeights]) -> InputError:
    """Return one model's error, or one that lists what to download for all of several models."""
    first = next(iter(unknown.values()))
    if len(unknown) == 1:
        return InputError(first.message)
    lines = "".join(f"\n  {address.removeprefix('model ')}: {each.source}" for address, each in unknown.items())
    return InputError(
        f"{first.message}\n{sweep.path}: of {len(unknown)} models, this one among them, neither this machine nor a hub "
        "tells the sha256 of the weights, which trial ids hold. Where there is a network, `hf download REPOSITORY "
        "FILE` brings each; the folder that it fills (HF_HOME, or ~/.cache/huggingface) is copied here. `gapctl plan` "
        f"lists the trials until then:{lines}"
    )


class _TrialBuilder:
    """Build an arm's trial at each seed; what all of them share is worked out once."""

    def __init__(
        self,
        arm: _Arm,
        fingerprints: Mapping[str, str],
        planned: Mapping[str, PlannedEvaluationSet],
        recipe_version: int,
    ) -> None:
        self._arm, self._version = arm, recipe_version
        self._own = self._collect_parts(arm.config, arm.factors, fingerprints, planned)
        parent = arm.config.parent
        self._prepared = None if parent is None else self._collect_parts(parent, {}, fingerprints, planned)

    def build_trial(self, seed: int) -> tuple[Trial, Trial | None]:
        """Return the trial of a seed, and the training that it starts from, if any."""
        first = None if self._prepared is None else self._build(self._arm.preparation, seed, self._prepared)
        return self._build(self._arm.label, seed, self._own, first.id if first else None), first

    def _collect_parts(
        self,
        config: TrialConfig,
        factors: Mapping[str, Level],
        fingerprints: Mapping[str, str],
        planned: Mapping[str, PlannedEvaluationSet],
    ) -> tuple[ArmHasher, dict[str, Any]]:
        """Return what computes ids, and the fields of `Trial` that do not depend on the seed."""
        data = fingerprints[config.data.address]
        model = fingerprints[config.model.address] if isinstance(config.model, OpenClipModel) else ""
        sets = {name: planned[name] for name in config.evaluate.sets}
        hashed = {name: each.fingerprint for name, each in sets.items()}
        return ArmHasher(config, data, self._version, hashed, model), {
            "factors": dict(factors),
            "config": config,
            "data_fingerprint": data,
            "extensions": collect_extension_code(config.extensions),
            "evaluation_sets": sets,
            "model": self._arm.model,
            "model_fingerprint": model,
            "recipe": dict(self._arm.recipe),
        }

    def _build(
        self, label: str, seed: int, parts: tuple[ArmHasher, dict[str, Any]], parent: str | None = None
    ) -> Trial:
        hasher, fields = parts
        whole = f"{label} {_format_replicate_label(seed, self._arm.model, self._arm.recipe)}".lstrip()
        return Trial(id=hasher.compute_trial_id(seed, parent), label=whole, seed=seed, parent=parent, **fields)


def _require_different(sweep: LoadedSweep, trials: Sequence[Trial]) -> None:
    """Raise InputError where two arms are the same training: their difference would be zero by construction."""
    seen: dict[str, Trial] = {}
    for trial in trials:
        other = seen.setdefault(trial.id, trial)
        if other is not trial:
            text = f"{trial.label} is the same training as {other.label}; expected levels that train otherwise"
            if is_table(trial.config) and _differ_only_in_wording(trial.config.data, other.config.data):
                text += ", as neither the order nor the words of captions change a row of a table"
            if trial.model is not None and trial.model != other.model:
                place: KeyPath = ("cohort", "models", trial.model.place)
                text = f"{trial.label} is the same training as {other.label}; expected each model once"
            else:
                factor = next(name for name, level in trial.factors.items() if other.factors[name] != level)
                place = ("vary", factor, sweep.spec.vary[factor].index(trial.factors[factor]))
            raise InputError(sweep.locate_problem(Problem(place, text)))


def _differ_only_in_wording(data: Data, other: Data) -> bool:
    """Return whether the order and the words of captions are all that tells two data sections apart."""
    if not (isinstance(data, MadData) and isinstance(other, MadData)):
        return False
    return data != other and reset_caption_wording(data) == reset_caption_wording(other)


def shorten_paths(paths: Sequence[str]) -> dict[str, str]:
    """Map each dotted path to its last component, or to itself where that would be ambiguous or read as a metric."""
    last = [path.rsplit(".", 1)[-1] for path in paths]
    return {
        path: name if last.count(name) == 1 and path != "init.gap" else path
        for path, name in zip(paths, last, strict=True)
    }


def build_located_error(
    sweep: LoadedSweep, factors: Mapping[str, Level], path: str, text: str, model: CohortModel | None = None
) -> InputError:
    """Return an error about a trial's value, with the place in the sweep file that the value comes from."""
    return InputError(sweep.locate_problem(Problem(locate_trial_value_in_file(sweep.spec, factors, path, model), text)))


def _describe_cohort_for_hash(cohort: Cohort) -> dict[str, object]:
    """Return a cohort as it is hashed: without the paths of files, for which their models' fingerprints stand."""
    values = select_hashed_fields(cohort)
    places = (*SHORT_PATHS, *SHORT_PATHS.values())
    rows = [
        {name: row[name] for name in row if name not in places or "/" not in str(row[name])} for row in cohort.models
    ]
    return {**values, "models": rows}


def _strip_folders(changes: Mapping[str, object]) -> dict[str, object]:
    """Return changes by path with files of models by their name, as their fingerprints are hashed beside them."""
    return {path: strip_model_folder(value) if path in MODEL_PATHS else value for path, value in changes.items()}


def hash_design(plan: Plan) -> str:
    """Hash what is trained, on which data, from which seed on: changing any of it after seeing results is a choice.

    The number of seeds is declared separately. A first seed of 0 is left out, so that older declarations keep their
    hash, and so is what recipes are drawn from where seeds are the replicates.
    """
    spec = plan.sweep.spec
    data = sorted({trial.data_fingerprint for trial in plan.trainings})
    first: dict[str, object] = {"first_seed": spec.first_seed} if spec.first_seed else {}
    models = sorted({trial.model_fingerprint for trial in plan.trainings} - {""})
    first |= {"models": models} if models else {}
    vary = {path: _strip_folders({path: levels})[path] for path, levels in spec.vary.items()}
    treatments = {
        name: {level: _strip_folders(changes) for level, changes in levels.items()}
        for name, levels in spec.treatments.items()
    }
    named = {"treatments": treatments} if treatments else {}
    code = hash_extensions({name: each for trial in plan.trainings for name, each in trial.extensions.items()})
    sets = {name: each.fingerprint for trial in plan.trials for name, each in trial.evaluation_sets.items()}
    measured = {"sets": sets} if sets else {}
    base = select_trial_id_fields(spec.base)
    cohort = {} if spec.cohort is None else {"cohort": _describe_cohort_for_hash(spec.cohort)}
    recipes = {} if spec.replicates is None else {"recipes": select_hashed_fields(spec.replicates)["space"]}
    return hash_value(
        {"base": base, "vary": vary, "data": data, **named, **first, **code, **measured, **cohort, **recipes}
    )


SearchPoint = Mapping[str, Level]
"""A value for each path of a search's space."""


def get_search(sweep: LoadedSweep) -> Search:
    """Return the search of a sweep file that has one."""
    assert sweep.spec.search is not None
    return sweep.spec.search


def make_search_plan(
    sweep: LoadedSweep,
    points: Sequence[SearchPoint],
    fingerprint_of: Callable[[DataSource], str],
    recipe_version: int = RECIPE_VERSION,
) -> Plan:
    """List the trials of these points, each once, in their order; the plan's treatments are the values that were drawn.

    Raise InputError as `make_plan` does.
    """
    varied = [_replace_vary(sweep, {path: [level] for path, level in point.items()}) for point in points]
    made = [make_plan(each, fingerprint_of, recipe_version) for each in varied]
    trials = {plan.trials[0].id: plan.trials[0] for plan in made}
    preparations = {trial.id: trial for plan in made for trial in plan.preparations}
    names = shorten_paths(list(get_search(sweep).space))
    labelled = tuple(
        replace(trial, label=" ".join(f"{names[path]}={level}" for path, level in trial.factors.items()))
        for trial in trials.values()
    )
    drawn = {path: _sort_levels([point[path] for point in points]) for path in get_search(sweep).space if points}
    return Plan(_replace_vary(sweep, drawn), labelled, recipe_version, tuple(preparations.values()))


def list_planned_trainings(plan: Plan) -> tuple[Trial, ...]:
    """List all trainings of a plan; for a search, as many copies of its base as it may train to the end."""
    search = plan.sweep.spec.search
    return plan.trainings if search is None else plan.trials[:1] * search.trials


def name_study(sweep: LoadedSweep, data_fingerprint: str) -> str:
    """Name the study that points of this search belong to.

    Another space, metric, base, data or recipe is another study. The number of points is left out, so that a study can
    be continued.
    """
    asked = {
        "search": {name: value for name, value in select_hashed_fields(get_search(sweep)).items() if name != "trials"},
        "base": select_trial_id_fields(sweep.spec.base),
        "first_seed": sweep.spec.first_seed,
        "data": data_fingerprint,
        "recipe": RECIPE_VERSION,
        **hash_extensions(collect_extension_code(_list_search_extensions(sweep.spec.base, get_search(sweep)))),
    }
    return f"{sweep.scale_name_or_base}-{hash_value(asked)[:12]}"


def _list_search_extensions(base: TrialConfig, search: Search) -> dict[tuple[Kind, str], None]:
    """List what a search's trainings use of other packages: base names it, or a value that can be drawn."""
    document = base.model_dump()
    drawn = [
        replace_at_path(document, path.split("."), value)
        for path in search.space
        for value in search.space[path].values
    ]
    configs = [base, *map(TrialConfig.model_validate, drawn)]
    return dict.fromkeys(name for config in configs for name in config.extensions)


def _replace_vary(sweep: LoadedSweep, levels: Mapping[str, list[Level]]) -> LoadedSweep:
    return replace(sweep, spec=sweep.spec.model_copy(update={"vary": dict(levels)}))


def _sort_levels(drawn: Sequence[Level]) -> list[Level]:
    """List each value once; sort them where all are numbers."""
    once = list(dict.fromkeys(drawn))
    numbers = all(isinstance(level, int | float) and not isinstance(level, bool) for level in once)
    return sorted(once, key=float) if numbers else once


def list_remaining_trials(plan: Plan, finished: Collection[str]) -> tuple[Trial, ...]:
    """List the trainings that are not finished; keep a preparation only where an unfinished trial needs it."""
    needed = {trial.parent for trial in plan.trials if trial.id not in finished}
    optional = {trial.id for trial in plan.preparations} - needed
    return tuple(trial for trial in plan.trainings if trial.id not in finished and trial.id not in optional)


def find_trial(plan: Plan, prefix: str) -> Trial:
    """Return the training whose id begins with `prefix`; raise InputError where none or several do."""
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
    """Group trials of one shape into packs of at most `size`.

    Trials keep their order, and packs that of their first trials. Trials on image-text pairs, and those with a loss of
    another package, are trained alone.
    """
    if size == 1:
        return tuple((trial,) for trial in trials)
    waiting: dict[str, list[Trial]] = {}
    packs: list[list[Trial]] = []
    configs = {id(trial.config): trial.config for trial in trials}
    packable = {key for key, each in configs.items() if each.data.dataset == "mad" and each.loss.kind in LOSSES}
    shapes = {key: reset_packable_settings(configs[key]).model_dump_json() for key in packable}
    for trial in trials:
        shape = shapes.get(id(trial.config), trial.id)
        pack = waiting.get(shape)
        if pack is None or len(pack) == size:
            pack = waiting[shape] = []
            packs.append(pack)
        pack.append(trial)
    return tuple(tuple(pack) for pack in packs)


def reset_packable_settings(config: TrialConfig) -> TrialConfig:
    """Reset what packed trials may differ in: captions, main factor and initial temperature.

    Tables may also differ in their start, and in whether the temperature is learned.
    """
    assert isinstance(config.data, MadData)  # trials on image-text pairs are trained alone
    captions = MadCaptions(synonyms=config.data.captions.synonyms)  # on which the number of tokens depends
    data = MadData(source=config.data.source, captions=captions, sides=config.data.sides)
    temperature = config.temperature.model_copy(update={"init": 0.07})
    if is_table(config) and temperature.mode == "fixed" and temperature.lr is None:
        temperature = temperature.model_copy(update={"mode": "learned"})
    start = Start() if is_table(config) else config.init
    return config.model_copy(update={"data": data, "temperature": temperature, "init": start})
