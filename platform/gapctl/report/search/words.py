"""A search in words: how it stands, and its best point as options and as YAML."""

import shlex
from collections import Counter
from typing import Any, Final

import yaml

from gapctl.ledger.search_record import Drawn, SearchRecord
from gapctl.report.markdown_text import table
from gapctl.spec.paths import placed

ORDER: Final = ("done", "stopped", "failed", "running")
_MEANING: Final = {
    "done": "trained to their ends",
    "stopped": "stopped early",
    "failed": "failed",
    "running": "in training",
}

CAUTION: Final = (
    "The best of many points looks better than it is, as chance helped to choose it. Before it replaces another "
    "recipe, train both on seeds that the search has not used, and compare them."
)


def standing(record: SearchRecord) -> str:
    """How many points there are and how they ended, and the best value."""
    counts = Counter(drawn.state for drawn in record.drawn)
    told = ", ".join(f"{counts[state]} {_MEANING[state]}" for state in ORDER if counts[state]) or "none drawn"
    best = f"; best {record.metric}: {record.best.value:.4g}" if record.best else ""
    return f"{len(record.drawn)} of {record.asked} points: {told}{best}"


def as_options(best: Drawn) -> str:
    """`--set` options for any sweep."""
    words = [word for path, level in best.point.items() for word in ("--set", f"base.{path}={_level(level)}")]
    return shlex.join(words)


def as_yaml(best: Drawn) -> str:
    """The point as part of a sweep file's `base`."""
    document: dict[str, Any] = {}
    for path, level in best.point.items():
        document = placed(document, ["base", *path.split(".")], level)
    return yaml.safe_dump(document, sort_keys=False).rstrip()


def search_markdown(record: SearchRecord, most: int = 10) -> str:
    """The best points as a table for the description of a run in MLflow."""
    paths = list(record.drawn[0].point) if record.drawn else []
    head = ["trial", *paths, "ended", "samples", record.metric]
    rows = [
        [
            f"`{one.trial}`",
            *(str(one.point[path]) for path in paths),
            one.state,
            f"{one.samples_seen:,}",
            f"{one.value:.4g}",
        ]
        for one in record.ranked[:most]
    ]
    return f"{standing(record)}.\n\n{table(head, rows, numbers_from=len(paths) + 2)}"


def _level(level: object) -> str:
    return str(level).lower() if isinstance(level, bool) else str(level)
