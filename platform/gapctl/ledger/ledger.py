"""A runs folder: trials by id, and one declaration per sweep."""

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from gapctl.errors import InputError, WorkError
from gapctl.ledger.declaration import UNDECLARED, Declaration, declaration_from_json, declaration_to_json
from gapctl.ledger.files import Folder
from gapctl.ledger.recall import asked_for
from gapctl.ledger.result import Result
from gapctl.ledger.trial_folder import TrialFolder
from gapctl.plan.identity import design_sha256
from gapctl.plan.trials import Plan

if TYPE_CHECKING:
    import polars

DEFAULT_SCALE_NAME = "base"
DECLARATION = ".sweep.json"
TRIAL_ID = re.compile("[0-9a-f]{12}")


class Ledger:
    """Everything that was computed, below a local path or any fsspec address (`s3://bucket/runs`)."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._runs = Folder(root)

    @property
    def everywhere(self) -> str:
        """The same address for a process in another folder."""
        return self.root if "://" in self.root else str(Path(self.root).expanduser().absolute())

    def trial(self, trial_id: str) -> TrialFolder:
        """The folder of one trial, whether it exists yet or not."""
        return TrialFolder(self._runs, trial_id)

    def trial_ids(self) -> list[str]:
        """The ids of all trials that have begun here, of whatever sweep, sorted."""
        return self._runs.names("", keep=lambda name: bool(TRIAL_ID.fullmatch(name)))

    def result(self, trial_id: str) -> Result | None:
        """A finished trial's result, or None; raises WorkError where it is damaged."""
        return self.trial(trial_id).result()

    def history(self, trial_id: str) -> "polars.DataFrame | None":
        """A trial's evaluations over training, or None."""
        return self.trial(trial_id).history()

    def trial_yaml(self, trial_id: str) -> str | None:
        """A trial's resolved configuration, or None."""
        return self.trial(trial_id).trial_yaml()

    def require_writable(self) -> None:
        """Raises InputError where nothing can be written below the root; to be asked before work begins."""
        try:
            self._runs.write(".writable", b"")
            self._runs.remove(".writable")
        except WorkError as error:
            raise InputError(f"{error}, or give another folder with --runs") from error

    def declare(self, plan: Plan) -> Declaration:
        """Writes down the plan's hypotheses and design; what has begun stays as it was first declared."""
        name, scale = plan.sweep.spec.name, scale_name(plan)
        earlier = self.declaration(name) or _nothing_declared(plan)
        trials = {**earlier.trials, scale: _joined(earlier.trials.get(scale, []), plan)}
        begun = self._begun(itertools.chain.from_iterable(trials.values()))
        kept = begun and bool(earlier.trials)
        seen = self._begun(trials[scale])
        fixed = seen and scale in earlier.design_sha256
        design = UNDECLARED if seen else design_sha256(plan)
        declaration = replace(
            earlier,
            hypotheses_sha256=earlier.hypotheses_sha256 if kept else plan.sweep.hypotheses_sha256,
            preregistered=earlier.preregistered if kept else not begun,
            spec_sha256={**earlier.spec_sha256, scale: plan.sweep.spec_sha256},
            design_sha256=earlier.design_sha256 | ({} if fixed else {scale: design}),
            seeds=earlier.seeds | ({} if fixed else {scale: plan.sweep.spec.seeds}),
            trials=trials,
            asked={**earlier.asked, scale: asked_for(plan)},
        )
        self._runs.write(_declaration_name(name), declaration_to_json(declaration))
        return declaration

    def declaration(self, sweep_name: str) -> Declaration | None:
        """What was declared for a sweep, or None where it never ran here."""
        name = _declaration_name(sweep_name)
        content = self._runs.read(name)
        return None if content is None else declaration_from_json(content, self._runs.path(name))

    def sweep_names(self) -> list[str]:
        """The sweeps that were declared here, sorted."""
        files = self._runs.names("", keep=lambda name: name.endswith(DECLARATION))
        return [name.removesuffix(DECLARATION) for name in files]

    def path(self, name: str) -> str:
        """The address of a file that lies directly below the root."""
        return self._runs.path(name)

    def keep(self, name: str, content: bytes) -> str:
        """Writes a file that is made from the ledger directly below its root; returns its address."""
        self._runs.write(name, content)
        return self._runs.path(name)

    def keep_report(self, plan: Plan, page: bytes) -> str:
        """Keeps the newest report of a sweep's scale beside its declaration; returns its address."""
        return self.keep(f"{plan.sweep.spec.name}.{scale_name(plan)}.report.html", page)

    def keep_shown(self, sweep_name: str, content: bytes) -> None:
        """Notes where MLflow shows a sweep's trials, for whoever links to them without asking MLflow."""
        self._runs.write(f"{sweep_name}.mlflow.json", content)

    def shown(self, sweep_name: str) -> bytes | None:
        """What was noted of where MLflow shows a sweep's trials, or None."""
        return self._runs.read(f"{sweep_name}.mlflow.json")

    def _begun(self, trial_ids: Iterable[str]) -> bool:
        return any(self._runs.exists(f"{trial_id}/trial.yaml") for trial_id in dict.fromkeys(trial_ids))


def scale_name(plan: Plan) -> str:
    """The name under which a declaration files the plan."""
    return plan.sweep.scale or DEFAULT_SCALE_NAME


def _nothing_declared(plan: Plan) -> Declaration:
    return Declaration(plan.sweep.spec.name, plan.sweep.spec.question, "", False, {}, {})


def _joined(listed: Sequence[str], plan: Plan) -> list[str]:
    return list(dict.fromkeys([*listed, *(trial.id for trial in plan.trials)]))


def _declaration_name(sweep_name: str) -> str:
    return f"{sweep_name}{DECLARATION}"


def damaged(ledger: Ledger, trial_id: str) -> str | None:
    """Why a trial's folder cannot be trusted, or None where it can."""
    try:
        ledger.result(trial_id)
    except WorkError as error:
        return str(error)
    return None
