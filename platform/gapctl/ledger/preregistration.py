"""Preregistration: the declaration of a sweep, written before its first trial begins.

`merge_declaration` adds a plan to an earlier declaration, in which nothing changes that has begun. `rebuild_plan` and
`rebuild_declared_plan` make a plan again from the sweep file that the declaration keeps.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, with_config

from gapctl.config.base import is_private_override
from gapctl.config.evaluation_sets import NamedSet
from gapctl.config.load import LoadedSweep, load_sweep_text
from gapctl.config.trial import OpenClipModel
from gapctl.errors import InputError, WorkError
from gapctl.io.passwords import hide_passwords
from gapctl.ledger.json_files import STRICT_DOCUMENT, DocumentKind
from gapctl.plan.plan import DataSource, Plan, hash_design, make_plan

UNDECLARED: Final = ""
"""The design hash of a scale whose trials began, under another name or scale, before it was declared."""


@with_config(STRICT_DOCUMENT)
@dataclass(frozen=True)
class SweepFileRecord:
    """A sweep file as it was run at one scale, so that its plan can be rebuilt without the file.

    `file` is its path as typed, `text` its content, `scale` and `overrides` the options. `fingerprints` are those of
    the data by source, `recipe_version` is the code's. `tables` are the texts of tables of models and of
    their architecture files that it names.
    `folder` is the absolute one of the file that was read, from which it names files; "" in older declarations.
    """

    file: str
    text: str
    scale: str | None
    overrides: list[str]
    recipe_version: int
    fingerprints: dict[str, str]
    tables: dict[str, str] = field(default_factory=dict)
    folder: str = ""


@with_config(STRICT_DOCUMENT)
@dataclass(frozen=True)
class Declaration:
    """`runs/<sweep>.sweep.json`: the question and the hypotheses' hash from before any trial of the sweep began.

    `preregistered` is false if trials of the sweep had already begun when its hypotheses were first seen. `trials`
    lists all trials ever planned, by scale; `begun` the scales of which one was ever seen to have begun.
    `design_sha256`, `seeds` and `declared` are those from before each scale's first trial, `spec_sha256` and `asked`
    the latest. Ledgers of older versions lack `declared` and `begun`, still older ones `asked`.
    """

    sweep: str
    question: str
    hypotheses_sha256: str
    preregistered: bool
    spec_sha256: dict[str, str]
    trials: dict[str, list[str]]
    design_sha256: dict[str, str] = field(default_factory=dict)
    seeds: dict[str, int] = field(default_factory=dict)
    asked: dict[str, SweepFileRecord] = field(default_factory=dict)
    declared: dict[str, SweepFileRecord] = field(default_factory=dict)
    begun: list[str] = field(default_factory=list)

    @property
    def declared_sha256(self) -> str | None:
        """The hash that a confirmatory verdict must match, or None if nothing was declared in time."""
        return self.hypotheses_sha256 if self.preregistered else None


DECLARATION: Final = DocumentKind(
    TypeAdapter(Declaration),
    "Restore it from a backup, or move it away and run the sweep again: trials are kept, but the verdicts will be "
    "marked exploratory",
)


HasBegun = Callable[[Sequence[str]], bool]
"""Returns whether any of these trials has left a file in the ledger."""


def merge_declaration(earlier: Declaration | None, plan: Plan, has_begun: HasBegun) -> Declaration:
    """Return the declaration after this plan was requested.

    Hypotheses and question are fixed once any trial of the sweep has begun; design, seeds and text once one of the
    scale has. Hypotheses that come after a trial are never preregistered, even if the trial's folder is removed.
    """
    scale, asked = plan.sweep.scale_name_or_base, record_sweep_file(plan)
    known = earlier or Declaration(plan.sweep.spec.name, plan.sweep.spec.question, "", False, {}, {})
    ids = dict.fromkeys([*known.trials.get(scale, []), *(trial.id for trial in plan.trials)])
    listed = {**known.trials, scale: list(ids)}
    noted = mark_begun_scales(replace(known, trials=listed), has_begun)
    fixed = scale in noted.begun and scale in known.design_sha256
    design = UNDECLARED if scale in noted.begun else hash_design(plan)
    kept = earlier is not None and (bool(noted.begun) or not noted.preregistered)
    if not kept:
        hypotheses = plan.sweep.hypotheses_sha256
        noted = replace(noted, hypotheses_sha256=hypotheses, preregistered=not noted.begun)
    if not (kept and noted.declared):  # older versions kept the very first question, even if it was changed in time
        noted = replace(noted, question=plan.sweep.spec.question)
    # From when the scale began or, if an older version did not keep that file, the earliest at hand.
    first = noted.declared.get(scale) or noted.asked.get(scale)
    return replace(
        noted,
        spec_sha256={**known.spec_sha256, scale: plan.sweep.spec_sha256},
        design_sha256=known.design_sha256 | ({} if fixed else {scale: design}),
        seeds=known.seeds | ({} if fixed else {scale: len(plan.sweep.spec.replicate_numbers)}),
        asked={**known.asked, scale: asked},
        declared={**known.declared, scale: first if first and scale in noted.begun else asked},
    )


def mark_begun_scales(declaration: Declaration, has_begun: HasBegun) -> Declaration:
    """Return the declaration with all scales marked that have begun. Marks are never removed."""
    begun = [name for name, ids in declaration.trials.items() if name in declaration.begun or has_begun(ids)]
    return replace(declaration, begun=begun)


def record_sweep_file(plan: Plan) -> SweepFileRecord:
    """Return the record of a plan's sweep file, without passwords."""
    sweep = plan.sweep
    return SweepFileRecord(
        file=str(sweep.path),
        text=hide_passwords(sweep.text),
        scale=sweep.scale,
        overrides=[text for text in sweep.overrides if not is_private_override(text)],
        recipe_version=plan.recipe_version,
        fingerprints={
            **{trial.config.data.address: trial.data_fingerprint for trial in plan.trainings},
            **{
                NamedSet(name, each.definition).address: each.fingerprint
                for trial in plan.trials
                for name, each in trial.evaluation_sets.items()
            },
            **{
                trial.config.model.address: trial.model_fingerprint
                for trial in plan.trainings
                if isinstance(trial.config.model, OpenClipModel)
            },
        },
        tables=dict(sweep.tables),
        folder=str(sweep.folder),
    )


def rebuild_plan(declaration: Declaration, scale: str, path: str) -> Plan:
    """Return the plan of a scale as it was last requested. `path` locates the declaration for errors.

    Raises InputError if an older version kept no sweep file, or if this version makes other trials of it, and WorkError
    if the record contradicts itself.
    """
    asked = declaration.asked.get(scale)
    if asked is None:
        raise InputError(
            f"{path}: keeps no sweep file for scale {scale}, as an older gapctl wrote it; expected one to judge by. "
            "Name the file: `gapctl analyze FILE`, or run `gapctl sweep FILE` once more, which keeps it and trains "
            "nothing that is done"
        )
    return _make_plan(asked, declaration, scale, path)


def rebuild_declared_plan(declaration: Declaration, scale: str, path: str) -> Plan:
    """Return the plan of a scale from before its first trial. Raises InputError also if that was not kept."""
    asked = _find_matching_file(_list_scale_files(declaration, scale), declaration)
    if asked is None:
        raise InputError(
            f"{path}: --declared: keeps no sweep file for scale {scale} whose hypotheses were declared before the "
            "first trial; expected one, as `gapctl sweep` keeps it of a sweep that has not begun. Leave --declared out"
        )
    return _make_plan(asked, declaration, scale, path)


def find_declared_file(declaration: Declaration, scale: str) -> SweepFileRecord | None:
    """Return the kept file whose hypotheses have the declared hash, this scale's first, or None.

    Comparing hashes makes sure that a text changed in the ledger is not taken for the declared one.
    """
    return _find_matching_file([*_list_scale_files(declaration, scale), *declaration.declared.values()], declaration)


def load_recorded_sweep(asked: SweepFileRecord) -> LoadedSweep:
    """Return the sweep of a kept file. Raises InputError if it cannot be read."""
    folder = Path(asked.folder) if asked.folder else None
    return load_sweep_text(asked.text, Path(asked.file), asked.scale, asked.overrides, asked.tables, folder)


def _list_scale_files(declaration: Declaration, scale: str) -> list[SweepFileRecord]:
    return [texts[scale] for texts in (declaration.declared, declaration.asked) if scale in texts]


def _find_matching_file(texts: Iterable[SweepFileRecord], declaration: Declaration) -> SweepFileRecord | None:
    for asked in texts if declaration.preregistered else ():
        with suppress(InputError):  # a file that cannot be read matches nothing
            if load_recorded_sweep(asked).hypotheses_sha256 == declaration.hypotheses_sha256:
                return asked
    return None


def _make_plan(asked: SweepFileRecord, declaration: Declaration, scale: str, path: str) -> Plan:
    try:
        sweep = load_recorded_sweep(asked)
    except InputError as error:
        raise WorkError(
            f"{path}: damaged: the sweep file kept there for scale {scale} cannot be read: {error}; expected what "
            "`gapctl sweep` kept. Restore it from a backup, or run `gapctl sweep` once more, which trains nothing that "
            "is done"
        ) from error
    plan = make_plan(sweep, lambda data: _get_fingerprint(asked, data, path), asked.recipe_version)
    unlisted = {trial.id for trial in plan.trials} - set(declaration.trials.get(scale, ()))
    if unlisted:
        raise InputError(
            f"{path}: this gapctl makes {len(unlisted)} other trials of the sweep file kept for scale {scale} than are "
            "listed there; expected the same. Judge it with the version that trained them (result.json names it)"
        )
    return plan


def _get_fingerprint(asked: SweepFileRecord, data: DataSource, path: str) -> str:
    try:
        return asked.fingerprints[data.address]
    except KeyError as error:
        raise WorkError(
            f"{path}: damaged: its sweep file trains on {data.source}, of which it keeps no fingerprint. Restore it "
            "from a backup, or run `gapctl sweep` once more, which trains nothing that is done"
        ) from error
