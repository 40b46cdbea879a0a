"""What a search must satisfy beyond the types of its values: what it may be judged by, draw, and stand beside."""

from collections.abc import Iterator
from typing import Final

from gapctl.spec.logged import why_not_logged
from gapctl.spec.nearest import did_you_mean
from gapctl.spec.paths import leaves
from gapctl.spec.problem import Problem, show
from gapctl.spec.search import Search
from gapctl.spec.sweep import SweepFile
from gapctl.spec.vocabulary import is_metric, nearest_metric

AT: Final = "search"
_HELD: Final = {
    "data.": "points are compared on the same pairs and the same gallery",
    "evaluate.": "points are compared by the same evaluation",
    "train.samples": "what is trained longer is better for that alone",
}
_LOSS: Final = "train/loss"
_DECIDES_THE_LOSS: Final = ("train.batch_size", "loss.", "temperature.")
"""What moves the loss itself: it is a logarithm of the batch's size, of captions that repeat, of the temperature."""

_ENTROPIES: Final = ("entropy/", "temperature/")
_DECIDES_ENTROPY: Final = ("temperature.",)


def search_problems(spec: SweepFile) -> Iterator[Problem]:
    """All that is wrong with how a file varies its trials: by a grid, or by a search without hypotheses."""
    search = spec.search
    if search is None:
        if not spec.vary:
            yield Problem(("vary",), "missing; expected it here")
        return
    yield from _beside(spec)
    yield from _metric(search, spec)
    yield from _space(search, spec)
    if search.stop_early is not None:
        yield from _stops(search.stop_early.after, spec)


def _beside(spec: SweepFile) -> Iterator[Problem]:
    if spec.hypotheses:
        yield Problem(
            (AT,),
            "found beside hypotheses; expected one of them: a search chooses by its results which trainings there are "
            "and which are stopped, so that a verdict on them would be about what was chosen. Search in a file of its "
            "own, then put what it found into this file's base",
        )
    if spec.vary:
        yield Problem(
            (AT,), "found beside vary; expected one of them: a search draws its points, a grid is trained whole"
        )
    if spec.base.init_from:
        text = "found beside init_from; expected a search without it, whose points begin with a seed's weights"
        yield Problem((AT,), text)
    if spec.seeds != 1:
        yield Problem(("seeds",), f"found {spec.seeds}; expected 1 with search: the best point is measured by a sweep")
    if spec.resources.pack != 1:
        text = f"found {spec.resources.pack}; expected 1 with search, whose points are drawn one after another"
        yield Problem(("resources", "pack"), text)


def _metric(search: Search, spec: SweepFile) -> Iterator[Problem]:
    at, key = (AT, "metric"), search.metric
    if not is_metric(key):
        expected = f"expected a metric such as train/loss or quality/i2t_recall_10{nearest_metric(key)}"
        yield Problem(at, f"found {show(key)}; {expected}")
        return
    levels = {path: list(domain.values) for path, domain in search.space.items()}
    if why := why_not_logged(key, spec.base, levels):
        yield Problem(at, f"found {show(key)}, which no training of this sweep logs: {why}")
    moves = _DECIDES_THE_LOSS if key == _LOSS else _DECIDES_ENTROPY if key.startswith(_ENTROPIES) else ()
    moved = [path for path in search.space if path.startswith(moves)] if moves else []
    if moved:
        text = f"found {show(key)} with {', '.join(moved)} in space, which moves it by itself; expected one of quality"
        yield Problem(at, text)


def _space(search: Search, spec: SweepFile) -> Iterator[Problem]:
    known = leaves(spec.base.model_dump())
    for path in search.space:
        at = (AT, "space", path)
        if path not in known:
            close = did_you_mean(path.removeprefix("base."), known)
            yield Problem(at, f"no such value in base; expected one of {', '.join(known)}{close}")
        for held, why in _HELD.items():
            if path.startswith(held):
                yield Problem(at, f"cannot be drawn: {why}; expected another value")


def _stops(after: int, spec: SweepFile) -> Iterator[Problem]:
    samples, every, at = spec.base.train.samples, spec.base.evaluate.every, (AT, "stop_early", "after")
    if after >= samples:
        yield Problem(at, f"found {after:,}; expected fewer than base.train.samples, {samples:,}, or none is stopped")
    elif after < every:
        yield Problem(at, f"found {after:,}; expected at least base.evaluate.every, {every:,}: nothing is known before")
