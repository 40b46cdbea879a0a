"""`gapctl findings`: write the page that sets the paper's claims beside the verdicts of the ledgers' sweeps."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gapctl.cli.options import DEFAULT_RUNS
from gapctl.errors import InputError

if TYPE_CHECKING:
    from gapctl.analysis.compare import SweepAnalysis
    from gapctl.report.claims_page import PageNotes

FIGURES_FOLDER = "images"
PAGE_SUFFIX = ".md"

LedgersOption = Annotated[
    list[str],
    typer.Option("--runs", help="The ledger; may be given more than once.", metavar="DIR", show_default=DEFAULT_RUNS),
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", help="Write the page there, its figures below images/ beside it; else print it."),
]
NotesOption = Annotated[
    Path | None,
    typer.Option(
        "--notes",
        help="YAML with the answer, and what each claim comes to elsewhere.",
        metavar="FILE",
    ),
]


def findings_command(
    runs: LedgersOption = [DEFAULT_RUNS],  # noqa: B006
    out: OutOption = None,
    notes: NotesOption = None,
) -> None:
    """The claims of arXiv 2404.07983: our tests, effects, verdicts, and what would change them."""
    _check_out(out)
    from gapctl.report.claims_page import render_claims_page

    noted = _read_notes(notes)
    sweeps, problems = _judge_ledgers(runs)
    page = render_claims_page(sweeps, f"{FIGURES_FOLDER}/{out.stem if out else 'findings'}", noted)
    if out is None:
        typer.echo(page.text, nl=False)
    else:
        _write_page_files(out, page.text, page.figures)
        typer.echo(f"findings of {len(sweeps)} sweeps: {out}")
    for problem in problems:
        typer.echo(f"gapctl: {problem}", err=True)
    if problems:
        raise typer.Exit(1)


def _check_out(out: Path | None) -> None:
    if out is not None and out.is_dir():
        raise InputError(f"--out {out}: is a folder; expected a file that ends in {PAGE_SUFFIX}")
    if out is not None and out.suffix != PAGE_SUFFIX:
        raise InputError(f"--out {out}: found a name that ends in {out.suffix or 'nothing'}; expected {PAGE_SUFFIX}")
    if out is not None and not out.parent.is_dir():
        raise InputError(f"--out {out}: there is no folder {out.parent}; expected a file in a folder that exists")


def _read_notes(path: Path | None) -> "PageNotes | None":
    from gapctl.config.yaml_file import read_text_file
    from gapctl.report.claims_page import parse_notes

    if path is None:
        return None
    text = read_text_file(path, f"--notes {path}", "a YAML file")
    return parse_notes(text, f"--notes {path}")


def _judge_ledgers(runs: list[str]) -> "tuple[list[SweepAnalysis], list[str]]":
    """Judge the sweeps of all ledgers; raise InputError where two have the same scale of one sweep."""
    from gapctl.cli.analyze import judge_ledger, require_sweeps
    from gapctl.ledger import LedgerSnapshot

    found: dict[str, tuple[SweepAnalysis, str]] = {}
    problems: list[str] = []
    for root in dict.fromkeys(runs):
        ledger = LedgerSnapshot(root)
        require_sweeps(ledger)
        sweeps, not_judged = judge_ledger(ledger, histories="never")
        problems += not_judged
        for judged in sweeps:
            if judged.name in found:
                raise InputError(
                    f"--runs {root}: {judged.name} is in {found[judged.name][1]} as well; expected each scale of a "
                    "sweep in one ledger, as trials of several are never pooled. Leave one out"
                )
            found[judged.name] = judged, root
    return [judged for judged, _ in found.values()], problems


def _write_page_files(out: Path, text: str, figures: dict[str, bytes]) -> None:
    """Write the figures, then the page: once it exists, so does everything that it shows."""
    from gapctl.cli.output import write_page

    for path, content in figures.items():
        target = out.parent / path
        target.parent.mkdir(parents=True, exist_ok=True)
        write_page("--out", target, content)
    write_page("--out", out, text)
