"""Compute the metrics that reduce to sums, in one pass over any number of embeddings and in bounded memory.

1. `EmbeddingStream` takes blocks of pairs in any floating-point type; streams of several workers merge in any order.
2. `sum_block` normalises a block and adds it up in float64, in pieces that stay in the cache. `_sum_large_block` does
   so with fewer passes over the rows where no second moments are asked for.
3. `EmbeddingSums` holds the sums and names the metrics that follow from them.
4. `sum_embeddings` does all of it for embeddings in memory.

Metrics that compare rows with each other (entropies, recall, neighbours, probes) need a sample that fits in memory: see
`suite.measure_with_samples`.

Index letters: N images, M texts, P pairs, C classes, D embedding, B rows of a block or piece, K labels, J a row of ones
and one row per label, T combinations of labels.
"""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial, reduce
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
from gapctl.metrics.unit_rows import release_pages

CACHE_BYTES: Final = 1 << 20
"""Size of one modality's piece in float64."""
CLOSE_DISTANCE: Final = 1e-4
"""A squared distance below this is computed from the rows, as from a cosine it would lose its digits."""
MANY_LABELS: Final = 64
"""With more labels than this the block is sorted by label, since a product with indicators would mostly add zeros."""

STREAM_BLOCK: Final = 65_536
LEAST_LARGE_BLOCK: Final = 4_096
"""Rows of a block from which on its label sums may be added in another order, which changes their last bits."""
MANY_COMBINATIONS: Final = 256
"""With more combinations of labels than this their sums no longer stay in the cache."""
CLOSE_LABELS: Final = 1 << 14
"""Labels that span less than this are numbered without being sorted."""


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
        release_pages(embeddings.image_ND)
        release_pages(embeddings.text_MD)
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
    large = len(block.image_ND) >= LEAST_LARGE_BLOCK and one_to_one and block.class_CD is None
    if large and not second_moments and (combinations := _combine_labels(block)) is not None:
        return _sum_large_block(block, combinations)
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


class _LabelCombinations(NamedTuple):
    """Each row's combination of labels (B,), counted from 0.

    For each kind of label there are its values in ascending order (K,), and the place among these of each combination's
    value (T,). Without labels there is one combination and no kind.
    """

    row_B: Integers
    combinations: int
    kinds: tuple[tuple[Integers, Integers], ...]


def _combine_labels(block: Embeddings) -> _LabelCombinations | None:
    """Return the combinations of a block's labels, or None if they are too many."""
    rows = len(block.image_ND)
    if block.labels_N is None or block.attributes_NF is None:
        return _LabelCombinations(np.zeros(rows, np.int64), 1, ())
    numbered = [_number_labels(column_B) for column_B in (block.labels_N, *block.attributes_NF.reshape(rows, -1).T)]
    sizes = tuple(len(label_K) for label_K, _ in numbered)
    combinations = math.prod(sizes)
    if combinations > MANY_COMBINATIONS:
        return None
    row_B = np.ravel_multi_index(tuple(place_B for _, place_B in numbered), sizes)
    place_KT = np.unravel_index(np.arange(combinations), sizes)
    kinds = tuple((label_K, place_T) for (label_K, _), place_T in zip(numbered, place_KT, strict=True))
    return _LabelCombinations(row_B.astype(np.int32), combinations, kinds)


def _number_labels(label_B: Integers) -> tuple[Integers, Integers]:
    """Return the labels in ascending order (K,), and each row's place among them (B,)."""
    least, largest = int(label_B.min()), int(label_B.max())
    if largest - least >= CLOSE_LABELS:
        label_K, place_B = np.unique(label_B, return_inverse=True)
        return label_K, place_B
    present = np.bincount(label_B - least) > 0
    return np.flatnonzero(present) + least, (np.cumsum(present) - 1)[label_B - least]


def _sum_large_block(block: Embeddings, labels: _LabelCombinations) -> EmbeddingSums:
    """Return the sums of a block of pairs, of which each row is widened once and added once.

    The sums are by combination of labels; those by object and by attribute follow. The block's halves are summed side
    by side, on one core as well, so that the last bits do not depend on the machine.
    """
    count = len(block.image_ND)
    products = _RowProducts(np.empty((2, count)), np.empty(count))
    halves = (slice(0, count // 2), slice(count // 2, count))
    sum_half = partial(_sum_half_of_block, block, labels, products)
    with ThreadPoolExecutor(len(halves), "gapctl-sum") as pool:
        try:
            total_2TD = reduce(add, pool.map(sum_half, halves))
        except RuntimeError:  # the interpreter is ending, and starts no threads any more
            total_2TD = reduce(add, map(sum_half, halves))
    clouds = (block.image_ND, block.text_MD)
    for name, cloud_ND, squared_N in zip(("image", "text"), clouds, products.squared_2N, strict=True):
        if not (np.isfinite(squared_N) & (squared_N > 0)).all():
            check_row_norms(name, cloud_ND)
    image, text = (CloudSums(count, total_TD.sum(axis=0), float(count)) for total_TD in total_2TD)
    distance = _sum_distances(block, products.cosine_N)
    matched = MatchedSums(count, float(products.cosine_N.sum()), distance, image.total_D - text.total_D)
    image_bias, text_bias = (_sum_kinds(labels, total_TD) for total_TD in total_2TD)
    return EmbeddingSums(GapSums(image, text, matched), image_bias=image_bias, text_bias=text_bias)


class _RowProducts(NamedTuple):
    """Each row's squared norm (2, N), and each pair's cosine (N,)."""

    squared_2N: Array
    cosine_N: Array


def _sum_half_of_block(block: Embeddings, labels: _LabelCombinations, products: _RowProducts, half: slice) -> Array:
    """Return the sums of half of a block's rows by combination (2, T, D), and write their products.

    Rows are taken in pieces that stay in the cache.
    """
    width = block.image_ND.shape[1]
    total_2TD = np.zeros((2, labels.combinations, width))
    rows = max(1, 2 * CACHE_BYTES // (8 * width))  # a sparse product costs as much as adding a hundred rows
    room_2BD = np.empty((2, min(rows, half.stop - half.start), width))
    with np.errstate(all="ignore"):  # the caller names rows without a direction
        for start in range(half.start, half.stop, rows):
            piece = slice(start, min(start + rows, half.stop))
            wide_2BD = room_2BD[:, : piece.stop - start]
            for side, cloud_ND in enumerate((block.image_ND, block.text_MD)):
                wide_2BD[side] = cloud_ND[piece]
                products.squared_2N[side, piece] = _compute_row_products(wide_2BD[side], wide_2BD[side])
            inverse_2B = 1 / np.sqrt(products.squared_2N[:, piece])
            products.cosine_N[piece] = _compute_row_products(*wide_2BD) * inverse_2B[0] * inverse_2B[1]
            _add_by_combination(total_2TD, wide_2BD, inverse_2B, labels.row_B[piece])
    return total_2TD


def _add_by_combination(total_2TD: Array, wide_2BD: Array, inverse_2B: Array, row_B: Integers) -> None:
    """Add the unit rows of both modalities to the sums of their combination."""
    combinations, rows = total_2TD.shape[1], len(row_B)
    if combinations == 1:
        total_2TD += inverse_2B[:, None, :] @ wide_2BD
        return
    from scipy.sparse import csc_array

    for total_TD, wide_BD, inverse_B in zip(total_2TD, wide_2BD, inverse_2B, strict=True):
        # One entry per column: each row is added where it belongs, and nothing is multiplied by zero.
        total_TD += csc_array((inverse_B, row_B, np.arange(rows + 1)), shape=(combinations, rows)) @ wide_BD


def _sum_distances(block: Embeddings, cosine_N: Array) -> float:
    """Return the sum of the distances of pairs; of close ones from their rows."""
    squared_N = 2 - 2 * cosine_N
    close_P = np.flatnonzero(squared_N < CLOSE_DISTANCE)
    if len(close_P):
        image_PD, text_PD = normalise_rows(block.image_ND[close_P]), normalise_rows(block.text_MD[close_P])
        squared_N[close_P] = np.square(image_PD - text_PD).sum(axis=1)
    return float(np.sqrt(squared_N).sum())


def _sum_kinds(labels: _LabelCombinations, total_TD: Array) -> BiasSums | None:
    """Return the sums by each kind of label from those by combination, or None without labels."""
    if not labels.kinds:
        return None
    count_T = np.bincount(labels.row_B, minlength=labels.combinations)
    sums = []
    for label_K, place_T in labels.kinds:
        member_KT = np.arange(len(label_K))[:, None] == place_T
        sums.append(LabelSums(label_K, member_KT @ count_T, member_KT @ total_TD, float(len(labels.row_B))))
    return BiasSums(sums[0], tuple(sums[1:]))
