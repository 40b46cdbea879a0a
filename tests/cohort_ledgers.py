"""A made-up cohort: 30 public models in 5 strata as a sweep's replicates, measured by a formula."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from gapctl.config.load import load_sweep
from gapctl.ledger import Ledger, Result
from gapctl.plan.plan import Plan, Trial, make_plan

GAP, ACCURACY = "gap/rmg", "quality/i2t_recall_1"
PUBLISHED = "published/imagenet_accuracy"
ABLATIONS = ("none", "remove_1", "remove_3", "remove_10", "remove_30")
STRATA = ("wit", "laion400m", "laion2b", "datacomp_xl", "webli")
WITHIN: Mapping[str, Any] = {
    "id": "within",
    "claim": "Among models of one pretraining set, those with a larger gap retrieve better.",
    "test": "correlation",
    "response": ACCURACY,
    "against": GAP,
    "scope": "within_strata",
    "where": {"evaluate.intervention": "none"},
    "direction": "increasing",
    "smallest_effect": 0.1,
}
REMOVED: Mapping[str, Any] = {
    "id": "removed",
    "claim": "Without one dimension the gap is smaller.",
    "test": "contrast",
    "response": GAP,
    "factor": "evaluate.intervention",
    "between": ["none", "remove_1"],
    "direction": "decreasing",
    "smallest_effect": 0.01,
}
GAP_LEFT = dict(zip(ABLATIONS, (1.0, 0.45, 0.3, 0.22, 0.2), strict=True))


def list_models(count: int = 30) -> list[dict[str, Any]]:
    """Rows of a cohort, a sixth of it in each stratum; sizes and published numbers follow the place."""
    return [
        {
            "name": f"ViT-{'BLH'[place % 3]}-{place} <{STRATA[place % 5]}>",
            "init_from.train.samples": 640 + 64 * place,
            "pretraining_set": STRATA[place % 5],
            "parameters": 100_000_000 + 30_000_000 * place,
            "tower": "resnet" if place % 4 == 0 else "vit",
            PUBLISHED: 40.0 + place,
        }
        for place in range(count)
    ]


def plan_cohort(
    folder: Path,
    *hypotheses: Mapping[str, Any],
    models: Sequence[Mapping[str, Any]] | None = None,
    interventions: Sequence[str] = ABLATIONS,
) -> Plan:
    """The plan of a sweep over these models, with interventions as its only treatment, or with none at all."""
    document = {
        "name": "public",
        "question": "Do models with a larger gap do worse?",
        "base": {
            "data": {"dataset": "image_text"},
            "model": {"preset": "pairs-small", "embed_dim": 32},
            "init_from": {"train.samples": 1280},
            "train": {"samples": 0, "batch_size": 64},
            "evaluate": {"every": 1280, "gallery": 100},
        },
        "vary": {"evaluate.intervention": list(interventions)},
        "cohort": {
            "models": list(models or list_models()),
            "covariates": ["log parameters", "tower"],
            "strata": "pretraining_set",
            "source": "a made-up table",
        },
        "hypotheses": [dict(hypothesis) for hypothesis in hypotheses or (WITHIN, REMOVED)],
    }
    if not interventions:
        document.pop("vary")
    path = folder / "public.yaml"
    path.write_text(json.dumps(document, indent=1))
    return make_plan(load_sweep(path), lambda data: "fingerprint")


def fill_cohort(ledger: Ledger, plan: Plan, without: Sequence[str] = ()) -> None:
    """Declares the plan and finishes its trials, but for those of the models named in `without`."""
    ledger.declare_plan(plan)
    for trial in plan.trials:
        assert trial.model is not None
        if trial.model.name not in without:
            folder = ledger.trial(trial.id)
            folder.begin(trial)
            metrics = measure_model(trial)
            folder.save_history([{"samples_seen": 0, "seconds": 2.0, **metrics}])
            facts = {"device": "cpu", "threads": 1}
            folder.finish(Result(trial.id, metrics, 0, 2.0, {"python": "3.11"}, facts), weights=b"")


def measure_model(trial: Trial) -> dict[str, float]:
    """Gap and recall of a model: they rise together within strata, and strata with larger gaps retrieve worse."""
    assert trial.model is not None
    place = trial.model.replicate
    own, stratum = np.random.default_rng(place).standard_normal(3), place % 5
    left = GAP_LEFT[trial.config.evaluate.intervention]
    gap = 0.5 + 0.1 * stratum + 0.05 * own[0]
    return {
        GAP: float(gap * left),
        "gap/l2m": float(gap * left * 1.4),
        ACCURACY: float(70 - 8 * stratum + 4 * own[0] + own[1] - 3 * (1 - left)),
        "entropy/i2t_nats": float(3 + 0.3 * own[2]),
    }


def read_rows(text: str) -> pl.DataFrame:
    """A csv text as a frame."""
    return pl.read_csv(text.encode())
