"""A treatment as a chart sees it: its words, its levels in order, and the axis that suits them."""

from typing import Any, Literal, NamedTuple

Kind = Literal["linear", "log", "steps", "categories"]


class Factor(NamedTuple):
    """A varied path, its short name and its words, its levels in order, and the axis that suits them.

    Numbers stand where they belong (`linear`, or `log` where that tells them apart better), in even `steps` where
    neither does; everything else is `categories` in the file's order.
    """

    path: str
    name: str
    words: str
    kind: Kind
    levels: tuple[str, ...]

    @property
    def ordered(self) -> bool:
        """Whether its levels are numbers, so that a line between them means something."""
        return self.kind != "categories"

    @property
    def measured(self) -> bool:
        """Whether its axis is a number line."""
        return self.kind in ("linear", "log")

    def text(self, level: Any) -> str:
        """A level as text: the same for 5, 5.0 and "5" of a numeric factor."""
        return f"{float(level):.10g}" if self.ordered else plain(level)

    def place(self, level: Any) -> float | str:
        """A level as the x value of a chart."""
        return float(level) if self.measured else self.text(level)


def plain(level: Any) -> str:
    """A category as the sweep file writes it."""
    text = str(level)
    return text.lower() if text in ("True", "False") else text
