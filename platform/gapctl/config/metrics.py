"""The metrics by name: what each means and in which unit. Hypotheses are checked against these names.

`METRICS` is the catalog; the code that computes them is in `gapctl.metrics`. `is_metric`, `find_metric` and
`load_metrics_by_name` also know the metrics of other packages (`gapctl.extensions`). On an evaluation set, a metric
has the set's name before its own: `split_set_from_metric` tells them apart.
"""

import math
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from gapctl.config.base import format_word_suggestion
from gapctl.extensions import find_extension, list_extensions

SAMPLES_TO_SMALL_GAP: Final = "gap/samples_to_small_l2m"
SMALL_GAP: Final = 0.2
"""The distance of the means, `gap/l2m`, below which a gap counts as small."""
DEFAULT_LOGIT_SCALES: Final = (1.0, 1 / 0.07, 100.0)
"""Plain cosines, CLIP's temperature before training, and the largest scale that CLIP's training allows."""
LARGEST_LOGIT_SCALE: Final = 1e6
"""Beyond this scale, rounding alone changes an entropy in its tenth digit, and soon in all."""


class MetricRange(NamedTuple):
    """The least and the greatest value that a metric can have, whatever is measured; infinite where it has no bound."""

    least: float
    most: float

    def compute_difference_range(self, other: "MetricRange") -> "MetricRange":
        """Return the range of a value in this range less one in another."""
        return MetricRange(self.least - other.most, self.most - other.least)


UNBOUNDED: Final = MetricRange(-math.inf, math.inf)
NOT_NEGATIVE: Final = MetricRange(0.0, math.inf)
SHARE: Final = MetricRange(0.0, 1.0)
PERCENT: Final = MetricRange(0.0, 100.0)
COSINE: Final = MetricRange(-1.0, 1.0)
DISTANCE: Final = MetricRange(0.0, 2.0)
"""Between embeddings of length 1."""
UNIFORMITY: Final = MetricRange(-8.0, 0.0)
"""ln of the mean of exp(-2 d^2) over such distances d."""
BIAS: Final = MetricRange(-4.0, 4.0)
"""Two cosines less two others. With many rows of each label, and as many of each, -2 to 2."""


@dataclass(frozen=True)
class MetricName:
    """A metric's key (its group before the slash), one line of meaning, its unit, and the range of its values.

    A unit says nothing of the range: a difference of two shares is in shares and may be -1.
    """

    key: str
    meaning: str
    unit: str
    range: MetricRange = UNBOUNDED

    @property
    def group(self) -> str:
        """The part before the slash, by which MLflow groups charts."""
        return self.key.split("/", 1)[0]


_FACTORS: Final = ("digit", "thickness", "swelling", "fracture", "scale", "colour")


def _list_quality_metrics() -> list[MetricName]:
    directions = (("i2t", "image to text"), ("t2i", "text to image"))
    recalls = [
        MetricName(
            f"quality/{short}_recall_{k}", f"share of queries, {words}, with a match in the top {k}", "share", SHARE
        )
        for short, words in directions
        for k in (1, 5, 10)
    ]
    factors = [
        MetricName(f"quality/accuracy_{name}", f"zero-shot accuracy of {name}", "percent", PERCENT) for name in _FACTORS
    ]
    return [
        *recalls,
        MetricName(
            "quality/object_accuracy", "zero-shot accuracy of the object (in MAD, the main factor)", "percent", PERCENT
        ),
        MetricName("quality/attribute_accuracy", "mean zero-shot accuracy of the other factors", "percent", PERCENT),
        *factors,
        MetricName("quality/accuracy", "zero-shot accuracy over the classes of an evaluation set", "percent", PERCENT),
        MetricName(
            "quality/mean_class_accuracy", "the same for each class alone, averaged over classes", "percent", PERCENT
        ),
        MetricName(
            "quality/pair_accuracy",
            "zero-shot accuracy of object and attribute together, over its pairs",
            "percent",
            PERCENT,
        ),
        MetricName(
            "quality/mixed_ndcg_10", "search for matches among images and texts at once; 1 is best", "share", SHARE
        ),
        MetricName(
            "quality/v_measure", "how well clusters of images and texts together fit the objects", "share", SHARE
        ),
        MetricName(
            "quality/flip_rate", "share of zero-shot predictions that noise of length 0.1 changes", "share", SHARE
        ),
    ]


def _list_bias_metrics() -> list[MetricName]:
    found = []
    for side in ("image", "text"):
        found.append(MetricName(f"bias/moad_{side}", f"object bias of {side} embeddings; 0 is none", "cosine", BIAS))
        text = f"object bias of {side}s, of objects and each factor as a share of the most that there can be"
        found.append(MetricName(f"bias/moad_{side}_normalised", text, "share", BIAS))
        for kind in ("object", "attribute"):
            found += [
                MetricName(
                    f"bias/{kind}_{relation}_{side}", f"mean cosine of {side}s with {relation} {kind}", "cosine", COSINE
                )
                for relation in ("same", "different")
            ]
    return [
        *found,
        MetricName(
            "bias/moad_image_less_text",
            "object bias of images less that of texts",
            "cosine",
            BIAS.compute_difference_range(BIAS),
        ),
    ]


_GAP: Final = (
    MetricName("gap/l2m", "distance between the mean image and the mean text", "distance", DISTANCE),
    MetricName("gap/l2i", "mean distance of matched pairs", "distance", DISTANCE),
    MetricName(
        "gap/rmg",
        "matched distance against the spread within modalities; a gap raises it, and so do pairs that cannot match, "
        "near 0.5 without any gap",
        "share",
        SHARE,
    ),
    MetricName("gap/rmg_with_diagonal", "the same with self-pairs in the spread", "share", SHARE),
    MetricName("gap/rmg_shifted", "RMG after both means were shifted together", "share", SHARE),
    MetricName(
        "gap/temperature_gain",
        "how much a constant offset between images and texts, as large as the distance of their means, raises the "
        "temperature in effect: logarithm of the factor",
        "nats",
        NOT_NEGATIVE,
    ),
    MetricName(
        "gap/centroid_share",
        "share of the squared matched distance that the means explain",
        "share",
        NOT_NEGATIVE,  # above 1 where images have different numbers of texts, so that pairs have other means
    ),
    *(
        MetricName(f"gap/top{k}_share", f"share of the mean difference in its {largest}", "share", SHARE)
        for k, largest in ((1, "largest dimension"), (3, "3 largest dimensions"), (10, "10 largest dimensions"))
    ),
    MetricName("gap/dims_for_half", "dimensions that carry half of the mean difference", "dimensions", NOT_NEGATIVE),
    MetricName("gap/dims_for_90", "dimensions that carry 90 % of the mean difference", "dimensions", NOT_NEGATIVE),
    MetricName(
        "gap/samples_to_small_l2m",
        "samples seen at the first evaluation with gap/l2m below 0.2; all of the training's where there is none",
        "pairs",
        NOT_NEGATIVE,
    ),
    MetricName(
        "gap/linear_separability", "held-out accuracy of a line between images and texts; 0.5 is none", "share", SHARE
    ),
)
_ENTROPY: Final = (
    MetricName("entropy/i2t_nats", "entropy of an image's softmax over the gallery's texts", "nats", NOT_NEGATIVE),
    MetricName("entropy/t2i_nats", "entropy of a text's softmax over the gallery's images", "nats", NOT_NEGATIVE),
    MetricName("entropy/i2t_normalized", "i2t_nats over the logarithm of the gallery's size", "share", SHARE),
    *(
        MetricName(
            f"entropy/{short}_posterior_nats",
            f"{short}_nats of a model that knows how likely pairs are",
            "nats",
            NOT_NEGATIVE,
        )
        for short in ("i2t", "t2i")
    ),
    *(
        MetricName(
            f"entropy/{short}_excess_nats", f"{short}_nats less {short}_posterior_nats; below 0 is too sure", "nats"
        )
        for short in ("i2t", "t2i")
    ),
    MetricName("entropy/gallery", "texts in the gallery", "pairs", NOT_NEGATIVE),
    *(
        MetricName(
            f"entropy/{short}_nats_at_{size}", f"{short}_nats over galleries of {size:,} pairs", "nats", NOT_NEGATIVE
        )
        for size in (100, 1000)
        for short in ("i2t", "t2i")
    ),
)
_TEMPERATURE: Final = (
    MetricName("temperature/tau", "softmax temperature", "cosine", NOT_NEGATIVE),
    MetricName("temperature/logit_scale", "its inverse", "1/cosine", NOT_NEGATIVE),
    MetricName("temperature/bias", "SigLIP's logit bias", "logit"),
)
_TRAIN: Final = (
    MetricName("train/loss", "contrastive loss since the last evaluation", "nats"),
    MetricName(
        "train/loss_floor", "floor of the loss from equal captions alone; not the Bayes loss", "nats", NOT_NEGATIVE
    ),
    MetricName(
        "train/loss_bayes",
        "least loss that any model can reach in such batches: that of one that knows how likely each caption is; not "
        "known where data.share is below 1",
        "nats",
        NOT_NEGATIVE,
    ),
    MetricName("train/loss_excess", "what is left of the loss above loss_bayes", "nats"),
    MetricName("train/loss_end", "loss of a table (preset table) over the last eighth of its steps", "nats"),
    MetricName("train/loss_fall", "how far a table's loss_end lies below the loss of the eighth before", "nats"),
    MetricName(
        "train/converged",
        "1 where a table's loss_end is within 0.02 nats of the Bayes loss, 0 where not",
        "yes or no",
        SHARE,
    ),
)

_INFORMATION: Final = (
    MetricName(
        "information/image_given_caption", "what a caption leaves unsaid of its image's factors", "bits", NOT_NEGATIVE
    ),
    MetricName(
        "information/caption_given_image", "what cannot be foreseen of a caption from its image", "bits", NOT_NEGATIVE
    ),
    MetricName("information/shared", "what image and caption tell of each other", "bits", NOT_NEGATIVE),
)
"""Metrics of a training's captions: the analysis computes these from the configuration."""

_CAPTIONS: Final = (
    MetricName("captions/words_kept", "words of a caption that training read, on average", "words", NOT_NEGATIVE),
    MetricName(
        "captions/share_kept",
        "share of all words of captions that training read",
        "share",
        NOT_NEGATIVE,  # above 1 where a treatment adds words, as keywords of several words do
    ),
    MetricName("captions/empty", "share of captions of which training read nothing", "share", SHARE),
    MetricName("captions/cut", "captions of an evaluation set that the model's context cuts", "captions", NOT_NEGATIVE),
    MetricName("data/substituted", "share of pairs that could not be read, for which others stood in", "share", SHARE),
)

_GEOMETRY: Final = (
    MetricName(
        "geometry/alignment", "mean squared distance of matched pairs", "squared distance", MetricRange(0.0, 4.0)
    ),
    MetricName(
        "geometry/uniformity_image",
        "how unevenly images fill the sphere; -4 is evenly, 0 all in one",
        "nats",
        UNIFORMITY,
    ),
    MetricName("geometry/uniformity_text", "the same of texts", "nats", UNIFORMITY),
    MetricName(
        "geometry/uniformity_cross",
        "the same between unmatched images and texts; a gap takes it below -4",
        "nats",
        UNIFORMITY,
    ),
    MetricName("geometry/effective_rank_image", "directions that images use", "dimensions", MetricRange(1.0, math.inf)),
    MetricName("geometry/effective_rank_text", "directions that texts use", "dimensions", MetricRange(1.0, math.inf)),
    MetricName(
        "geometry/principal_angle_min",
        "smallest angle between the modalities' subspaces",
        "degrees",
        MetricRange(0.0, 90.0),
    ),
    MetricName(
        "geometry/neighbor_overlap_10", "share of 10 nearest images whose texts are nearest too", "share", SHARE
    ),
    MetricName("geometry/neighbor_overlap_10_chance", "the overlap that unrelated neighbors have", "share", SHARE),
    MetricName(
        "geometry/neighborhood_kendall",
        "how differently images and prompts rank the classes, as the paper counts it; 0 is alike",
        "share",
        SHARE,
    ),
    MetricName("geometry/neighborhood_kendall_chance", "what that is for unrelated rankings", "share", SHARE),
    MetricName(
        "geometry/neighborhood_discordance",
        "share of class pairs of which images find one nearer and prompts the other; chance is 0.5",
        "share",
        SHARE,
    ),
)

_AGREEMENT: Final = (
    MetricName(
        "agreement/leading_dims_seeds",
        "share of the ten leading dimensions of the gap that a pair of seeds has in common, less that of chance",
        "share",
        SHARE.compute_difference_range(SHARE),
    ),
    MetricName(
        "agreement/axis_seeds", "agreement of the gap's direction within a pair of seeds", "correlation", COSINE
    ),
    MetricName("agreement/axis_arms", "the same with the other arms of the seed", "correlation", COSINE),
    MetricName(
        "agreement/axis_architectures", "the same with arms that differ in model.preset alone", "correlation", COSINE
    ),
    MetricName(
        "agreement/axis_widths", "the same with arms that differ in model.embed_dim alone", "correlation", COSINE
    ),
    MetricName(
        "agreement/axis_excess_seeds",
        "agreement of the gap's direction within a pair of seeds, less that of the image mean's or, where more, what "
        "images permuted within labels reach",
        "correlation",
        COSINE.compute_difference_range(COSINE),
    ),
    MetricName(
        "agreement/axis_excess_architectures",
        "the same with arms that differ in model.preset alone",
        "correlation",
        COSINE.compute_difference_range(COSINE),
    ),
    MetricName(
        "agreement/axis_excess_widths",
        "the same with arms that differ in model.embed_dim alone",
        "correlation",
        COSINE.compute_difference_range(COSINE),
    ),
)
"""Metrics of several trainings together: the analysis computes these from what each training saved."""

OPTIMUM_EXCESSES: Final = {
    "gap/rmg_excess": "gap/rmg",
    "gap/l2m_excess": "gap/l2m",
    "bias/moad_image_excess": "bias/moad_image",
}
"""Metrics that are less their value at the loss' optimum, each with the metric that a training logs."""
_EXCESS: Final = tuple(
    MetricName(
        key,
        f"{of.key}, less its value for a table (preset table) of the same captions, temperature, width and batch",
        of.unit,
        of.range.compute_difference_range(of.range),
    )
    for key, logged in OPTIMUM_EXCESSES.items()
    for of in (*_GAP, *_list_bias_metrics())
    if of.key == logged
)
"""The analysis computes these from the tables of the same ledger."""

METRICS: Final = {
    metric.key: metric
    for metric in (
        *_GAP,
        *_ENTROPY,
        *_TEMPERATURE,
        *_list_bias_metrics(),
        *_GEOMETRY,
        *_list_quality_metrics(),
        *_TRAIN,
        *_CAPTIONS,
        *_INFORMATION,
        *_AGREEMENT,
        *_EXCESS,
    )
}


PUBLISHED: Final = "published/"
"""Begins the names of numbers that others published of a cohort's models."""
ONLY_OF_SETS: Final = ("quality/accuracy", "quality/mean_class_accuracy", "quality/pair_accuracy", "captions/cut")
"""Metrics that evaluation sets alone have."""


def is_metric(key: str) -> bool:
    """Return whether there is a metric of that name: gapctl's own, of another package, of a set, or published."""
    plain = split_set_from_metric(key)[1]
    published = key.startswith(PUBLISHED) and key != PUBLISHED
    return plain in METRICS or is_extension_metric(plain) or published


def is_extension_metric(key: str) -> bool:
    """Return whether a metric is another package's; nothing is imported."""
    return key not in METRICS and key in list_extensions("metrics")


def split_set_from_metric(key: str) -> tuple[str, str]:
    """Return the set and the metric of a name such as `coco/gap/rmg`; the set is empty in any other name."""
    name, _, rest = key.partition("/")
    return (name, rest) if name and "/" in rest else ("", key)


def list_metric_names() -> list[str]:
    """List the names of all metrics, gapctl's own first; nothing is imported."""
    return [*METRICS, *list_extensions("metrics")]


def load_metrics_by_name() -> dict[str, MetricName]:
    """Return all metrics by name: the catalog, then those of other packages, which this imports."""
    return {key: name for key in list_metric_names() if (name := find_metric(key)) is not None}


def is_posterior_metric(key: str) -> bool:
    """Return whether a metric compares a model with one that knows MAD's world."""
    return key.startswith("entropy/") and key.endswith(("_posterior_nats", "_excess_nats"))


def is_analysis_metric(key: str) -> bool:
    """Return whether the analysis computes a metric of single trainings, which none of them logs."""
    return key.startswith("information/") or key == SAMPLES_TO_SMALL_GAP


def is_cross_trial_metric(key: str) -> bool:
    """Return whether a metric compares several trainings, so that none of them logs it."""
    return key.startswith("agreement/") or key in OPTIMUM_EXCESSES


def is_seed_pair_metric(key: str) -> bool:
    """Return whether a metric compares two seeds, so that pairs of seeds are its replicates."""
    return is_cross_trial_metric(key) and key.endswith("_seeds")


def format_metric_suggestion(key: str) -> str:
    """Return `; did you mean ...?` where a metric's name is close, else an empty text."""
    name = split_set_from_metric(key)[0]
    return format_word_suggestion(key, [f"{name}/{known}" if name else known for known in list_metric_names()])


def find_metric(key: str) -> MetricName | None:
    """Return a metric by its name, or None; accept `gapctl measure`'s logit-scale suffix (`..._scale_100`).

    Raise InputError for a metric of another package that cannot be imported.
    """
    name, plain = split_set_from_metric(key)
    if name:
        own = find_metric(plain)
        return own and replace(own, key=key, meaning=f"on {name}: {own.meaning}")
    known = METRICS.get(key) or METRICS.get(key.partition("_scale_")[0])
    if known is None and (extension := find_extension("metrics", key)) is not None:
        return MetricName(key, extension.meaning, extension.unit)
    if key.startswith(PUBLISHED):
        return MetricName(key, f"{key.removeprefix(PUBLISHED).replace('_', ' ')}, as others published it", "")
    return known


def explain_metric(key: str) -> str:
    """Return a metric's meaning, or an empty text for an unknown one."""
    if (name := find_metric(key)) is not None:
        return name.meaning
    group, _, rest = split_set_from_metric(key)[1].partition("/accuracy_")
    return f"zero-shot accuracy of {rest}" if group == "quality" else ""


def format_metric_value(key: str, value: float) -> str:
    """Return a metric's value as its unit asks for it, or `undefined` for NaN."""
    if math.isnan(value):
        return "undefined"
    unit = name.unit if (name := find_metric(key)) else "percent"
    if unit in ("pairs", "dimensions", "captions"):
        return f"{value:.0f}"
    if unit == "percent":
        return f"{value:.1f} %"
    return f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:.4f}"
