"""Judge interventions: fit each on one part of a gallery, and compare it on the other part with no intervention.

1. `judge_interventions` splits the images and fits every candidate on the calibration side.
2. `build_statistics` measures the held-out side after an intervention, and `bootstrap` resamples it.
3. `judge_change` gives each measure's change a verdict by its simultaneous interval.
4. `judge_closing` answers whether closing the gap helps, over all interventions that close it.

Index letters: N images, M texts, S or T rows of a part, U units, G groups of captions, Q queries, J judged rows or
interventions, K depths, D embedding.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from gapctl.errors import InputError
from gapctl.interventions.bootstrap import (
    BiasStatistic,
    BootstrapValues,
    ClusterStatistic,
    GapStatistic,
    ItemMeans,
    ItemValues,
    ResamplingUnits,
    Statistic,
    bootstrap_measures,
    compute_simultaneous_intervals,
    derive_resampling_units,
)
from gapctl.interventions.fit import (
    EmbeddingClouds,
    FittedIntervention,
    InterventionCandidate,
    InterventionFamily,
    nothing,
)
from gapctl.interventions.ideal_words import average_pair_texts, replace_by_ideal_words
from gapctl.metrics.checks import Integers
from gapctl.metrics.classification import ClassPrompts, PairQuestion, ZeroShotTasks, measure_flips
from gapctl.metrics.clustering import k_means
from gapctl.metrics.comparisons import find_recall_hits
from gapctl.metrics.embedding_set import Embeddings, assign_match_keys, assign_partner_keys, normalise_rows
from gapctl.metrics.gap import Array
from gapctl.metrics.retrieval import KeyedRows, compute_cross_modal_query_gains
from gapctl.metrics.sampling import THOROUGH_LIMITS, DrawPurpose, sample_row_numbers
from gapctl.metrics.separability import predict_modalities

LEAST_IMAGES = 8
"""Fewest images on a side; a mean or an interval of fewer has no meaning."""

LARGEST_GROUP = 0.02
"""Largest share of all images that one caption may join; with a larger group images are split one by one."""

ScalarType = TypeVar("ScalarType", bound=np.generic)
SplitUnit = Literal["images", "captions"]
RECALL_DEPTHS: Final = (1, 5, 10)
MIXED_DEPTH: Final = 10
ChangeVerdict = Literal["helps", "harms", "no difference that counts", "inconclusive"]

GAP_TO_CLOSE: Final = "gap/l2m"
"""The gap that an intervention must close."""
GAP_PREFIX: Final = "gap/"
"""The prefix of gaps' names; all other judged measures are qualities."""
FLIP_RATE: Final = "quality/flip_rate"
"""The one quality that is better if lower."""
TEXT_BIAS: Final = "bias/moad_text"
"""Object bias of texts, which counts as no quality: it is measured where texts are replaced by ideal words."""

SMALLEST_EFFECT: Final[Mapping[str, float]] = {"gap/l2m": 0.05, "gap/rmg": 0.02, "bias/moad_text": 0.02}
"""The smallest change of a gap, and of object bias, that counts."""
SMALLEST_PERCENT: Final = 1.0
SMALLEST_SHARE: Final = 0.01
"""The smallest change of a quality that counts: one point in a hundred."""

CLOSED_SHARE: Final = 0.5
"""Largest share of the distance between the means that an intervention may leave to have closed the gap."""

CHANCE_P: Final = 0.001
"""The binomial test's p below which a model is above chance, as where trainings are checked (`analysis.learning`)."""
OBJECT_ACCURACY: Final = "quality/object_accuracy"
RECALLS: Final = ("quality/i2t_recall_1", "quality/t2i_recall_1")

CLUSTER_QUALITY: Final = "quality/v_measure"
"""Judged and shown, but not part of the answer: after the smallest move k-means may end in another optimum, and an
interval over images does not cover that.
"""

WITHOUT_SAY: Final = (CLUSTER_QUALITY, TEXT_BIAS)
"""Measures that are judged and shown, and on which no answer rests."""

AnswerKind = Literal["yes", "no", "it depends", "not decided", "nothing to close", "not closed"]
QualityVerdict = ChangeVerdict | Literal["depends on how", "some ways harm"]


class MeasureChange(NamedTuple):
    """A measure after an intervention, its change against no intervention, and the change's interval."""

    value: float
    change: float
    low: float
    high: float
    verdict: ChangeVerdict


@dataclass(frozen=True)
class InterventionResult:
    """One intervention: the change of each measure by name, or the reason why it could not be applied."""

    name: str
    family: InterventionFamily
    amount: float | None
    changes: Mapping[str, MeasureChange]
    impossible: str = ""


@dataclass(frozen=True)
class InterventionReport:
    """All interventions on one held-out part; `before` are its measures without an intervention.

    `held_out_captions` counts different captions if images share some; else it is 0. `chances` are the values of
    guessing, of the qualities by which `is_above_chance` judges the model.
    """

    before: Mapping[str, float]
    judged: tuple[InterventionResult, ...]
    calibration_images: int
    held_out_images: int
    held_out_captions: int
    dealt: SplitUnit
    seed: int
    chances: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_above_chance(self) -> bool:
        """Whether the model without an intervention beats guessing in any quality that has a chance; true of none."""
        return not self.chances or any(
            _beats_chance(self.before[key], chance, self.held_out_images, 100 if key.endswith("_accuracy") else 1)
            for key, chance in self.chances.items()
        )


def _beats_chance(value: float, chance: float, images: int, whole: float) -> bool:
    """Return whether as many right answers have a probability of less than `CHANCE_P` by guessing (binomial)."""
    right, share = round(value / whole * images), chance / whole
    if share >= 1:  # guessing is always right
        return False
    ways = (
        math.lgamma(images + 1) - math.lgamma(k + 1) - math.lgamma(images - k + 1) for k in range(right, images + 1)
    )
    logs = (each + k * math.log(share) + (images - k) * math.log1p(-share) for k, each in enumerate(ways, right))
    return sum(map(math.exp, logs)) < CHANCE_P


def judge_interventions(
    embeddings: Embeddings, zero_shot: ZeroShotTasks, tried: Sequence[InterventionCandidate], share: float, seed: int
) -> InterventionReport:
    """Fit every candidate on `share` of the images and judge it on the rest; equal arguments give equal numbers.

    Ideal words are of the prompts of all pairs, or without these of labelled texts. Raise InputError if the images
    cannot be split or an intervention cannot be fitted.
    """
    split = split_images(embeddings, share, seed)
    if not zero_shot.pairs and any(candidate.replaces_texts for candidate in tried):
        zero_shot = replace(zero_shot, pairs=average_pair_texts(embeddings, zero_shot))
    calibration, held_out = select_images(embeddings, split.calibration_S), select_images(embeddings, split.held_out_S)
    questions = select_questions(zero_shot, split.held_out_S)
    clouds = EmbeddingClouds(normalise_rows(calibration.image_ND), normalise_rows(calibration.text_MD))
    unchanged = build_statistics(held_out, questions, nothing(clouds.image_ND.shape[1]))
    states: list[tuple[Statistic, ...] | InputError] = []
    for candidate in tried:
        fitted = candidate.fit(*clouds)
        try:
            texts = replace_by_ideal_words(held_out, questions) if candidate.replaces_texts else (held_out, questions)
            states.append(build_statistics(*texts, fitted))
        except InputError as error:
            states.append(error)
    possible = [state for state in states if not isinstance(state, InputError)]
    units = derive_resampling_units(held_out)
    before, *after = bootstrap_measures([unchanged, *possible], units.images, units.captions, seed)
    drawn = {key: count for statistic in unchanged for key, count in statistic.drawn().items()}
    changes = iter(_compute_changes(before, after, drawn))
    judged = []
    for (family, amount, _), name, state in zip(tried, (candidate.name for candidate in tried), states, strict=True):
        impossible = str(state) if isinstance(state, InputError) else ""
        judged.append(InterventionResult(name, family, amount, {} if impossible else next(changes), impossible))
    return InterventionReport(
        before={key: measure.value for key, measure in before.items()},
        judged=tuple(judged),
        calibration_images=len(split.calibration_S),
        held_out_images=len(split.held_out_S),
        held_out_captions=units.captions,
        dealt=split.dealt,
        seed=seed,
        chances=_find_chances(before, held_out, questions, units.captions or len(split.held_out_S)),
    )


def _find_chances(
    before: Iterable[str], held_out: Embeddings, zero_shot: ZeroShotTasks, distinct: int
) -> dict[str, float]:
    """Return what guessing gets: one of the object's prompts in percent, one of `distinct` captions as a share."""
    question = None if zero_shot.main is None else zero_shot.questions.get(zero_shot.main)
    classes = len(held_out.text_MD) if question is None else len(question.prompt_CD)
    chances = {OBJECT_ACCURACY: 100 / classes, **dict.fromkeys(RECALLS, 1 / distinct)}
    return {key: chance for key, chance in chances.items() if key in before}


def _compute_changes(
    before: Mapping[str, BootstrapValues], after: Sequence[Mapping[str, BootstrapValues]], drawn: Mapping[str, int]
) -> list[dict[str, MeasureChange]]:
    """Return each intervention's changes by measure; intervals are simultaneous over one measure's interventions."""
    gap_R = before[GAP_TO_CLOSE].value_R
    moved_J = np.array([not np.array_equal(state[GAP_TO_CLOSE].value_R, gap_R) for state in after])
    changes: list[dict[str, MeasureChange]] = [{} for _ in after]
    for key, value in before.items():
        least_J = moved_J * bound_unseen_change(key, drawn[key])
        intervals = compute_simultaneous_intervals(value, [state[key] for state in after], least_J)
        for changed, state, interval in zip(changes, after, intervals, strict=True):
            low, high = interval.low, interval.high
            if key == TEXT_BIAS:
                low, high = bound_distance_change(value.value, low, high)
            verdict = judge_change(key, low, high)
            changed[key] = MeasureChange(state[key].value, *interval, verdict)
    return changes


def bound_distance_change(before: float, low: float, high: float) -> tuple[float, float]:
    """Return the bounds of the change of a bias' distance from 0, from bounds of the bias' own change."""
    ends = sorted((abs(before + low), abs(before + high)))
    least = 0.0 if before + low <= 0 <= before + high else ends[0]
    return least - abs(before), ends[1] - abs(before)


def judge_change(key: str, low: float, high: float) -> ChangeVerdict:
    """Compare an interval with the smallest effect: beyond it on one side, within it, or across it."""
    smallest = get_smallest_effect(key)
    better = (-high, -low) if is_lower_better(key) else (low, high)
    if better[0] > smallest:
        return "helps"
    if better[1] < -smallest:
        return "harms"
    return "no difference that counts" if -smallest < better[0] and better[1] < smallest else "inconclusive"


def is_lower_better(key: str) -> bool:
    """Return whether lower is better: of gaps, which are to be closed, the flip rate, and the size of object bias."""
    return key.startswith(GAP_PREFIX) or key in (FLIP_RATE, TEXT_BIAS)


def bound_unseen_change(key: str, units: int) -> float:
    """Return the largest change of a quality that could leave all of these images or captions unaffected.

    By the rule of three, an effect on 3 in `units` of them shows at least once in 95 of 100 such galleries.
    """
    if key.startswith(GAP_PREFIX) or key == TEXT_BIAS:
        return 0.0
    return 3 / units * (100 if key.endswith("_accuracy") else 1)


def get_smallest_effect(key: str) -> float:
    """Return the smallest change that counts, in the measure's own unit."""
    return SMALLEST_EFFECT.get(key, SMALLEST_PERCENT if key.endswith("_accuracy") else SMALLEST_SHARE)


class QualityAnswer(NamedTuple):
    """The effect of closing the gap on one quality, over all closing interventions, with those that help and harm.

    `best` is the closing intervention with the best value.
    """

    key: str
    found: QualityVerdict
    best: InterventionResult
    helping: tuple[str, ...]
    harming: tuple[str, ...]


class ClosingAnswer(NamedTuple):
    """The answer, the interventions that close the gap, each quality, and the interventions that help without harm.

    It is yes if an intervention that closes the gap helps a quality and harms none.
    """

    answer: AnswerKind
    closing: tuple[str, ...]
    measures: tuple[QualityAnswer, ...]
    helping: tuple[str, ...] = ()


def judge_closing(judgement: InterventionReport) -> ClosingAnswer:
    """Answer whether closing the gap helps.

    Deep recalls, which add little to recall at 1, clusters and object bias do not count.
    """
    if judgement.before[GAP_TO_CLOSE] < get_smallest_effect(GAP_TO_CLOSE):
        return ClosingAnswer("nothing to close", (), ())
    largest = CLOSED_SHARE * judgement.before[GAP_TO_CLOSE]
    closing = [each for each in judgement.judged if each.changes and each.changes[GAP_TO_CLOSE].value <= largest]
    if not closing:
        return ClosingAnswer("not closed", (), ())
    measures = tuple(_judge_quality(closing, key) for key in list_main_qualities(judgement) if key not in WITHOUT_SAY)
    verdicts = {each.name: {each.changes[measure.key].verdict for measure in measures} for each in closing}
    helping = tuple(name for name, each in verdicts.items() if "helps" in each and "harms" not in each)
    return ClosingAnswer(_combine_answers(measures, helping), tuple(each.name for each in closing), measures, helping)


def list_main_qualities(judgement: InterventionReport) -> tuple[str, ...]:
    """Return the measures besides gaps that are shown, in the order in which they were judged."""
    deep_recalls = ("_recall_5", "_recall_10")
    return tuple(key for key in judgement.before if not key.startswith(GAP_PREFIX) and not key.endswith(deep_recalls))


def _judge_quality(closing: Sequence[InterventionResult], key: str) -> QualityAnswer:
    towards = -1 if is_lower_better(key) else 1
    best = max(closing, key=lambda each: towards * each.changes[key].change)
    helping, harming = (
        tuple(each.name for each in closing if each.changes[key].verdict == verdict) for verdict in ("helps", "harms")
    )
    combined_verdict = _combine_verdicts({each.changes[key].verdict for each in closing})
    return QualityAnswer(key, combined_verdict, best, helping, harming)


def _combine_verdicts(verdicts: set[ChangeVerdict]) -> QualityVerdict:
    if {"helps", "harms"} <= verdicts:
        return "depends on how"
    if "helps" in verdicts:
        return "helps"
    if "harms" in verdicts:
        return "harms" if verdicts == {"harms"} else "some ways harm"
    return "inconclusive" if "inconclusive" in verdicts else "no difference that counts"


def _combine_answers(measures: Sequence[QualityAnswer], helping: Sequence[str]) -> AnswerKind:
    if helping:
        return "yes"
    verdicts = {measure.found for measure in measures}
    if verdicts & {"helps", "depends on how"}:
        return "it depends"
    return "no" if "harms" in verdicts or "inconclusive" not in verdicts else "not decided"


def build_statistics(
    held_out: Embeddings, zero_shot: ZeroShotTasks, fitted: FittedIntervention
) -> tuple[Statistic, ...]:
    """Return the statistics that the held-out images allow after an intervention; prompts move as texts do.

    Costly ones use a seeded sample of large galleries, as `gapctl measure` does. Raise InputError if the intervention
    leaves a row without length.
    """
    clouds = fitted.apply(normalise_rows(held_out.image_ND), normalise_rows(held_out.text_MD))
    gap = GapStatistic.of(clouds, held_out.text_to_image_M, held_out.prompt_of_N)
    if held_out.prompt_of_N is not None and not zero_shot.questions:
        object_question = ClassPrompts(held_out.text_MD, held_out.prompt_of_N)
        zero_shot = ZeroShotTasks({"object": object_question}, main="object")
    items = dict(_measure_zero_shot(clouds, zero_shot, fitted))
    units = derive_resampling_units(held_out)
    if held_out.prompt_of_N is not None:
        return gap, ItemMeans.of(items, units.total)
    items = _measure_separability(held_out, clouds, units) | _measure_retrieval(held_out, clouds, units) | items
    statistics: tuple[Statistic, ...] = (gap, ItemMeans.of(items, units.total))
    if zero_shot.pairs and held_out.text_to_image_M is None:
        first, *_ = zero_shot.pairs.values()
        labels = (first.object_N, *(question.value_N for question in zero_shot.pairs.values()))
        statistics = (*statistics, BiasStatistic(clouds.text_MD, labels))
    if held_out.labels_N is None or len(np.unique(held_out.labels_N)) < 2:
        return statistics
    return *statistics, _measure_clusters(clouds, held_out.labels_N, units)


def _measure_separability(
    held_out: Embeddings, clouds: EmbeddingClouds, units: ResamplingUnits
) -> dict[str, ItemValues]:
    """Return whether the probe recognised each held-out row; both modalities weigh the same."""
    image_key_N, text_key_M = assign_partner_keys(held_out)
    judged = predict_modalities(clouds.image_ND, image_key_N, clouds.text_MD, text_key_M, THOROUGH_LIMITS.pairs)
    right_J = np.concatenate([judged.image_right_J, judged.text_right_J]).astype(np.float64)
    unit_J = np.concatenate([judged.image_J, units.unit_of_text_M[judged.text_J]])
    share_J = np.concatenate([np.full(len(each_J), 1 / len(each_J)) for each_J in (judged.image_J, judged.text_J)])
    return {"gap/linear_separability": ItemValues(right_J, unit_J, share_J)}


def _measure_clusters(clouds: EmbeddingClouds, label_N: Integers, units: ResamplingUnits) -> ClusterStatistic:
    """Cluster both modalities by k-means, with as many clusters as there are objects."""
    image_S, text_S = (sample_row_numbers(DrawPurpose.PAIRS, len(cloud), THOROUGH_LIMITS.pairs) for cloud in clouds)
    row_RD = np.concatenate([clouds.image_ND[image_S], clouds.text_MD[text_S]])
    label_R = label_N[np.concatenate([image_S, units.image_of_text_M[text_S]])]
    cluster_R = k_means(row_RD, len(np.unique(label_R))).cluster_R
    return ClusterStatistic.of(cluster_R, label_R, np.concatenate([image_S, units.unit_of_text_M[text_S]]))


def _measure_retrieval(held_out: Embeddings, clouds: EmbeddingClouds, units: ResamplingUnits) -> dict[str, ItemValues]:
    """Return recall both ways and mixed search. Recall is in float32: its rounding changes no rank that matters."""
    image_key_N, text_key_M = assign_match_keys(held_out)
    image, text = clouds.image_ND.astype(np.float32), clouds.text_MD.astype(np.float32)
    hits = {
        "i2t": (find_recall_hits(image, text, image_key_N, text_key_M, RECALL_DEPTHS), np.arange(len(image))),
        "t2i": (find_recall_hits(text, image, text_key_M, image_key_N, RECALL_DEPTHS), units.unit_of_text_M),
    }
    items = {
        f"quality/{direction}_recall_{depth}": ItemValues(hit_Q, unit_Q)
        for direction, (hit_QK, unit_Q) in hits.items()
        for depth, hit_Q in zip(RECALL_DEPTHS, hit_QK.T.astype(np.float64), strict=True)
    }
    images, texts = KeyedRows(clouds.image_ND, image_key_N), KeyedRows(clouds.text_MD, text_key_M)
    image_Q, text_Q = (
        sample_row_numbers(DrawPurpose.QUERIES, len(each.key_N), THOROUGH_LIMITS.queries // 2)
        for each in (images, texts)
    )
    gains = [
        compute_cross_modal_query_gains(images, image_Q, texts, MIXED_DEPTH),
        compute_cross_modal_query_gains(texts, text_Q, images, MIXED_DEPTH),
    ]
    unit_Q = np.concatenate([image_Q, units.unit_of_text_M[text_Q]])
    return {**items, "quality/mixed_ndcg_10": ItemValues(np.concatenate(gains), unit_Q)}


def _measure_zero_shot(
    clouds: EmbeddingClouds, zero_shot: ZeroShotTasks, fitted: FittedIntervention
) -> Iterator[tuple[str, ItemValues]]:
    """Yield accuracies in percent, and the share of noise draws that change an image's predicted object."""
    prompts = {name: fitted.texts(normalise_rows(question.prompt_CD)) for name, question in zero_shot.questions.items()}
    right = {
        name: 100 * (np.argmax(clouds.image_ND @ prompts[name].T, axis=1) == question.class_N).astype(np.float64)
        for name, question in zero_shot.questions.items()
    }
    every_N = np.arange(len(clouds.image_ND))
    main = zero_shot.main
    if main is not None and main in right:
        yield "quality/object_accuracy", ItemValues(right[main], every_N)
        flipped = measure_flips(clouds.image_ND, prompts[main], THOROUGH_LIMITS.queries)
        yield "quality/flip_rate", ItemValues(flipped.share_S, flipped.image_S)
    attributes = [right_N for name, right_N in right.items() if name != main]
    if attributes:
        yield "quality/attribute_accuracy", ItemValues(np.mean(attributes, axis=0), every_N)
    if zero_shot.pairs:
        found = [_find_right_pairs(clouds, question, fitted) for question in zero_shot.pairs.values()]
        yield "quality/pair_accuracy", ItemValues(100 * np.mean(found, axis=0), every_N)


def _find_right_pairs(clouds: EmbeddingClouds, question: PairQuestion, fitted: FittedIntervention) -> Array:
    """Return for each image whether its own pair is the nearest of those that some image has, as 0 or 1."""
    place_OA = np.cumsum(question.present_OA).reshape(question.present_OA.shape) - 1
    prompt_PD = fitted.texts(normalise_rows(question.prompt_OAD[question.present_OA]))
    nearest_N = np.argmax(clouds.image_ND @ prompt_PD.T, axis=1)
    right_N: Array = (nearest_N == place_OA[question.object_N, question.value_N]).astype(np.float64)
    return right_N


class CalibrationSplit(NamedTuple):
    """The rows of the images on each side, and the unit of the split.

    Units are single images, or captions with all of their images.
    """

    calibration_S: Integers
    held_out_S: Integers
    dealt: SplitUnit


def split_images(embeddings: Embeddings, share: float, seed: int) -> CalibrationSplit:
    """Give `share` of the images to calibration, by a seeded draw.

    Raise InputError if the share is not between 0 and 1 or leaves a side with too few images.
    """
    if not 0 < share < 1:
        raise InputError(f"calibration share {share:g}: expected a number between 0 and 1, such as 0.5")
    unit_N = label_caption_units(embeddings)
    whole = np.bincount(unit_N).max() <= max(1, LARGEST_GROUP * len(unit_N))
    fitted_N = _deal_units(unit_N if whole else np.arange(len(unit_N)), share, seed)
    calibration, total = int(fitted_N.sum()), len(fitted_N)
    if min(calibration, total - calibration) < LEAST_IMAGES:
        raise InputError(
            f"{total} images, split into {calibration} for calibration and {total - calibration} held out by a share "
            f"of {share:g}; expected at least {LEAST_IMAGES} on each side. Give more images or another share"
        )
    together = whole and len(np.unique(unit_N)) < len(unit_N)
    return CalibrationSplit(np.flatnonzero(fitted_N), np.flatnonzero(~fitted_N), "captions" if together else "images")


def label_caption_units(embeddings: Embeddings) -> Integers:
    """Return a number per image (N,) that is shared by images joined, even indirectly, by equal captions."""
    unit_N = np.arange(len(embeddings.image_ND))
    if embeddings.text_group_M is None or embeddings.prompt_of_N is not None:
        return unit_N
    image_M = embeddings.text_to_image_M
    if image_M is None:
        image_M = np.arange(len(embeddings.text_MD))
    group_M = np.unique(embeddings.text_group_M, return_inverse=True)[1]
    while True:
        least_G = np.full(group_M.max() + 1, len(unit_N))
        np.minimum.at(least_G, group_M, unit_N[image_M])
        joined_N = unit_N.copy()
        np.minimum.at(joined_N, image_M, least_G[group_M])
        if np.array_equal(joined_N, unit_N):
            return np.unique(unit_N, return_inverse=True)[1]
        unit_N = joined_N


def select_images(embeddings: Embeddings, image_S: Integers) -> Embeddings:
    """Return these images with their texts, in the given order; class prompts belong to no image and all stay."""
    text_T, text_to_image_T = _find_texts_of_images(embeddings, image_S)
    return replace(
        embeddings,
        image_ND=embeddings.image_ND[image_S],
        text_MD=embeddings.text_MD[text_T],
        text_to_image_M=text_to_image_T,
        text_group_M=_take_rows(embeddings.text_group_M, text_T),
        prompt_of_N=_take_rows(embeddings.prompt_of_N, image_S),
        labels_N=_take_rows(embeddings.labels_N, image_S),
        attributes_NF=_take_rows(embeddings.attributes_NF, image_S),
        bias_image_ND=_take_rows(embeddings.bias_image_ND, image_S),
    )


def select_questions(zero_shot: ZeroShotTasks, image_S: Integers) -> ZeroShotTasks:
    """Return the questions restricted to these images."""
    taken = {
        name: ClassPrompts(question.prompt_CD, question.class_N[image_S])
        for name, question in zero_shot.questions.items()
    }
    pairs = {
        name: question._replace(object_N=question.object_N[image_S], value_N=question.value_N[image_S])
        for name, question in zero_shot.pairs.items()
    }
    return ZeroShotTasks(taken, zero_shot.main, pairs, _take_rows(zero_shot.named_NF, image_S))


def _find_texts_of_images(embeddings: Embeddings, image_S: Integers) -> tuple[Integers, Integers | None]:
    """Return the rows of the images' texts, and the image of each among these, or None if they match row by row."""
    if embeddings.prompt_of_N is not None:
        return np.arange(len(embeddings.text_MD)), embeddings.text_to_image_M
    if embeddings.text_to_image_M is None:
        return image_S, None
    place_N = np.full(len(embeddings.image_ND), -1)
    place_N[image_S] = np.arange(len(image_S))
    place_M = place_N[embeddings.text_to_image_M]
    text_T = np.flatnonzero(place_M >= 0)
    return text_T, place_M[text_T]


def _take_rows(array: NDArray[ScalarType] | None, row_S: Integers) -> NDArray[ScalarType] | None:
    return None if array is None else array[row_S]


def _deal_units(unit_N: Integers, share: float, seed: int) -> NDArray[np.bool_]:
    """Return which images go to calibration: units in a random order until the share is filled."""
    size_U = np.bincount(unit_N)
    order_U = np.random.Generator(np.random.Philox(seed)).permutation(len(size_U))
    filled_U = np.cumsum(size_U[order_U]) - size_U[order_U] / 2
    chosen_U = order_U[filled_U < share * len(unit_N)]
    return np.isin(unit_N, chosen_U)
