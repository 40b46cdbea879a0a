"""A runs folder: trials by id, and one declaration per sweep."""

from typing import TYPE_CHECKING

from gapctl.errors import InputError, WorkError
from gapctl.ledger.declaration import Declaration, declaration_from_json, declaration_to_json
from gapctl.ledger.files import Folder
from gapctl.ledger.result import Result
from gapctl.ledger.trial_folder import TrialFolder
from gapctl.plan.trials import Plan

if TYPE_CHECKING:
    import polars

DEFAULT_SCALE_NAME = "base"


class Ledger:
    """Everything that was computed, below a local path or any fsspec address (`s3://bucket/runs`)."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._runs = Folder(root)

    def trial(self, trial_id: str) -> TrialFolder:
        """The folder of one trial, whether it exists yet or not."""
        return TrialFolder(self._runs, trial_id)

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
        """Writes down the plan's hypotheses; those of a sweep that has begun stay as they were first declared."""
        earlier = self.declaration(plan.sweep.spec.name)
        begun = self._begun(plan, earlier)
        kept = earlier if earlier is not None and begun else None
        scale = plan.sweep.scale or DEFAULT_SCALE_NAME
        declaration = Declaration(
            sweep=plan.sweep.spec.name,
            question=plan.sweep.spec.question,
            hypotheses_sha256=kept.hypotheses_sha256 if kept else plan.sweep.hypotheses_sha256,
            preregistered=kept.preregistered if kept else not begun,
            spec_sha256={**(earlier.spec_sha256 if earlier else {}), scale: plan.sweep.spec_sha256},
            trials={**(earlier.trials if earlier else {}), scale: [trial.id for trial in plan.trials]},
        )
        self._runs.write(_declaration_name(plan.sweep.spec.name), declaration_to_json(declaration))
        return declaration

    def declaration(self, sweep_name: str) -> Declaration | None:
        """What was declared for a sweep, or None where it never ran here."""
        name = _declaration_name(sweep_name)
        content = self._runs.read(name)
        return None if content is None else declaration_from_json(content, self._runs.path(name))

    def keep_report(self, sweep_name: str, page: bytes) -> str:
        """Keeps a sweep's newest report beside its declaration; returns its address."""
        name = f"{sweep_name}.report.html"
        self._runs.write(name, page)
        return self._runs.path(name)

    def _begun(self, plan: Plan, earlier: Declaration | None) -> bool:
        ids = {trial.id for trial in plan.trials}
        ids.update(trial_id for listed in (earlier.trials if earlier else {}).values() for trial_id in listed)
        return any(self._runs.exists(f"{trial_id}/trial.yaml") for trial_id in sorted(ids))


def _declaration_name(sweep_name: str) -> str:
    return f"{sweep_name}.sweep.json"


def damaged(ledger: Ledger, trial_id: str) -> str | None:
    """Why a trial's folder cannot be trusted, or None where it can."""
    try:
        ledger.result(trial_id)
    except WorkError as error:
        return str(error)
    return None
