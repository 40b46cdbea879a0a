"""`gapctl questions`: list the shipped sweeps with their questions, their costs, and this ledger's verdicts."""

import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer

from gapctl.cli.options import DEFAULT_RUNS, JsonOption, RunsOption
from gapctl.errors import GapctlError

if TYPE_CHECKING:
    from gapctl.analysis.compare import SweepAnalysis
    from gapctl.ledger import Ledger
    from gapctl.ledger.search_record import SearchRecord
    from gapctl.plan.estimate import SweepCosts

PlaceArgument = Annotated[
    Path | None,
    typer.Argument(
        help="Their folder, or one sweep; sweeps/ if left out, or gapctl's own.",
        show_default=False,
        metavar="FOLDER|FILE",
    ),
]


CLUSTER_HOURS: Final = 48.0
"""Hours on this machine from which a sweep needs a cluster."""


class SweepListing(NamedTuple):
    """A sweep file with its costs, and the scales that the ledger can judge or has searched."""

    path: Path
    priced: "SweepCosts"
    judged: "Mapping[str | None, SweepAnalysis]"
    searched: "Mapping[str | None, SearchRecord]"

    @property
    def sources(self) -> list[str]:
        """The sources that its hypotheses name, each once and without remarks."""
        named = (hypothesis.source or "" for hypothesis in self.priced.sweep.spec.hypotheses)
        return list(dict.fromkeys(short for source in named if (short := re.split(r"; | \(|, which ", source)[0])))


def questions_command(
    place: PlaceArgument = None, runs: RunsOption = DEFAULT_RUNS, as_json: JsonOption = False
) -> None:
    """The shipped sweeps: what each asks, what it costs, and the verdicts so far in this ledger."""
    questions, problems = _list_sweeps(place, runs)
    if as_json:
        typer.echo(json.dumps({"questions": [_build_sweep_document(question) for question in questions]}, indent=1))
    else:
        _print_sweeps(questions)
    for problem in problems:
        typer.echo(f"gapctl: {problem}", err=True)
    if problems:
        raise typer.Exit(1)


def _list_sweeps(place: Path | None, runs: str) -> tuple[list[SweepListing], list[str]]:
    """List the sweeps; a wrong file, or a sweep that cannot be judged, becomes a problem and hides no others."""
    from gapctl.config.load import list_sweep_files
    from gapctl.ledger import Ledger
    from gapctl.plan.estimate import estimate_sweep_costs

    found: dict[Path, SweepCosts] = {}
    problems: list[str] = []
    for path in list_sweep_files(place):
        try:
            found[path] = estimate_sweep_costs(path, os.cpu_count() or 1)
        except GapctlError as error:
            problems.append(str(error))
    judged, unjudged = _collect_verdicts(runs, [one.sweep.spec.name for one in found.values()])
    ledger = Ledger(runs)
    questions = [
        SweepListing(path, one, judged.get(one.sweep.spec.name, {}), _read_searches(one, ledger))
        for path, one in found.items()
    ]
    return questions, [*problems, *unjudged]


def _read_searches(priced: "SweepCosts", ledger: "Ledger") -> "dict[str | None, SearchRecord]":
    from gapctl.config.load import DEFAULT_SCALE_NAME

    spec = priced.sweep.spec
    if spec.search is None:
        return {}
    found = {scale: ledger.search(f"{spec.name}.{scale or DEFAULT_SCALE_NAME}") for scale in priced.costs}
    return {scale: record for scale, record in found.items() if record is not None}


def _collect_verdicts(
    runs: str, names: Sequence[str]
) -> "tuple[dict[str, dict[str | None, SweepAnalysis]], Sequence[str]]":
    """Judge these sweeps in the ledger, by name and scale; import the statistics only where it has any."""
    from gapctl.cli.analyze import judge_ledger
    from gapctl.ledger import LedgerSnapshot

    sweeps, problems = judge_ledger(LedgerSnapshot(runs), "never", names)
    found: dict[str, dict[str | None, SweepAnalysis]] = {}
    for judged in sweeps:
        found.setdefault(judged.analysis.sweep, {})[judged.analysis.scale] = judged
    return found, problems


def _build_sweep_document(question: SweepListing) -> dict[str, Any]:
    spec = question.priced.sweep.spec
    return {
        "name": spec.name,
        "file": str(question.path),
        "question": spec.question,
        "sources": question.sources,
        "hypotheses": len(spec.hypotheses),
        "scales": {
            scale or "base": asdict(cost)
            | _describe_verdicts(question.judged.get(scale))
            | _describe_search(question.searched.get(scale))
            for scale, cost in question.priced.costs.items()
        },
    }


def _describe_verdicts(judged: "SweepAnalysis | None") -> dict[str, Any]:
    if judged is None:
        return {"trials_done": 0, "verdicts": []}
    verdicts = [
        {name: getattr(verdict, name) for name in ("id", "verdict", "exploratory", "seeds")}
        | {"marks": list(verdict.marks)}
        for verdict in judged.analysis.verdicts
    ]
    return {"trials_done": len(judged.analysis.trials), "verdicts": verdicts}


def _describe_search(record: "SearchRecord | None") -> dict[str, Any]:
    if record is None:
        return {}
    best = record.best
    return {"points": len(record.drawn), "best": None if best is None else {"trial": best.trial, "value": best.value}}


def _print_sweeps(questions: Sequence[SweepListing]) -> None:
    from rich.table import Table

    from gapctl.cli.output import make_plain_console
    from gapctl.config.load import is_shipped

    console = make_plain_console()
    for index, question in enumerate(questions):
        spec = question.priced.sweep.spec
        console.print(f"{'' if index == 0 else chr(10)}{spec.name}: {spec.question}")
        console.print(f"  gapctl sweep {question.path.stem if is_shipped(question.path) else question.path}")
        if question.sources:
            console.print(f"  sources: {'; '.join(question.sources)}")
        table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
        for _ in range(3):
            table.add_column(justify="left")
        table.columns[2].justify = "right"
        for scale, cost in question.priced.costs.items():
            trials = f"{cost.trials} {'trial' if cost.trials == 1 else 'trials'}"
            said = _summarise_search(question.searched.get(scale)) or _summarise_verdicts(question.judged.get(scale))
            table.add_row(f"  {scale or 'no scales'}", trials, format_duration(cost.wall_hours), said)
        console.print(table)
    cores = os.cpu_count() or 1
    console.print(f"\nTimes are the planner's for this machine's {cores} {'core' if cores == 1 else 'cores'}.")
    if any(cost.wall_hours >= CLUSTER_HOURS for question in questions for cost in question.priced.costs.values()):
        console.print(
            "What takes days here is for GPUs: `gapctl cluster cost CLUSTER_FILE --sweep FILE --scale SCALE` gives its "
            "hours and money there, for a cluster file such as the repository's cluster.yaml."
        )


def format_duration(hours: float) -> str:
    """Format hours of this machine as minutes, hours, days or years."""
    if hours < 1:
        return f"{max(1, round(hours * 60))} min"
    if hours < 100:
        return f"{hours:,.1f} h"
    days = hours / 24
    return f"{days:,.0f} days" if days < 1000 else f"{days / 365:,.0f} years"


def _summarise_search(record: "SearchRecord | None") -> str:
    if record is None:
        return ""
    from gapctl.report.search_page import summarise_search

    return summarise_search(record)


def _summarise_verdicts(judged: "SweepAnalysis | None") -> str:
    if judged is None:
        return ""
    analysis = judged.analysis
    from gapctl.report.markdown import count_marks

    counts = Counter(verdict.verdict for verdict in analysis.verdicts)
    told = [f"{counts[word]} {word}" for word in ("supported", "refuted", "inconclusive") if counts[word]]
    done = f"{len(analysis.trials)} of {analysis.planned} done"
    return ", ".join([done, *told, *count_marks(analysis)])
