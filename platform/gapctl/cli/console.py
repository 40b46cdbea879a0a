"""Rich's consoles, tables and progress bars, for texts from files: nothing in them is markup."""

import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from gapctl.cli.output import escape_controls, find_raw_stream

if TYPE_CHECKING:
    from rich.progress import TaskID
    from rich.status import Status


class SafeConsole(Console):
    r"""Treat `[bold]` and `:smile:` in a text as text, and show its control characters as `\x1b`."""

    def __init__(self, *, stderr: bool = False, soft_wrap: bool = False, quiet: bool = False) -> None:
        """Write to a standard stream; without `soft_wrap` lines are wrapped to the terminal's width."""
        file = find_raw_stream(sys.stderr if stderr else sys.stdout)
        super().__init__(file=file, markup=False, emoji=False, highlight=False, soft_wrap=soft_wrap, quiet=quiet)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a string as a text, with control characters escaped before it is measured and wrapped."""
        return super().render_str(escape_controls(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render, with the control characters of a styled text escaped before it is wrapped."""
        if isinstance(renderable, Text) and escape_controls(renderable.plain) != renderable.plain:
            parts = [(escape_controls(part), style or "") for part, style, _ in renderable.render(self)]
            renderable = Text.assemble(
                *parts,
                justify=renderable.justify,
                overflow=renderable.overflow,
                no_wrap=renderable.no_wrap,
                end=renderable.end,
            )
        return super().render(renderable, options)

    def status(self, status: RenderableType, **options: Any) -> "Status":
        """Show a spinner beside a text, in which nothing is markup."""
        return super().status(self.render_str(status) if isinstance(status, str) else status, **options)


def make_plain_console(*, stderr: bool = False) -> SafeConsole:
    """Return a console that neither cuts nor wraps lines."""
    return SafeConsole(stderr=stderr, soft_wrap=True)


def make_table(*headings: str, right: Collection[int] = (), **options: Any) -> Table:
    """Return a table without lines around it; the columns at the places `right` hold numbers."""
    table = Table(box=None, pad_edge=False, **options)
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place in right else "left")
    return table


ProgressCallback = Callable[[str, int, int | None], None]
"""Called with a task's name, what of it is done, and how much it is in all, if that is known."""


@contextmanager
def show_progress(
    console: Console | None = None, *, in_bytes: bool = False, announce: bool = False
) -> Iterator[ProgressCallback]:
    """Show a bar for each task, from the first call with its name on; remove the bars at the end.

    Bars are on standard error if no console is given. Without a terminal there are none; with `announce`, the name of
    each task is printed there instead.
    """
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    shown = make_plain_console(stderr=True) if console is None else console
    amount = DownloadColumn() if in_bytes else MofNCompleteColumn()
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), amount, TimeRemainingColumn())
    with Progress(*columns, console=shown, transient=True, disable=not shown.is_terminal) as progress:
        tasks: dict[str, TaskID] = {}

        def show(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=total)
                if announce and not shown.is_terminal:
                    shown.print(name, highlight=False, markup=False, soft_wrap=True)
            progress.update(tasks[name], completed=done, total=total)

        yield show
