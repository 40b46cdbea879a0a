"""Lists of names and counts in sentences, for the messages of every package."""

from collections.abc import Iterable, Sequence


def join_and(names: Sequence[str]) -> str:
    """Join names: `a, b and c`."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def join_or(names: Iterable[str]) -> str:
    """Join alternatives, each once: `a, b or c`."""
    *others, last = dict.fromkeys(names)
    return f"{', '.join(others)} or {last}" if others else last


def format_first_names(names: Sequence[str], most: int = 6) -> str:
    """Join the first names, with the number of the others."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def format_count_with_noun(count: int, one: str, many: str | None = None) -> str:
    """Format a count with its noun: `1 training`, `2 trainings`."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"
