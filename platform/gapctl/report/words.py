"""Numbers, metrics and factors as a reader wants them in a sentence or a table cell."""

import math
from collections.abc import Sequence
from typing import Final

from gapctl.spec.vocabulary import METRICS

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
