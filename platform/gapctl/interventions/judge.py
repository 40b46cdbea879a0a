"""Fits every intervention on one half of a gallery and judges it on the other, against no intervention."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from gapctl.errors import InputError
from gapctl.interventions.bootstrap import (
    ClusterStatistic,
    GapStatistic,
    ItemMeans,
    Items,
    Numbers,
    Resampled,
    Statistic,
    Units,
    resampled,
    simultaneous,
    units_of,
)
from gapctl.interventions.fit import Candidate, Clouds, Family, Fitted, nothing
from gapctl.metrics.classification import ClassPrompts, ZeroShot, flips
from gapctl.metrics.clustering import k_means
from gapctl.metrics.embedding_set import Embeddings, match_keys, partner_keys, unit_rows
from gapctl.metrics.gap import Array
from gapctl.metrics.retrieval import Keyed, hits, query_gains
from gapctl.metrics.sampling import THOROUGH, Draw, some_rows
from gapctl.metrics.separability import told_apart

LEAST_IMAGES = 8
"""Fewer on a side say nothing: neither a mean nor an interval."""

LARGEST_GROUP = 0.02
"""The share of all images up to which those of one caption stay together."""

Rows = NDArray[np.int64]
Kind = TypeVar("Kind", bound=np.generic)
Dealt = Literal["images", "captions"]


class Split(NamedTuple):
    """The rows of the images on each side, and what was dealt out: single images, or captions with all of theirs."""

    calibration_S: Rows
    held_out_S: Rows
    dealt: Dealt


def split_images(embeddings: Embeddings, share: float, seed: int) -> Split:
    """Gives `share` of the images to calibration; the same seed gives the same sides.

    Raises InputError where the share is not between 0 and 1 or
    leaves a side with too few images.
    """
    if not 0 < share < 1:
        raise InputError(f"calibration share {share:g}: expected a number between 0 and 1, such as 0.5")
    unit_N = caption_units(embeddings)
    whole = np.bincount(unit_N).max() <= max(1, LARGEST_GROUP * len(unit_N))
    fitted_N = _dealt(unit_N if whole else np.arange(len(unit_N)), share, seed)
    _require_enough(fitted_N, share)
    together = whole and len(np.unique(unit_N)) < len(unit_N)
    return Split(np.flatnonzero(fitted_N), np.flatnonzero(~fitted_N), "captions" if together else "images")


def caption_units(embeddings: Embeddings) -> Rows:
    """Numbers the images so that those joined by equal captions, however indirectly, have one number, (N,)."""
    unit_N = np.arange(len(embeddings.image_ND))
    if embeddings.text_group_M is None or embeddings.prompt_of_N is not None:
        return unit_N
    image_M = _image_of_text(embeddings)
    group_M = np.unique(embeddings.text_group_M, return_inverse=True)[1]
    while True:
        least_G = np.full(group_M.max() + 1, len(unit_N))
        np.minimum.at(least_G, group_M, unit_N[image_M])
        joined_N = unit_N.copy()
        np.minimum.at(joined_N, image_M, least_G[group_M])
        if np.array_equal(joined_N, unit_N):
            return np.unique(unit_N, return_inverse=True)[1]
        unit_N = joined_N


def take(embeddings: Embeddings, image_S: Rows) -> Embeddings:
    """Some images with their texts, in the given order; class prompts belong to no image and all stay."""
    text_T, text_to_image_T = _their_texts(embeddings, image_S)
    return replace(
        embeddings,
        image_ND=embeddings.image_ND[image_S],
        text_MD=embeddings.text_MD[text_T],
        text_to_image_M=text_to_image_T,
        text_group_M=_rows(embeddings.text_group_M, text_T),
        prompt_of_N=_rows(embeddings.prompt_of_N, image_S),
        labels_N=_rows(embeddings.labels_N, image_S),
        attributes_NF=_rows(embeddings.attributes_NF, image_S),
        bias_image_ND=_rows(embeddings.bias_image_ND, image_S),
    )


def take_questions(zero_shot: ZeroShot, image_S: Rows) -> ZeroShot:
    """The same questions about some images."""
    taken = {
        name: ClassPrompts(question.prompt_CD, question.class_N[image_S])
        for name, question in zero_shot.questions.items()
    }
    return ZeroShot(taken, zero_shot.main)


def _their_texts(embeddings: Embeddings, image_S: Rows) -> tuple[Rows, Rows | None]:
    """The rows of the images' texts, and which of these images each belongs to, where that is not row by row."""
    if embeddings.prompt_of_N is not None:
        return np.arange(len(embeddings.text_MD)), embeddings.text_to_image_M
    if embeddings.text_to_image_M is None:
        return image_S, None
    place_N = np.full(len(embeddings.image_ND), -1)
    place_N[image_S] = np.arange(len(image_S))
    place_M = place_N[embeddings.text_to_image_M]
    text_T = np.flatnonzero(place_M >= 0)
    return text_T, place_M[text_T]


def _image_of_text(embeddings: Embeddings) -> Rows:
    image_M = embeddings.text_to_image_M
    return np.arange(len(embeddings.text_MD)) if image_M is None else image_M


def _rows(array: NDArray[Kind] | None, row_S: Rows) -> NDArray[Kind] | None:
    return None if array is None else array[row_S]


def _dealt(unit_N: Rows, share: float, seed: int) -> NDArray[np.bool_]:
    """Which images go to calibration: units in random order until the share is filled."""
    size_U = np.bincount(unit_N)
    order_U = np.random.Generator(np.random.Philox(seed)).permutation(len(size_U))
    filled_U = np.cumsum(size_U[order_U]) - size_U[order_U] / 2
    chosen_U = order_U[filled_U < share * len(unit_N)]
    return np.isin(unit_N, chosen_U)


def _require_enough(fitted_N: NDArray[np.bool_], share: float) -> None:
    calibration, total = int(fitted_N.sum()), len(fitted_N)
    if min(calibration, total - calibration) < LEAST_IMAGES:
        raise InputError(
            f"{total} images, split into {calibration} for calibration and {total - calibration} held out by a share "
            f"of {share:g}; expected at least {LEAST_IMAGES} on each side. Give more images or another share"
        )


DEPTHS: Final = (1, 5, 10)
MIXED_DEPTH: Final = 10


def statistics_of(held_out: Embeddings, zero_shot: ZeroShot, fitted: Fitted) -> tuple[Statistic, ...]:
    """All measures that the held-out images allow after an intervention, prompts taken for texts.

    Costly ones look at a seeded sample of large galleries, as `gapctl measure` does. Raises InputError where the
    intervention leaves a row without length.
    """
    clouds = fitted.apply(unit_rows(held_out.image_ND), unit_rows(held_out.text_MD))
    gap = GapStatistic.of(clouds, held_out.text_to_image_M, held_out.prompt_of_N)
    items = dict(_zero_shot(clouds, _questions(held_out, zero_shot), fitted))
    units = units_of(held_out)
    if held_out.prompt_of_N is not None:
        return gap, ItemMeans.of(items, units.total)
    items = _separability(held_out, clouds, units) | _retrieval(held_out, clouds, units) | items
    statistics = (gap, ItemMeans.of(items, units.total))
    if held_out.labels_N is None or len(np.unique(held_out.labels_N)) < 2:
        return statistics
    return *statistics, _clusters(clouds, held_out.labels_N, units)


def _separability(held_out: Embeddings, clouds: Clouds, units: Units) -> dict[str, Items]:
    """Whether the probe was right about each row that judges it; both modalities count the same."""
    image_key_N, text_key_M = partner_keys(held_out)
    told = told_apart(clouds.image_ND, image_key_N, clouds.text_MD, text_key_M, THOROUGH.pairs)
    right_J = np.concatenate([told.image_right_J, told.text_right_J]).astype(np.float64)
    unit_J = np.concatenate([told.image_J, units.unit_of_text_M[told.text_J]])
    share_J = np.concatenate([np.full(len(each_J), 1 / len(each_J)) for each_J in (told.image_J, told.text_J)])
    return {"gap/linear_separability": Items(right_J, unit_J, share_J)}


def _clusters(clouds: Clouds, label_N: Numbers, units: Units) -> ClusterStatistic:
    """k-means over both modalities, as many clusters as there are objects."""
    image_S, text_S = (some_rows(Draw.PAIRS, len(cloud), THOROUGH.pairs) for cloud in clouds)
    row_RD = np.concatenate([clouds.image_ND[image_S], clouds.text_MD[text_S]])
    label_R = label_N[np.concatenate([image_S, units.image_of_text_M[text_S]])]
    found = k_means(row_RD, len(np.unique(label_R)))
    return ClusterStatistic.of(found.cluster_R, label_R, np.concatenate([image_S, units.unit_of_text_M[text_S]]))


def _retrieval(held_out: Embeddings, clouds: Clouds, units: Units) -> dict[str, Items]:
    """Recall both ways in float32, whose rounding moves no rank that means anything; equal captions match."""
    image_key_N, text_key_M = match_keys(held_out)
    image, text = clouds.image_ND.astype(np.float32), clouds.text_MD.astype(np.float32)
    forward_NK = hits(image, text, image_key_N, text_key_M, DEPTHS)
    backward_MK = hits(text, image, text_key_M, image_key_N, DEPTHS)
    return {
        **_recalls("i2t", forward_NK, np.arange(len(image))),
        **_recalls("t2i", backward_MK, units.unit_of_text_M),
        "quality/mixed_ndcg_10": _mixed(Keyed(clouds.image_ND, image_key_N), Keyed(clouds.text_MD, text_key_M), units),
    }


def _mixed(image: Keyed, text: Keyed, units: Units) -> Items:
    """The gain of each query for its matches among images and texts at once; every query has a match."""
    image_Q, text_Q = (some_rows(Draw.QUERIES, len(each.key_N), THOROUGH.queries // 2) for each in (image, text))
    gains = [query_gains(image, image_Q, text, MIXED_DEPTH), query_gains(text, text_Q, image, MIXED_DEPTH)]
    return Items(np.concatenate(gains), np.concatenate([image_Q, units.unit_of_text_M[text_Q]]))


def _recalls(direction: str, hit_QK: NDArray[np.bool_], unit_Q: Numbers) -> dict[str, Items]:
    columns = zip(DEPTHS, hit_QK.T.astype(np.float64), strict=True)
    return {f"quality/{direction}_recall_{depth}": Items(hit_Q, unit_Q) for depth, hit_Q in columns}


def _questions(held_out: Embeddings, zero_shot: ZeroShot) -> ZeroShot:
    """The questions asked; where the texts are class prompts themselves, they are the one about the object."""
    if held_out.prompt_of_N is None or zero_shot.questions:
        return zero_shot
    return ZeroShot({"object": ClassPrompts(held_out.text_MD, held_out.prompt_of_N)}, main="object")


def _zero_shot(clouds: Clouds, asked: ZeroShot, fitted: Fitted) -> Iterator[tuple[str, Items]]:
    """Accuracies in percent, and how often noise changes the object that an image is taken for."""
    prompts = {name: fitted.texts(unit_rows(question.prompt_CD)) for name, question in asked.questions.items()}
    right = {
        name: 100 * _right_N(clouds.image_ND, prompts[name], question.class_N)
        for name, question in asked.questions.items()
    }
    every_N = np.arange(len(clouds.image_ND))
    if asked.main is not None and asked.main in right:
        yield "quality/object_accuracy", Items(right[asked.main], every_N)
        flipped = flips(clouds.image_ND, prompts[asked.main], THOROUGH.queries)
        yield "quality/flip_rate", Items(flipped.share_S, flipped.image_S)
    attributes = [right_N for name, right_N in right.items() if name != asked.main]
    if attributes:
        yield "quality/attribute_accuracy", Items(np.mean(attributes, axis=0), every_N)


def _right_N(image_ND: Array, prompt_CD: Array, class_N: Numbers) -> Array:
    right_N: Array = (np.argmax(image_ND @ prompt_CD.T, axis=1) == class_N).astype(np.float64)
    return right_N


Verdict = Literal["helps", "harms", "no difference that counts", "inconclusive"]

GAP: Final = "gap/l2m"
"""The gap that is meant where one is closed."""
GAPS: Final = "gap/"
"""How the names of gaps begin; all other measures that judge an intervention are qualities."""
FLIPS: Final = "quality/flip_rate"
"""The one quality of which less is better."""

SMALLEST_EFFECT: Final[Mapping[str, float]] = {"gap/l2m": 0.05, "gap/rmg": 0.02}
"""The change of a gap that counts."""
SMALLEST_PERCENT: Final = 1.0
SMALLEST_SHARE: Final = 0.01
"""The change of a quality that counts: one point in a hundred."""


class Change(NamedTuple):
    """A measure after an intervention, its change against no intervention, and the interval of the change."""

    value: float
    change: float
    low: float
    high: float
    verdict: Verdict


def verdict_of(key: str, low: float, high: float) -> Verdict:
    """What an interval says: it lies beyond the smallest effect on one side, within it, or across it."""
    smallest = smallest_effect(key)
    better = (-high, -low) if lower_is_better(key) else (low, high)
    if better[0] > smallest:
        return "helps"
    if better[1] < -smallest:
        return "harms"
    return "no difference that counts" if -smallest < better[0] and better[1] < smallest else "inconclusive"


def lower_is_better(key: str) -> bool:
    """Whether less of a measure helps: of a gap, which is to be closed, and of predictions that noise changes."""
    return key.startswith(GAPS) or key == FLIPS


def unseen(key: str, units: int) -> float:
    """How large a change of a quality may be of which not one of so many images or captions shows anything.

    The rule of three: what happens to 3 in `units` of them is seen at least once in 95 of 100 such galleries.
    """
    if key.startswith(GAPS):
        return 0.0
    return 3 / units * (100 if key.endswith("_accuracy") else 1)


def smallest_effect(key: str) -> float:
    """The smallest change that counts, in the measure's own unit."""
    return SMALLEST_EFFECT.get(key, SMALLEST_PERCENT if key.endswith("_accuracy") else SMALLEST_SHARE)


@dataclass(frozen=True)
class Judged:
    """One intervention: what each measure is after it, by name, or why it could not be applied."""

    name: str
    family: Family
    amount: float | None
    changes: Mapping[str, Change]
    impossible: str = ""


@dataclass(frozen=True)
class Judgement:
    """All interventions on one held-out half; `before` are its measures with nothing done to it.

    `held_out_captions` counts different captions where images share some; else it is 0.
    """

    before: Mapping[str, float]
    judged: tuple[Judged, ...]
    calibration_images: int
    held_out_images: int
    held_out_captions: int
    dealt: Dealt
    seed: int


def judge(
    embeddings: Embeddings, zero_shot: ZeroShot, tried: Sequence[Candidate], share: float, seed: int
) -> Judgement:
    """Fits on `share` of the images and judges on the rest; equal arguments give equal numbers.

    Raises InputError where the images cannot be split or an intervention cannot be fitted.
    """
    split = split_images(embeddings, share, seed)
    calibration, held_out = take(embeddings, split.calibration_S), take(embeddings, split.held_out_S)
    questions = take_questions(zero_shot, split.held_out_S)
    clouds = Clouds(unit_rows(calibration.image_ND), unit_rows(calibration.text_MD))
    unchanged = statistics_of(held_out, questions, nothing(clouds.image_ND.shape[1]))
    states = [_state(candidate.fit(*clouds), held_out, questions) for candidate in tried]
    possible = [state for state in states if not isinstance(state, InputError)]
    units = units_of(held_out)
    before, *after = resampled([unchanged, *possible], units.images, units.captions, seed)
    drawn = {key: count for statistic in unchanged for key, count in statistic.drawn().items()}
    changes = iter(_changes(before, after, drawn))
    return Judgement(
        before={key: found.value for key, found in before.items()},
        judged=tuple(_judged(candidate, state, changes) for candidate, state in zip(tried, states, strict=True)),
        calibration_images=len(split.calibration_S),
        held_out_images=len(split.held_out_S),
        held_out_captions=units.captions,
        dealt=split.dealt,
        seed=seed,
    )


def _state(fitted: Fitted, held_out: Embeddings, questions: ZeroShot) -> tuple[Statistic, ...] | InputError:
    """The measures after an intervention, or the error that says why there are none."""
    try:
        return statistics_of(held_out, questions, fitted)
    except InputError as error:
        return error


def _judged(
    candidate: Candidate, state: tuple[Statistic, ...] | InputError, changes: Iterator[dict[str, Change]]
) -> Judged:
    named = partial(Judged, candidate.name, candidate.family, candidate.amount)
    return named({}, str(state)) if isinstance(state, InputError) else named(next(changes))


def _changes(
    before: Mapping[str, Resampled], after: Sequence[Mapping[str, Resampled]], drawn: Mapping[str, int]
) -> list[dict[str, Change]]:
    """Each intervention's changes by measure; intervals are simultaneous over the interventions of one measure."""
    moved_J = np.array([not np.array_equal(found[GAP].value_R, before[GAP].value_R) for found in after])
    by_key = {
        key: simultaneous(before[key], [found[key] for found in after], moved_J * unseen(key, drawn[key]))
        for key in before
    }
    return [
        {key: Change(found[key].value, *by_key[key][place], verdict_of(key, *by_key[key][place][1:])) for key in before}
        for place, found in enumerate(after)
    ]


CLOSED: Final = 0.5
"""An intervention closes the gap where it leaves at most this share of the distance between the means."""

CLUSTERS: Final = "quality/v_measure"
"""Judged and shown, but no part of the answer: k-means may end in another optimum after the smallest move, which no
interval over images knows of."""

Answer = Literal["yes", "no", "it depends", "not decided", "nothing to close", "not closed"]
Found = Verdict | Literal["depends on how", "some ways harm"]


class Best(NamedTuple):
    """The closing intervention after which a measure is best."""

    name: str
    change: Change


class MeasureAnswer(NamedTuple):
    """What closing the gap does to one quality, over all interventions that close it; which help and which harm."""

    key: str
    found: Found
    best: Best
    helping: tuple[str, ...]
    harming: tuple[str, ...]


class ClosingAnswer(NamedTuple):
    """The answer, the interventions that close the gap, the qualities one by one, and what helps without harm.

    It is yes where an intervention that closes the gap helps a quality and harms none.
    """

    answer: Answer
    closing: tuple[str, ...]
    measures: tuple[MeasureAnswer, ...]
    helping: tuple[str, ...] = ()


def does_closing_help(judgement: Judgement) -> ClosingAnswer:
    """Reads the verdicts together; recalls deeper than 1, which say little of their own, and clusters are left out."""
    if judgement.before[GAP] < smallest_effect(GAP):
        return ClosingAnswer("nothing to close", (), ())
    closing = [each for each in judgement.judged if each.changes and _closes(each, judgement)]
    if not closing:
        return ClosingAnswer("not closed", (), ())
    measures = tuple(_over(closing, key) for key in main_qualities(judgement) if key != CLUSTERS)
    helping = tuple(each.name for each in closing if _helps_without_harm(each, measures))
    return ClosingAnswer(_together(measures, helping), tuple(each.name for each in closing), measures, helping)


def main_qualities(judgement: Judgement) -> tuple[str, ...]:
    """The qualities that an answer is made of, in the order of their judging."""
    return tuple(key for key in judgement.before if not key.startswith(GAPS) and not _deep(key))


def _deep(key: str) -> bool:
    return key.endswith(("_recall_5", "_recall_10"))


def _closes(judged: Judged, judgement: Judgement) -> bool:
    return judged.changes[GAP].value <= CLOSED * judgement.before[GAP]


def _over(closing: Sequence[Judged], key: str) -> MeasureAnswer:
    towards = -1 if lower_is_better(key) else 1
    best = max(closing, key=lambda each: towards * each.changes[key].change)
    helping, harming = (
        tuple(each.name for each in closing if each.changes[key].verdict == verdict) for verdict in ("helps", "harms")
    )
    found = _found({each.changes[key].verdict for each in closing})
    return MeasureAnswer(key, found, Best(best.name, best.changes[key]), helping, harming)


def _helps_without_harm(judged: Judged, measures: Sequence[MeasureAnswer]) -> bool:
    verdicts = {judged.changes[measure.key].verdict for measure in measures}
    return "helps" in verdicts and "harms" not in verdicts


def _found(verdicts: set[Verdict]) -> Found:
    if {"helps", "harms"} <= verdicts:
        return "depends on how"
    if "helps" in verdicts:
        return "helps"
    if "harms" in verdicts:
        return "harms" if verdicts == {"harms"} else "some ways harm"
    return "inconclusive" if "inconclusive" in verdicts else "no difference that counts"


def _together(measures: Sequence[MeasureAnswer], helping: Sequence[str]) -> Answer:
    if helping:
        return "yes"
    found = {measure.found for measure in measures}
    if found & {"helps", "depends on how"}:
        return "it depends"
    return "no" if "harms" in found or "inconclusive" not in found else "not decided"
