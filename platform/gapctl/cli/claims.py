"""`gapctl claims`: write the page that sets the paper's claims beside the verdicts of the ledgers' sweeps.

The claims are those of the repository's page of findings, so `docs/make_findings.py` of a clone lays the page out.
"""

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated

import typer

from gapctl.analysis.service import judge_ledger
from gapctl.cli.options import DEFAULT_RUNS
from gapctl.cli.output import exit_on_problems, write_page
from gapctl.config.yaml_file import read_text_file
from gapctl.errors import InputError
from gapctl.ledger import LedgerSnapshot

if TYPE_CHECKING:
    from gapctl.analysis.compare import SweepAnalysis

FIGURES_FOLDER = "images"
PAGE_SUFFIX = ".md"


def claims_command(
    runs: Annotated[
        list[str],
        typer.Option(
            "--runs", help="The ledger; may be given more than once.", metavar="DIR", show_default=DEFAULT_RUNS
        ),
    ] = [DEFAULT_RUNS],  # noqa: B006
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Write the page there, its figures below images/ beside it; else print it."),
    ] = None,
    notes: Annotated[
        Path | None,
        typer.Option("--notes", help="YAML with the answer, and what each claim comes to elsewhere.", metavar="FILE"),
    ] = None,
) -> None:
    """The claims of arXiv 2404.07983: our tests, effects, verdicts, and what would change them."""
    if out is not None and out.is_dir():
        raise InputError(f"--out {out}: is a folder; expected a file that ends in {PAGE_SUFFIX}")
    if out is not None and out.suffix != PAGE_SUFFIX:
        raise InputError(f"--out {out}: found a name that ends in {out.suffix or 'nothing'}; expected {PAGE_SUFFIX}")
    if out is not None and not out.parent.is_dir():
        raise InputError(f"--out {out}: there is no folder {out.parent}; expected a file in a folder that exists")
    findings = _load_page_maker()
    where = f"--notes {notes}"
    noted = None if notes is None else findings.parse_notes(read_text_file(notes, where, "a YAML file"), where)
    sweeps, problems = _judge_ledgers(runs)
    page = findings.render_claims_page(sweeps, f"{FIGURES_FOLDER}/{out.stem if out else 'findings'}", noted)
    if out is None:
        typer.echo(page.text, nl=False)
    else:
        for path, content in page.figures.items():  # before the page: once it exists, so does everything that it shows
            target = out.parent / path
            target.parent.mkdir(parents=True, exist_ok=True)
            write_page("--out", target, content)
        write_page("--out", out, page.text)
        typer.echo(f"findings of {len(sweeps)} sweeps: {out}")
    exit_on_problems(problems)


def _load_page_maker() -> ModuleType:
    """Import `docs/make_findings.py` of the clone that gapctl runs from; raise InputError where there is none."""
    docs = Path(__file__).parents[3] / "docs"
    if not (docs / "make_findings.py").is_file():
        raise InputError(
            "gapctl claims: the claims belong to the repository's page of findings, and this gapctl was not installed "
            f"from a clone of it ({docs}/make_findings.py is missing); `gapctl analyze` gives every sweep's verdicts"
        )
    if str(docs) not in sys.path:
        sys.path.append(str(docs))
    return import_module("make_findings")


def _judge_ledgers(runs: list[str]) -> "tuple[list[SweepAnalysis], list[str]]":
    """Judge the sweeps of all ledgers; raise InputError where two have the same scale of one sweep."""
    found: dict[str, tuple[SweepAnalysis, str]] = {}
    problems: list[str] = []
    for root in dict.fromkeys(runs):
        ledger = LedgerSnapshot(root)
        if root != DEFAULT_RUNS and not ledger.list_sweeps():  # most often its name is mistyped
            raise InputError(f"--runs {root}: keeps no sweep; expected a folder that `gapctl sweep FILE --runs` filled")
        sweeps, not_judged = judge_ledger(ledger)
        problems += not_judged
        for judged in sweeps:
            if judged.name in found:
                raise InputError(
                    f"--runs {root}: {judged.name} is in {found[judged.name][1]} as well; expected each scale of a "
                    "sweep in one ledger, as trials of several are never pooled. Leave one out"
                )
            found[judged.name] = judged, root
    return [judged for judged, _ in found.values()], problems
