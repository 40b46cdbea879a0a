"""By what an intervention is judged on the held-out images: gap, retrieval, search, clustering and classification.

Index letters: N images, M texts, C classes, Q queries, K depths, S sampled rows,
J rows that judge a probe, R rows of both modalities, D embedding.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gapctl.interventions.cluster_statistic import ClusterStatistic
from gapctl.interventions.fitted import Clouds, Fitted
from gapctl.interventions.gap_statistic import GapStatistic
from gapctl.interventions.statistic import ItemMeans, Items, Statistic
from gapctl.interventions.units import Numbers, Units, units_of
from gapctl.metrics.class_prompts import ClassPrompts, ZeroShot
from gapctl.metrics.clustering import k_means
from gapctl.metrics.draws import Draw, some_rows
from gapctl.metrics.effort import THOROUGH
from gapctl.metrics.embedding_set import Embeddings, match_keys, partner_keys, unit_rows
from gapctl.metrics.gap import Array
from gapctl.metrics.mixed_search import Keyed, query_gains
from gapctl.metrics.retrieval import hits
from gapctl.metrics.separability import told_apart
from gapctl.metrics.zeroshot import flips

DEPTHS: Final = (1, 5, 10)
MIXED_DEPTH: Final = 10


def statistics_of(held_out: Embeddings, zero_shot: ZeroShot, fitted: Fitted) -> tuple[Statistic, ...]:
    """All measures that the held-out images allow after an intervention, prompts taken for texts.

    Costly ones look at a seeded sample of large galleries, as `gapctl measure` does. Raises InputError where the
    intervention leaves a row without length.
    """
    clouds = fitted.apply(unit_rows(held_out.image_ND), unit_rows(held_out.text_MD))
    gap = GapStatistic.of(clouds, held_out.text_to_image_M, held_out.prompt_of_N)
    items = dict(_zero_shot(clouds, _questions(held_out, zero_shot), fitted))
    units = units_of(held_out)
    if held_out.prompt_of_N is not None:
        return gap, ItemMeans.of(items, units.total)
    items = _separability(held_out, clouds, units) | _retrieval(held_out, clouds, units) | items
    statistics = (gap, ItemMeans.of(items, units.total))
    if held_out.labels_N is None or len(np.unique(held_out.labels_N)) < 2:
        return statistics
    return *statistics, _clusters(clouds, held_out.labels_N, units)


def _separability(held_out: Embeddings, clouds: Clouds, units: Units) -> dict[str, Items]:
    """Whether the probe was right about each row that judges it; both modalities count the same."""
    image_key_N, text_key_M = partner_keys(held_out)
    told = told_apart(clouds.image_ND, image_key_N, clouds.text_MD, text_key_M, THOROUGH.pairs)
    right_J = np.concatenate([told.image_right_J, told.text_right_J]).astype(np.float64)
    unit_J = np.concatenate([told.image_J, units.unit_of_text_M[told.text_J]])
    share_J = np.concatenate([np.full(len(each_J), 1 / len(each_J)) for each_J in (told.image_J, told.text_J)])
    return {"gap/linear_separability": Items(right_J, unit_J, share_J)}


def _clusters(clouds: Clouds, label_N: Numbers, units: Units) -> ClusterStatistic:
    """k-means over both modalities, as many clusters as there are objects."""
    image_S, text_S = (some_rows(Draw.PAIRS, len(cloud), THOROUGH.pairs) for cloud in clouds)
    row_RD = np.concatenate([clouds.image_ND[image_S], clouds.text_MD[text_S]])
    label_R = label_N[np.concatenate([image_S, units.image_of_text_M[text_S]])]
    found = k_means(row_RD, len(np.unique(label_R)))
    return ClusterStatistic.of(found.cluster_R, label_R, np.concatenate([image_S, units.unit_of_text_M[text_S]]))


def _retrieval(held_out: Embeddings, clouds: Clouds, units: Units) -> dict[str, Items]:
    """Recall both ways in float32, whose rounding moves no rank that means anything; equal captions match."""
    image_key_N, text_key_M = match_keys(held_out)
    image, text = clouds.image_ND.astype(np.float32), clouds.text_MD.astype(np.float32)
    forward_NK = hits(image, text, image_key_N, text_key_M, DEPTHS)
    backward_MK = hits(text, image, text_key_M, image_key_N, DEPTHS)
    return {
        **_recalls("i2t", forward_NK, np.arange(len(image))),
        **_recalls("t2i", backward_MK, units.unit_of_text_M),
        "quality/mixed_ndcg_10": _mixed(Keyed(clouds.image_ND, image_key_N), Keyed(clouds.text_MD, text_key_M), units),
    }


def _mixed(image: Keyed, text: Keyed, units: Units) -> Items:
    """The gain of each query for its matches among images and texts at once; every query has a match."""
    image_Q, text_Q = (some_rows(Draw.QUERIES, len(each.key_N), THOROUGH.queries // 2) for each in (image, text))
    gains = [query_gains(image, image_Q, text, MIXED_DEPTH), query_gains(text, text_Q, image, MIXED_DEPTH)]
    return Items(np.concatenate(gains), np.concatenate([image_Q, units.unit_of_text_M[text_Q]]))


def _recalls(direction: str, hit_QK: NDArray[np.bool_], unit_Q: Numbers) -> dict[str, Items]:
    columns = zip(DEPTHS, hit_QK.T.astype(np.float64), strict=True)
    return {f"quality/{direction}_recall_{depth}": Items(hit_Q, unit_Q) for depth, hit_Q in columns}


def _questions(held_out: Embeddings, zero_shot: ZeroShot) -> ZeroShot:
    """The questions asked; where the texts are class prompts themselves, they are the one about the object."""
    if held_out.prompt_of_N is None or zero_shot.questions:
        return zero_shot
    return ZeroShot({"object": ClassPrompts(held_out.text_MD, held_out.prompt_of_N)}, main="object")


def _zero_shot(clouds: Clouds, asked: ZeroShot, fitted: Fitted) -> Iterator[tuple[str, Items]]:
    """Accuracies in percent, and how often noise changes the object that an image is taken for."""
    prompts = {name: fitted.texts(unit_rows(question.prompt_CD)) for name, question in asked.questions.items()}
    right = {
        name: 100 * _right_N(clouds.image_ND, prompts[name], question.class_N)
        for name, question in asked.questions.items()
    }
    every_N = np.arange(len(clouds.image_ND))
    if asked.main is not None and asked.main in right:
        yield "quality/object_accuracy", Items(right[asked.main], every_N)
        flipped = flips(clouds.image_ND, prompts[asked.main], THOROUGH.queries)
        yield "quality/flip_rate", Items(flipped.share_S, flipped.image_S)
    attributes = [right_N for name, right_N in right.items() if name != asked.main]
    if attributes:
        yield "quality/attribute_accuracy", Items(np.mean(attributes, axis=0), every_N)


def _right_N(image_ND: Array, prompt_CD: Array, class_N: Numbers) -> Array:
    right_N: Array = (np.argmax(image_ND @ prompt_CD.T, axis=1) == class_N).astype(np.float64)
    return right_N
