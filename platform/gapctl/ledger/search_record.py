"""What a search has drawn and found, in the ledger: `<sweep>.<scale>.search.json`, which needs no Optuna to be read."""

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, TypeAdapter, with_config

from gapctl.errors import WorkError
from gapctl.ledger.documents import STRICT_DOCUMENT, parse_document

PointState = Literal["done", "stopped", "failed", "running"]
Level = bool | int | float | str


def _read_number(found: Any) -> Any:
    return math.nan if found is None else found


@with_config(STRICT_DOCUMENT)
@dataclass(frozen=True)
class PointRecord:
    """One point: when it was drawn, its trial, and the metric when it ended or was last measured (NaN before).

    `samples_seen` is how far it was trained at that measure.
    """

    number: int
    trial: str
    point: dict[str, Level]
    state: PointState
    value: Annotated[float, BeforeValidator(_read_number)]
    samples_seen: int


@with_config(STRICT_DOCUMENT)
@dataclass(frozen=True)
class SearchRecord:
    """A search as its study stands: `asked` points in all, and how much each path decides, once that can be told."""

    study: str
    metric: str
    direction: str
    asked: int
    drawn: list[PointRecord]
    importance: dict[str, float] = field(default_factory=dict)

    @property
    def best(self) -> PointRecord | None:
        """The best of the points that were trained to their ends; of equal ones the first."""
        done = [drawn for drawn in self.drawn if drawn.state == "done" and math.isfinite(drawn.value)]
        return min(done, key=self._sign_value, default=None)

    @property
    def ranked(self) -> list[PointRecord]:
        """The best first; then those that were stopped, by how far they came; then the others."""
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


_SEARCH_ADAPTER: Final = TypeAdapter(SearchRecord)


def serialize_search(record: SearchRecord) -> bytes:
    """The file's content; what is no number is null."""
    document = asdict(record)
    for drawn in document["drawn"]:
        drawn["value"] = drawn["value"] if math.isfinite(drawn["value"]) else None
    return (json.dumps(document, indent=1) + "\n").encode()


def parse_search(content: bytes, path: str) -> SearchRecord:
    """Reads the file's content; raises WorkError where it is damaged."""
    try:
        return parse_document(_SEARCH_ADAPTER, content)
    except ValueError as error:
        raise WorkError(
            f"{path}: damaged: {error}; expected what `gapctl sweep` wrote. Move it away and run the search again: it "
            "is written anew from the study, and trials are kept"
        ) from error
