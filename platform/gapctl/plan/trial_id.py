"""Compute a trial's id: what decides its numbers, hashed.

1. `select_trial_id_fields` selects a configuration's values that decide numbers, `format_hashed_config` writes them.
2. `compute_trial_id` hashes them with the seed, the data's fingerprint and the recipe version.
3. `ArmHasher` gives the same ids for the many seeds of an arm, and writes what they share once.
"""

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from gapctl.config.base import format_canonical_json, select_hashed_fields
from gapctl.config.trial import MadData, OpenClipModel, TrialConfig, is_table, reset_caption_wording
from gapctl.extensions import ExtensionCode, collect_extension_code

PROVISIONAL: Final = "?"
"""The end of an id that holds no sha256 of weights or data, and of such a fingerprint: no trial has this id."""
RECIPE_VERSION = 3
"""Raise this whenever the same configuration would give other numbers than before."""


TREATMENTS_WITH_SETTING = {"rate": ("words", "length_matched"), "sentences": ("sentences",), "field": ("enriched",)}
"""The caption treatments that use each setting; with any other treatment the setting has no effect."""


def compute_trial_id(
    config: TrialConfig,
    seed: int,
    data_fingerprint: str,
    recipe_version: int = RECIPE_VERSION,
    parent: str | None = None,
    sets: Mapping[str, str] = MappingProxyType({}),
    model_fingerprint: str = "",
) -> str:
    """Return the first 12 hex digits of the sha256 of configuration, seed, data, recipe version and the parent's id.

    The sha256 of the code of other packages' metrics, treatment and loss is hashed too, where the configuration names
    any, and so are the fingerprints of its evaluation sets, in whatever order it names them.

    The id of weights, data or sets that are not known ends in `PROVISIONAL`.

    Left out are the data's address, as the fingerprint stands for the data and a moved folder keeps its trials; a
    public model's name and place, for which `model_fingerprint` stands, so that a tag and a file of the same weights
    are one model; the changes that describe a parent, as its id stands for them; the learning rate of a temperature
    that is not learned; and for a table the order and the words of captions, which change none of its rows.
    """
    hasher = ArmHasher(config, data_fingerprint, recipe_version, sets, model_fingerprint)
    return hasher.compute_trial_id(seed, parent)


def _are_fingerprints_known(data_fingerprint: str, model_fingerprint: str, sets: Mapping[str, str]) -> bool:
    return not any(each.endswith(PROVISIONAL) for each in (data_fingerprint, model_fingerprint, *sets.values()))


class ArmHasher:
    """Compute the ids of an arm's trials, hashing only what differs between them: the seed, and the id of the parent.

    The hashed text is canonical JSON, whose keys are sorted: `config` comes first, `parent` and `seed` side by side.
    """

    def __init__(
        self,
        config: TrialConfig,
        data_fingerprint: str,
        recipe_version: int = RECIPE_VERSION,
        sets: Mapping[str, str] = MappingProxyType({}),
        model_fingerprint: str = "",
    ) -> None:
        before = {
            "data": data_fingerprint,
            **({"model": model_fingerprint} if model_fingerprint else {}),
            **hash_extensions(collect_extension_code(config.extensions)),
        }
        text = f'{{"config":{format_hashed_config(config)},{format_canonical_json(before)[1:-1]}'
        self._begun = hashlib.sha256(text.encode())
        self._recipe = f',"recipe":{recipe_version},"seed":'
        self._end = f"{format_canonical_json({'sets': dict(sets)}).replace('{', ',', 1)}" if sets else "}"
        self._mark = "" if _are_fingerprints_known(data_fingerprint, model_fingerprint, sets) else PROVISIONAL

    def compute_trial_id(self, seed: int, parent: str | None = None) -> str:
        """Return the id of the arm's trial with this seed and parent."""
        hashed = self._begun.copy()
        of_parent = f',"parent":"{parent}"' if parent else ""
        hashed.update(f"{of_parent}{self._recipe}{seed}{self._end}".encode())
        return hashed.hexdigest()[:12] + self._mark


def format_hashed_config(config: TrialConfig) -> str:
    """Write the part of a configuration that its trials' ids hash, as canonical JSON."""
    if is_table(config) and isinstance(config.data, MadData):
        config = config.model_copy(update={"data": reset_caption_wording(config.data)})
    described = select_trial_id_fields(config)
    described.pop("init_from", None)
    described["evaluate"].pop("sets", None)
    if config.temperature.mode != "learned":
        described["temperature"].pop("lr", None)
    return format_canonical_json(described)


def hash_extensions(code: Mapping[str, ExtensionCode]) -> dict[str, dict[str, str]]:
    """Return what a hash contains of the code of other packages; nothing where none is used, so that old ids stay."""
    return {"extensions": {name: each.sha256 for name, each in code.items()}} if code else {}


def select_trial_id_fields(config: TrialConfig) -> dict[str, Any]:
    """Return a configuration's JSON values without the data's address and without later fields at their old value."""
    values = select_hashed_fields(config)
    data = values["data"]
    if config.data.dataset == "cc12m" and data["held_out"]:
        del data["held_out_share"]
    for name in ("source", "held_out", "classes", "bad_share"):
        data.pop(name, None)
    if isinstance(config.model, OpenClipModel):
        values["model"] = {}
    for setting, keeps in TREATMENTS_WITH_SETTING.items():
        if setting in data["captions"] and data["captions"]["keep"] not in keeps:
            del data["captions"][setting]
    return values
