"""Numbers, metrics and factors as a reader wants them in a sentence or a table cell."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Final

from gapctl.analysis.results import Analysis, Verdict
from gapctl.config.hypotheses import Level
from gapctl.config.metrics import METRICS
from gapctl_charts.factor import plain

NOT_KNOWN: Final = "–"
_SHORT_NAMES: Final = {
    "gap/rmg": "relative modality gap (RMG)",
    "gap/l2m": "distance of the modality means (L2M)",
    "gap/l2i": "distance of matched pairs (L2I)",
    "entropy/i2t_nats": "entropy, image to text",
    "entropy/t2i_nats": "entropy, text to image",
    "bias/moad_image": "object bias of images (MOAD)",
    "bias/moad_text": "object bias of texts (MOAD)",
    "bias/moad_image_less_text": "object bias of images less that of texts (MOAD)",
    "temperature/tau": "temperature τ",
    "train/loss": "training loss",
    "train/loss_floor": "floor of the training loss from equal captions alone",
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

_FACTOR_WORDS: Final = {
    "data.captions.attributes": "attributes in the caption",
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
    "loss.alignment": "weight of alignment",
    "loss.uniformity": "weight of uniformity",
    "loss.cross_uniformity": "weight of cross-modal uniformity",
}


def metric_name(key: str) -> str:
    """A metric in a few words; its key where it has no shorter name."""
    return _SHORT_NAMES.get(key, key)


def meaning(key: str) -> str:
    """What a metric measures, in one line; nothing for an unknown one."""
    return METRICS[key].meaning if key in METRICS else ""


def unit(key: str) -> str:
    """A metric's unit; nothing for an unknown one."""
    return METRICS[key].unit if key in METRICS else ""


def with_unit(key: str) -> str:
    """An axis title: `relative modality gap (RMG), share`."""
    name, counted = metric_name(key), unit(key)
    return f"{name}, {counted}" if counted and counted not in name.split() else name


def capital(text: str) -> str:
    """The first letter made large, the others left alone."""
    return text[:1].upper() + text[1:]


def number(value: float | None, digits: int = 3) -> str:
    """Three significant digits with a true minus sign; a dash where there is no number."""
    if value is None or not math.isfinite(value):
        return NOT_KNOWN
    text = f"{value:,.0f}" if abs(value) >= 10**digits - 0.5 else f"{value:#.{digits}g}".rstrip(".")
    return _minus("0" if value == 0 else text)


def as_declared(value: float) -> str:
    """A number that a person wrote, as they may have written it."""
    return _minus(f"{value:.10g}")


def aligned(values: Sequence[float], digits: int = 3) -> list[str]:
    """Numbers that are compared, with as many decimals as the largest needs for its significant digits."""
    known = [abs(value) for value in values if math.isfinite(value) and value != 0]
    decimals = max(0, digits - 1 - math.floor(math.log10(max(known)))) if known else digits
    return [_minus(f"{value:,.{decimals}f}") if math.isfinite(value) else NOT_KNOWN for value in values]


def p_value(p: float) -> str:
    """A p-value that never claims to be zero."""
    if not math.isfinite(p):
        return NOT_KNOWN
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def in_brackets(marks: Sequence[str]) -> str:
    """A verdict's marks as they follow its word: ` (exploratory, not learned)`; nothing where it has none."""
    return f" ({', '.join(marks)})" if marks else ""


def confidence(alpha: float) -> str:
    """`95 %` for an alpha of 0.05."""
    return f"{100 * (1 - alpha):.4g} %"


def counted(count: int, one: str, many: str | None = None) -> str:
    """`1 training`, `2 trainings`."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def factor_words(path: str, name: str | None = None) -> str:
    """A varied path in words; its short name, or else its last part, where there are no better ones."""
    return _FACTOR_WORDS.get(path, (name or path.rsplit(".", 1)[-1]).replace("_", " "))


def duration(seconds: float) -> str:
    """Seconds as minutes, or from an hour on as hours."""
    return f"{number(seconds / 60)} minutes" if seconds < 3600 else f"{number(seconds / 3600)} hours"


def listed(names: Sequence[str], most: int = 6) -> str:
    """Names one after another, as many as a reader wants to read."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _minus(text: str) -> str:
    return text.replace("-", "−")


def settling(seeds: int) -> str:
    """What an inconclusive verdict asks for; seeds added to the same sweep would be a stopping rule."""
    return (
        f"About {seeds} seeds would probably settle it: ask anew under another name, with a first_seed that no "
        "training has had yet; seeds added here only explore."
    )


_STEP_WORDS: Final = {"data.captions.attributes": "attribute"}
_DIFFERENCE_UNITS: Final = {"share": "", "correlation": "", "percent": "percentage points"}
_KINDS: Final = {
    "trend": "slope of",
    "correlation": "correlation of",
    "mediation": "mediated difference in",
    "level": "mean of",
}


def effect_unit(verdict: Verdict) -> str:
    """What an estimate counts: a trend's slope is per unit of its factor; two shares, or two correlations, differ by a
    plain number."""
    if verdict.test == "correlation":
        return "Kendall's τ"
    step = _STEP_WORDS.get(verdict.factor, f"unit of {factor_words(verdict.factor)}")
    per = f"per {step}" if verdict.test == "trend" else ""
    counted = unit(verdict.response)
    return " ".join(part for part in (_DIFFERENCE_UNITS.get(counted, counted), per) if part)


def effect_of(verdict: Verdict) -> str:
    """What an effect is of, in words and without its unit: the levels compared, and the trainings it is limited to."""
    kind = _KINDS.get(verdict.test, "difference in")
    compared = f"{kind} {metric_name(verdict.response)}{_against(verdict)}"
    return ", ".join(part for part in (compared, where_words(verdict)) if part)


def effect_name(verdict: Verdict) -> str:
    """The same with its unit, as an axis title."""
    return f"{effect_of(verdict)}, {effect_unit(verdict)}".removesuffix(", ")


def where_words(verdict: Verdict) -> str:
    """Which trainings alone a verdict is of: `where temperature is learned`; nothing where it is of all."""
    held = [f"{factor_words(path)} is {plain(level)}" for path, level in verdict.where.items()]
    return f"where {' and '.join(held)}" if held else ""


def levels_words(levels: Sequence[Level]) -> str:
    """Two levels in the order in which the effect takes them: `5 against 0` is what 5 gives less what 0 gives."""
    return " against ".join(map(plain, levels))


def interval_words(verdict: Verdict, alpha: float) -> str:
    """An estimate with its interval, or why it has none."""
    if not (math.isfinite(verdict.ci.low) and math.isfinite(verdict.ci.high)):
        return f"{number(verdict.estimate)}; too few seeds for an interval"
    estimate, low, high = aligned([verdict.estimate, *verdict.ci])
    return f"{estimate}; {confidence(alpha)} interval {low} to {high}"


def _against(verdict: Verdict) -> str:
    """What the response is held against: a value, another metric, two levels of the treatment and of its mediator."""
    if verdict.test == "level":
        return f", less {as_declared(verdict.value)}" if verdict.value else ""
    if verdict.test == "correlation":
        return f" with {metric_name(verdict.factor)}{_given(verdict)}"
    if not verdict.between:
        return ""
    treatment = f" by {factor_words(verdict.factor)} ({levels_words(verdict.between[::-1])})"
    if verdict.mediator is None:
        return treatment
    return f"{treatment}, through {factor_words(verdict.mediator)} ({levels_words(verdict.mediator_levels)})"


def _given(verdict: Verdict) -> str:
    """What a partial correlation accounts for."""
    names = [metric_name(name) if name in METRICS else factor_words(name) for name in verdict.given]
    return f" given {' and '.join(names)}" if names else ""


MOST_ARMS: Final = 4


def mark_lines(verdict: Verdict) -> list[str]:
    """The sentences that stand below a verdict; none where it has no such mark."""
    return [*_first_answer(verdict), *_not_learned(verdict)]


def redesign_lines(analysis: Analysis) -> list[str]:
    """What a sweep asks again, and what was answered first or why that is not known; nothing for other sweeps."""
    first = analysis.first_question
    if first is None:
        return []
    if first.note is not None:
        return [f"It asks again what {first.asked} asked; that first answer is not in this ledger: {first.note}."]
    counts = Counter(one.verdict for one in first.answers)
    told = ", ".join(f"{count} {word}" for word, count in counts.items()) or "no hypotheses"
    return [f"It asks again what {first.asked} asked; the first answer, of {first.sweep}: {told}."]


def _first_answer(verdict: Verdict) -> list[str]:
    first = verdict.first_answer
    if first is None:
        return []
    estimate, low, high = aligned([first.estimate, *first.ci])
    interval = f"{low} to {high}" if math.isfinite(first.ci.low) else "too few seeds"
    word = f"{first.verdict}{in_brackets(first.marks)}"
    return [f"First answer, {first.sweep}, {first.id}: {word}, {estimate} ({interval}), p {p_value(first.p)}."]


def _not_learned(verdict: Verdict) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for check in verdict.not_learned:
        reasons.setdefault(check.arm, []).append(check.reason)
    if not reasons:
        return []
    said = [f"{arm}: {' and '.join(found)}" for arm, found in list(reasons.items())[:MOST_ARMS]]
    more = [f"and {counted(len(reasons) - MOST_ARMS, 'more arm')}"] if len(reasons) > MOST_ARMS else []
    return [f"Not learned: {'; '.join([*said, *more])}."]
