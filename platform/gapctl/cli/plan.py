"""`gapctl plan`: list what a sweep would train, what of it is done, and what the rest costs; it runs nothing."""

import os
from collections.abc import Collection, Sequence
from typing import Final

from gapctl.analysis.optimum import list_missing_optima
from gapctl.cli.console import make_plain_console, make_table
from gapctl.cli.options import (
    DEFAULT_RUNS,
    JsonOption,
    RunsOption,
    ScaleOption,
    SetOption,
    SweepFileArgument,
    load_plan,
    read_search_record,
    refuse_future_first_question,
)
from gapctl.cli.output import print_json_or_text
from gapctl.cli.store_requests import build_request_fields, describe_requests, estimate_request_cost
from gapctl.cluster.cost import RentEstimate, estimate_rent, format_money, load_shipped_prices
from gapctl.config.cohort import describe_cohort
from gapctl.config.hypotheses import Level
from gapctl.config.information import find_bayes_loss, find_caption_bits
from gapctl.config.recipes import list_recipes
from gapctl.config.sweep import SweepFile
from gapctl.config.trial import OpenClipModel, TrialConfig
from gapctl.errors import is_installed
from gapctl.ledger import Ledger
from gapctl.ledger.search_record import SearchRecord, count_ended_points
from gapctl.plan.estimate import (
    Cost,
    count_pair_flops,
    count_parallel_trials,
    count_trial_flops,
    count_trial_parameters,
    estimate_training_cost,
    explain_exceeded_limits,
)
from gapctl.plan.plan import (
    Plan,
    Trial,
    compute_by_arm,
    get_search,
    list_arm_trials,
    list_planned_trainings,
    list_remaining_trials,
    pack_trials,
    shorten_paths,
)
from gapctl.plan.power import (
    describe_smallest_effects,
    list_few_step_warnings,
    list_measurement_notes,
    list_notes_on_asking_itself_again,
    list_smallest_effect_warnings,
    list_verdict_warnings,
)
from gapctl.plan.trial_id import PROVISIONAL
from gapctl.sweep.disk_space import DiskSpace, measure_disks
from gapctl.text import format_count_with_noun


def plan_command(
    file: SweepFileArgument,
    scale: ScaleOption = None,
    overrides: SetOption = None,
    runs: RunsOption = DEFAULT_RUNS,
    as_json: JsonOption = False,
) -> None:
    """Trials, samples, FLOPs, hours: what a sweep would do, and how much of it is done."""
    plan, ledger = load_plan(file, scale, overrides, provisional=True), Ledger(runs)
    refuse_future_first_question(plan.sweep)
    slots, prices = count_parallel_trials(plan, os.cpu_count() or 1), load_shipped_prices()
    later = f"Ids that end in {PROVISIONAL} change once it is there"
    missing = [f"{message.rstrip('.')}. {later}" for message in plan.missing_data]
    if plan.sweep.spec.search is not None:
        record = None if missing else read_search_record(plan, ledger)
        cost = estimate_training_cost(list_planned_trainings(plan), slots)
        search = get_search(plan.sweep).model_dump(mode="json", exclude_none=True)
        rent = estimate_rent(list_planned_trainings(plan), plan.sweep.spec.resources, prices)
        totals: dict[str, object] = {**cost.list_fields(), "ended": count_ended_points(record)}
        asked = estimate_request_cost(list_planned_trainings(plan), prices)
        totals |= _build_rent_fields(rent) | build_request_fields(asked, prices)
        totals |= {"missing_data": missing} if missing else {}
        said = [*_describe_rent(rent, cost), *describe_requests(asked, prices), *missing]
        document = {"search": search, "totals": totals}
        print_json_or_text(document, lambda: _print_search_plan(plan, record, cost, runs, said), as_json)
        return
    finished = frozenset(ledger.finished([trial.id for trial in plan.trainings]))
    remaining = list_remaining_trials(plan, finished)
    cost, left = estimate_training_cost(plan.trainings, slots), estimate_training_cost(remaining, slots)
    rent = estimate_rent(remaining, plan.sweep.spec.resources, prices) if remaining else None
    asked = estimate_request_cost(remaining, prices)
    exceeded, few_steps = _list_exceeded_limits(plan, ledger, left), list_few_step_warnings(plan)
    optima = list_missing_optima(plan, ledger)
    notes = [*list_measurement_notes(plan), *list_notes_on_asking_itself_again(plan.sweep.spec), *optima]
    unreachable = list_smallest_effect_warnings(plan.sweep.spec)
    disks = measure_disks(plan, remaining, ledger, None) if remaining else []
    unknown = {address: each.message for address, each in plan.unknown_weights.items()}

    def build_document() -> dict[str, object]:
        totals: dict[str, object] = {**cost.list_fields(), "finished": len(finished)}
        totals |= left.list_fields("left_")
        totals |= _build_rent_fields(rent) | build_request_fields(asked, prices)
        totals["disks"] = [disk._asdict() for disk in disks]
        totals |= {"beyond_limits": exceeded} if exceeded else {}
        totals |= {"few_steps": few_steps} if few_steps else {}
        totals |= {"notes": notes} if notes else {}
        totals |= {"unreachable": unreachable} if unreachable else {}
        totals |= {"unknown_weights": unknown} if unknown else {}
        totals |= {"missing_data": missing} if missing else {}
        trials, preparations = (_describe_trials(some, finished) for some in (plan.trials, plan.preparations))
        return {"trials": trials, "totals": totals, **({"preparations": preparations} if preparations else {})}

    def render() -> None:
        spec, console = plan.sweep.spec, make_plain_console()
        console.print(f"{spec.name}: {spec.question}")
        _print_trials(plan, finished)
        console.print(f"{cost.trials} trials, {_describe_cost(cost)}")
        if finished:
            rest = f"{left.trials} left, {_describe_cost(left)}" if left.trials else "nothing is left to train"
            console.print(f"{len(finished)} of them finished in {runs}; {rest}")
        replicates = describe_cohort(spec.cohort) if spec.cohort else _list_recipes(spec)
        requests = describe_requests(asked, prices)
        for line in (*_describe_rent(rent, left), *requests, *_note_uncounted_sets(plan), *replicates):
            console.print(line)
        said = (
            *_list_information(plan.trials),
            *_list_models(plan),
            *missing,
            *_note_unknown_weights(plan),
            *_note_tokenizers(plan),
            *few_steps,
            *notes,
        )
        for line in (*said, *exceeded, *map(_describe_disk_space, disks)):
            console.print(line)
        if (most := spec.resources.pack) > 1:
            packs = f"{len(pack_trials(plan.trials, most))} packs of at most {most} trials"
            console.print(f"in {packs} that train together; hours are those of trials one by one")
        hashes = f"hypotheses sha256 {plan.sweep.hypotheses_sha256[:12]}, scale {plan.sweep.scale_name_or_base}"
        console.print(f"{format_count_with_noun(len(spec.hypotheses), 'hypothesis', 'hypotheses')}; {hashes}")
        for line in (*describe_smallest_effects(spec), *list_verdict_warnings(spec), *unreachable):
            console.print(line)

    print_json_or_text(build_document() if as_json else {}, render, as_json)


def _list_exceeded_limits(plan: Plan, ledger: Ledger, left: Cost) -> list[str]:
    """List the limits that the estimate exceeds, before anything runs."""
    limits = plan.sweep.spec.limits
    if not limits.any:
        return []
    spent = ledger.spent(plan.sweep.spec.name, plan.sweep.scale_name_or_base)
    price = None
    if limits.cost is not None:
        from gapctl.cluster.running_cost import find_machine_price

        price = find_machine_price(limits)
    return explain_exceeded_limits(limits, left.wall_hours, price, spent.hours, spent.cost)


def _describe_disk_space(disk: DiskSpace) -> str:
    """Say what a sweep will take of a disk, and that it is refused where that is more than is free."""
    refused = ": too little, so `gapctl sweep` refuses to start on this machine" if disk.is_too_small else ""
    return f"disk: {disk.state}{refused}"


def _describe_trials(trials: Sequence[Trial], finished: Collection[str]) -> list[dict[str, object]]:
    """Describe each trial; those of an arm share what follows from their configuration."""
    configs = compute_by_arm(trials, lambda trial: trial.config.model_dump(mode="json"))
    information = compute_by_arm(trials, lambda trial: _describe_information(trial.config))
    return [
        _describe_trial(trial, config, bits, finished=trial.id in finished)
        for trial, config, bits in zip(trials, configs, information, strict=True)
    ]


def _describe_trial(
    trial: Trial, config: dict[str, object], information: dict[str, object], *, finished: bool
) -> dict[str, object]:
    public = isinstance(trial.config.model, OpenClipModel)
    return {
        "id": trial.id,
        "label": trial.label,
        "seed": trial.seed,
        **({"provisional": True} if trial.is_provisional else {}),
        **({} if trial.model is None else {"model": trial.model.name, "facts": dict(trial.model.facts)}),
        "factors": dict(trial.factors),
        **({"recipe": dict(trial.recipe)} if trial.recipe else {}),
        "config": config,
        "steps": trial.config.train.steps,
        **information,
        "finished": finished,
        **({"public_model": _describe_model(trial)} if public else {}),
    }


def _describe_information(config: TrialConfig) -> dict[str, object]:
    """Return the bits of a trial's captions and its Bayes loss; nothing where they are not known."""
    bits, loss = find_caption_bits(config), find_bayes_loss(config)
    return {
        **({} if bits is None else {"bits": bits._asdict()}),
        **({} if loss is None else {"loss_bayes": loss}),
    }


def _list_information(trials: Sequence[Trial]) -> list[str]:
    """List a line for each kind of captions: their bits, the Bayes loss, and the levels that decide these."""
    arms = ((trial, _say_information(trial.config)) for trial in list_arm_trials(trials))
    known = [({**trial.factors, **trial.recipe}, said) for trial, said in arms if said]
    names = shorten_paths(list(known[0][0])) if known else {}
    deciding = list(names)
    for factor in names:  # those stay without which trials of equal levels would differ
        others = [other for other in deciding if other != factor]
        told = {(tuple(levels[other] for other in others), said) for levels, said in known}
        if len(told) == len({levels for levels, _ in told}):
            deciding = others
    alike: dict[str, dict[tuple[Level, ...], None]] = {}
    for levels, said in known:
        alike.setdefault(said, {})[tuple(levels[factor] for factor in deciding)] = None
    shown = [names[factor] for factor in deciding]
    return [f"{said}: {_format_arms(shown, list(rows))}" for said, rows in alike.items()]


def _format_arms(names: Sequence[str], rows: Sequence[tuple[Level, ...]]) -> str:
    """Format the levels of arms: `captions=scale, fracture`, or `attributes=0, batch_size=64; attributes=1, ...`."""
    if len(names) == 1:
        return f"{names[0]}={', '.join(str(level) for (level,) in rows)}"
    formatted = (
        ", ".join(f"{name}={level}" for name, level in zip(names, levels, strict=True)) for levels in rows if names
    )
    return "; ".join(formatted) or "all arms"


def _say_information(config: TrialConfig) -> str:
    """Say the bits of a trial's captions and its Bayes loss; empty where they are not known."""
    bits, loss = find_caption_bits(config), find_bayes_loss(config)
    if bits is None:
        return ""
    unsaid, unforeseen = f"{bits.image_given_caption:.3g}", f"{bits.caption_given_image:.3g}"
    said = f"captions leave {unsaid} bits of an image unsaid; {unforeseen} bits of a caption cannot be foreseen from it"
    return f"{said}{'' if loss is None else f', Bayes loss {loss:.3g} nats'}"


def _describe_model(trial: Trial) -> dict[str, object]:
    """Describe a public model: its parameters and operations, null where not known, and its weights' sha256, or ""."""
    return {
        **({} if trial.model is None else {"name": trial.model.name}),
        "parameters": count_trial_parameters(trial),
        "flops": count_trial_flops(trial),
        "weights_sha256": trial.weights_sha256,
    }


def _list_recipes(spec: SweepFile) -> list[str]:
    """List a line for each recipe that is a replicate, with its values by short name."""
    recipes = list_recipes(spec)
    names = shorten_paths(list(recipes[0].values)) if recipes else {}
    lines = [
        f"  recipe={recipe.number}: {', '.join(f'{names[path]}={value}' for path, value in recipe.values.items())}"
        for recipe in recipes
    ]
    return (
        [
            f"{format_count_with_noun(len(recipes), 'recipe')}, drawn from replicates.space, the same in every arm:",
            *lines,
        ]
        if lines
        else []
    )


def _list_models(plan: Plan) -> list[str]:
    """List a line for each public model: parameters, operations of a pair, and weights.

    Models of one architecture whose weights' sha256 is not known, which another line counts, share a line.
    """
    arms = list_arm_trials(plan.trainings)
    trained = {trial.config.model for trial in arms if trial.config.train.samples}
    lines: dict[str, dict[str, None]] = {}
    for trial in arms:
        model = trial.config.model
        if isinstance(model, OpenClipModel):
            parameters, each = count_trial_parameters(trial), count_pair_flops(trial)
            size = "an unknown number of parameters" if parameters is None else f"{parameters / 1e6:,.1f} M parameters"
            trains = model in trained
            work = "unknown FLOPs" if each is None else f"{each if trains else each // 3:.2e} FLOPs"
            purpose = "training on" if trains else "encoding"
            sha256 = f", sha256 {trial.weights_sha256[:12]}" if trial.weights_sha256 else ""
            start = "weights " if model.weights else "random weights of each seed"
            line = f"{model.architecture}: {size}, {work} for {purpose} a pair; {start}"
            lines.setdefault(line, {})[f"{model.weights}{sha256}" if model.weights else ""] = None
    return [f"{line}{'; '.join(starts)}" for line, starts in lines.items()]


def _note_unknown_weights(plan: Plan) -> list[str]:
    """Say which ids are provisional, and what makes them known; nothing where all are known."""
    models = {trial.config.model for trial in list_arm_trials(plan.trainings)}
    for first in list(plan.unknown_weights.values())[:1]:
        those = f"of {len(plan.unknown_weights)} of {format_count_with_noun(len(models), 'model')}"
        some = f"{those} the sha256 of the weights"
        note = f"{some} is not known yet, which ids hold: ids that end in {PROVISIONAL} change once it is"
        return [f"{note}, and until then `gapctl sweep` lists what it lacks. The first:", first.message]
    return []


def _note_uncounted_sets(plan: Plan) -> list[str]:
    """Name the evaluation sets, whose images the hours leave out; nothing where there are none."""
    sets = dict.fromkeys(name for trial in list_arm_trials(plan.trainings) for name in trial.config.evaluate.sets)
    return [f"hours are without the images of evaluation sets: {', '.join(sets)}"] if sets else []


def _note_tokenizers(plan: Plan) -> list[str]:
    """Say how many models need the transformers library where it is not installed."""
    models = {trial.config.model for trial in list_arm_trials(plan.trainings)}
    public = [model for model in models if isinstance(model, OpenClipModel)]
    needed = sum(model.can_read_architecture and model.towers.tokenizer is not None for model in public)
    if not needed or is_installed("transformers"):
        return []
    named = (
        f"{format_count_with_noun(needed, 'model')} cannot be trained or measured here without the transformers library"
    )
    return [f"{named}, of which the tokenizer is: run `pip install transformers sentencepiece`"]


MOST_LISTED: Final = 2_000
"""The most trials that a table lists: drawing one takes seconds for each 10,000 rows, and nobody reads them."""


def _print_trials(plan: Plan, finished: Collection[str]) -> None:
    table = make_table("trial", "treatment", "samples", "steps", *(["state"] if finished else []))
    for trial in plan.trainings[:MOST_LISTED]:
        train, state = trial.config.train, "finished" if trial.id in finished else ""
        table.add_row(trial.id, trial.label, f"{train.samples:,}", f"{train.steps:,}", *([state] if finished else []))
    console = make_plain_console()
    console.print(table)
    if (more := len(plan.trainings) - MOST_LISTED) > 0:
        console.print(f"and {more:,} more, which --json lists")


def _describe_cost(cost: Cost) -> str:
    about = "at least" if cost.unknown else "about"
    hours = f"{about} {format_hours(cost.cpu_hours)} of one CPU core, {format_hours(cost.wall_hours)} on this machine"
    if cost.unknown:
        hours += f", without {format_count_with_noun(cost.unknown, 'trial')} whose operations are not known"
    return f"{cost.samples:,} samples, {cost.flops:.2e} FLOPs: {hours}"


def _build_rent_fields(rent: RentEstimate | None) -> dict[str, object]:
    """Return the field `rent` of the totals; nothing where no machine of the table can train the trials."""
    prices = load_shipped_prices()
    about = {"currency": prices.currency, "prices_as_of": prices.as_of, "prices_checked": prices.checked}
    return {} if rent is None else {"rent": {**rent._asdict(), "market": "on demand", **about}}


def _describe_rent(rent: RentEstimate | None, cost: Cost) -> list[str]:
    """Say what the trials cost on the cheapest machine of the table of prices."""
    if rent is None:
        return []
    prices = load_shipped_prices()
    state = "checked" if prices.checked else "not checked"
    kind = f"{rent.machine} ({rent.gpu})" if rent.gpu else rent.machine
    without = (
        f", without {format_count_with_noun(cost.unknown, 'trial')} whose operations are not known"
        if cost.unknown
        else ""
    )
    least = "at least " if cost.unknown else ""
    spent = f"{least}{format_hours(rent.hours)} and {format_money(rent.cost)} {prices.currency}"
    line = (
        f"rented: {spent} on one {kind}, the cheapest for this, on demand{without}; downloads are not counted. "
        f"Prices of {prices.as_of}, {state}; `gapctl cluster cost` has clusters"
    )
    return [line]


def format_hours(hours: float) -> str:
    """Format hours, or minutes where there is less than one hour."""
    return f"{hours:,.1f} h" if hours >= 1 else f"{max(1, round(hours * 60))} min"


def _print_search_plan(plan: Plan, record: SearchRecord | None, cost: Cost, runs: str, said: Sequence[str]) -> None:
    from gapctl.report.search_page import summarise_search

    search, spec, console = get_search(plan.sweep), plan.sweep.spec, make_plain_console()
    console.print(f"{spec.name}: {spec.question}")
    console.print(
        f"a search: {search.trials} points for the best {search.metric} ({search.direction}), drawn by {search.sampler}"
    )
    for path, domain in search.space.items():
        console.print(f"  {path}: {domain.kind} {', '.join(map(str, domain.values))}")
    samples = spec.base.train.samples
    if search.stop_early is not None:
        after, best = search.stop_early.after, search.stop_early.reduce
        console.print(f"from {after:,} of {samples:,} samples on, what is not among the best 1/{best} is stopped")
    console.print(f"at most {_describe_cost(cost)}")
    for line in said:
        console.print(line)
    if record is not None:
        console.print(f"in {runs}: {summarise_search(record)}")
