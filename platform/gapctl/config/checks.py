"""What a sweep file must satisfy beyond the types of its values.

`validate_sweep_document` runs all checks and returns the file with all its problems. Each check is a generator of
`Problem`s:

1. `check_factors`: `vary` and `treatments` name values of `base`, and every combination is a valid configuration.
2. `check_hypothesis` and `find_unlogged_metrics`: hypotheses name factors, levels and metrics that exist. Those about
   a cohort of models name metrics and covariates (`check_cohort_hypothesis`).
3. `check_resources`: the data can use the resources, and batches divide evenly.
4. `check_unused_rate`: a temperature's learning rate is used by some training.
5. `check_cohort_trials` and `check_recipes`: every model of a cohort, and every recipe, makes a valid configuration.
6. `check_evaluation_sets`: the sets that `base.evaluate.sets` names exist.
7. `check_grid_or_search`: a search stands alone, and draws nothing that moves its own metric.
"""

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import combinations as pairs
from itertools import product
from types import MappingProxyType
from typing import Any, Final, NamedTuple, get_args

from pydantic import BaseModel, ValidationError

from gapctl.config.arms import build_correlation_arm_grid
from gapctl.config.base import (
    KeyPath,
    Problem,
    flatten_document,
    format_choices,
    format_word_suggestion,
    format_yaml_value,
    get_value_at_path,
    list_leaf_paths,
    replace_at_path,
)
from gapctl.config.cohort import Cohort, get_cohort_model_value, is_same_level, iterate_cohort_problems
from gapctl.config.evaluation_sets import (
    SetKind,
    explain_unknown_set,
    is_metric_of_set_kind,
    list_set_names,
    require_set,
)
from gapctl.config.hypotheses import (
    LOGARITHM,
    Correlation,
    Hypothesis,
    Level,
    Prediction,
    Scope,
    Threshold,
    Trend,
    list_hypothesis_metrics,
)
from gapctl.config.metrics import (
    ONLY_OF_SETS,
    OPTIMUM_EXCESSES,
    PUBLISHED,
    format_metric_suggestion,
    is_analysis_metric,
    is_cross_trial_metric,
    is_extension_metric,
    is_metric,
    is_posterior_metric,
    is_seed_pair_metric,
    list_metric_names,
    split_set_from_metric,
)
from gapctl.config.presets import TABLE
from gapctl.config.recipes import list_recipes
from gapctl.config.settings import explain_unknown_factor
from gapctl.config.sweep import Search, SweepFile
from gapctl.config.trial import (
    FULL_ATTRIBUTES,
    LOSS_TERMS,
    LOSSES,
    FactorName,
    Model,
    PairData,
    TrialConfig,
    has_logit_bias,
)
from gapctl.config.validation_errors import (
    SweepParts,
    TreatmentChanges,
    collect_parts,
    collect_varied_values,
    list_validation_problems,
    select_valid_parts,
)
from gapctl.text import join_and, join_or


def validate_sweep_document(document: Mapping[str, object]) -> tuple[SweepFile | None, list[Problem]]:
    """Return the file that a document describes, None if a value has the wrong type, and all its problems."""
    try:
        spec = SweepFile.model_validate(document)
    except ValidationError as error:
        found = list_validation_problems(error, document, SweepFile)
        others = _check_factors_and_hypotheses(select_valid_parts(document, found))
        unknown = [get_value_at_path(document, problem.path) for problem in found if problem.path[:3] == _METRIC_LIST]
        return None, [*found, *(each for each in others if get_value_at_path(document, each.path) not in unknown)]
    return spec, [
        *check_resources(spec),
        *check_grid_or_search(spec),
        *check_cohort_trials(spec),
        *check_recipes(spec),
        *_check_drawn_values(spec),
        *_check_factors_and_hypotheses(collect_parts(spec)),
    ]


_METRIC_LIST: Final = ("base", "evaluate", "metrics")
"""Where a file names metrics of other packages; a wrong name there is not reported again where hypotheses use it."""


def _check_drawn_values(spec: SweepFile) -> Iterator[Problem]:
    """Yield the choices and ends of ranges that make no valid configuration."""
    space = {} if spec.search is None else spec.search.space
    drawn = {path: domain.values for path, domain in space.items()}
    for problem in check_factors(SweepParts(spec.base, {}, drawn, {})):
        if len(problem.path) > 2:  # `_check_space` reports paths that are not in base
            _, path, index = problem.path
            yield Problem(("search", "space", path, space[str(path)].kind, index), problem.text)


def _check_factors_and_hypotheses(parts: SweepParts) -> list[Problem]:
    found = [*check_factors(parts), *_find_repeated_ids(parts.hypotheses)]
    wrong = {problem.path[1] for problem in found if problem.path[0] in ("vary", "treatments")}
    # Levels that are themselves wrong would only repeat their problem in each hypothesis that names them.
    vary = parts.vary and {path: None if path in wrong else levels for path, levels in parts.vary.items()}
    known = list_leaf_paths(parts.base.model_dump()) if parts.base else []
    if vary and any(problem.path[0] == "vary" and problem.path[1] not in known for problem in found):
        # A misspelt factor may be any that hypotheses name as it should be spelt.
        vary = {**dict.fromkeys(known), **vary}
    for index, hypothesis in parts.hypotheses.items():
        at: KeyPath = ("hypotheses", index)
        of_models = isinstance(hypothesis, Correlation) or not (vary or isinstance(hypothesis, Threshold))
        if parts.cohort is not None and of_models:
            sets = parts.base.evaluate.sets if parts.base else []
            found += check_cohort_hypothesis(hypothesis, at, parts.cohort.covariate_names, sets, vary or {})
        else:
            found += check_hypothesis(hypothesis, at, vary)
        if parts.base and (vary or parts.cohort):
            values, treatments = collect_varied_values(parts), parts.treatments or {}
            found += find_unlogged_metrics(
                hypothesis, ("hypotheses", index), parts.base, values, parts.kinds, treatments
            )
    found += [*check_unused_rate(parts), *check_evaluation_sets(parts)]
    return list(dict.fromkeys(found))


def _find_repeated_ids(hypotheses: Mapping[int, Hypothesis]) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, hypothesis in hypotheses.items():
        if hypothesis.id in seen:
            yield Problem(
                ("hypotheses", index, "id"), f"found {format_yaml_value(hypothesis.id)} again; expected each id once"
            )
        seen.add(hypothesis.id)


MOST_TRIALS = 100_000


class _FactorSetting(NamedTuple):
    """The changes that a level of a factor makes to `base`, and the place in the file where the level is written."""

    place: KeyPath
    changes: Mapping[str, Level]

    def locate_value(self, path: str) -> KeyPath:
        """Return the place of the value at a path that this level sets."""
        return (
            (*self.place, path)
            if self.place[0] in ("treatments", "replicates") and path in self.changes
            else self.place
        )


def check_factors(parts: SweepParts) -> Iterator[Problem]:
    """Yield what is wrong with `vary` and `treatments` where their values have the right types."""
    vary, treatments = parts.vary or {}, parts.treatments or {}
    known = list_leaf_paths(parts.base.model_dump()) if parts.base else []
    found = [
        *(_find_unknown_factors(vary, treatments, known) if parts.treatments is not None else ()),
        *_check_treatments(treatments, vary if parts.vary is not None else None, known),
        *_find_repeated_levels(vary),
    ]
    yield from found
    wrong = {problem.path[1] for problem in found}
    grid = {factor: levels for factor, levels in vary.items() if levels and factor not in wrong}
    if parts.base and parts.treatments is not None and grid and count_combinations(grid) <= MOST_TRIALS:
        settings = {factor: _list_settings(factor, levels, treatments) for factor, levels in grid.items()}
        twice = list(_find_double_settings(settings))
        yield from twice or _find_misfits(parts.base, settings)


def count_combinations(vary: Mapping[str, Sequence[Level]]) -> int:
    """Return the number of arms of a full factorial."""
    return math.prod(len(levels) for levels in vary.values())


def _report_unknown(at: KeyPath, path: str, known: Sequence[str]) -> Problem:
    return Problem(at, f"no such value in base; {explain_unknown_factor(path, known)}")


def _find_unknown_factors(
    vary: Mapping[str, Sequence[Level] | None], treatments: TreatmentChanges, known: Sequence[str]
) -> Iterator[Problem]:
    for factor in vary:
        if known and factor not in known and factor not in treatments:
            names = [*treatments, *known]
            yield _report_unknown(("vary", factor), factor, names)


def _check_treatments(
    treatments: TreatmentChanges, vary: Mapping[str, Sequence[Level] | None] | None, known: Sequence[str]
) -> Iterator[Problem]:
    for name, levels in treatments.items():
        if vary is not None and name not in vary:
            yield Problem(("treatments", name), f"nothing varies it; expected vary to list levels of {name}")
        for level, changes in levels.items():
            for path in changes:
                if known and path not in known and not path.startswith("init_from."):
                    yield _report_unknown(("treatments", name, level, path), path, known)
        for index, found in enumerate((vary or {}).get(name) or ()):
            if found not in levels:
                expected = format_choices(str(found), levels)
                yield Problem(("vary", name, index), f"found {format_yaml_value(found)}; {expected}")


def _find_repeated_levels(vary: Mapping[str, Sequence[Level] | None]) -> Iterator[Problem]:
    for factor, levels in vary.items():
        seen: set[tuple[bool, Level]] = set()
        for index, level in enumerate(levels or ()):
            if make_level_key(level) in seen:
                yield Problem(
                    ("vary", factor, index), f"found {format_yaml_value(level)} again; expected each level once"
                )
            seen.add(make_level_key(level))


def _list_settings(factor: str, levels: Sequence[Level], treatments: TreatmentChanges) -> list[_FactorSetting]:
    if factor in treatments:
        return [_FactorSetting(("treatments", factor, str(level)), treatments[factor][str(level)]) for level in levels]
    return [_FactorSetting(("vary", factor, index), {factor: level}) for index, level in enumerate(levels)]


def _find_double_settings(settings: Mapping[str, Sequence[_FactorSetting]]) -> Iterator[Problem]:
    """Yield a problem for each value that two factors set, as one of them would have no effect."""
    for one, other in pairs(settings, 2):
        first = {path for setting in settings[one] for path in setting.changes}
        for setting in settings[other]:
            for path in setting.changes:
                if path in first:
                    yield Problem(
                        setting.locate_value(path), f"{path} is set by {one} too; expected one factor to set it"
                    )


def _find_misfits(base: TrialConfig, settings: Mapping[str, Sequence[_FactorSetting]]) -> Iterator[Problem]:
    """Yield the levels that make no valid configuration, alone or in one of their combinations."""
    plain = base.model_dump()
    for chosen in product(*settings.values()):
        document = plain
        for setting in chosen:
            for path, level in setting.changes.items():
                document = replace_at_path(document, path.split("."), level)
        yield from (_assign_blame(each, chosen, base, document) for each in _list_misfits(document))


def _list_misfits(document: Mapping[str, object]) -> list[Problem]:
    """List what makes a document no valid configuration."""
    try:
        TrialConfig.model_validate(document)
    except ValidationError as error:
        return list_validation_problems(error, document, TrialConfig)
    return []


def _assign_blame(
    problem: Problem, chosen: Sequence[_FactorSetting], base: TrialConfig, document: Mapping[str, object]
) -> Problem:
    """Return a configuration's problem as one of the level that caused it.

    That is the one that sets the wrong value, or else the last without which there is no such problem.
    """
    at = ".".join(str(step) for step in problem.path)
    plain = base.model_dump()
    changes = [(setting, path) for setting in reversed(chosen) for path in setting.changes]
    for setting, path in changes:
        if path == at:
            return Problem(setting.locate_value(path), problem.text)
    text = problem.text
    if at in list_leaf_paths(plain):
        left_out = "" if _is_written(base, problem.path) else " (left out, so its default)"
        text = f"contradicts base.{at}{left_out}: {text}"
    for setting, path in changes:
        steps = path.split(".")
        without = replace_at_path(document, steps, get_value_at_path(plain, steps))
        if problem.path not in [each.path for each in _list_misfits(without)]:
            return Problem(setting.locate_value(path), text)
    within = (setting.locate_value(path) for setting, path in changes if path.startswith(f"{at}."))
    return Problem(next(within, chosen[-1].place), text)


def _is_written(base: TrialConfig, path: KeyPath) -> bool:
    """Return whether a file writes a value of base, and does not leave it to its default."""
    section: object = base
    for step in path:
        if isinstance(section, BaseModel):
            if step not in section.model_fields_set:
                return False
            section = getattr(section, str(step))
    return True


Vary = Mapping[str, Sequence[Level] | None]
"""The factors with their levels; None stands for levels that are themselves wrong."""


_LEVELS_OF: Final = {"between": "factor", "free": "mediator", "fixed": "mediator"}
"""The keys of a hypothesis that name levels, each with the key of the factor that has them."""
_DIFFERENT: Final = (
    ("against", "response", " again; expected another metric"),
    ("mediator", "factor", ", the treatment itself; expected another factor"),
    ("fixed", "free", " again; expected another level than free's"),
)
"""Two keys whose values must differ, and the message about the first key if they are equal."""


def check_hypothesis(hypothesis: Hypothesis, at: KeyPath, vary: Vary | None) -> Iterator[Problem]:
    """Yield what is wrong with a hypothesis whose values have the right types; `vary` is None where it is wrong."""
    given = {name: getattr(hypothesis, name) for name in type(hypothesis).model_fields}
    for key in ("response", "against"):
        if key in given and not is_metric(given[key]):
            text = f"expected a metric such as gap/rmg or bias/moad_image{format_metric_suggestion(given[key])}"
            yield Problem((*at, key), f"found {format_yaml_value(given[key])}; {text}")
    for key, other, text in _DIFFERENT:
        if key in given and make_level_key(given[key]) == make_level_key(given[other]):
            yield Problem((*at, key), f"found {format_yaml_value(given[key])}{text}")
    yield from _check_smallest_effect(hypothesis, at)
    if isinstance(hypothesis, Correlation):
        yield from _refuse_cohort_keys(hypothesis, at)
    if isinstance(hypothesis, Prediction):
        yield from _check_predictors(hypothesis, at)
    if vary is not None:
        yield from _check_factors_of(hypothesis, given, at, vary)
        if isinstance(hypothesis, Correlation):
            yield from _check_given(hypothesis, at, vary)
        if isinstance(hypothesis, Prediction):
            yield from _check_forecast_levels(hypothesis, at, vary)


def _check_smallest_effect(hypothesis: Hypothesis, at: KeyPath) -> Iterator[Problem]:
    direction = getattr(hypothesis, "direction", "")
    if hypothesis.smallest_effect == 0 and direction in ("either", "weak"):
        never = "refute" if direction == "either" else "support"
        text = (
            f"found 0 with direction {direction}, which nothing can {never}; expected the smallest effect that counts"
        )
        yield Problem((*at, "smallest_effect"), text)


def _refuse_cohort_keys(hypothesis: Correlation, at: KeyPath) -> Iterator[Problem]:
    """Yield the keys of a correlation that only a cohort of models has."""
    wanted = "which is of a cohort of models, and this sweep trains arms; expected"
    if hypothesis.scope is not None:
        yield Problem((*at, "scope"), f"found {format_yaml_value(hypothesis.scope)}, {wanted} no scope")
    if hypothesis.sets:
        yield Problem((*at, "sets"), f"found {format_yaml_value(hypothesis.sets)}, {wanted} no sets")
    if hypothesis.direction == "weak":
        yield Problem((*at, "direction"), f"found 'weak', {wanted} increasing, decreasing or either")


def check_cohort_hypothesis(
    hypothesis: Hypothesis,
    at: KeyPath,
    covariates: Collection[str],
    sets: Collection[str],
    vary: Mapping[str, Sequence[Level] | None] = MappingProxyType({}),
) -> Iterator[Problem]:
    """Yield what is wrong with a hypothesis about a cohort that has these covariates, evaluation sets and factors."""
    if not isinstance(hypothesis, Correlation):
        expected = "expected correlation or threshold, the tests of a cohort of models"
        text = f"found {format_yaml_value(hypothesis.test)}; {expected}"
        yield Problem((*at, "test"), text)
        return
    yield from _check_smallest_effect(hypothesis, at)
    scopes, scope = get_args(Scope), hypothesis.scope
    if scope is None:
        yield Problem((*at, "scope"), f"missing; expected the pairs of models that are compared: {join_or(scopes)}")
    elif scope == "given_covariates" and not hypothesis.given:
        yield Problem((*at, "given"), "missing; expected the covariates of scope given_covariates")
    elif scope == "overall" and hypothesis.given:
        text = f"found {format_yaml_value(hypothesis.given)} with scope overall; expected scope given_covariates"
        yield Problem((*at, "given"), text)
    for place, name in enumerate(hypothesis.sets):
        if name not in sets:
            found = f"found {format_yaml_value(name)}; {format_choices(name, sets)}"
            yield Problem((*at, "sets", place), found if sets else f"found {format_yaml_value(name)}; expected no sets")
    seen: set[str] = set()
    given = [(("given", place), name) for place, name in enumerate(hypothesis.given)]
    for key, name in [(("response",), hypothesis.response), (("against",), hypothesis.against), *given]:
        plain = name.removeprefix(LOGARITHM)
        if plain in seen:
            yield Problem((*at, *key), f"found {format_yaml_value(name)} again; expected another metric or covariate")
        elif plain not in covariates and not _is_set_metric(plain, sets):
            close = format_word_suggestion(plain, [*covariates, *list_metric_names()])
            text = f"expected a metric such as gap/rmg, or a covariate: {', '.join(covariates) or 'there are none'}"
            yield Problem((*at, *key), f"found {format_yaml_value(name)}; {text}{close}")
        seen.add(plain)
    for name, level in hypothesis.where.items():
        levels = vary.get(name)
        if name not in (known := [*covariates, "stratum", "lineage", *vary]):
            yield Problem((*at, "where", name), f"found {format_yaml_value(name)}; {format_choices(name, known)}")
        elif levels is not None and not is_among(level, levels):
            text = f"found {format_yaml_value(level)}; expected a level of {name}: {format_yaml_value(levels)}"
            yield Problem((*at, "where", name), text)


def _is_set_metric(name: str, sets: Collection[str]) -> bool:
    """Return whether a name is a metric, or one on an evaluation set: `coco/gap/rmg`."""
    one, _, key = name.partition("/")
    return is_metric(name) or (one in sets and is_metric(key))


def _check_factors_of(hypothesis: Hypothesis, given: Mapping[str, Any], at: KeyPath, vary: Vary) -> Iterator[Problem]:
    """Yield what is wrong with the factors that a hypothesis names, and with their levels."""
    compared: list[tuple[str, KeyPath]] = [(given[key], (*at, key)) for key in ("factor", "mediator") if key in given]
    for path, place in [*compared, *((path, (*at, "where", path)) for path in hypothesis.where)]:
        if path not in vary:
            text = f"found {format_yaml_value(path)}, which does not vary; {format_choices(path, vary)}"
            yield Problem(place, text)
    named: list[tuple[str, KeyPath, Level]] = [
        (path, (*at, "where", path), level) for path, level in hypothesis.where.items()
    ]
    for path, place, _ in named:
        if path in (factor for factor, _ in compared):
            yield Problem(place, "already compared by this hypothesis; expected another factor")
    for path, place, level in [*named, *_list_compared_levels(given, at)]:
        levels = vary.get(path)
        if levels is not None and not is_among(level, levels):
            text = f"found {format_yaml_value(level)}; expected a level of {path}: {format_yaml_value(levels)}"
            same = next((each for each in levels if _list_names(each) == _list_names(level)), None)
            meant = "" if same is None else f"; did you mean {format_yaml_value(same)}, as vary writes it?"
            yield Problem(place, text + meant)
    if "between" in given and is_among(given["between"][0], given["between"][1:]):
        text = f"found {format_yaml_value(given['between'][1])} again; expected two different levels"
        yield Problem((*at, "between", 1), text)
    levels = vary.get(given["factor"]) if isinstance(hypothesis, Trend) else None
    if levels is not None and any(isinstance(level, bool | str) for level in levels):
        yield Problem((*at, "factor"), f"its levels are {format_yaml_value(levels)}; expected numbers for a trend")
    elif levels is not None and len(levels) < 2:  # a quick scale may leave two; the analysis says what those can show
        text = f"its only level is {format_yaml_value(levels[0])}; expected at least two for a trend"
        yield Problem((*at, "factor"), text)


def _list_names(level: Level) -> list[str]:
    """List the names in a level such as `colour, scale`, whose order means nothing."""
    return sorted(name.strip() for name in str(level).split(","))


def _list_compared_levels(given: Mapping[str, Any], at: KeyPath) -> list[tuple[str, KeyPath, Level]]:
    """List the levels that a hypothesis of these values compares: factor, place in the file, and level."""
    named: list[tuple[str, KeyPath, Level]] = []
    for key, factor in _LEVELS_OF.items():
        if key == "between" and key in given:
            named += [(given[factor], (*at, key, side), level) for side, level in enumerate(given[key])]
        elif key in given and given["mediator"] != given["factor"]:
            named.append((given[factor], (*at, key), given[key]))
    return named


def _check_given(hypothesis: Correlation, at: KeyPath, vary: Vary) -> Iterator[Problem]:
    seen = {hypothesis.response, hypothesis.against}
    for index, name in enumerate(hypothesis.given):
        place = (*at, "given", index)
        if name in seen:
            yield Problem(place, f"found {format_yaml_value(name)} again; expected another metric or factor")
        elif name not in vary and not is_metric(name):
            close = format_word_suggestion(name, [*vary, *list_metric_names()])
            text = f"expected a metric such as gap/rmg or a factor that varies: {', '.join(vary)}{close}"
            yield Problem(place, f"found {format_yaml_value(name)}; {text}")
        seen.add(name)
    known = {path: levels for path, levels in vary.items() if levels}
    if len(known) == len(vary) and not build_correlation_arm_grid(known, hypothesis.where, hypothesis.given).pairs:
        held = [name for name in (*hypothesis.where, *hypothesis.given) if name in vary]
        left = f"with {', '.join(held)} held, no two arms are left" if held else "the sweep has one arm"
        key = "given" if hypothesis.given else "test"
        yield Problem((*at, key), f"{left} to correlate metrics over; expected a factor that still varies")


def _list_predictors(hypothesis: Prediction, at: KeyPath) -> list[tuple[KeyPath, str]]:
    """List the metrics that a response is forecast from, by their place in the file."""
    named = {"predictors": hypothesis.predictors, "beyond": hypothesis.beyond}
    return [((*at, key, place), name) for key, names in named.items() for place, name in enumerate(names)]


def _check_predictors(hypothesis: Prediction, at: KeyPath) -> Iterator[Problem]:
    seen = {hypothesis.response}
    for place, name in _list_predictors(hypothesis, at):
        if name in seen:
            yield Problem(place, f"found {format_yaml_value(name)} again; expected another metric")
        elif not is_metric(name) or name.startswith(PUBLISHED):
            text = f"expected a metric such as information/shared{format_metric_suggestion(name)}"
            yield Problem(place, f"found {format_yaml_value(name)}; {text}")
        seen.add(name)


def _check_forecast_levels(hypothesis: Prediction, at: KeyPath, vary: Vary) -> Iterator[Problem]:
    """Yield a factor whose levels are doses, which resemble their neighbours, or too few to be forecast in turn."""
    levels, fewest = vary.get(hypothesis.factor), hypothesis.fewest_levels
    if levels is None:
        return
    if all(isinstance(level, int | float) and not isinstance(level, bool) for level in levels):
        text = (
            "expected names, such as those of a treatment: a dose resembles its neighbours, from which it is forecast"
        )
        yield Problem((*at, "factor"), f"its levels are the numbers {format_yaml_value(levels)}; {text}")
    elif len(levels) < fewest:
        count = len(hypothesis.predictors) + len(hypothesis.beyond)
        text = f"expected at least {fewest} to forecast each from the others by {count} metrics"
        yield Problem((*at, "factor"), f"it has {len(levels)} levels; {text.replace('1 metrics', '1 metric')}")


def is_among(level: Level, levels: Sequence[Level]) -> bool:
    """Return whether a level is one of these, telling true from 1."""
    return make_level_key(level) in {make_level_key(other) for other in levels}


def make_level_key(level: Level) -> tuple[bool, Level]:
    """Return a key to compare levels by: Python holds True and 1 for equal, a sweep file does not."""
    return isinstance(level, bool), level


def check_resources(spec: SweepFile) -> Iterator[Problem]:
    """Yield too many trials, resources that no training can use, and batches that workers cannot share evenly."""
    arms, replicates = count_combinations(spec.vary), len(spec.replicate_numbers)
    if arms * replicates > MOST_TRIALS:
        asked = f"asks for {arms * replicates:,} trials ({arms:,} combinations, {spec.replicate_noun}s: {replicates})"
        yield Problem(("vary",), f"{asked}; expected at most {MOST_TRIALS:,}")
    resources = spec.resources
    if spec.base.data.dataset == "mad":
        for name, plain in (("workers", 1), ("readers", 0)):
            if (found := getattr(resources, name)) > plain:
                expected = f"expected {plain} with dataset mad, whose models are small"
                yield Problem(("resources", name), f"found {found}; {expected}: resources.pack trains many at once")
    elif resources.pack > 1:
        text = f"found {resources.pack}; expected 1 with image-text pairs, whose models are trained one by one"
        yield Problem(("resources", "pack"), text)
    drawn = {} if spec.search is None else {path: domain.values for path, domain in spec.search.space.items()}
    batches = set(
        {**collect_varied_values(collect_parts(spec)), **drawn}.get("train.batch_size") or [spec.base.train.batch_size]
    )
    if spec.base.parent is not None:
        batches.add(spec.base.parent.train.batch_size)
    parts = resources.workers * spec.base.train.micro_batches
    for batch in sorted(batch for batch in batches if isinstance(batch, int)):
        if batch % parts:
            text = (
                f"found {resources.workers}; a batch of {batch:,} cannot be dealt evenly to so many, in "
                f"{spec.base.train.micro_batches} micro_batches each"
            )
            yield Problem(("resources", "workers"), text)


def check_unused_rate(parts: SweepParts) -> Iterator[Problem]:
    """Yield a problem for a temperature's learning rate where no training learns its temperature."""
    if parts.base is None or parts.base.temperature.lr is None:
        return
    base = parts.base
    modes = collect_varied_values(parts).get("temperature.mode") or [base.temperature.mode]
    before = [] if base.parent is None else [base.parent.temperature.mode]
    if "learned" not in (*modes, *before):
        text = (
            f"found {base.temperature.lr:g}, which no training uses; expected temperature.mode learned in one of them"
        )
        yield Problem(("base", "temperature", "lr"), text)


def check_cohort_trials(spec: SweepFile) -> Iterator[Problem]:
    """Yield what is wrong with a cohort: its rows, seeds beside it, and models that make no valid configuration."""
    cohort = spec.cohort
    published = {name for member in cohort.members for name in member.published} if cohort else set()
    for index, hypothesis in enumerate(spec.hypotheses):
        for key in ("response", "against"):
            name = str(getattr(hypothesis, key, ""))
            if name.startswith(PUBLISHED) and name not in published:
                suggestion = format_word_suggestion(name, published)
                text = f"found {format_yaml_value(name)}, which no model of a cohort has{suggestion}"
                yield Problem(("hypotheses", index, key), text)
    if cohort is None:
        return
    for index, hypothesis in enumerate(spec.hypotheses):
        for name in filter(is_cross_trial_metric, list_hypothesis_metrics(hypothesis)):
            expected = "expected a metric of one model"
            text = f"found {format_yaml_value(name)}, which compares trainings with each other; {expected}"
            yield Problem(("hypotheses", index), text)
    if spec.seeds != 1:
        text = f"found {spec.seeds} beside cohort, whose models are the replicates; expected 1"
        yield Problem(("seeds",), text)
    found = list(iterate_cohort_problems(cohort))
    yield from found
    for index, hypothesis in enumerate(spec.hypotheses if not found else ()):
        if isinstance(hypothesis, Correlation):
            yield from _check_named_facts(hypothesis, ("hypotheses", index), cohort)
    known = list_leaf_paths(spec.base.model_dump())
    for member in cohort.members if not found else ():
        at: KeyPath = ("cohort", "models", member.place)
        unknown = [path for path in member.changes if path not in known and not path.startswith("init_from.")]
        if unknown:
            yield _report_unknown((*at, unknown[0]), unknown[0], known)
            continue
        varied = [path for path in member.changes if path in spec.vary]
        if varied:
            yield Problem((*at, varied[0]), f"{varied[0]} is set by vary too; expected one of them to set it")
            continue
        settings = {"": [_FactorSetting(at, member.changes)]}
        for problem in _find_misfits(spec.base, settings):
            path = problem.path if problem.path[0] == "cohort" else at
            yield Problem(path, f"{member.name}: {problem.text}")


def check_recipes(spec: SweepFile) -> Iterator[Problem]:
    """Yield what is wrong with recipes as replicates: others beside them, and recipes that nobody can train."""
    if spec.replicates is None:
        return
    beside = {"seeds": spec.seeds != 1, "cohort": spec.cohort is not None, "search": spec.search is not None}
    for key in (key for key, is_there in beside.items() if is_there):
        yield Problem((key,), "found beside replicates, whose recipes are the replicates; expected one of them")
    for index, hypothesis in enumerate(spec.hypotheses):
        for name in filter(is_seed_pair_metric, list_hypothesis_metrics(hypothesis)):
            text = (
                f"found {format_yaml_value(name)}, which compares two seeds of one recipe; expected seeds as replicates"
            )
            yield Problem(("hypotheses", index), text)
    settings = {factor: _list_settings(factor, levels, spec.treatments) for factor, levels in spec.vary.items()}
    setters = {path: name for name, listed in settings.items() for setting in listed for path in setting.changes}
    known = list_leaf_paths(spec.base.model_dump())
    wrong = False
    for path in spec.replicates.space:
        at: KeyPath = ("replicates", "space", path)
        if path not in known or path in setters:
            wrong = True
            setter = setters.get(path, "")
            other = f"treatments.{setter}" if setter in spec.treatments else "vary"
            text = f"{path} is set by {other} and by replicates.space; expected one of them to set it"
            yield Problem(at, text) if path in setters else _report_unknown(at, path.removeprefix("base."), known)
    if wrong or spec.cohort is not None or count_combinations(spec.vary) * spec.replicates.draws > MOST_TRIALS:
        return
    for recipe in list_recipes(spec):
        drawn = _FactorSetting(("replicates", "space"), recipe.values)
        if found := list(_find_misfits(spec.base, {**settings, "": [drawn]})):
            listed = ", ".join(f"{path}={value}" for path, value in recipe.values.items())
            for each in dict.fromkeys(found):  # arms may share one
                yield Problem(each.path, f"recipe {recipe.number} ({listed}): {each.text}")
            return  # the others are of the same ranges


def _check_named_facts(hypothesis: Correlation, at: KeyPath, cohort: Cohort) -> Iterator[Problem]:
    """Yield what a hypothesis names that a cohort's models lack: strata, values of `where`, and numbers."""
    if hypothesis.scope in ("within_strata", "between_strata") and not cohort.strata:
        text = f"found {hypothesis.scope}, and the cohort has no strata; expected cohort.strata, the fact that groups"
        yield Problem((*at, "scope"), f"{text} models")
    known_columns = ("stratum", "lineage", *cohort.covariate_names)
    for name, level in hypothesis.where.items():
        values = [get_cohort_model_value(cohort, member, name) for member in cohort.members]
        if name in known_columns and not any(is_same_level(value, level) for value in values):
            known = dict.fromkeys(str(value) for value in values if value is not None)
            text = f"found {format_yaml_value(level)}, which no model has; {format_choices(str(level), known)}"
            yield Problem((*at, "where", name), text)
    given = [(("given", place), name) for place, name in enumerate(hypothesis.given) if name.startswith(LOGARITHM)]
    for key, written in [(("response",), hypothesis.response), (("against",), hypothesis.against), *given]:
        name, logged = written.removeprefix(LOGARITHM), written.startswith(LOGARITHM)
        for member in cohort.members if name in cohort.covariate_names else ():
            value = member.get_fact(name)
            if isinstance(value, bool) or not isinstance(value, int | float) or (logged and value <= 0):
                number = "a number above 0" if logged else "a number"
                text = f"found {format_yaml_value(written)}, and {name} of {member.name} is {format_yaml_value(value)}"
                yield Problem((*at, *key), f"{text}; expected a covariate that is {number} in every model")
                break


def check_evaluation_sets(parts: SweepParts) -> Iterator[Problem]:
    """Yield the names in `base.evaluate.sets` that no set has, in the file, among the shipped ones or in packages."""
    for place, name in enumerate(parts.base.evaluate.sets if parts.base else ()):
        if name not in list_set_names(parts.kinds):
            yield Problem(("base", "evaluate", "sets", place), explain_unknown_set(name, parts.kinds))
    yield from _check_ideal_words(parts)


def _check_ideal_words(parts: SweepParts) -> Iterator[Problem]:
    """Yield the places that ask for ideal words of image-text pairs without a set of kind composition."""
    base, factor = parts.base, "evaluate.intervention"
    if base is None or not isinstance(base.data, PairData) or not base.evaluate.sets:
        return  # without sets, the configuration itself says so
    known = [name for name in base.evaluate.sets if name in list_set_names(parts.kinds)]
    kinds = [parts.kinds[name] if name in parts.kinds else require_set(name).kind for name in known]
    if "composition" in kinds or len(known) < len(base.evaluate.sets):
        return
    text = f"found 'ideal_words', and none of {', '.join(known)} is of kind composition; expected one in evaluate.sets"
    if base.evaluate.intervention == "ideal_words":
        yield Problem(("base", "evaluate", "intervention"), text)
    for place, level in enumerate((parts.vary or {}).get(factor) or ()):
        if level == "ideal_words":
            yield Problem(("vary", factor, place), text)


def _explain_unlogged_of_set(name: str, key: str, base: TrialConfig, kinds: Mapping[str, SetKind | None]) -> str:
    """Explain why no training logs a metric of an evaluation set; return an empty text where all do."""
    if name not in base.evaluate.sets:
        if name not in list_set_names(kinds):
            return f"{name} is {explain_unknown_set(name, kinds)}"
        return f"expected base.evaluate.sets: [{', '.join([*base.evaluate.sets, name])}]"
    if is_extension_metric(key):
        return _explain_unnamed_extension(key, base)
    kind = kinds[name] if name in kinds else require_set(name).kind
    if kind is not None and not is_metric_of_set_kind(key, kind):
        return f"sets of kind {kind}, as {name} is, have no {key}"
    return ""


def _explain_unnamed_extension(key: str, base: TrialConfig) -> str:
    listed = [*base.evaluate.metrics, key]
    if key in base.evaluate.metrics:
        return ""
    return f"it is another package's; expected base.evaluate.metrics: [{', '.join(listed)}]"


OF_PAIRS = ("captions/", "data/")
OF_TRAINING = ("train/", *OF_PAIRS)
OF_MAD = ("information/",)
OF_TABLES = ("train/loss_end", "train/loss_fall", "train/converged")
NEEDS_ATTRIBUTES = ("bias/", "quality/attribute_accuracy")
OF_FACTORS = tuple(f"quality/accuracy_{name}" for name in get_args(FactorName))


def find_unlogged_metrics(
    hypothesis: Hypothesis,
    at: KeyPath,
    base: TrialConfig,
    vary: Vary,
    kinds: Mapping[str, SetKind | None] = MappingProxyType({}),
    treatments: TreatmentChanges = MappingProxyType({}),
) -> Iterator[Problem]:
    """Yield the metrics of a hypothesis that no training of the sweep logs, or none at a level that it compares."""
    asked: list[tuple[KeyPath, str]] = [((*at, "response"), hypothesis.response)]
    if isinstance(hypothesis, Correlation):
        asked.append(((*at, "against"), hypothesis.against))
        asked += [((*at, "given", place), name) for place, name in enumerate(hypothesis.given)]
    if isinstance(hypothesis, Prediction):
        asked += _list_predictors(hypothesis, at)
    named = hypothesis.sets if isinstance(hypothesis, Correlation) else []
    sets = [name for name in named if name in base.evaluate.sets]  # others are answered as sets
    for place, key in asked:
        if not is_metric(key):
            continue
        names = [key] if not sets or split_set_from_metric(key)[0] else [f"{name}/{key}" for name in sets]
        why = _explain_why_unlogged(names, base, vary, kinds)
        if why:
            yield Problem(place, f"found {format_yaml_value(key)}, which no training of this sweep logs: {why}")
        elif not is_cross_trial_metric(key) or key in OPTIMUM_EXCESSES:  # others compare trainings of several levels
            for level_at, level, values in _list_values_at_levels(hypothesis, at, base, vary, treatments):
                if why := _explain_why_unlogged(names, base, values, kinds):
                    yield Problem(level_at, f"found {format_yaml_value(level)}, where no training logs {key}: {why}")
                    break


def _explain_why_unlogged(
    names: Sequence[str], base: TrialConfig, vary: Vary, kinds: Mapping[str, SetKind | None]
) -> str:
    return next((why for name in names if (why := explain_unlogged(name, base, vary, kinds))), "")


def _list_values_at_levels(
    hypothesis: Hypothesis, at: KeyPath, base: TrialConfig, vary: Vary, treatments: TreatmentChanges
) -> Iterator[tuple[KeyPath, Level, Vary]]:
    """Yield the levels that a hypothesis names, by their place, with the values of the trainings that it takes there.

    Levels of `where` come first, each together with those before it; then each compared level within all of `where`. A
    prediction compares all levels of its factor, whose place is in `vary`.
    """
    known = flatten_document(base.model_dump())

    def limit(values: Vary, factor: str, level: Level) -> Vary:
        if not is_among(level, vary.get(factor) or ()):
            return values  # a cohort's fact, or reported already
        levels = treatments.get(factor, {str(level): {factor: level}})
        changed = dict.fromkeys(path for changes in levels.values() for path in changes)
        own = levels.get(str(level), {})
        return {**values, **{path: [own.get(path, known.get(path, ""))] for path in changed}}

    held = vary
    for factor, level in hypothesis.where.items():
        held = limit(held, factor, level)
        yield (*at, "where", factor), level, held
    given = {name: getattr(hypothesis, name) for name in type(hypothesis).model_fields}
    for factor, place, level in _list_compared_levels(given, at):
        yield place, level, limit(held, factor, level)
    if isinstance(hypothesis, Prediction):
        for index, level in enumerate(vary.get(hypothesis.factor) or ()):
            yield ("vary", hypothesis.factor, index), level, limit(held, hypothesis.factor, level)


def explain_unlogged(
    key: str, base: TrialConfig, vary: Vary, kinds: Mapping[str, SetKind | None] = MappingProxyType({})
) -> str:
    """Explain why no training logs a metric; return an empty text where at least one does.

    `kinds` are those of the evaluation sets that the file defines.
    """
    if key.startswith(PUBLISHED):
        return ""  # `check_cohort_trials` looks for it among the models
    name, plain = split_set_from_metric(key)
    if name:
        return _explain_unlogged_of_set(name, plain, base, kinds)
    if is_extension_metric(key):
        return _explain_unnamed_extension(key, base)
    if key in ONLY_OF_SETS:
        return f"it is of evaluation sets; expected the name of one before it, such as coco/{key}"
    if key.startswith(OF_TRAINING) and not any(_list_values("train.samples", base.train.samples, vary)):
        return "it is of what is trained on, and train.samples is 0"
    if not isinstance(base.data, PairData):
        if key.startswith(OF_PAIRS):
            return "it is of image-text pairs, and data.dataset is mad"
    elif is_posterior_metric(key) or key.startswith(OF_MAD):
        return "the information of natural captions is not known; expected data.dataset mad"
    elif key in OF_FACTORS:
        return "it is of a factor of MAD, and data.dataset is cc12m"
    elif key.startswith(NEEDS_ATTRIBUTES) and not base.data.classes:
        return "it needs questions about attributes; expected data.classes, a file with several"
    sides = _list_values("data.sides", getattr(base.data, "sides", ""), vary)
    if is_posterior_metric(key) and "image_text" not in sides:
        return "which values a picture shares with its image is not known; expected data.sides image_text"
    if is_cross_trial_metric(key):
        return _explain_no_comparison(key, base, vary)
    losses = [str(kind) for kind in _list_values("loss.kind", base.loss.kind, vary)]
    if key == "temperature/bias" and not any(has_logit_bias(kind) for kind in losses):
        return "only loss.kind siglip has a bias"
    if key == "train/loss_floor" and not set(losses) & set(LOSSES):
        return f"the floor of {join_and(losses)} is not known; expected loss.kind {join_or(LOSSES)}"
    if key in ("train/loss_bayes", "train/loss_excess") and (why := _explain_unknown_bayes_loss(key, base, vary)):
        return why
    if key in OF_TABLES and TABLE not in _list_values("model.preset", getattr(base.model, "preset", ""), vary):
        return "it is of tables; expected model.preset table"
    if key == "train/converged" and (why := _explain_unknown_bayes_loss(key, base, vary)):
        return why
    size = re.search(r"_nats_at_(\d+)$", key)
    galleries = _list_values("evaluate.gallery", base.evaluate.gallery, vary)
    if size and max(int(gallery) for gallery in galleries if isinstance(gallery, int)) < int(size[1]):
        return f"its galleries have {int(size[1]):,} pairs, and evaluate.gallery is smaller"
    return ""


def _explain_unknown_bayes_loss(key: str, base: TrialConfig, vary: Vary) -> str:
    losses = [str(kind) for kind in _list_values("loss.kind", base.loss.kind, vary)]
    if isinstance(base.data, PairData):
        return "how likely a natural caption is with an image is not known; expected data.dataset mad"
    if all(isinstance(share, float) and share < 1 for share in _list_values("data.share", base.data.share, vary)):
        return "a share of the digits may show some more often than others; expected data.share 1"
    if not set(losses) & set(LOSSES):
        return f"that of {join_and(losses)} is not known; expected loss.kind {join_or(LOSSES)}"
    if "negatives" not in _list_values("loss.equal_captions", base.loss.equal_captions, vary):
        return "with equal captions masked, it depends on each batch; expected loss.equal_captions negatives"
    if set(_list_values("train.mismatched", base.train.mismatched, vary)) == {1}:
        return "no pair ever matches its image; expected train.mismatched below 1"
    terms = (_list_values(f"loss.{name}", getattr(base.loss, name), vary) for name in LOSS_TERMS)
    if key != "train/loss_bayes" and any(all(levels) for levels in terms):
        return f"something is added to the contrastive loss; expected loss.{', '.join(LOSS_TERMS)} 0"
    return ""


def _explain_no_comparison(key: str, base: TrialConfig, vary: Vary) -> str:
    if key in OPTIMUM_EXCESSES:
        return _explain_no_optimum(base, vary)
    path = {"architectures": "model.preset", "widths": "model.embed_dim"}.get(key.rpartition("_")[2])
    if path and (levels := vary.get(path, ())) is not None and len(set(levels)) < 2:
        return f"it compares trainings that differ in {path} alone, and that does not vary"
    if key == "agreement/axis_arms" and math.prod(len(levels or ()) for levels in vary.values()) == 1:
        return "it compares arms, and the sweep has one"
    if not is_seed_pair_metric(key) and len(_list_values("evaluate.gallery", "", vary)) > 1:
        return "trainings compare on one gallery, and evaluate.gallery varies"
    own = base.model.embed_dim if isinstance(base.model, Model) else MANY_DIMENSIONS
    widths = _list_values("model.embed_dim", own, vary)
    if key == "agreement/leading_dims_seeds" and max(int(width or MANY_DIMENSIONS) for width in widths) <= 10:
        return "of ten dimensions, all are leading"
    return ""


def _explain_no_optimum(base: TrialConfig, vary: Vary) -> str:
    """Explain why no table, whose metrics are the optimum, can have the captions and the loss of any training."""
    if isinstance(base.data, PairData):
        return "it is less the optimum of MAD's captions, and data.dataset is cc12m"
    captions = base.data.captions
    if "image_text" not in _list_values("data.sides", base.data.sides, vary):
        return "no table has pictures for captions; expected data.sides image_text"
    own = "own" in _list_values("data.captions.held_out", captions.held_out, vary)
    if not own and FULL_ATTRIBUTES not in _list_values("data.captions.attributes", captions.attributes, vary):
        return "no table is measured by captions that it was not shown; expected data.captions.held_out own"
    if "negatives" not in _list_values("loss.equal_captions", base.loss.equal_captions, vary):
        return "no table masks equal captions; expected loss.equal_captions negatives"
    if why := _explain_unknown_bayes_loss("train/converged", base, vary):
        return f"no table is known to have converged to it: {why}"
    return ""


MANY_DIMENSIONS: Final = 1_000
"""Taken for a public model's width, whose file may have gone."""


def _list_values(path: str, own: Level, vary: Vary) -> Sequence[Level]:
    return vary.get(path) or [own]


_HELD: Final = {
    "data.": "points are compared on the same pairs and the same gallery",
    "evaluate.": "points are compared by the same evaluation",
    "train.samples": "what is trained longer is better for that alone",
}
_MOVED_BY: Final = {
    "train/loss": ("train.batch_size", "loss.", "temperature."),
    "train/loss_bayes": ("train.batch_size", "loss."),
    "entropy": ("temperature.",),
    "temperature": ("temperature.",),
}
"""What moves a metric, or a group of them, by itself.

The loss depends on the batch's size, on repeated captions and on the temperature.
"""
_BESIDE_SEARCH: Final[Sequence[tuple[KeyPath, Callable[[SweepFile], bool], str]]] = (
    (
        ("search",),
        lambda spec: bool(spec.hypotheses),
        (
            "found beside hypotheses; expected one of them: a search chooses by its results which trainings there are "
            "and which are stopped, so that a verdict on them would be about what was chosen. Search in a file of its "
            "own, then put what it found into this file's base"
        ),
    ),
    (
        ("search",),
        lambda spec: bool(spec.vary),
        "found beside vary; expected one of them: a search draws its points, a grid is trained whole",
    ),
    (
        ("cohort",),
        lambda spec: spec.cohort is not None,
        "found beside search; expected one of them: a cohort's models are given, a search draws its points",
    ),
    (
        ("search",),
        lambda spec: bool(spec.base.init_from),
        "found beside init_from; expected a search without it, whose points begin with a seed's weights",
    ),
    (
        ("seeds",),
        lambda spec: spec.seeds != 1,
        "found {seeds}; expected 1 with search: the best point is measured by a sweep",
    ),
    (
        ("resources", "pack"),
        lambda spec: spec.resources.pack != 1,
        "found {pack}; expected 1 with search, whose points are drawn one after another",
    ),
)
"""What a search file must not have: the key, the condition under which it has it, and the message."""


def check_grid_or_search(spec: SweepFile) -> Iterator[Problem]:
    """Yield what is wrong with how a file varies its trials: by a grid, or by a search without hypotheses."""
    search = spec.search
    if search is None:
        if not spec.vary and spec.cohort is None:
            yield Problem(("vary",), "missing; expected it here")
        return
    for place, is_wrong, text in _BESIDE_SEARCH:
        if is_wrong(spec):
            yield Problem(place, text.format(seeds=spec.seeds, pack=spec.resources.pack))
    yield from _check_search_metric(search, spec)
    known = list_leaf_paths(spec.base.model_dump())
    for path in search.space:
        at: KeyPath = ("search", "space", path)
        if path not in known:
            yield _report_unknown(at, path.removeprefix("base."), known)
        for held, why in _HELD.items():
            if path.startswith(held):
                yield Problem(at, f"cannot be drawn: {why}; expected another value")
    if search.stop_early is not None:
        after, samples, every = search.stop_early.after, spec.base.train.samples, spec.base.evaluate.every
        at = ("search", "stop_early", "after")
        if after >= samples:
            text = f"expected fewer than base.train.samples, {samples:,}, or none is stopped"
            yield Problem(at, f"found {after:,}; {text}")
        elif after < every:
            text = f"expected at least base.evaluate.every, {every:,}: nothing is known before"
            yield Problem(at, f"found {after:,}; {text}")


def _check_search_metric(search: Search, spec: SweepFile) -> Iterator[Problem]:
    at, key = ("search", "metric"), search.metric
    if not is_metric(key):
        expected = f"expected a metric such as train/loss or quality/i2t_recall_10{format_metric_suggestion(key)}"
        yield Problem(at, f"found {format_yaml_value(key)}; {expected}")
        return
    if is_analysis_metric(key):
        text = "which the analysis computes; expected a metric that each training logs, such as train/loss"
        yield Problem(at, f"found {format_yaml_value(key)}, {text}")
        return
    levels = {path: list(domain.values) for path, domain in search.space.items()}
    if why := explain_unlogged(key, spec.base, levels, collect_parts(spec).kinds):
        yield Problem(at, f"found {format_yaml_value(key)}, which no training of this sweep logs: {why}")
    moves = _MOVED_BY.get(key) or _MOVED_BY.get(key.partition("/")[0], ())
    moved = [path for path in search.space if path.startswith(moves)]
    if moved:
        text = f"with {', '.join(moved)} in space, which moves it by itself; expected one of quality"
        yield Problem(at, f"found {format_yaml_value(key)} {text}")
