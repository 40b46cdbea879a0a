"""The settings of a sweep by their path: which there are, what a short form means, and what people type instead.

1. `list_setting_paths` lists the dotted paths that a scale or `--set` may change.
2. `find_settings_by_ending` resolves a short form such as `lr`: the paths that end with it.
3. `explain_unknown_key` and `explain_unknown_setting` answer names of other tools (`epochs`, `batch`, `seed`), and keys
   that stand elsewhere in the file; `format_mapping_suggestion` answers a bare value where a section is meant (`loss:
   siglip`).
"""

from collections.abc import Mapping, Sequence
from typing import Final

from gapctl.config.base import (
    FrozenModel,
    KeyPath,
    cut_text,
    find_nearest,
    flatten_document,
    format_choices,
    list_leaf_paths,
)
from gapctl.config.cohort import Cohort
from gapctl.config.evaluation_sets import CompositionPrompts, EvaluationSet, ExpectedSet
from gapctl.config.sweep import Limits, RecipeReplicates, Resources, Search, StopEarly, SweepFile, Tracking
from gapctl.config.trial import TrialConfig
from gapctl.io.passwords import hide_password
from gapctl.text import join_or

PLAIN_KEYS = ("name", "question", "seeds", "first_seed", "alpha")
SECTIONS: Final[Mapping[str, type[FrozenModel]]] = {
    "resources": Resources,
    "tracking": Tracking,
    "limits": Limits,
    "cohort": Cohort,
    "replicates": RecipeReplicates,
    "search": Search,
    "search.stop_early": StopEarly,
}
"""The sections whose fields a scale or `--set` may change, besides `base` and `vary`."""
OTHER_NAMES: Final[Mapping[str, str]] = {
    "k": "base.data.captions.attributes, the number of attributes that MAD's captions name",
    "choose": "base.data.captions.fixed, the list of attributes that captions name; without it they are drawn",
    "epochs": "base.train.samples, the pairs that training sees: epochs times the pairs of the data",
    "steps": "base.train.samples, the pairs that training sees: steps times base.train.batch_size",
    "iterations": "base.train.samples, the pairs that training sees: iterations times base.train.batch_size",
    "batch": "base.train.batch_size",
    "bs": "base.train.batch_size",
    "learning_rate": "base.train.lr",
    "wd": "base.train.weight_decay",
    "seed": "seeds, how many there are, and first_seed, the first of them",
    "tau": "base.temperature.init",
    "logit_scale": "base.temperature.init, which is 1 over it",
    "dim": "base.model.embed_dim",
    "width": "base.model.embed_dim",
    "architecture": "base.model.preset",
    "arch": "base.model.preset",
    "gpu": "resources.gpus",
    "num_workers": "resources.workers",
}
"""Names that other tools have for settings, and what to write here."""
MAIN_KEYS: Final[Mapping[KeyPath, tuple[str, str]]] = {
    ("base", "loss"): ("", "kind"),
    ("base", "temperature"): ("init", "mode"),
    ("base", "model"): ("", "preset"),
    ("base", "data"): ("", "dataset"),
    ("base", "data", "captions"): ("attributes", "keep"),
    ("base", "data", "images"): ("", "degrade"),
    ("tracking",): ("", "uri"),
    ("limits",): ("hours", ""),
    ("resources",): ("cpus", ""),
}
"""The keys of a section that a bare number, and a bare text, in its place are meant for."""

FIXED_FACTORS: Final = "data.captions.fixed"
"""The one setting that is a list in base and a text as a level."""


def list_setting_paths(base: TrialConfig) -> list[str]:
    """List every dotted path that a scale or `--set` may change."""
    paths = list_leaf_paths(base.model_dump())
    settings = [f"{top}.{path}" for top in ("base", "vary") for path in paths]
    inits = [f"base.init_from.{path}" for path in paths if not path.startswith("init_from.")]
    return list(dict.fromkeys([*PLAIN_KEYS, *_list_section_paths(SECTIONS), *settings, *inits]))


def _list_section_paths(sections: Mapping[str, type[FrozenModel]]) -> list[str]:
    return [f"{section}.{name}" for section, model in sections.items() for name in model.model_fields]


def list_evaluation_set_settings(spec: SweepFile) -> list[str]:
    """List the dotted paths of a file's evaluation sets that a scale or `--set` may change."""
    named = dict.fromkeys([*spec.evaluation_sets, *spec.base.evaluate.sets])
    inner = [
        *(name for name in EvaluationSet.model_fields if name not in ("prompts", "expect")),
        *(f"prompts.{name}" for name in CompositionPrompts.model_fields),
        *(f"expect.{name}" for name in ExpectedSet.model_fields),
    ]
    return [f"evaluation_sets.{name}.{path}" for name in named for path in inner]


def find_settings_by_ending(written: str, spec: SweepFile) -> list[str]:
    """Return the settings whose paths end with what was written.

    A value that varies is meant by its levels in `vary`, as the one in `base` has no effect then. A value that `base`
    leaves out is meant only where no other is.
    """
    present = _find_paths_in_base(spec.base, written)
    absent = [name for name in ("search", "cohort", "replicates") if getattr(spec, name) is None]
    sections = {name: model for name, model in SECTIONS.items() if name.partition(".")[0] not in absent}
    return [
        *(f"vary.{path}" if path in spec.vary else f"base.{path}" for path in present),
        *(path for path in _list_section_paths(sections) if _ends_with(path, written)),
        *(f"vary.{name}" for name in spec.treatments if name == written),
    ]


def _find_paths_in_base(base: TrialConfig, written: str) -> list[str]:
    leaves = flatten_document(base.model_dump(exclude={"init_from"})).items()
    values = {path: value for path, value in leaves if _ends_with(path, written)}
    return [path for path, value in values.items() if value is not None] or list(values)


def _ends_with(path: str, written: str) -> bool:
    return path == written or path.endswith(f".{written}")


def explain_unknown_key(path: KeyPath, known: Sequence[str]) -> str:
    """Return what was expected in place of an unknown key, whose siblings may be the `known` ones."""
    key = str(path[-1])
    if path[0] != "hypotheses":
        if key in OTHER_NAMES:
            return f"expected {OTHER_NAMES[key]}"
        if len(path) > 1 and key in SweepFile.model_fields:
            return f"expected it at the top of the file, not within {path[0]}"
        if path[0] != "base" and key in TrialConfig.model_fields:
            return "expected it within base"
        sections = [
            each for each in _list_section_paths(SECTIONS) if not each.startswith(("search", "cohort", "replicates"))
        ]
        elsewhere = [f"base.{each}" for each in _find_paths_in_base(TrialConfig(), key)]
        if elsewhere := [*elsewhere, *(each for each in sections if _ends_with(each, key))]:
            return f"expected it as {join_or(elsewhere)}"
    return format_choices(key, known) if known else "expected none of that name here"


def explain_unknown_factor(path: str, known: Sequence[str]) -> str:
    """Return what was expected in place of a path that is in no training."""
    name = path.rpartition(".")[2]
    other = OTHER_NAMES.get(name, "")
    return f"expected {other.removeprefix('base.')}" if "base." in other else format_choices(path, known)


def explain_unknown_setting(written: str, value: object, known: Sequence[str]) -> str:
    """Return what was expected in place of a setting that does not exist."""
    if (name := written.rpartition(".")[2]) in OTHER_NAMES:
        return f"expected {OTHER_NAMES[name]}"
    if written == "replicates" and type(value) is int:
        return f"expected seeds={value}, or replicates.draws={value} where the file has replicates"
    for section in (tuple(written.split(".")), ("base", *written.split("."))):
        if key := _find_main_key(section, value):
            return f"expected {'.'.join(section)}.{key}={hide_password(str(value))}"
    whole = [path for path in known if path.startswith("vary.") == written.startswith("vary.")]
    in_base = [path for path in whole if path.startswith("base.") and ".init_from." not in path]
    short = {path.rpartition(".")[2]: path for path in in_base}
    close = find_nearest(written, whole) or short.get(find_nearest(written, short) or "")
    expected = "xpected a path such as seeds or base.train.samples"
    return f"e{expected}" if close is None else f"did you mean {close}? E{expected}"


def format_mapping_suggestion(path: KeyPath, value: object) -> str:
    """Return `: write loss: {kind: siglip}` where a section of the file is a bare value, else an empty text.

    A list of seeds, or a number of replicates, is answered with `seeds`, a list of factors as a level with its text.
    """
    if path == ("seeds",) and isinstance(value, list) and value:
        return f": write seeds: {len(value)}"
    if path == ("replicates",) and isinstance(value, int):
        return f": write seeds: {value}, or {{over: recipes, draws: {value}, space: ...}}"
    if FIXED_FACTORS in path and isinstance(value, list) and value:  # a level of `vary`, or of a treatment
        return cut_text(f': write "{", ".join(map(str, value))}"')
    key = _find_main_key(path, value)
    return cut_text(f": write {path[-1]}: {{{key}: {hide_password(str(value))}}}") if key else ""


def _find_main_key(section: KeyPath, value: object) -> str:
    for_number, for_text = MAIN_KEYS.get(section, ("", ""))
    if isinstance(value, str):
        return for_text if value else ""
    return for_number if isinstance(value, int | float) and not isinstance(value, bool) else ""
