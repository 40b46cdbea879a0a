"""The report in the format that was asked for, at `--out` or beside the ledger's own report."""

from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from gapctl.cli.page_file import write_page
from gapctl.errors import InputError

if TYPE_CHECKING:
    from gapctl.analysis.combined import Combined
    from gapctl.ledger import Ledger


class Format(StrEnum):
    """The formats of a report."""

    HTML = "html"
    MARKDOWN = "md"
    LATEX = "latex"


_ENDINGS: Final = {Format.HTML: ".html", Format.MARKDOWN: ".md", Format.LATEX: ".tex"}


class Report(NamedTuple):
    """A report to be written: its format, and where to; no place stands for beside the ledger's own report."""

    format: Format
    out: Path | None


def report_asked(form: Format | None, out: Path | None) -> Report | None:
    """What the options ask for; raises InputError where the name's ending contradicts the format."""
    if out is None:
        return None if form is None else Report(form, None)
    if not out.parent.is_dir():
        raise InputError(
            f"--out {out}: cannot be written: there is no folder {out.parent}; expected a file in a folder that exists "
            "and may be written to"
        )
    by_name = {ending: known for known, ending in _ENDINGS.items()}.get(out.suffix)
    if by_name is None or form not in (None, by_name):
        expected = ", ".join(_ENDINGS.values()) if form is None else f"{_ENDINGS[form]}, for --format {form}"
        raise InputError(f"--out {out}: found a name that ends in {out.suffix or 'nothing'}; expected {expected}")
    return Report(by_name, out)


def write_report(report: Report, found: "Combined", ledger: "Ledger") -> str:
    """Writes the report and its figures; returns where it lies."""
    name = _default_name(found, report.format) if report.out is None else report.out.name
    files = _files(report.format, found, ledger, name)
    if report.out is None:
        return [ledger.keep(path, content) for path, content in files.items()][-1]
    for path, content in files.items():
        _write(report.out.parent / path, content)
    return str(report.out)


def _default_name(found: "Combined", form: Format) -> str:
    stem = found.sweeps[0].file_name if len(found.sweeps) == 1 else "comparison"
    return f"{stem}.report{_ENDINGS[form]}"


def _files(form: Format, found: "Combined", ledger: "Ledger", name: str) -> dict[str, bytes]:
    """The files by their path beside the report, which is the last: it is there once all that it shows is."""
    if form is Format.MARKDOWN:
        return _markdown(found, ledger, name)
    page = _latex(found) if form is Format.LATEX else _html(found, ledger)
    return {name: page.encode()}


def _html(found: "Combined", ledger: "Ledger") -> str:
    if len(found.sweeps) == 1 and not found.not_judged:
        from gapctl.cli.artifacts import search_page
        from gapctl.cli.background import background_of
        from gapctl.cli.drawn import record_of
        from gapctl.report.page import render_report

        (judged,) = found.sweeps
        if judged.plan.sweep.spec.search is not None and (record := record_of(judged.plan, ledger)) is not None:
            return search_page(judged.plan, record, ledger)
        return render_report(judged.analysis, background_of(judged.plan, ledger))
    from gapctl.report.combined_page import render_combined

    return render_combined(found, ledger)


def _markdown(found: "Combined", ledger: "Ledger", name: str) -> dict[str, bytes]:
    from gapctl.report.markdown import render_comparison, render_markdown

    folder, declared = f"{Path(name).stem}-figures", _declared(found)
    if len(found.sweeps) == 1 and not found.not_judged:
        pages = render_markdown(found.sweeps[0], ledger, folder, declared[0])
    else:
        pages = render_comparison(found, ledger, folder, declared)
    return {**pages.figures, name: pages.text.encode()}


def _latex(found: "Combined") -> str:
    from gapctl.report.latex import render_latex

    return render_latex(found.sweeps, _declared(found))


def _declared(found: "Combined") -> list[str]:
    from gapctl.cli.verdict_table import declared_when

    return [declared_when(judged.analysis) for judged in found.sweeps]


def _write(path: Path, content: bytes) -> None:
    with suppress(OSError):  # writing the file itself says why it cannot be
        path.parent.mkdir(parents=True, exist_ok=True)
    write_page("--out", path, content)
