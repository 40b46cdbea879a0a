"""Accumulate the gap, object bias or entropies batch by batch: `Gap`, `ObjectBias` and `Entropy`.

1. `update` adds a batch of embeddings, numpy or torch on any device.
2. `compute` returns the metrics of all batches so far by name, as `gapctl.measure` names them.
3. `merge` adds the batches of another accumulator, and `reset` forgets all.

`gapctl.Gap` and its siblings are these classes, or where torchmetrics is installed those of `torchmetrics_adapter.py`,
which hold the same states as tensors and add them over the ranks of a distributed run. `Gap` and `ObjectBias` keep
sums; `Entropy` keeps every row, since an entropy is over the whole gallery.

Index letters: B rows of a batch, N all rows, D embedding, K labels, F factors.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from gapctl.api.arrays import (
    build_paired_embeddings,
    convert_attributes_to_array,
    convert_embeddings_to_array,
    convert_labels_to_array,
    convert_to_numpy_array,
)
from gapctl.api.measures import parse_logit_scales
from gapctl.errors import InputError
from gapctl.metrics.bias import BiasSums, LabelSums
from gapctl.metrics.checks import check_embedding_shape, check_index_range, check_integers_per_row, make_array_error
from gapctl.metrics.embedding_set import normalise_rows, normalise_rows_float32
from gapctl.metrics.gap import CloudSums, GapSums, MatchedSums
from gapctl.metrics.streaming import EmbeddingSums, sum_block

if TYPE_CHECKING:
    from torch import nn

LABEL_LIMIT: Final = 100_000
"""Sums have a row for each label from 0 on, so labels must be small numbers."""
Array = NDArray[np.float64]
Floats = NDArray[np.floating]
States = dict[str, Floats]


class Accumulator(ABC):
    """The sums of all batches so far, in arrays by name that add up over batches and processes.

    A state that is narrower than another is padded with zeros where the two are added.
    """

    empty: ClassVar[States]
    """The states before the first batch."""

    def __init__(self) -> None:
        self._states = dict(self.empty)

    def merge(self, other: Self) -> None:
        """Add all batches of another accumulator of this kind; raise InputError for embeddings of another width."""
        require_same_kind(self, other)
        self._states = self.combine(self._states, other._states)

    def reset(self) -> None:
        """Forget all batches."""
        self._states = dict(self.empty)

    def compute(self) -> dict[str, float]:
        """Return the metrics of all batches by name; raise InputError if there are fewer than two rows."""
        return self.compute_metrics(self._states)

    def combine(self, one: States, other: States) -> States:
        """Add two sets of states; raise InputError for embeddings of different widths."""
        widths = [states[self.width_state].shape[-1] for states in (one, other)]
        if all(widths) and widths[0] != widths[1]:
            raise make_array_error("embeddings", f"{widths[1]} wide", f"{widths[0]}, as in the batches before")
        return {name: self.join(one[name], other[name]) for name in self.empty}

    width_state: ClassVar[str]
    """The name of a state whose last dimension is the width of the embeddings."""

    @staticmethod
    def join(one: Floats, other: Floats) -> Floats:
        """Join a state of two accumulators: their sum."""
        return add_padded(one, other)

    @abstractmethod
    def sum_batch(self, *batch: Any, **named: Any) -> States:
        """Return the states of one batch."""

    @abstractmethod
    def compute_metrics(self, states: States) -> dict[str, float]:
        """Return the metrics that follow from the states."""


def add_padded(one: Floats, other: Floats) -> Floats:
    """Add two arrays of as many dimensions, each padded with zeros to the larger of both shapes."""
    total = np.zeros(tuple(map(max, one.shape, other.shape)), np.result_type(one, other))
    for part in (one, other):
        total[tuple(map(slice, part.shape))] += part
    return total


def require_same_kind(one: object, other: object) -> None:
    """Raise InputError unless both are accumulators of one class."""
    sides = [getattr(getattr(each, "_plain", each), "side", None) for each in (one, other)]
    if type(other) is not type(one) or sides[0] != sides[1]:
        found = f"{type(other).__name__}" + (f" of side {sides[1]}" if sides[1] else "")
        wanted = f"{type(one).__name__}" + (f" of side {sides[0]}" if sides[0] else "")
        raise InputError(f"merge: found a {found}; expected another gapctl.{wanted}, whose batches can be added")


class Watch:
    """What both kinds of `Gap` share: adding the batches that a model is evaluated on."""

    @contextmanager
    def watch(self, model: object) -> Iterator[Self]:
        """Add every batch that a model of open_clip is evaluated on while the block runs; training batches are skipped.

        So are forward passes of images or texts alone, as zero-shot evaluation makes them. A model that is wrapped for
        several workers is unwrapped. Raise InputError for a model that cannot be watched, or gives no features.
        """
        inner = getattr(model, "module", model)
        if not hasattr(inner, "register_forward_hook"):
            raise InputError(f"`model`: found a {type(model).__name__}; expected a torch module, as open_clip makes it")

        def add_batch(module: "nn.Module", _: object, output: object) -> None:
            if not module.training and (features := _read_both_features(output)) is not None:
                self.update(*features)  # type: ignore[attr-defined]

        handle = inner.register_forward_hook(add_batch)
        try:
            yield self
        finally:
            handle.remove()


def _read_both_features(output: object) -> tuple[object, object] | None:
    """Return the image and text features of a forward pass, or None where it made only one of them."""
    if isinstance(output, Mapping) and "image_features" in output:
        features = output["image_features"], output.get("text_features")
    elif isinstance(output, tuple) and len(output) >= 2:
        features = output[0], output[1]
    else:
        raise InputError(
            f"the watched model returned a {type(output).__name__}; expected a mapping with `image_features` and "
            "`text_features`, or a tuple that begins with them, as open_clip's models return"
        )
    return None if any(each is None for each in features) else features


class Gap(Accumulator, Watch):
    """Accumulate the modality gap over batches of matched pairs: `gap/l2m`, `gap/rmg` and their siblings.

    Memory does not grow with the number of batches. Source: arXiv 2404.07983, sec. 3.
    """

    def __init__(self, *, sync_on_compute: bool = True) -> None:
        """Take torchmetrics' option: without torchmetrics, there are no other processes to add the sums of."""
        super().__init__()
        self.sync_on_compute = sync_on_compute

    empty: ClassVar[States] = {"gap_counts": np.zeros(7), "gap_means": np.zeros((3, 0))}
    width_state = "gap_means"

    def update(self, image_features: object, text_features: object, text_to_image: object = None) -> None:
        """Add a batch of images (B, D) and texts, of any norm.

        Text i belongs to image i, or to row `text_to_image[i]` of this batch. Raise InputError for arrays that do not
        fit together, with the row.
        """
        self._states = self.combine(self._states, self.sum_batch(image_features, text_features, text_to_image))

    def sum_batch(self, image_features: object, text_features: object, text_to_image: object = None) -> States:
        """Return the states of one batch."""
        embeddings, _ = build_paired_embeddings(image_features, text_features, text_to_image=text_to_image, least=1)
        sums = sum_block(embeddings, second_moments=False).gap
        clouds = [value for cloud in (sums.image, sums.text) for value in (cloud.count, cloud.squares)]
        assert sums.matched.difference_D is not None
        matched = [sums.matched.count, sums.matched.cosine, sums.matched.distance]
        return {
            "gap_counts": np.array([*clouds, *matched], np.float64),
            "gap_means": np.stack([sums.image.total_D, sums.text.total_D, sums.matched.difference_D]),
        }

    def compute_metrics(self, states: States) -> dict[str, float]:
        """Return the metrics that follow from the states."""
        images, image_squares, texts, text_squares, pairs, cosine, distance = map(float, states["gap_counts"])
        require_rows("Gap", min(images, texts))
        image_D, text_D, difference_D = states["gap_means"]
        sums = GapSums(
            CloudSums(int(images), image_D, image_squares),
            CloudSums(int(texts), text_D, text_squares),
            MatchedSums(int(pairs), cosine, distance, difference_D),
        )
        return EmbeddingSums(sums).metrics()


class ObjectBias(Accumulator):
    """Accumulate object bias (MOAD) of one modality over batches: `bias/moad_image` and its four parts.

    Memory grows with the number of labels alone. Source: arXiv 2404.07983, sec. 3.
    """

    empty: ClassVar[States] = {
        "bias_squares": np.zeros(1),
        "object_counts": np.zeros(0),
        "object_totals": np.zeros((0, 0)),
        "attribute_counts": np.zeros((0, 0)),
        "attribute_totals": np.zeros((0, 0, 0)),
    }
    width_state = "object_totals"

    def __init__(self, side: Literal["image", "text"] = "image") -> None:
        """Take the side, which metrics are named by; raise InputError for any other."""
        if side not in ("image", "text"):
            raise InputError(f"`side`: found {side!r}; expected 'image' or 'text', whichever the embeddings are of")
        super().__init__()
        self.side = side

    def combine(self, one: States, other: States) -> States:
        """Add two sets of states; raise InputError for other widths or other numbers of factors."""
        factors = [len(states["attribute_counts"]) for states in (one, other)]
        if all(factors) and factors[0] != factors[1]:
            raise make_array_error("attributes", f"{factors[1]} factors", f"{factors[0]}, as in the batches before")
        return super().combine(one, other)

    def update(
        self,
        features: object = None,
        labels: object = None,
        attributes: object = None,
        *,
        image_features: object = None,
        text_features: object = None,
    ) -> None:
        """Add a batch of embeddings (B, D), their objects (B,) and attributes (B,) or (B, factors).

        Embeddings are `features`, or else those of its side among `image_features` and `text_features`, so that one
        call serves a collection of accumulators. Objects and attributes are class numbers from 0 on. Raise InputError
        for arrays that are missing or do not fit together, with the row.
        """
        batch = self.sum_batch(features, labels, attributes, image_features=image_features, text_features=text_features)
        self._states = self.combine(self._states, batch)

    def sum_batch(
        self,
        features: object = None,
        labels: object = None,
        attributes: object = None,
        *,
        image_features: object = None,
        text_features: object = None,
    ) -> States:
        """Return the states of one batch."""
        own = f"{self.side}_features"
        of_side = image_features if self.side == "image" else text_features
        if features is not None and of_side is not None:
            raise make_array_error("features", f"given beside `{own}`", "one of the two")
        features = of_side if features is None else features
        for name, given in ((f"features` or `{own}", features), ("labels", labels), ("attributes", attributes)):
            if given is None:
                raise make_array_error(name, "not given", "an array with a row for each embedding")
        rows = convert_embeddings_to_array("features", features)
        for name, words in (("labels", labels), ("attributes", attributes)):
            _require_class_numbers(name, words)
        objects, factors = (
            convert_labels_to_array("labels", labels),
            convert_attributes_to_array("attributes", attributes),
        )
        check_integers_per_row("labels", objects, len(rows), "embedding")
        check_integers_per_row("attributes", factors, len(rows), "embedding", columns=True)
        for name, numbers in (
            ("labels", objects),
            *(("attributes", each) for each in factors.reshape(len(rows), -1).T),
        ):
            check_index_range(name, numbers, LABEL_LIMIT, "class numbers from 0 on")
        sums = BiasSums.of(normalise_rows(rows, "features"), objects, factors)
        counts, totals = zip(*map(_expand_label_sums, sums.by_factor), strict=True)
        object_counts, object_totals = _expand_label_sums(sums.by_object)
        return {
            "bias_squares": np.array([sums.by_object.squares]),
            "object_counts": object_counts,
            "object_totals": object_totals,
            "attribute_counts": _stack_padded(counts),
            "attribute_totals": _stack_padded(totals),
        }

    def compute_metrics(self, states: States) -> dict[str, float]:
        """Return the metrics that follow from the states."""
        require_rows("ObjectBias", float(states["object_counts"].sum()))
        squares = float(states["bias_squares"][0])
        factors = zip(states["attribute_counts"], states["attribute_totals"], strict=True)
        by_object = _collect_label_sums(states["object_counts"], states["object_totals"], squares)
        by_factor = tuple(_collect_label_sums(*factor, squares) for factor in factors)
        return BiasSums(by_object, by_factor).metrics(self.side)


class Entropy(Accumulator):
    """Accumulate images and texts, and compute the entropies of their softmax over the whole gallery.

    Every row is kept in float32: 2 KB for a width of 512. Source: arXiv 2404.07983, sec. 6.
    """

    empty: ClassVar[States] = {name: np.zeros((0, 0), np.float32) for name in ("image_rows", "text_rows")}
    width_state = "image_rows"

    def __init__(self, logit_scale: float) -> None:
        """Take the logit scale, one over the temperature; raise InputError for what is none."""
        scales = parse_logit_scales(logit_scale)
        if scales is None or len(scales) != 1:
            raise InputError(f"`logit_scale`: found {logit_scale!r}; expected one number, such as 100")
        super().__init__()
        self.logit_scale = scales[0]

    def update(self, image_features: object, text_features: object) -> None:
        """Add a batch of images (B, D) and texts (C, D), of any norm, to the gallery."""
        self._states = self.combine(self._states, self.sum_batch(image_features, text_features))

    def sum_batch(self, image_features: object, text_features: object) -> States:
        """Return the states of one batch."""
        image, text = (
            convert_embeddings_to_array("image_features", image_features),
            convert_embeddings_to_array("text_features", text_features),
        )
        check_embedding_shape("text_features", text, image.shape[1])
        return {
            "image_rows": normalise_rows_float32(image, "image_features"),
            "text_rows": normalise_rows_float32(text, "text_features"),
        }

    @staticmethod
    def join(one: Floats, other: Floats) -> Floats:
        """Join a state of two accumulators: the rows of both."""
        return other if not one.size else one if not other.size else np.concatenate([one, other])

    def compute_metrics(self, states: States) -> dict[str, float]:
        """Return the entropies, and the size of the gallery."""
        from gapctl.metrics.entropy import compute_mean_entropy

        image, text = states["image_rows"], states["text_rows"]
        require_rows("Entropy", min(len(image), len(text)))
        i2t, t2i = (compute_mean_entropy(*clouds, self.logit_scale) for clouds in ((image, text), (text, image)))
        return {
            "entropy/gallery": float(len(text)),
            "entropy/i2t_nats": i2t,
            "entropy/t2i_nats": t2i,
            "entropy/i2t_normalized": i2t / math.log(len(text)),
        }


def require_rows(name: str, count: float) -> None:
    """Raise InputError for fewer than two rows, of which no metric is defined."""
    if count < 2:
        raise InputError(
            f"gapctl.{name}.compute: {int(count)} rows were added; expected at least 2. Call update with a batch first"
        )


def _require_class_numbers(name: str, value: object) -> None:
    """Raise InputError for words: numbering them batch by batch would give one word several numbers."""
    if isinstance(value, Mapping) or hasattr(value, "columns"):
        raise make_array_error(
            name,
            f"a {type(value).__name__}",
            "an array of class numbers",
            "Stack its columns, always in one order",
        )
    if convert_to_numpy_array(name, value).dtype.kind in "US":
        raise make_array_error(
            name, "words", "class numbers from 0 on", "Number the classes once, and give every batch those numbers"
        )


def _expand_label_sums(sums: LabelSums) -> tuple[Array, Array]:
    """Return counts (K,) and totals (K, D) with a row for each label from 0 on."""
    labels = int(sums.label_K[-1]) + 1
    counts, totals = np.zeros(labels), np.zeros((labels, sums.total_KD.shape[1]))
    counts[sums.label_K], totals[sums.label_K] = sums.count_K, sums.total_KD
    return counts, totals


def _collect_label_sums(counts: Floats, totals: Floats, squares: float) -> LabelSums:
    """Return the sums of the labels that occurred."""
    labels = np.flatnonzero(counts)
    return LabelSums(labels, counts[labels].astype(np.int64), totals[labels].astype(np.float64), squares)


def _stack_padded(arrays: tuple[Array, ...]) -> Array:
    """Stack arrays, padded with zeros to the largest shape."""
    shape = np.max([array.shape for array in arrays], axis=0)
    return np.stack([add_padded(array, np.zeros(shape)) for array in arrays])
