"""Numbers, metrics, factors and effects as words, for sentences and table cells.

Every page, table and figure formats its numbers here, so that one value reads alike everywhere.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from gapctl.analysis.results import AnalysisResults, Verdict
from gapctl.analysis.two_modes import SecondMode
from gapctl.config.hypotheses import Level
from gapctl.config.metrics import find_metric, is_metric
from gapctl.text import format_count_with_noun, format_first_names, join_and
from gapctl_charts.factor import plain

NOT_KNOWN: Final = "–"
_METRIC_NAMES: Final = {
    "gap/rmg": "relative modality gap (RMG)",
    "gap/rmg_shifted": "RMG after both means were shifted together",
    "gap/temperature_gain": "rise of the temperature by the gap, logarithm",
    "gap/l2m": "distance of the modality means (L2M)",
    "gap/l2i": "distance of matched pairs (L2I)",
    "entropy/i2t_nats": "entropy, image to text",
    "entropy/t2i_nats": "entropy, text to image",
    "entropy/i2t_excess_nats": "entropy, image to text, above a knowing model's",
    "entropy/t2i_excess_nats": "entropy, text to image, above a knowing model's",
    "bias/moad_image": "object bias of images (MOAD)",
    "bias/moad_text": "object bias of texts (MOAD)",
    "bias/moad_image_normalised": "object bias of images, as shares of its maxima (MOAD)",
    "bias/moad_text_normalised": "object bias of texts, as shares of its maxima (MOAD)",
    "bias/moad_image_less_text": "object bias of images less that of texts (MOAD)",
    "temperature/tau": "temperature τ",
    "train/loss": "training loss",
    "train/loss_floor": "floor of the training loss from equal captions alone",
    "train/loss_bayes": "least training loss that any model can reach",
    "train/loss_excess": "training loss above the least there is",
    "information/image_given_caption": "bits that captions leave unsaid of images",
    "information/caption_given_image": "bits of captions that images do not tell",
    "information/shared": "bits that images and captions share",
    "gap/samples_to_small_l2m": "samples until the means lie less than 0.2 apart",
    "captions/share_kept": "share of captions' words kept",
    "quality/object_accuracy": "object accuracy",
    "quality/attribute_accuracy": "attribute accuracy",
    "quality/i2t_recall_1": "recall at 1, image to text",
    "quality/t2i_recall_1": "recall at 1, text to image",
    "quality/i2t_recall_10": "recall at 10, image to text",
    "quality/t2i_recall_10": "recall at 10, text to image",
    "quality/mixed_ndcg_10": "mixed-gallery search (nDCG at 10)",
    "quality/v_measure": "clustering by object (V-measure)",
    "quality/flip_rate": "flip rate under noise",
    "agreement/leading_dims_seeds": "leading dimensions that seeds share beyond chance",
    "agreement/axis_seeds": "agreement of gap directions between seeds",
    "agreement/axis_arms": "agreement of gap directions between arms",
    "agreement/axis_architectures": "agreement of gap directions between architectures",
    "agreement/axis_widths": "agreement of gap directions between widths",
    "agreement/axis_excess_seeds": "agreement of gap directions between seeds beyond the image mean's",
    "agreement/axis_excess_architectures": "agreement of gap directions between architectures beyond the image mean's",
    "agreement/axis_excess_widths": "agreement of gap directions between widths beyond the image mean's",
}

_FACTOR_NAMES: Final = {
    "data.captions.attributes": "attributes in the caption",
    "data.captions.fixed": "attributes that every caption names",
    "data.captions.synonyms": "words for each value",
    "data.captions.synonym_draw": "when words are drawn",
    "data.captions.draw": "when cuts are drawn",
    "data.captions.order": "order of the caption",
    "data.captions.keep": "caption treatment",
    "data.captions.held_out": "held-out captions",
    "data.main_factor": "main factor",
    "model.preset": "model",
    "model.embed_dim": "embedding size",
    "model.shared": "parts that encoders share",
    "data.sides": "sides of a pair",
    "temperature.mode": "temperature",
    "temperature.init": "initial temperature",
    "loss.kind": "loss",
    "train.samples": "training samples",
    "train.batch_size": "batch size",
    "train.lr": "learning rate",
    "train.weight_decay": "weight decay",
    "evaluate.intervention": "intervention",
    "evaluate.strength": "strength of the intervention",
    "train.mismatched": "share of mismatched steps",
    "loss.equal_captions": "equal captions of a batch",
    "loss.alignment": "weight of alignment",
    "loss.uniformity": "weight of uniformity",
    "loss.cross_uniformity": "weight of cross-modal uniformity",
}


def name_metric(key: str) -> str:
    """Return a metric's short name; its key where it has none."""
    return _METRIC_NAMES.get(key, key)


def explain_catalog_metric(key: str) -> str:
    """Return what a metric measures, in one line; empty for an unknown one."""
    found = find_metric(key)
    return "" if found is None else found.meaning


def get_metric_unit(key: str) -> str:
    """Return a metric's unit; empty for an unknown one."""
    found = find_metric(key)
    return "" if found is None else found.unit


def label_metric_axis(key: str) -> str:
    """Return an axis title: `relative modality gap (RMG), share`."""
    name, counted = name_metric(key), get_metric_unit(key)
    return f"{name}, {counted}" if counted and counted not in name.split() else name


def capitalise_first(text: str) -> str:
    """Return the text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def format_number(value: float | None, digits: int = 3) -> str:
    """Format three significant digits with a true minus sign; a dash where there is no number."""
    if value is None or not math.isfinite(value):
        return NOT_KNOWN
    text = f"{value:,.0f}" if abs(value) >= 10**digits - 0.5 else f"{value:#.{digits}g}".rstrip(".")
    return _use_minus_sign("0" if value == 0 else text)


def format_fact(value: float | None) -> str:
    """Format what is known of a model: whole numbers whole, others as `format_number` does."""
    whole = value is not None and math.isfinite(value) and float(value).is_integer()
    return _use_minus_sign(f"{value:,.0f}") if whole else format_number(value)


def format_declared_number(value: float) -> str:
    """Format a number from a sweep file the way a person may have written it."""
    return _use_minus_sign(f"{value:.10g}")


def format_aligned_numbers(values: Sequence[float], digits: int = 3) -> list[str]:
    """Format numbers to compare, with as many decimals as the largest needs for its significant digits."""
    known = [abs(value) for value in values if math.isfinite(value) and value != 0]
    decimals = max(0, digits - 1 - math.floor(math.log10(max(known)))) if known else digits
    return [_use_minus_sign(f"{value:,.{decimals}f}") if math.isfinite(value) else NOT_KNOWN for value in values]


def format_p_value(p: float) -> str:
    """Format a p-value; one that would read as zero is `< 0.001`."""
    if not math.isfinite(p):
        return NOT_KNOWN
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def format_marks(marks: Sequence[str]) -> str:
    """Format a verdict's marks to follow its word: ` (exploratory, not learned)`; empty where it has none."""
    return f" ({', '.join(marks)})" if marks else ""


def format_confidence_level(alpha: float) -> str:
    """Format the confidence level of an alpha: `95 %` for 0.05."""
    return f"{100 * (1 - alpha):.4g} %"


def name_factor(path: str, name: str | None = None) -> str:
    """Return a varied path in words; by default its short name, or else its last part."""
    return _FACTOR_NAMES.get(path, (name or path.rsplit(".", 1)[-1]).replace("_", " "))


def format_duration(seconds: float) -> str:
    """Format seconds as minutes, or from an hour on as hours."""
    return f"{format_number(seconds / 60)} minutes" if seconds < 3600 else f"{format_number(seconds / 3600)} hours"


def _use_minus_sign(text: str) -> str:
    return text.replace("-", "−")


def format_replicates_heading(verdicts: Iterable[Verdict]) -> str:
    """Return the heading of a column that counts replicates: seeds, recipes, models, or several of these."""
    return " or ".join(dict.fromkeys(verdict.replicate_name for verdict in verdicts)) or "seeds"


def explain_seeds_needed(verdict: Verdict) -> str:
    """Explain what would settle an inconclusive verdict: a new sweep, as added seeds would be a stopping rule.

    Empty where no number of seeds would. A trend whose levels are out of order may be none: then seeds are no remedy.
    """
    if verdict.seeds_needed is None:
        return ""
    name = verdict.replicate_name
    anew = (
        f"ask anew under another name, with a first_seed that no training has had yet; {name} added here only explore."
    )
    if verdict.seeds_out_of_order:
        return (
            f"If the response turns between these levels, it has no trend to find, and more {name} are no remedy: "
            "state a contrast of two levels. If noise alone reversed them, "
            f"about {verdict.seeds_needed} {name} might show the order: {anew}"
        )
    return f"About {verdict.seeds_needed} {name} would probably settle it: {anew}"


_STEP_NAMES: Final = {"data.captions.attributes": "attribute"}
_DIFFERENCE_UNITS: Final = {"share": "", "correlation": "", "percent": "percentage points"}
_EFFECT_KINDS: Final = {
    "trend": "slope of",
    "correlation": "correlation of",
    "mediation": "mediated difference in",
    "threshold": "mean of",
    "prediction": "skill of forecasts of",
}


def name_effect_unit(verdict: Verdict) -> str:
    """Return the unit of an estimate.

    A trend's slope is per unit of its factor; the difference of two shares, or of two correlations, is a plain number.
    """
    if verdict.test == "correlation":
        return "Kendall's τ"
    if verdict.test == "prediction":
        return "share of the squared error"
    step = _STEP_NAMES.get(verdict.factor, f"unit of {name_factor(verdict.factor)}")
    per = f"per {step}" if verdict.test == "trend" else ""
    counted = get_metric_unit(verdict.response)
    return " ".join(part for part in (_DIFFERENCE_UNITS.get(counted, counted), per) if part)


def describe_effect(verdict: Verdict) -> str:
    """Describe an effect without its unit: the levels compared, and the trainings that it is limited to."""
    kind = _EFFECT_KINDS.get(verdict.test, "difference in")
    compared = f"{kind} {name_metric(verdict.response)}{_describe_comparison(verdict)}"
    return ", ".join(part for part in (compared, describe_verdict_scope(verdict)) if part)


def describe_effect_with_unit(verdict: Verdict) -> str:
    """Describe an effect with its unit, as an axis title."""
    return f"{describe_effect(verdict)}, {name_effect_unit(verdict)}".removesuffix(", ")


def describe_verdict_scope(verdict: Verdict) -> str:
    """Describe the trainings that a verdict is limited to: `where temperature is learned`; empty for all."""
    held = [f"{name_factor(path)} is {plain(level)}" for path, level in verdict.where.items()]
    return f"where {' and '.join(held)}" if held else ""


def describe_level_pair(levels: Sequence[Level]) -> str:
    """Describe two levels in the order of subtraction: `5 against 0` is the value at 5 less that at 0."""
    return " against ".join(map(plain, levels))


def format_estimate_interval(verdict: Verdict, alpha: float) -> str:
    """Format an estimate with its interval, or why it has none."""
    if not (math.isfinite(verdict.ci.low) and math.isfinite(verdict.ci.high)):
        return f"{format_number(verdict.estimate)}; too few {verdict.replicate_name} for an interval"
    estimate, low, high = format_aligned_numbers([verdict.estimate, *verdict.ci])
    return f"{estimate}; {format_confidence_level(alpha)} interval {low} to {high}"


def describe_prediction(verdict: Verdict, alpha: float) -> str:
    """Describe where the effect of one further recipe lies; empty where recipes are not the replicates."""
    if not math.isfinite(verdict.prediction.low):
        return ""
    low, high = format_aligned_numbers(list(verdict.prediction))
    unit = name_effect_unit(verdict)
    said = f"With a new recipe of these ranges the effect lies between {low} and {high}{f' {unit}' if unit else ''}"
    return f"{said} ({format_confidence_level(alpha)} prediction interval)."


def _describe_comparison(verdict: Verdict) -> str:
    """Describe what the response is compared with.

    This is a value, another metric, what it is forecast from, or levels of the treatment and its mediator.
    """
    if verdict.test == "threshold":
        return f", less {format_declared_number(verdict.value)}" if verdict.value else ""
    if verdict.test == "correlation":
        names = [name_metric(name) if is_metric(name) else name_factor(name) for name in verdict.given]
        given = f" given {' and '.join(names)}" if names else ""
        return f" with {name_metric(verdict.factor)}{_describe_scope(verdict)}{given}"
    if verdict.test == "prediction":
        beyond = f" beyond {join_and([name_metric(name) for name in verdict.beyond])}" if verdict.beyond else ""
        left_out = f" over levels of {name_factor(verdict.factor)} left out in turn"
        return f" from {join_and([name_metric(name) for name in verdict.predictors])}{beyond}{left_out}"
    if not verdict.between:
        return ""
    treatment = f" by {name_factor(verdict.factor)} ({describe_level_pair(verdict.between[::-1])})"
    if verdict.mediator is None:
        return treatment
    return f"{treatment}, through {name_factor(verdict.mediator)} ({describe_level_pair(verdict.mediator_levels)})"


_SCOPE_NAMES: Final = {"within_strata": " within strata", "between_strata": " between strata"}


def _describe_scope(verdict: Verdict) -> str:
    """Describe the pairs of models and the evaluation sets of a cohort; empty for other correlations."""
    if verdict.cohort is None:
        return ""
    scope = _SCOPE_NAMES.get(verdict.cohort.scope, " over all models")
    sets = [one.name for one in verdict.cohort.sets if one.name]
    return f"{scope} on {join_and(sets)}" if sets else scope


MOST_ARMS: Final = 4


def explain_marks(verdict: Verdict) -> list[str]:
    """List the sentences that stand below a verdict; none where it has no such mark."""
    return [
        *_describe_first_answer(verdict),
        *_explain_not_learned(verdict),
        *_explain_two_modes(verdict),
        *_explain_reversed_steps(verdict),
    ]


def explain_redesign(analysis: AnalysisResults) -> list[str]:
    """Explain what a sweep asks again, and the first answer or why it is unknown; empty for other sweeps."""
    first = analysis.first_question
    if first is None:
        return []
    if first.note is not None:
        return [f"It asks again what {first.asked} asked; no first answer is shown: {first.note}."]
    counts = Counter(one.verdict for one in first.answers)
    told = ", ".join(f"{count} {word}" for word, count in counts.items()) or "no hypotheses"
    return [f"It asks again what {first.asked} asked; the first answer, of {first.sweep}: {told}."]


def _describe_first_answer(verdict: Verdict) -> list[str]:
    first = verdict.first_answer
    if first is None:
        return []
    estimate, low, high = format_aligned_numbers([first.estimate, *first.ci])
    interval = f"{low} to {high}" if math.isfinite(first.ci.low) else f"too few {verdict.replicate_name}"
    word = f"{first.verdict}{format_marks(first.marks)}"
    return [f"First answer, {first.sweep}, {first.id}: {word}, {estimate} ({interval}), p {format_p_value(first.p)}."]


def _lie(mode: SecondMode) -> str:
    return "lies" if len(mode.trainings) == 1 else "lie"


def _explain_two_modes(verdict: Verdict) -> list[str]:
    """Name the trainings that end apart from the others, metric by metric."""
    noun = verdict.replicate_noun if verdict.forecast is None else verdict.forecast.noun
    said = [
        f"{name_metric(mode.metric)} of {format_first_names(mode.trainings, MOST_ARMS)} {_lie(mode)} "
        f"{mode.distance:.0f} spreads or more from what arm and {noun} say, of all others at most "
        f"{mode.rest:.1f}"
        for mode in verdict.two_modes
    ]
    return [f"Two modes: {'; '.join(said)}. How often that happens is in no interval."] if said else []


def _explain_reversed_steps(verdict: Verdict) -> list[str]:
    """Name the levels between which a trend's response goes the other way."""
    verb = "falls" if verdict.estimate > 0 else "rises"
    factor, said = verdict.factor.rsplit(".", 1)[-1], []
    for step in verdict.reversed_steps:
        difference, low, high = format_aligned_numbers([abs(step.difference), *sorted(map(abs, step.ci))])
        said.append(f"from {factor}={step.lower} to {step.upper} by {difference} ({low} to {high})")
    return [f"Not monotone: {name_metric(verdict.response)} {verb} {join_and(said)}."] if said else []


def _explain_not_learned(verdict: Verdict) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for check in verdict.not_learned:
        reasons.setdefault(check.arm, []).append(check.reason)
    if not reasons:
        return []
    # A cohort that nothing is done to has one arm, without a name.
    said = [f"{arm}: {' and '.join(found)}".removeprefix(": ") for arm, found in list(reasons.items())[:MOST_ARMS]]
    more = [f"and {format_count_with_noun(len(reasons) - MOST_ARMS, 'more arm')}"] if len(reasons) > MOST_ARMS else []
    return [f"Not learned: {'; '.join([*said, *more])}."]
