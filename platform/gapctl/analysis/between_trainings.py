"""Metrics of several trainings together (`agreement/*`), computed from the files that each training saved.

`compute_cross_trial_metrics` groups the trials that a metric compares, reads their vectors from the ledger, and gives
each trial its agreement with the others of its group. Shapes: K models, N images of the gallery, D dimensions.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import polars as pl

from gapctl.analysis.estimates import IntArray
from gapctl.analysis.paired_responses import FloatArray, get_first_seed_of_pair
from gapctl.config.base import flatten_document, format_canonical_json
from gapctl.errors import WorkError
from gapctl.ledger import Ledger
from gapctl.ledger.trial import AXIS, DIMENSIONS
from gapctl.plan.plan import Plan, Trial

PERMUTATIONS = 200
"""Permutations of images within labels; the null's 95th percentile then lies between the 93rd and the 97th."""
NULL_SHARE = 0.95


LEADING_DIMENSIONS = 10
"""The number of largest dimensions of a gap that are compared with those of another."""


TrialValues = Mapping[str, float]
"""A metric by the ids of the trials that have it."""


class CrossTrialMetrics(NamedTuple):
    """Metrics by name, and messages about files that were left out."""

    metrics: Mapping[str, TrialValues]
    damaged: tuple[str, ...]


def compute_cross_trial_metrics(
    plan: Plan, finished: Iterable[str], ledger: Ledger, asked: Sequence[str]
) -> CrossTrialMetrics:
    """Compute the requested metrics for the trials with the ids `finished`.

    A trial has none where one that it is compared with is not finished, saved no such file, or used another gallery.
    """
    done = set(finished)
    trials = [trial for trial in plan.trials if trial.id in done]
    found: dict[str, TrialValues] = {}
    damaged: list[str] = []
    for rows, metrics in (
        (_read_gap_positions, _AXIS_METRICS),
        (_read_gap_positions_and_means, _EXCESS_METRICS),
        (_read_differences, _LEADING_METRICS),
    ):
        names = [name for name in asked if name in metrics]
        if names:
            kept, wrong = rows(trials, ledger)
            found |= {name: _compute_agreements(plan.trials, kept, metrics[name]) for name in names}
            damaged += wrong
    return CrossTrialMetrics(found, tuple(damaged))


def compute_axis_agreement(places_KN: FloatArray) -> FloatArray:
    """Return each model's mean correlation with the others (K,), of the same samples' places along their gaps.

    The correlation is Pearson's. 1 means that the gaps' directions order the samples alike. For unrelated directions it
    is 0 on average, since each is as likely as its reverse. No rotation of an embedding changes it, so that models of
    any seed, width and architecture compare. NaN where a model puts all samples in one place.
    """
    centred_KN = places_KN - places_KN.mean(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        unit_KN = centred_KN / np.linalg.norm(centred_KN, axis=1, keepdims=True)
    return _average_over_others(unit_KN @ unit_KN.T)


def compute_excess_agreement(gap_KN: FloatArray, mean_KN: FloatArray, label_N: IntArray) -> FloatArray:
    """Return each model's agreement of gap directions, less the agreement that needs no gap (K,).

    The latter is the larger of two. One is the agreement of the same images along the mean image (`mean_KN`), which
    involves no text. The other is the 95th percentile of agreements after images were permuted within their labels in
    each model separately, which keeps only what labels explain. Permutations are the same for the same gallery.
    """
    null_PK = np.stack(
        [compute_axis_agreement(_permute_within_labels(gap_KN, label_N, seed)) for seed in range(PERMUTATIONS)]
    )
    needs_no_gap_K = np.maximum(compute_axis_agreement(mean_KN), np.quantile(null_PK, NULL_SHARE, axis=0))
    return np.asarray(compute_axis_agreement(gap_KN) - needs_no_gap_K)


def _permute_within_labels(places_KN: FloatArray, label_N: IntArray, seed: int) -> FloatArray:
    rng = np.random.default_rng(seed)
    by_label_N = np.argsort(label_N, kind="stable")
    permuted_KN = np.empty_like(places_KN)
    for model, places_N in enumerate(places_KN):
        shuffled_N = np.lexsort((rng.random(len(label_N)), label_N))
        permuted_KN[model, by_label_N] = places_N[shuffled_N]
    return permuted_KN


def compute_leading_agreement(differences_KD: FloatArray) -> FloatArray:
    """Return each model's mean share of leading dimensions that others share, less the share expected by chance (K,).

    The leading dimensions are the ten in which image and text means differ most. Raise ValueError where there are fewer
    dimensions.
    """
    models, width = differences_KD.shape
    if width < LEADING_DIMENSIONS:
        raise ValueError(f"{LEADING_DIMENSIONS} leading dimensions of {width} do not compare")
    leading_KD = np.zeros((models, width))
    order_KD = np.argsort(-np.abs(differences_KD), axis=1, kind="stable")
    np.put_along_axis(leading_KD, order_KD[:, :LEADING_DIMENSIONS], 1.0, axis=1)
    return np.asarray(_average_over_others(leading_KD @ leading_KD.T / LEADING_DIMENSIONS) - LEADING_DIMENSIONS / width)


def _average_over_others(found_KK: FloatArray) -> FloatArray:
    """Return the mean of each row without the diagonal (K,)."""
    return np.asarray((found_KK.sum(axis=1) - np.diagonal(found_KK)) / (len(found_KK) - 1))


class _TrialComparison(NamedTuple):
    """Trials of one key are compared, where there are several; `agreement` maps their vectors to a value for each."""

    key: Callable[[Trial], Hashable]
    agreement: Callable[[FloatArray], FloatArray]


def _compute_agreements(
    trials: Sequence[Trial], kept: Mapping[str, FloatArray], compared: _TrialComparison
) -> TrialValues:
    groups: dict[Hashable, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(compared.key(trial), []).append(trial)
    found: dict[str, float] = {}
    for group in groups.values():
        ids = [trial.id for trial in group]
        galleries = {(trial.data_fingerprint, trial.config.evaluate.gallery) for trial in group}
        if len(group) > 1 and all(name in kept for name in ids) and len(galleries) == 1:
            agreement_K = compared.agreement(np.stack([kept[name] for name in ids]))
            found |= dict(zip(ids, agreement_K.tolist(), strict=True))
    return found


def _get_seed_pair_key(trial: Trial) -> Hashable:
    return get_first_seed_of_pair(trial.seed), _get_arm_key(trial)


def _get_arm_key(trial: Trial, without: str = "") -> Hashable:
    values = flatten_document(trial.config.model_dump(mode="json"))
    return format_canonical_json({path: value for path, value in values.items() if path != without})


def _make_key_without(path: str) -> Callable[[Trial], Hashable]:
    return lambda trial: (trial.seed, _get_arm_key(trial, without=path))


_AXIS_METRICS: Final = {
    "agreement/axis_seeds": _TrialComparison(_get_seed_pair_key, compute_axis_agreement),
    "agreement/axis_arms": _TrialComparison(lambda trial: trial.seed, compute_axis_agreement),
    "agreement/axis_architectures": _TrialComparison(_make_key_without("model.preset"), compute_axis_agreement),
    "agreement/axis_widths": _TrialComparison(_make_key_without("model.embed_dim"), compute_axis_agreement),
}


def _compute_excess(found_K3N: FloatArray) -> FloatArray:
    gap_KN, mean_KN, label_KN = found_K3N.swapaxes(0, 1)
    return compute_excess_agreement(gap_KN, mean_KN, label_KN[0].astype(np.int64))


_EXCESS_METRICS: Final = {
    f"agreement/axis_excess_{name}": _TrialComparison(_AXIS_METRICS[f"agreement/axis_{name}"].key, _compute_excess)
    for name in ("seeds", "architectures", "widths")
}


_LEADING_METRICS: Final = {
    "agreement/leading_dims_seeds": _TrialComparison(_get_seed_pair_key, compute_leading_agreement)
}


class _TrialVectors(NamedTuple):
    """A row of numbers by trial id, and messages about files that were left out."""

    kept: Mapping[str, FloatArray]
    damaged: list[str]


def _read_gap_positions(trials: Sequence[Trial], ledger: Ledger) -> _TrialVectors:
    """Read the places of the gallery's images along a trial's gap (N,)."""
    return _read_vectors(trials, ledger, AXIS, lambda table: table["image"].cast(pl.Float64).to_numpy())


def _read_gap_positions_and_means(trials: Sequence[Trial], ledger: Ledger) -> _TrialVectors:
    """Read the places of the gallery's images along a trial's gap and along its mean image, and their labels (3, N).

    Trials of earlier versions saved only the first, and are left out.
    """
    names = ["image", "image_on_mean", "label"]
    return _read_vectors(
        trials,
        ledger,
        AXIS,
        lambda table: table.select(pl.col(names).cast(pl.Float64)).to_numpy().T if names[2] in table.columns else None,
    )


def _read_differences(trials: Sequence[Trial], ledger: Ledger) -> _TrialVectors:
    """Read a trial's gap by dimension (D,), where it has at least `LEADING_DIMENSIONS`."""
    wide = [trial for trial in trials if trial.config.model.embed_dim >= LEADING_DIMENSIONS]
    return _read_vectors(wide, ledger, DIMENSIONS, lambda table: (table["image_mean"] - table["text_mean"]).to_numpy())


def _read_vectors(
    trials: Sequence[Trial],
    ledger: Ledger,
    name: str,
    row: Callable[[pl.DataFrame], FloatArray | None],
) -> _TrialVectors:
    kept: dict[str, FloatArray] = {}
    damaged: list[str] = []
    for trial, content in zip(trials, ledger.tables([trial.id for trial in trials], name), strict=True):
        if isinstance(content, WorkError):
            damaged.append(str(content))
        elif content is not None and (numbers := row(content)) is not None:
            kept[trial.id] = numbers
    return _TrialVectors(kept, damaged)
