"""The record of a search in the ledger, `<sweep>.<scale>.search.json`, readable without Optuna."""

import math
from dataclasses import dataclass, field
from typing import Final, Literal

from pydantic import TypeAdapter, with_config

from gapctl.config.hypotheses import Level
from gapctl.ledger.json_files import STRICT_DOCUMENT, DocumentKind, MetricValue

PointState = Literal["done", "stopped", "failed", "running"]


@with_config(STRICT_DOCUMENT)
@dataclass(frozen=True)
class PointRecord:
    """One point of a search: its number in drawing order, trial, state and metric.

    `value` is the final or last measured metric (NaN before the first), `samples_seen` how far the trial was trained
    then.
    """

    number: int
    trial: str
    point: dict[str, Level]
    state: PointState
    value: MetricValue
    samples_seen: int


@with_config(STRICT_DOCUMENT)
@dataclass(frozen=True)
class SearchRecord:
    """The state of a search: its points, out of `asked` in all, and each path's importance once it can be computed."""

    study: str
    metric: str
    direction: str
    asked: int
    drawn: list[PointRecord]
    importance: dict[str, float] = field(default_factory=dict)

    @property
    def best(self) -> PointRecord | None:
        """The best fully trained point, the first of equal ones, or None."""
        done = [drawn for drawn in self.drawn if drawn.state == "done" and math.isfinite(drawn.value)]
        return min(done, key=self._sign_value, default=None)

    @property
    def ranked(self) -> list[PointRecord]:
        """The points, best first; then stopped ones by how far they came; then the others."""
        return sorted(self.drawn, key=self._rank_point)

    def _rank_point(self, drawn: PointRecord) -> tuple[float, ...]:
        known = math.isfinite(drawn.value)
        if drawn.state == "done" and known:
            return 0, 0, self._sign_value(drawn), drawn.number
        if drawn.state == "stopped":
            return 1, -drawn.samples_seen, self._sign_value(drawn) if known else math.inf, drawn.number
        return 2, 0, 0, drawn.number

    def _sign_value(self, drawn: PointRecord) -> float:
        return drawn.value if self.direction == "minimize" else -drawn.value


def count_ended_points(record: SearchRecord | None) -> int:
    """Count the points of a search that are done or were stopped; None has none."""
    return 0 if record is None else sum(drawn.state in ("done", "stopped") for drawn in record.drawn)


SEARCH: Final = DocumentKind(
    TypeAdapter(SearchRecord),
    "Move it away and run the search again: it draws its points anew, and trials are kept",
)
