"""A rich console for texts from files: nothing in them is markup, and control characters are escaped."""

import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.status import Status
from rich.text import Text

from gapctl.cli.output import escape_controls, find_raw_stream


class SafeConsole(Console):
    """Treat `[bold]` and `:smile:` in a text as text, and show its control characters as `\\x1b`."""

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
            renderable = self._escape_text(renderable)
        return super().render(renderable, options)

    def status(self, status: RenderableType, **options: Any) -> Status:
        """Show a spinner beside a text, in which nothing is markup."""
        return super().status(self.render_str(status) if isinstance(status, str) else status, **options)

    def _escape_text(self, text: Text) -> Text:
        parts = [(escape_controls(part), style or "") for part, style, _ in text.render(self)]
        return Text.assemble(*parts, justify=text.justify, overflow=text.overflow, no_wrap=text.no_wrap, end=text.end)
