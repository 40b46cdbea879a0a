"""`gapctl list`: list the shipped sweeps with their questions, their costs, and this ledger's verdicts."""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import typer

from gapctl.analysis.service import judge_ledger, judge_plans
from gapctl.cli.console import make_plain_console, make_table
from gapctl.cli.options import DEFAULT_RUNS, JsonOption, RunsOption, compute_data_source_fingerprint
from gapctl.cli.output import exit_on_problems, print_json_or_text
from gapctl.cli.plan import format_hours
from gapctl.config.load import DEFAULT_SCALE_NAME, is_shipped_sweep, list_sweep_files, load_sweep
from gapctl.errors import GapctlError
from gapctl.ledger import Ledger, LedgerSnapshot
from gapctl.ledger.search_record import SearchRecord
from gapctl.plan.estimate import SweepCosts, estimate_sweep_costs
from gapctl.plan.plan import make_plan

if TYPE_CHECKING:
    from gapctl.analysis.compare import SweepAnalysis

CLUSTER_HOURS: Final = 48.0
"""Hours on this machine from which a sweep needs a cluster."""


class SweepListing(NamedTuple):
    """A sweep file with its costs, and the scales that the ledger can judge or has searched."""

    path: Path
    priced: SweepCosts
    judged: "Mapping[str | None, SweepAnalysis]"
    searched: Mapping[str | None, SearchRecord]

    @property
    def sources(self) -> list[str]:
        """The sources that its hypotheses name, each once and without remarks."""
        named = (hypothesis.source or "" for hypothesis in self.priced.sweep.spec.hypotheses)
        return list(dict.fromkeys(short for source in named if (short := re.split(r"; | \(|, which ", source)[0])))


def list_command(
    place: Annotated[
        Path | None,
        typer.Argument(
            help="Their folder, or one sweep; sweeps/ if left out, or gapctl's own.",
            show_default=False,
            metavar="FOLDER|FILE",
        ),
    ] = None,
    runs: RunsOption = DEFAULT_RUNS,
    as_json: JsonOption = False,
) -> None:
    """The shipped sweeps: what each asks, what it costs, and the verdicts so far in this ledger."""
    listings, problems = _list_sweep_listings(place, runs)
    print_json_or_text(
        {"questions": [_build_sweep_document(listing) for listing in listings]},
        lambda: _print_sweep_listings(listings),
        as_json,
    )
    exit_on_problems(problems)


def _list_sweep_listings(place: Path | None, runs: str) -> tuple[list[SweepListing], list[str]]:
    """List the sweeps; a wrong file, or a sweep that cannot be judged, becomes a problem and hides no others."""
    priced: dict[Path, SweepCosts] = {}
    problems: list[str] = []
    for path in list_sweep_files(place):
        try:
            priced[path] = estimate_sweep_costs(path, os.cpu_count() or 1)
        except GapctlError as error:
            problems.append(str(error))
    if place is None or place.is_dir():
        sweeps, unjudged = judge_ledger(LedgerSnapshot(runs), [costs.sweep.spec.name for costs in priced.values()])
    else:
        sweeps, unjudged = _judge_files(priced, LedgerSnapshot(runs))
    by_name: dict[str, dict[str | None, SweepAnalysis]] = {}
    for judged in sweeps:
        by_name.setdefault(judged.analysis.sweep, {})[judged.analysis.scale] = judged
    ledger, listings = Ledger(runs), []
    for path, costs in priced.items():
        spec = costs.sweep.spec
        names = [] if spec.search is None else costs.costs
        records = {scale: ledger.search(f"{spec.name}.{scale or DEFAULT_SCALE_NAME}") for scale in names}
        searched = {scale: record for scale, record in records.items() if record is not None}
        listings.append(SweepListing(path, costs, by_name.get(spec.name, {}), searched))
    return listings, [*problems, *unjudged]


def _judge_files(priced: Mapping[Path, SweepCosts], ledger: LedgerSnapshot) -> "tuple[list[SweepAnalysis], list[str]]":
    """Judge the begun scales of sweep files as they stand, whatever they were, or `--set` made of them, when run."""
    plans, problems = [], list[GapctlError]()
    for path, costs in priced.items():
        declaration = None if costs.sweep.spec.search else ledger.read_declaration(costs.sweep.spec.name)
        declared = declaration.trials if declaration else {}
        for scale in costs.costs:
            if (scale or DEFAULT_SCALE_NAME) in declared:
                try:
                    plans.append(make_plan(load_sweep(path, scale), compute_data_source_fingerprint))
                except GapctlError as error:
                    problems.append(error)
    begun = [plan for plan in plans if ledger.finished([trial.id for trial in plan.trials])]
    return judge_plans(begun, ledger, problems), list(map(str, problems))


def _build_sweep_document(listing: SweepListing) -> dict[str, object]:
    spec = listing.priced.sweep.spec
    scales = {}
    for scale, cost in listing.priced.costs.items():
        judged, record = listing.judged.get(scale), listing.searched.get(scale)
        verdicts = [
            {name: getattr(verdict, name) for name in ("id", "verdict", "exploratory", "seeds")}
            | {"marks": list(verdict.marks)}
            for verdict in (judged.analysis.verdicts if judged else ())
        ]
        found = asdict(cost) | {"trials_done": len(judged.analysis.trials) if judged else 0, "verdicts": verdicts}
        if record is not None:
            best = record.best and {"trial": record.best.trial, "value": record.best.value}
            found |= {"points": len(record.drawn), "best": best}
        scales[scale or "base"] = found
    return {
        "name": spec.name,
        "file": str(listing.path),
        "question": spec.question,
        "sources": listing.sources,
        "hypotheses": len(spec.hypotheses),
        "scales": scales,
    }


def _print_sweep_listings(listings: Sequence[SweepListing]) -> None:
    console = make_plain_console()
    for index, listing in enumerate(listings):
        spec = listing.priced.sweep.spec
        console.print(f"{'' if index == 0 else chr(10)}{spec.name}: {spec.question}")
        console.print(f"  gapctl sweep {listing.path.stem if is_shipped_sweep(listing.path) else listing.path}")
        if listing.sources:
            console.print(f"  sources: {'; '.join(listing.sources)}")
        table = make_table("", "", "", "", right=(2,), show_header=False, padding=(0, 2, 0, 0))
        for scale, cost in listing.priced.costs.items():
            trials = f"{cost.trials} {'trial' if cost.trials == 1 else 'trials'}"
            least = "at least " if cost.unknown else ""  # trials whose operations are not known are left out
            hours = f"{least}{_format_duration(cost.wall_hours)}"
            table.add_row(f"  {scale or 'no scales'}", trials, hours, _summarise(listing, scale))
        console.print(table)
    cores = os.cpu_count() or 1
    console.print(f"\nTimes are the planner's for this machine's {cores} {'core' if cores == 1 else 'cores'}.")
    if any(cost.wall_hours >= CLUSTER_HOURS for listing in listings for cost in listing.priced.costs.values()):
        console.print(
            "What takes days here is for GPUs: `gapctl cluster cost CLUSTER_FILE --sweep FILE --scale SCALE` gives its "
            "hours and money there, for a cluster file such as the repository's cluster.yaml."
        )


def _format_duration(hours: float) -> str:
    if hours < 100:
        return format_hours(hours)
    days = hours / 24
    return f"{days:,.0f} days" if days < 1000 else f"{days / 365:,.0f} years"


def _summarise(listing: SweepListing, scale: str | None) -> str:
    """Summarise the search or the verdicts of a scale in a line; empty where the ledger has neither."""
    if (record := listing.searched.get(scale)) is not None:
        from gapctl.report.search_page import summarise_search

        return summarise_search(record)
    if (judged := listing.judged.get(scale)) is None:
        return ""
    from gapctl.report.markdown import format_mark_counts

    analysis = judged.analysis
    counts = Counter(verdict.verdict for verdict in analysis.verdicts)
    told = [f"{counts[word]} {word}" for word in ("supported", "refuted", "inconclusive") if counts[word]]
    return ", ".join([f"{len(analysis.trials)} of {analysis.planned} done", *told, *format_mark_counts(analysis)])
