"""What makes two trials the same: a hash of everything that decides their numbers, and of nothing else."""

import hashlib
from typing import Any

from gapctl.plan.trials import Plan
from gapctl.spec.added_later import lasting
from gapctl.spec.canonical import canonical_json, sha256_of
from gapctl.spec.trial import TrialConfig

RECIPE_VERSION = 3
"""Raised whenever the same configuration would give other numbers than before."""


USED_BY = {"rate": ("words", "length_matched"), "sentences": ("sentences",), "field": ("enriched",)}
"""Which caption treatments have a setting; it decides nothing with any other."""


def trial_id(
    config: TrialConfig,
    seed: int,
    data_fingerprint: str,
    recipe_version: int = RECIPE_VERSION,
    parent: str | None = None,
) -> str:
    """The first 12 hex digits of the sha256 of configuration, seed, data, recipe version and the parent's id.

    The data's address is left out: its fingerprint stands for it, so a moved folder keeps its trials. So is how a
    parent was described, as its id stands for that, and the learning rate of a temperature that is not learned.
    """
    described = without_address(config)
    described.pop("init_from", None)
    if config.temperature.mode != "learned":
        described["temperature"].pop("lr", None)
    payload = {
        "config": described,
        "seed": seed,
        "data": data_fingerprint,
        "recipe": recipe_version,
        **({"parent": parent} if parent else {}),
    }
    return hashlib.sha256(canonical_json(payload).encode()).hexdigest()[:12]


def without_address(config: TrialConfig) -> dict[str, Any]:
    """The configuration as plain values, less where its data lies and what later fields leave as it was."""
    values = lasting(config)
    data = values["data"]
    if config.data.dataset == "cc12m" and data["held_out"]:
        del data["held_out_share"]
    for name in ("source", "held_out", "classes", "bad_share"):
        data.pop(name, None)
    for setting, keeps in USED_BY.items():
        if setting in data["captions"] and data["captions"]["keep"] not in keeps:
            del data["captions"][setting]
    return values


def design_sha256(plan: Plan) -> str:
    """The hash of what is trained on which data from which seed on: to change it after a look is to choose.

    How many seeds there are is declared beside it. A first seed of 0 is left out, as it was before it could be set.
    """
    spec = plan.sweep.spec
    data = sorted({trial.data_fingerprint for trial in plan.trainings})
    first = {"first_seed": spec.first_seed} if spec.first_seed else {}
    named = {"treatments": spec.treatments} if spec.treatments else {}
    return sha256_of({"base": without_address(spec.base), "vary": spec.vary, "data": data, **named, **first})
