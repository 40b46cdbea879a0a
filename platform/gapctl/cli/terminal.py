"""How verbs print: text as it is, whole lines, colours only where a terminal wants them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def plain_console(*, stderr: bool = False) -> "Console":
    """A rich console that takes `[bold]` and `:smile:` in a user's text for text, and cuts or wraps no line."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, emoji=False, highlight=False, soft_wrap=True)
