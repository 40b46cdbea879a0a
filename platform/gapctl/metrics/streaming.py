"""Compute the metrics that reduce to sums, in one pass over any number of embeddings and in bounded memory.

1. `EmbeddingStream` takes blocks of pairs in any floating-point type; streams of several workers merge in any order.
2. `sum_block` normalises a block and adds it up in float64, in pieces that stay in the cache.
3. `EmbeddingSums` holds the sums and names the metrics that follow from them.
4. `sum_embeddings` does all of it for embeddings in memory.

Metrics that compare rows with each other (entropies, recall, neighbours, probes) need a sample that fits in memory: see
`suite.measure_with_samples`.

Index letters: N images, M texts, P pairs, C classes, D embedding, B rows of a block or piece, K labels, J a row of ones
and one row per label.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import add
from typing import Final, NamedTuple

import numpy as np

from gapctl.metrics.bias import BiasSums, LabelSums
from gapctl.metrics.checks import Integers, Rows, check_row_norms
from gapctl.metrics.classification import AccuracyCount, ClassPrompts
from gapctl.metrics.embedding_set import Embeddings, normalise_rows
from gapctl.metrics.gap import (
    Array,
    CloudSums,
    GapSums,
    MatchedSums,
    Sums,
    compute_top_dimensions_share,
    count_dimensions_for_share,
)
from gapctl.metrics.geometry import SecondMoments, effective_rank, smallest_principal_angle

CACHE_BYTES: Final = 1 << 20
"""Size of one modality's piece in float64."""
CLOSE_DISTANCE: Final = 1e-4
"""A squared distance below this is computed from the rows, as from a cosine it would lose its digits."""
MANY_LABELS: Final = 64
"""With more labels than this the block is sorted by label, since a product with indicators would mostly add zeros."""

STREAM_BLOCK: Final = 65_536


@dataclass(frozen=True)
class EmbeddingSums(Sums):
    """The sums of one set of embeddings; None for those that its input does not have."""

    gap: GapSums
    image_moments: SecondMoments | None = field(default=None, metadata={"meaning": "second moments"})
    text_moments: SecondMoments | None = field(default=None, metadata={"meaning": "second moments"})
    image_bias: BiasSums | None = field(default=None, metadata={"meaning": "labels of images"})
    text_bias: BiasSums | None = field(default=None, metadata={"meaning": "labels of texts"})
    accuracy: AccuracyCount | None = field(default=None, metadata={"meaning": "classes"})

    def metrics(self) -> dict[str, float]:
        """Return the metrics by name."""
        gap, difference_D = self.gap, self.gap.mean_difference_D
        metrics = {
            "gap/l2m": gap.l2m(),
            "gap/l2i": gap.l2i(),
            "gap/rmg": gap.rmg(),
            "gap/rmg_with_diagonal": gap.rmg_with_diagonal(),
            "gap/rmg_shifted": gap.rmg_shifted(),
            "gap/temperature_gain": gap.temperature_gain(),
            "gap/centroid_share": gap.centroid_share(),
            **{f"gap/top{count}_share": compute_top_dimensions_share(difference_D, count) for count in (1, 3, 10)},
            "gap/dims_for_half": float(count_dimensions_for_share(difference_D, 0.5)),
            "gap/dims_for_90": float(count_dimensions_for_share(difference_D, 0.9)),
            "geometry/alignment": gap.alignment(),
        }
        if self.image_moments is not None and self.text_moments is not None:
            metrics |= {
                "geometry/effective_rank_image": effective_rank(self.image_moments),
                "geometry/effective_rank_text": effective_rank(self.text_moments),
                "geometry/principal_angle_min": smallest_principal_angle(self.image_moments, self.text_moments),
            }
        for side, sums in (("image", self.image_bias), ("text", self.text_bias)):
            if sums is not None:
                metrics |= sums.metrics(side)
        if self.image_bias is not None and self.text_bias is not None:
            metrics["bias/moad_image_less_text"] = metrics["bias/moad_image"] - metrics["bias/moad_text"]
        if self.accuracy is not None:
            metrics["quality/object_accuracy"] = self.accuracy.percent()
        return metrics


class EmbeddingStream:
    """Accumulates blocks of matched pairs; `compute` returns the metrics of all that was added or merged.

    `second_moments` adds effective ranks and the principal angle, which cost D times as much as everything else.
    """

    def __init__(self, *, second_moments: bool = True) -> None:
        self._second_moments = second_moments
        self._sums: EmbeddingSums | None = None

    def update(self, block: Embeddings) -> None:
        """Add a block of any length; its `text_to_image_M` counts the block's own images.

        Labels, attributes and classes must be in all blocks or in none. Raise ValueError for class prompts as texts,
        which are not pairs: pass them as `class_CD`.
        """
        if block.prompt_of_N is not None or block.bias_image_ND is not None:
            raise ValueError("a stream takes pairs; give class prompts as `class_CD`, and one cloud of images")
        self._add_sums(sum_block(block, second_moments=self._second_moments))

    def merge(self, other: "EmbeddingStream") -> None:
        """Add all blocks of another stream."""
        if other._sums is not None:
            self._add_sums(other._sums)

    def sums(self) -> EmbeddingSums:
        """Return the sums, for quantities without a metric's name. Raise ValueError if nothing was added."""
        if self._sums is None:
            raise ValueError("nothing was added to the stream")
        return self._sums

    def compute(self) -> dict[str, float]:
        """Return the metrics by name. Raise ValueError if nothing was added."""
        return self.sums().metrics()

    def _add_sums(self, sums: EmbeddingSums) -> None:
        self._sums = sums if self._sums is None else self._sums + sums


def get_normalised_class_prompts(embeddings: Embeddings) -> ClassPrompts | None:
    """Return the class prompts of a set of embeddings, normalised, or None if it has none."""
    if embeddings.prompt_of_N is not None:
        return ClassPrompts(normalise_rows(embeddings.text_MD), embeddings.prompt_of_N)
    if embeddings.class_CD is not None and embeddings.labels_N is not None:
        return ClassPrompts(normalise_rows(embeddings.class_CD), embeddings.labels_N)
    return None


def sum_embeddings(embeddings: Embeddings) -> EmbeddingSums:
    """Return the sums of embeddings in memory: block by block if row i of both is a pair, else of all rows at once."""
    unmatched = (embeddings.text_to_image_M, embeddings.prompt_of_N, embeddings.bias_image_ND)
    if any(each is not None for each in unmatched):
        return _sum_all_rows(embeddings)
    stream = EmbeddingStream()
    labels_N, attributes_NF = embeddings.labels_N, embeddings.attributes_NF
    for start in range(0, len(embeddings.image_ND), STREAM_BLOCK):
        rows = slice(start, start + STREAM_BLOCK)
        block = replace(
            embeddings,
            image_ND=embeddings.image_ND[rows],
            text_MD=embeddings.text_MD[rows],
            labels_N=None if labels_N is None else labels_N[rows],
            attributes_NF=None if attributes_NF is None else attributes_NF[rows],
        )
        stream.update(block)
    return stream.sums()


def _sum_all_rows(embeddings: Embeddings) -> EmbeddingSums:
    image_ND, text_MD = normalise_rows(embeddings.image_ND), normalise_rows(embeddings.text_MD)
    classes = get_normalised_class_prompts(embeddings)
    if embeddings.prompt_of_N is None:
        gap = GapSums.of(image_ND, text_MD, embeddings.text_to_image_M)
    else:
        matched = MatchedSums.of(image_ND, text_MD[embeddings.prompt_of_N])
        gap = GapSums(CloudSums.of(image_ND), CloudSums.of(text_MD), matched)
    bias = None
    if embeddings.labels_N is not None and embeddings.attributes_NF is not None:
        biased_ND = image_ND if embeddings.bias_image_ND is None else normalise_rows(embeddings.bias_image_ND)
        bias = BiasSums.of(biased_ND, embeddings.labels_N, embeddings.attributes_NF)
    return EmbeddingSums(
        gap=gap,
        image_moments=SecondMoments.of(image_ND),
        text_moments=SecondMoments.of(text_MD),
        image_bias=bias,
        accuracy=AccuracyCount.of(image_ND, classes.class_N, classes.prompt_CD) if classes else None,
    )


class _PieceRows(NamedTuple):
    """A piece's rows in float64 (B, D), and one over the norm of each (B,)."""

    wide_BD: Array
    inverse_B: Array

    def scale_to_unit(self, some: Integers | slice) -> Array:
        unit_BD: Array = self.wide_BD[some] * self.inverse_B[some, None]
        return unit_BD


class _LabelKind(NamedTuple):
    """One kind of label: the block's labels in ascending order (K,), and each row's label (B,)."""

    label_K: Integers
    label_B: Integers

    @property
    def many(self) -> bool:
        return len(self.label_K) > MANY_LABELS


@dataclass(frozen=True)
class _PieceSums(Sums):
    """The sums of a piece, and by label for each kind with few labels; text labels only for pairs one to one."""

    sums: EmbeddingSums
    image_labels: tuple[LabelSums, ...]
    text_labels: tuple[LabelSums, ...]


def sum_block(block: Embeddings, *, second_moments: bool) -> EmbeddingSums:
    """Return the sums over a block of pairs of any floating-point type; rows are normalised on the way."""
    one_to_one = block.text_to_image_M is None
    kinds: list[_LabelKind] = []  # objects, then each factor's attributes
    if block.labels_N is not None and block.attributes_NF is not None:
        columns = [block.labels_N, *block.attributes_NF.reshape(len(block.labels_N), -1).T]
        kinds = [_LabelKind(np.unique(column_B), column_B) for column_B in columns]
    few = [kind for kind in kinds if not kind.many]
    count, width = block.image_ND.shape
    rows = max(1, CACHE_BYTES // (8 * width)) if one_to_one else count
    pieces = (slice(start, min(start + rows, count)) for start in range(0, count, rows))
    total = reduce(add, (_sum_piece(block, few, piece, second_moments=second_moments) for piece in pieces))
    if not kinds:
        return total.sums
    image_bias = _sum_bias(block.image_ND, kinds, iter(total.image_labels))
    text_bias = _sum_bias(block.text_MD, kinds, iter(total.text_labels)) if one_to_one else None
    return replace(total.sums, image_bias=image_bias, text_bias=text_bias)


def _sum_piece(block: Embeddings, kinds: list[_LabelKind], rows: slice, *, second_moments: bool) -> _PieceSums:
    one_to_one = block.text_to_image_M is None
    image = _widen_rows("image", block.image_ND, rows)
    text = _widen_rows("text", block.text_MD, rows if one_to_one else slice(None))
    mine = [_LabelKind(kind.label_K, kind.label_B[rows]) for kind in kinds]
    image_cloud, image_labels = _sum_clouds(image, mine)
    text_cloud, text_labels = _sum_clouds(text, mine if one_to_one else [])
    matched = _sum_matched_pairs(image, text, block.text_to_image_M)
    owner_D = image_cloud.total_D if one_to_one else _sum_owners(image, block.text_to_image_M)
    difference_D = owner_D - text_cloud.total_D
    sums = EmbeddingSums(
        gap=GapSums(image_cloud, text_cloud, replace(matched, difference_D=difference_D)),
        image_moments=SecondMoments.of(image.scale_to_unit(slice(None))) if second_moments else None,
        text_moments=SecondMoments.of(text.scale_to_unit(slice(None))) if second_moments else None,
        accuracy=(
            None
            if block.class_CD is None or block.labels_N is None
            else AccuracyCount.of(image.wide_BD, block.labels_N[rows], block.class_CD)
        ),
    )
    return _PieceSums(sums, image_labels, text_labels)


def _widen_rows(name: str, cloud_ND: Rows, rows: slice) -> _PieceRows:
    wide_BD = cloud_ND[rows].astype(np.float64)
    squared_B = _compute_row_products(wide_BD, wide_BD)
    if not (np.isfinite(squared_B) & (squared_B > 0)).all():
        check_row_norms(name, cloud_ND)
    return _PieceRows(wide_BD, 1 / np.sqrt(squared_B))


def _sum_clouds(rows: _PieceRows, kinds: list[_LabelKind]) -> tuple[CloudSums, tuple[LabelSums, ...]]:
    """Return the sum of the unit rows and their sums by each kind of label, from a single product."""
    count = len(rows.wide_BD)
    members = [kind.label_K[:, None] == kind.label_B for kind in kinds]
    indicator_JB = np.concatenate([np.ones((1, count)), *members]) * rows.inverse_B
    totals = np.split(indicator_JB @ rows.wide_BD, np.cumsum([1, *map(len, members)])[:-1])
    labels = (
        LabelSums(kind.label_K, member_KB.sum(axis=1), total_KD, float(count))
        for kind, member_KB, total_KD in zip(kinds, members, totals[1:], strict=True)
    )
    return CloudSums(count, totals[0][0], float(count)), tuple(labels)


def _sum_matched_pairs(image: _PieceRows, text: _PieceRows, text_to_image_M: Integers | None) -> MatchedSums:
    if text_to_image_M is not None:
        image = _PieceRows(image.wide_BD[text_to_image_M], image.inverse_B[text_to_image_M])
    cosine_P = _compute_row_products(image.wide_BD, text.wide_BD) * image.inverse_B * text.inverse_B
    squared_P = 2 - 2 * cosine_P
    close_P = np.flatnonzero(squared_P < CLOSE_DISTANCE)
    squared_P[close_P] = np.square(image.scale_to_unit(close_P) - text.scale_to_unit(close_P)).sum(axis=1)
    return MatchedSums(len(cosine_P), float(cosine_P.sum()), float(np.sqrt(squared_P).sum()))


def _sum_owners(image: _PieceRows, text_to_image_M: Integers | None) -> Array:
    """Return the sum over texts of the unit row of their image (D,)."""
    count_N = np.bincount(np.asarray(text_to_image_M), minlength=len(image.wide_BD))
    total_D: Array = (count_N * image.inverse_B) @ image.wide_BD
    return total_D


def _compute_row_products(one_PD: Array, other_PD: Array) -> Array:
    """Return row by row inner products (P,); as matrix products, which are three times as fast as einsum."""
    product_P11: Array = one_PD[:, None, :] @ other_PD[:, :, None]
    return product_P11[:, 0, 0]


def _sum_bias(cloud_BD: Rows, kinds: list[_LabelKind], of_few: Iterator[LabelSums]) -> BiasSums:
    unit_BD = normalise_rows(cloud_BD) if any(kind.many for kind in kinds) else None
    sums = [next(of_few) if unit_BD is None or not kind.many else LabelSums.of(unit_BD, kind.label_B) for kind in kinds]
    return BiasSums(sums[0], tuple(sums[1:]))
