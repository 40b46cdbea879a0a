"""Measure gap, entropy, object bias and quality of embeddings in memory: `gapctl.measure` and single metrics.

1. `measure` checks its arrays as `gapctl measure --embeddings` does and computes every metric that they allow.
2. `Measures` is the result: a mapping from metric names to numbers that shows itself as a table.
3. `rmg`, `l2m`, `l2i`, `moad` and `entropy` compute one number each.

Rows need not be normalised. Definitions: arXiv 2404.07983, sec. 3 and 6; docs/reference/metrics.md.
"""

import html
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

from gapctl.api.arrays import (
    build_paired_embeddings,
    convert_attributes_to_array,
    convert_embeddings_to_array,
    convert_labels_to_array,
    reject_arrays_beside_encoded,
)
from gapctl.config.metrics import (
    DEFAULT_LOGIT_SCALES,
    LARGEST_LOGIT_SCALE,
    explain_metric,
    find_metric,
    format_metric_value,
)
from gapctl.errors import InputError
from gapctl.metrics.bias import moad as compute_moad
from gapctl.metrics.checks import check_embedding_shape, check_integers_per_row
from gapctl.metrics.embedding_set import Embeddings, normalise_rows
from gapctl.metrics.gap import GapSums

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from gapctl.metrics.sampling import SampleEstimate

Cloud: TypeAlias = "NDArray[np.floating]"


class Measures(Mapping[str, float]):
    """Metrics by name, NaN where one is not defined; a table wherever it is shown.

    `samples` has an interval for each metric that was estimated from a part of the rows.
    """

    def __init__(self, values: Mapping[str, float], samples: "Mapping[str, SampleEstimate] | None" = None) -> None:
        self._values = dict(values)
        self.samples = dict(samples or {})

    def __getitem__(self, key: str) -> float:
        try:
            return self._values[key]
        except KeyError:
            from gapctl.config.base import format_word_suggestion

            raise KeyError(f"no metric {key!r} was measured{format_word_suggestion(key, list(self._values))}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def frame(self) -> "pl.DataFrame":
        """Return a polars frame with the columns `metric`, `value`, `low`, `high`, `unit` and `meaning`.

        `low` and `high` are null for metrics that were computed from all rows.
        """
        import polars as pl

        return pl.DataFrame(
            [self._describe_row(key) for key in self],
            schema={"metric": str, "value": float, "low": float, "high": float, "unit": str, "meaning": str},
            orient="row",
        )

    def _describe_row(self, key: str) -> tuple[str, float, float | None, float | None, str, str]:
        name, sample = find_metric(key), self.samples.get(key)
        low, high = (None, None) if sample is None else (sample.low, sample.high)
        return key, self[key], low, high, name.unit if name else "", explain_metric(key)

    def __repr__(self) -> str:
        width = max(map(len, self), default=0)
        return "\n".join(f"{key:<{width}}  {format_metric_value(key, self[key]):>10}" for key in self)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(key)}</td><td>{format_metric_value(key, value)}</td>"
            f"<td>{html.escape(unit)}</td><td style='text-align:left'>{html.escape(meaning)}</td></tr>"
            for key, value, _, _, unit, meaning in map(self._describe_row, self)
        )
        return (
            "<table><thead><tr><th>metric</th><th>value</th><th>unit</th><th>meaning</th></tr></thead>"
            f"<tbody>{rows}</tbody></table>"
        )


def measure(
    images: object,
    texts: object = None,
    labels: object = None,
    attributes: object = None,
    text_to_image: object = None,
    logit_scale: float | Sequence[float] | None = None,
    metrics: Sequence[str] | None = None,
) -> Measures:
    """Measure the modality gap, entropy, object bias and quality of image and text embeddings.

    Args:
        images: Embeddings (N, D), float, of any norm: numpy, torch on any device, or anything with `__array__`. Or
            what `gapctl.encode` returned, alone.
        texts: Embeddings (M, D). With M = N, row i belongs to row i of `images`.
        labels: Each image's object (N,), numbers or words. With neither M = N nor `text_to_image`, texts are one
            prompt per class, and labels are rows of `texts`.
        attributes: Each image's attribute (N,), (N, factors), or a mapping from factors to (N,). With `labels` it adds
            object bias (MOAD).
        text_to_image: Each text's image (M,), where images have several captions.
        logit_scale: One over the temperature. With one, entropies are `entropy/i2t_nats` and so on; with several, each
            name ends in its scale. If left out: 1, 1/0.07 and 100.
        metrics: Metrics of other packages to compute as well (`gapctl.metrics.register`). If left out, all that are
            registered here or announced by installed packages.

    Returns:
        The metrics by name, as `gapctl measure` prints them for the same arrays.

    Raises:
        InputError: An array is none, does not fit the others, or holds rows without a direction. Or a metric of another
            package is unknown, raises an error or returns no number.

    """
    from gapctl.extensions import ExtensionError
    from gapctl.metrics.sampling import THOROUGH_LIMITS
    from gapctl.metrics.suite import measure_at_logit_scales

    scales = parse_logit_scales(logit_scale)
    encoded = getattr(images, "embeddings", None)
    if isinstance(encoded, Embeddings):
        reject_arrays_beside_encoded(texts=texts, labels=labels, attributes=attributes, text_to_image=text_to_image)
        embeddings = encoded
    else:
        embeddings = build_paired_embeddings(images, texts, labels, attributes, text_to_image)[0]
    if scales is None:
        scales = DEFAULT_LOGIT_SCALES if embeddings.logit_scale is None else (embeddings.logit_scale,)
    zero_shot = getattr(images, "zero_shot", None)
    temperature = getattr(images, "temperature", {}) if encoded is not None else {}
    try:
        return Measures(*measure_at_logit_scales(embeddings, scales, THOROUGH_LIMITS, zero_shot, temperature, metrics))
    except ExtensionError as error:
        raise InputError(f"{error}. With `metrics=[]`, metrics of other packages are left out") from error


def rmg(images: object, texts: object, text_to_image: object = None) -> float:
    """Return the relative modality gap: matched distance against the spread within modalities, 0 to 1.

    Arguments and errors as in `measure`. Source: arXiv 2404.07983, sec. 3.
    """
    return _sum_gap(images, texts, text_to_image).rmg()


def l2m(images: object, texts: object, text_to_image: object = None) -> float:
    """Return the distance between the mean image and the mean text (arXiv 2203.02053)."""
    return _sum_gap(images, texts, text_to_image).l2m()


def l2i(images: object, texts: object, text_to_image: object = None) -> float:
    """Return the mean distance of matched pairs (arXiv 2404.07983, sec. 3)."""
    return _sum_gap(images, texts, text_to_image).l2i()


def moad(embeddings: object, labels: object, attributes: object) -> float:
    """Return the object bias of one modality's embeddings (N, D), positive where objects decide more than attributes.

    It is (same object - different object) - (same attribute - different attribute) in mean cosine over pairs of rows.
    Attributes are compared within each factor and averaged. Source: arXiv 2404.07983, sec. 3.
    """
    rows = convert_embeddings_to_array("embeddings", embeddings)
    objects, factors = convert_labels_to_array("labels", labels), convert_attributes_to_array("attributes", attributes)
    check_integers_per_row("labels", objects, len(rows), "embedding")
    check_integers_per_row("attributes", factors, len(rows), "embedding", columns=True)
    return compute_moad(normalise_rows(rows, "embeddings"), objects, factors).value


def entropy(images: object, texts: object, logit_scale: float, direction: Literal["i2t", "t2i"] = "i2t") -> float:
    """Return the mean entropy in nats of softmax(logit_scale * cosine) over the whole gallery.

    `i2t` asks with each image over all texts, `t2i` the other way. Source: arXiv 2404.07983, sec. 6.
    """
    from gapctl.metrics.entropy import compute_mean_entropy

    if direction not in ("i2t", "t2i"):
        raise InputError(f"`direction`: found {direction!r}; expected 'i2t' or 't2i'")
    scales = parse_logit_scales(logit_scale)
    if scales is None or len(scales) != 1:
        raise InputError(f"`logit_scale`: found {logit_scale!r}; expected one number, such as 100")
    image, text = _read_two_clouds(images, texts)
    unit_image, unit_text = normalise_rows(image, "image"), normalise_rows(text, "text")
    query, gallery = (unit_image, unit_text) if direction == "i2t" else (unit_text, unit_image)
    return compute_mean_entropy(query, gallery, scales[0])


def parse_logit_scales(value: object) -> tuple[float, ...] | None:
    """Return one or several logit scales; raise InputError for what is no number above 0 and at most a million."""
    if value is None:
        return None
    listed = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    try:
        scales = tuple(dict.fromkeys(float(each) for each in listed))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        scales = ()
    if (
        not scales
        or any(isinstance(each, str | bool) for each in listed)
        or not all(0 < s <= LARGEST_LOGIT_SCALE for s in scales)
    ):
        raise InputError(
            f"`logit_scale`: found {value!r}; expected a number above 0 and at most {LARGEST_LOGIT_SCALE:,.0f}, "
            "such as 100, or 1 / 0.07 for a temperature of 0.07, or several in a list"
        )
    return scales


def _sum_gap(images: object, texts: object, text_to_image: object) -> GapSums:
    embeddings, pairing = build_paired_embeddings(images, texts, text_to_image=text_to_image)
    assert pairing != "labels"
    image, text = normalise_rows(embeddings.image_ND, "image"), normalise_rows(embeddings.text_MD, "text")
    return GapSums.of(image, text, embeddings.text_to_image_M)


def _read_two_clouds(images: object, texts: object) -> tuple[Cloud, Cloud]:
    image, text = convert_embeddings_to_array("image", images), convert_embeddings_to_array("text", texts)
    check_embedding_shape("text", text, image.shape[1])
    return image, text
