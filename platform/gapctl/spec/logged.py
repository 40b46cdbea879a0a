"""Metrics that no training of a sweep logs, although there are such metrics."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import get_args

from gapctl.spec.data import FactorName, PairData
from gapctl.spec.hypotheses import Correlation, Hypothesis, Level
from gapctl.spec.problem import KeyPath, Problem, show
from gapctl.spec.trial import TrialConfig
from gapctl.spec.vocabulary import is_metric, is_of_seed_pairs, is_of_several

OF_PAIRS = ("captions/", "data/")
OF_TRAINING = ("train/", *OF_PAIRS)
NEEDS_ATTRIBUTES = ("bias/", "quality/attribute_accuracy")
OF_FACTORS = tuple(f"quality/accuracy_{name}" for name in get_args(FactorName))

Vary = Mapping[str, Sequence[Level] | None]


def unlogged(hypothesis: Hypothesis, at: KeyPath, base: TrialConfig, vary: Vary) -> Iterator[Problem]:
    """The metrics of a hypothesis that would never be there to judge it by."""
    asked: list[tuple[KeyPath, str]] = [((*at, "response"), hypothesis.response)]
    if isinstance(hypothesis, Correlation):
        asked.append(((*at, "against"), hypothesis.against))
        asked += [((*at, "given", place), name) for place, name in enumerate(hypothesis.given)]
    for place, key in asked:
        if is_metric(key) and (why := why_not_logged(key, base, vary)):
            yield Problem(place, f"found {show(key)}, which no training of this sweep logs: {why}")


def why_not_logged(key: str, base: TrialConfig, vary: Vary) -> str:
    """Why no training logs a metric; nothing where at least one does."""
    if key.startswith(OF_TRAINING) and not any(_values("train.samples", base.train.samples, vary)):
        return "it is of what is trained on, and train.samples is 0"
    if not isinstance(base.data, PairData):
        if key.startswith(OF_PAIRS):
            return "it is of image-text pairs, and data.dataset is mad"
    elif key in OF_FACTORS:
        return "it is of a factor of MAD, and data.dataset is cc12m"
    elif key.startswith(NEEDS_ATTRIBUTES) and not base.data.classes:
        return "it needs questions about attributes; expected data.classes, a file with several"
    if is_of_several(key):
        return _nothing_to_compare(key, base, vary)
    if key == "temperature/bias" and "siglip" not in _values("loss.kind", base.loss.kind, vary):
        return "only loss.kind siglip has a bias"
    size = re.search(r"_nats_at_(\d+)$", key)
    galleries = _values("evaluate.gallery", base.evaluate.gallery, vary)
    if size and max(int(gallery) for gallery in galleries if isinstance(gallery, int)) < int(size[1]):
        return f"its galleries have {int(size[1]):,} pairs, and evaluate.gallery is smaller"
    return ""


def _nothing_to_compare(key: str, base: TrialConfig, vary: Vary) -> str:
    path = {"architectures": "model.preset", "widths": "model.embed_dim"}.get(key.rpartition("_")[2])
    if path and (levels := vary.get(path, ())) is not None and len(set(levels)) < 2:
        return f"it compares trainings that differ in {path} alone, and that does not vary"
    if key == "agreement/axis_arms" and math.prod(len(levels or ()) for levels in vary.values()) == 1:
        return "it compares arms, and the sweep has one"
    if not is_of_seed_pairs(key) and len(_values("evaluate.gallery", "", vary)) > 1:
        return "trainings compare on one gallery, and evaluate.gallery varies"
    widths = _values("model.embed_dim", base.model.embed_dim, vary)
    if key == "agreement/leading_dims_seeds" and max(int(width) for width in widths) <= 10:
        return "of ten dimensions, all are leading"
    return ""


def _values(path: str, own: Level, vary: Vary) -> Sequence[Level]:
    return vary.get(path) or [own]
