"""Resample held-out images and captions in pairs, and compute intervals that hold for all interventions at once.

1. `derive_resampling_units` decides which units are drawn; each `Statistic` computes measures from the units' weights.
2. `bootstrap_measures` computes all statistics of all states under the same resamples.
3. `compute_simultaneous_intervals` turns the changes between two states into a maximum-t band.

Index letters: R resamples (or rows), B a block of them, N things of one kind, M texts, U units (images, then captions),
J interventions, I items, K measures, P pairs, C clusters or labels, D embedding.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import numpy as np

from gapctl.interventions.fit import EmbeddingClouds
from gapctl.metrics.checks import Integers
from gapctl.metrics.embedding_set import Embeddings
from gapctl.metrics.gap import Array, compute_relative_gap

RESAMPLES: Final = 1000
CONFIDENCE_LEVEL: Final = 0.95
BLOCK_NUMBERS: Final = 4_000_000
"""Weights held at a time: 32 MB of them."""

_MATCHED_COSINE = "matched cosine"


class ResamplingUnits(NamedTuple):
    """The units of resampling: the numbers of images and shared captions, each text's image, and each text's unit."""

    images: int
    captions: int
    image_of_text_M: Integers
    unit_of_text_M: Integers

    @property
    def total(self) -> int:
        """The number of all units."""
        return self.images + self.captions


def derive_resampling_units(embeddings: Embeddings) -> ResamplingUnits:
    """Return the units of resampling. Texts are drawn with their image, or with their caption if captions are shared.

    Class prompts are never drawn.
    """
    images, texts = len(embeddings.image_ND), len(embeddings.text_MD)
    image_M = np.arange(texts) if embeddings.text_to_image_M is None else embeddings.text_to_image_M
    if embeddings.text_group_M is None or embeddings.prompt_of_N is not None:
        return ResamplingUnits(images, 0, image_M, image_M)
    caption_M = np.unique(embeddings.text_group_M, return_inverse=True)[1]
    captions = int(caption_M.max()) + 1
    if captions == texts:
        return ResamplingUnits(images, 0, image_M, image_M)
    return ResamplingUnits(images, captions, image_M, images + caption_M)


class Statistic(Protocol):
    """Measures of the held-out images as functions of the units' weights."""

    def values(self, weight_BU: Array) -> Mapping[str, Array]:
        """Return each measure under each row of weights, (B,), by its name."""

    def drawn(self) -> Mapping[str, int]:
        """Return the number of units that each measure depends on."""


class ItemValues(NamedTuple):
    """Values of items such as queries (I,), and the unit that each item is drawn with (I,).

    `share_I` weighs the items in the mean; without it all weigh the same.
    """

    value_I: Array
    unit_I: Integers
    share_I: Array | None = None


@dataclass(frozen=True)
class ItemMeans:
    """Measures that are means over items: per unit the weighted sum of its items' values and their weight, (U, K)."""

    keys: tuple[str, ...]
    total_UK: Array
    count_UK: Array

    @classmethod
    def of(cls, items: Mapping[str, ItemValues], units: int) -> "ItemMeans":
        """Return the sums per unit for the items of each measure."""
        shares = [np.ones(len(one.value_I)) if one.share_I is None else one.share_I for one in items.values()]
        both = list(zip(items.values(), shares, strict=True))
        total = [np.bincount(one.unit_I, share_I * one.value_I, minlength=units) for one, share_I in both]
        count = [np.bincount(one.unit_I, share_I, minlength=units) for one, share_I in both]
        return cls(tuple(items), np.stack(total, axis=1), np.stack(count, axis=1))

    def values(self, weight_BU: Array) -> dict[str, Array]:
        """Return the weighted means."""
        mean_BK = (weight_BU @ self.total_UK) / (weight_BU @ self.count_UK)
        return dict(zip(self.keys, mean_BK.T, strict=True))

    def drawn(self) -> dict[str, int]:
        """Return the number of units with items, by measure."""
        return dict(zip(self.keys, map(int, (self.count_UK > 0).sum(axis=0)), strict=True))


class BootstrapValues(NamedTuple):
    """A measure of the held-out images, and of each resample (R,)."""

    value: float
    value_R: Array


class ChangeInterval(NamedTuple):
    """A change with its simultaneous confidence interval."""

    change: float
    low: float
    high: float


def bootstrap_measures(
    judged: Sequence[Sequence[Statistic]], images: int, captions: int, seed: int, resamples: int = RESAMPLES
) -> list[dict[str, BootstrapValues]]:
    """Return every measure of every state; all states see the same resamples of their common units, so they are paired.

    A resample draws as many images as there are images, and as many shared captions as there are.
    """
    whole = [_collect_values(statistics, np.ones((1, images + captions))) for statistics in judged]
    blocks: list[list[dict[str, Array]]] = [[] for _ in judged]
    for weight_BN in _draw_weights(images, captions, seed, resamples):
        for resampled, statistics in zip(blocks, judged, strict=True):
            resampled.append(_collect_values(statistics, weight_BN))
    return [
        {
            key: BootstrapValues(float(value[0]), np.concatenate([block[key] for block in resampled]))
            for key, value in one.items()
        }
        for one, resampled in zip(whole, blocks, strict=True)
    ]


def compute_simultaneous_intervals(
    before: BootstrapValues, after_J: Sequence[BootstrapValues], least_J: Array, level: float = CONFIDENCE_LEVEL
) -> list[ChangeInterval]:
    """Return intervals that hold for all changes together with confidence `level`, so that the best is not overrated.

    Half an interval is the bootstrap's standard error times the quantile of the largest studentised deviation over the
    interventions (the maximum-t band). If all resamples agree on a change, half of its interval is `least_J`.
    """
    if not after_J:
        return []
    change_J = np.array([after.value for after in after_J]) - before.value
    change_JR = np.stack([after.value_R - before.value_R for after in after_J])
    # A resampled norm is longer than the norm on average; deviations are taken from the resamples' own mean.
    deviation_JR = change_JR - change_JR.mean(axis=1, keepdims=True)
    error_J = deviation_JR.std(axis=1, ddof=1)
    studentised_JR = np.abs(deviation_JR) / np.where(error_J > 0, error_J, np.inf)[:, None]
    widest = float(np.quantile(studentised_JR.max(axis=0), level))
    half_J = np.where(error_J > 0, widest * error_J, least_J)
    return [
        ChangeInterval(float(change), float(change - half), float(change + half))
        for change, half in zip(change_J, half_J, strict=True)
    ]


def _draw_weights(images: int, captions: int, seed: int, resamples: int) -> Iterator[Array]:
    """Yield each unit's number of draws (B, U), in blocks of bounded size."""
    rng = np.random.Generator(np.random.Philox(seed))
    most = max(1, BLOCK_NUMBERS // (images + captions))
    for start in range(0, resamples, most):
        rows = min(most, resamples - start)
        numbers = []
        for count in filter(None, (images, captions)):
            drawn_BN = rng.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
            numbers.append(np.bincount(drawn_BN.ravel(), minlength=rows * count).reshape(rows, count))
        yield np.hstack(numbers).astype(np.float64)


def _collect_values(statistics: Sequence[Statistic], weight_BN: Array) -> dict[str, Array]:
    return {key: value_B for statistic in statistics for key, value_B in statistic.values(weight_BN).items()}


@dataclass(frozen=True)
class GapStatistic:
    """The measures gap/l2m and gap/rmg of L2-normalised clouds.

    `image_of_text_M` is the image that each text is drawn with; None if texts are prompts, which are never drawn. A row
    drawn twice makes no pair with itself, which would lower the spread within a modality.
    """

    clouds: EmbeddingClouds
    image_of_text_M: Integers | None
    matched: ItemMeans

    @classmethod
    def of(
        cls, clouds: EmbeddingClouds, image_of_text_M: Integers | None, prompt_of_N: Integers | None
    ) -> "GapStatistic":
        """Return the statistic of clouds; `prompt_of_N` gives each image's prompt if the texts are class prompts."""
        image_ND, text_MD = clouds
        if prompt_of_N is not None:
            drawn_P, text_P = np.arange(len(image_ND)), prompt_of_N
        else:
            drawn_P = np.arange(len(text_MD)) if image_of_text_M is None else image_of_text_M
            text_P = np.arange(len(text_MD))
        cosine_P = np.einsum("pd,pd->p", image_ND[drawn_P], text_MD[text_P])
        matched = ItemMeans.of({_MATCHED_COSINE: ItemValues(cosine_P, drawn_P)}, len(image_ND))
        return cls(clouds, None if prompt_of_N is not None else drawn_P, matched)

    def values(self, weight_BU: Array) -> dict[str, Array]:
        """Return both measures under each row of weights (B,).

        Texts are drawn with their images, even if they share a caption.
        """
        weight_BN = weight_BU[:, : len(self.clouds.image_ND)]
        prompts = self.image_of_text_M is None
        weight_BM = np.ones((1, len(self.clouds.text_MD))) if prompts else weight_BN[:, self.image_of_text_M]
        image_mean_BD, within_image_B = _summarise_cloud(self.clouds.image_ND, weight_BN)
        text_mean_BD, within_text_B = _summarise_cloud(self.clouds.text_MD, weight_BM)
        matched_B = self.matched.values(weight_BN)[_MATCHED_COSINE]
        return {
            "gap/l2m": np.linalg.norm(image_mean_BD - text_mean_BD, axis=1),
            "gap/rmg": compute_relative_gap(matched_B, within_image_B, within_text_B),
        }

    def drawn(self) -> dict[str, int]:
        """Return the number of images for both measures."""
        return dict.fromkeys(("gap/l2m", "gap/rmg"), len(self.clouds.image_ND))


def _summarise_cloud(row_RD: Array, weight_BR: Array) -> tuple[Array, Array]:
    """Return the mean of weighted rows (B, D), and their mean cosine over pairs of different rows (B,)."""
    sum_BD, weight_B = weight_BR @ row_RD, weight_BR.sum(axis=1)
    own_B = np.square(weight_BR) @ np.square(row_RD).sum(axis=1)
    pairs_B = weight_B**2 - np.square(weight_BR).sum(axis=1)
    return sum_BD / weight_B[:, None], (np.square(sum_BD).sum(axis=1) - own_B) / pairs_B


@dataclass(frozen=True)
class BiasStatistic:
    """The measure bias/moad_text of L2-normalised texts, one per image, by their images' labels.

    The first of `labels` are objects, each other is an attribute. A row drawn twice makes no pair with itself.
    """

    text_ND: Array
    labels: tuple[Integers, ...]

    def values(self, weight_BU: Array) -> dict[str, Array]:
        """Return object bias as `metrics.bias.moad` does; 0 for a kind of label that leaves nothing to compare."""
        weight_BN = weight_BU[:, : len(self.text_ND)]
        own_B = np.square(weight_BN) @ np.square(self.text_ND).sum(axis=1)
        alone_B = np.square(weight_BN).sum(axis=1)
        every_B = np.square(weight_BN @ self.text_ND).sum(axis=1) - own_B
        pairs_B = weight_BN.sum(axis=1) ** 2 - alone_B
        margins = []
        for label_N in self.labels:
            same_B, count_B = -own_B, -alone_B
            for label in np.unique(label_N):
                row_S = np.flatnonzero(label_N == label)
                weight_BS = weight_BN[:, row_S]
                same_B = same_B + np.square(weight_BS @ self.text_ND[row_S]).sum(axis=1)
                count_B = count_B + weight_BS.sum(axis=1) ** 2
            margins.append(_divide(same_B, count_B) - _divide(every_B - same_B, pairs_B - count_B))
        return {"bias/moad_text": margins[0] - np.mean(margins[1:], axis=0)}

    def drawn(self) -> dict[str, int]:
        """Return the number of images."""
        return {"bias/moad_text": len(self.text_ND)}


def _divide(sum_B: Array, count_B: Array) -> Array:
    """Return the means (B,), 0 where nothing is counted."""
    return np.where(count_B > 0, sum_B / np.where(count_B > 0, count_B, 1), 0)


@dataclass(frozen=True)
class ClusterStatistic:
    """The measure quality/v_measure of rows with known clusters, labels and units.

    Rows are sorted by their pair of cluster and label; `start_P` is each pair's first row.
    """

    unit_R: Integers
    start_P: Integers
    cluster_P: Integers
    label_P: Integers

    @classmethod
    def of(cls, cluster_R: Integers, label_R: Integers, unit_R: Integers) -> "ClusterStatistic":
        """Return the statistic of rows with their clusters, labels and the units they are drawn with, (R,) each."""
        cluster_R, label_R = (np.unique(each_R, return_inverse=True)[1] for each_R in (cluster_R, label_R))
        pair_R = cluster_R * (label_R.max() + 1) + label_R
        order_R = np.argsort(pair_R, kind="stable")
        start_P = np.unique(pair_R[order_R], return_index=True)[1]
        return cls(unit_R[order_R], start_P, cluster_R[order_R][start_P], label_R[order_R][start_P])

    def values(self, weight_BU: Array) -> dict[str, Array]:
        """Return the V-measure as `metrics.clustering.v_measure` does, but 0 if all drawn labels are equal."""
        count_BP = np.add.reduceat(weight_BU[:, self.unit_R], self.start_P, axis=1)
        of_clusters_B, of_labels_B = (
            _compute_kind_entropy(count_BP, kind_P) for kind_P in (self.cluster_P, self.label_P)
        )
        both_B = of_clusters_B + of_labels_B
        shared_B = np.maximum(both_B - _compute_entropy(count_BP), 0)
        return {"quality/v_measure": np.where(of_labels_B > 0, 2 * shared_B / np.where(both_B > 0, both_B, 1), 0)}

    def drawn(self) -> dict[str, int]:
        """Return the number of units with rows."""
        return {"quality/v_measure": len(np.unique(self.unit_R))}


def _compute_kind_entropy(count_BP: Array, kind_P: Integers) -> Array:
    """Return the entropy of the clusters' or labels' summed weights (B,), in nats."""
    order_P = np.argsort(kind_P, kind="stable")
    start_C = np.unique(kind_P[order_P], return_index=True)[1]
    return _compute_entropy(np.add.reduceat(count_BP[:, order_P], start_C, axis=1))


def _compute_entropy(count_BC: Array) -> Array:
    """Return the entropy of each row of counts (B,), in nats."""
    share_BC = count_BC / count_BC.sum(axis=1, keepdims=True)
    logarithm_BC = np.log(share_BC, where=share_BC > 0, out=np.zeros_like(share_BC))
    entropy_B: Array = -(share_BC * logarithm_BC).sum(axis=1)
    return entropy_B
