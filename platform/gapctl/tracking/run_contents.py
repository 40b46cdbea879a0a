"""Read a trial from the ledger as MLflow will show it, and build its tags, parameters and columns."""

import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import yaml

from gapctl.config.architectures import MODEL_PATHS
from gapctl.config.base import flatten_document
from gapctl.config.cohort import Cohort
from gapctl.config.hypotheses import Level
from gapctl.config.load import LoadedSweep
from gapctl.errors import WorkError
from gapctl.io.passwords import hide_password, hide_passwords
from gapctl.ledger import Ledger, Result, TrialFolder
from gapctl.ledger.trial import CONFIGURATION, HISTORY, MACHINE, STEPS
from gapctl.ledger.trial import FAILURE as FAILURE_FILE
from gapctl.plan.command_line import NOT_TRAINED
from gapctl.plan.plan import Plan, Trial, name_model_files, shorten_paths
from gapctl.plan.trial_id import RECIPE_VERSION

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput


Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]
POSITION = ("samples_seen", "seconds")
SYSTEM = "system/"
"""Prefix of metrics that MLflow's pages show as system metrics."""
SPEED = f"{SYSTEM}samples_per_second"
MEMORY = {"memory_mb": "system/memory_usage_megabytes", "gpu_memory_mb": "system/gpu_memory_usage_megabytes"}
"""System metrics by key of a result's hardware."""


class EvaluationRow(NamedTuple):
    """An evaluation or a step: samples seen, seconds of work until then, and its finite metrics."""

    samples_seen: int
    seconds: float
    metrics: dict[str, float]


@dataclass(frozen=True)
class TrialSnapshot:
    """A trial that has begun: start (seconds since 1970), seconds of work, rows, and status.

    `rows` are the evaluations and what was logged of single steps.
    `work` has the training rate and use of the machine, of which the ledger may know less than of the rest.
    """

    began: float
    seconds: float
    rows: tuple[EvaluationRow, ...]
    status: Status
    failure: str | None
    trial_yaml: str
    work: tuple[EvaluationRow, ...] = ()


def read_trial_snapshot(
    ledger: Ledger, trial_id: str, *, running: bool | None = None, before: TrialSnapshot | None = None
) -> TrialSnapshot | None:
    """Read a trial's folder, or return None if the trial has not begun.

    `running` is whether its process runs; if None, the last renewal of its lease decides. A damaged folder counts as a
    failure with the damage as its reason. What never changes is taken from `before`, an earlier snapshot.
    """
    folder = ledger.trial(trial_id)
    trial_yaml = before.trial_yaml if before else folder.read_text(CONFIGURATION)
    if trial_yaml is None:
        return None
    began = before.began if before else folder.began() or time.time()
    try:
        return _read_trial(folder, trial_yaml, began, running)
    except WorkError as damage:
        return TrialSnapshot(began, 0.0, (), "FAILED", str(damage), trial_yaml)


def _read_trial(folder: TrialFolder, trial_yaml: str, began: float, running: bool | None) -> TrialSnapshot:
    # A process that still runs has reported no result; when it has, the trial is read again.
    history, result = folder.read_table(HISTORY), None if running else folder.result()
    table = () if history is None else history.sort("samples_seen").iter_rows(named=True)
    evaluations = tuple(_convert_row(row) for row in table)
    rows = _merge_steps(evaluations, [_convert_row(row) for row in folder.read_rows_or_empty(STEPS)])
    seconds = rows[-1].seconds if rows else 0.0
    work = (*_compute_speeds(evaluations), *_read_machine(folder, result))
    if result is not None:
        return TrialSnapshot(began, result.seconds, rows, "FINISHED", None, trial_yaml, work)
    if running:
        return TrialSnapshot(began, seconds, rows, "RUNNING", None, trial_yaml, work)
    if (failure := folder.read_text(FAILURE_FILE)) is not None:
        reason = (failure.strip().splitlines() or ["failed without a message"])[-1]
        return TrialSnapshot(began, seconds, rows, "FAILED", reason, trial_yaml, work)
    lease = folder.lease() if running is None else None
    alive = lease is not None and lease.seems_alive
    return TrialSnapshot(began, seconds, rows, "RUNNING" if alive else "KILLED", None, trial_yaml, work)


def _merge_steps(evaluations: Sequence[EvaluationRow], steps: Sequence[EvaluationRow]) -> tuple[EvaluationRow, ...]:
    """Return evaluations and single steps by samples seen, as one row where both are of the same samples.

    Steps after the last evaluation wait for the next one, so that a sample's metrics are complete once it is shown.
    """
    rows = {row.samples_seen: row for row in steps if evaluations and row.samples_seen <= evaluations[-1].samples_seen}
    for row in evaluations:
        step = rows.get(row.samples_seen)
        rows[row.samples_seen] = row._replace(metrics={**step.metrics, **row.metrics}) if step else row
    return tuple(rows[samples_seen] for samples_seen in sorted(rows))


def _convert_row(found: Mapping[str, float], prefix: str = "") -> EvaluationRow:
    metrics = {
        f"{prefix}{key}": float(value)
        for key, value in found.items()
        if key not in POSITION and value is not None and math.isfinite(value)
    }
    return EvaluationRow(int(found["samples_seen"]), float(found["seconds"]), metrics)


def _compute_speeds(rows: Sequence[EvaluationRow]) -> list[EvaluationRow]:
    """Return samples per second of work between evaluations, evaluations included."""
    return [
        EvaluationRow(after.samples_seen, after.seconds, {SPEED: (after.samples_seen - before.samples_seen) / seconds})
        for before, after in pairwise(rows)
        if (seconds := after.seconds - before.seconds) > 0
    ]


def _read_machine(folder: TrialFolder, result: Result | None) -> list[EvaluationRow]:
    """Return the trial's machine rows or, if there are none, the memory in its result."""
    noted = [_convert_row(row, SYSTEM) for row in folder.read_rows_or_empty(MACHINE)]
    if noted or result is None:
        return noted
    memory = {name: float(result.hardware[key]) for key, name in MEMORY.items() if key in result.hardware}
    return [EvaluationRow(result.samples_seen, result.seconds, memory)] if memory else []


class TreatmentColumns:
    """The treatment columns of a plan. MLflow keeps parameters as text, so numbers are padded to sort."""

    def __init__(self, plan: Plan) -> None:
        vary = plan.sweep.spec.vary
        self._names = shorten_paths(list(vary))
        self._texts = {
            path: dict(zip(levels, _write_levels(path, levels), strict=True)) for path, levels in vary.items()
        }
        numbers = plan.sweep.spec.replicate_numbers
        self._replicates = dict(zip(numbers, pad_levels(numbers), strict=True))

    @property
    def names(self) -> list[str]:
        """The columns, in the order of the sweep file."""
        return list(self._names.values())

    def name(self, path: str) -> str:
        """Return the column of a treatment's dotted path."""
        return self._names[path]

    def params(self, trial: Trial) -> dict[str, str]:
        """Return a trial's value in each column."""
        return {self._names[path]: self._texts[path][level] for path, level in trial.factors.items()}

    def replicate(self, trial: Trial) -> dict[str, str]:
        """Return a trial's padded seed or recipe, or the name of its model in a cohort and what is known of that.

        A recipe's values are among the parameters of the configuration.
        """
        if trial.model is None:
            return {trial.replicate_noun: self._replicates[trial.replicate]}
        facts = {**trial.model.facts, **trial.model.published}
        legal = {_ILLEGAL_IN_NAMES.sub("_", name): str(value)[:LONGEST_PARAM] for name, value in facts.items()}
        taken = ("seed", *self.names)
        kept = {name: value for name, value in legal.items() if name not in taken}
        return {**kept, "model": trial.model.name[:LONGEST_PARAM]}

    def run_name(self, trial: Trial) -> str:
        """Return a name such as `attributes=05 seed=1`, which sorts by treatment and seed, or by model.

        A trial without factors has its label as name.
        """
        if not trial.factors:
            return trial.label
        number = self._replicates[trial.replicate]
        end = trial.replicate_label if trial.model else f"{trial.replicate_noun}={number}"
        return " ".join([*(f"{name}={value}" for name, value in self.params(trial).items()), end])


def _write_levels(path: str, levels: Sequence[Level]) -> list[str]:
    """Return a factor's levels as texts that sort; files of models by their names, as in the labels of trials."""
    names = name_model_files(levels) if path in MODEL_PATHS else {}
    return pad_levels([names.get(level, level) for level in levels])


def pad_levels(levels: Sequence[Level]) -> list[str]:
    """Return the levels as texts that sort: non-negative numbers get zeros on both sides of the point."""
    if not all(isinstance(level, int | float) and not isinstance(level, bool) and level >= 0 for level in levels):
        return [str(level) for level in levels]
    plain = [format(Decimal(str(level)), "f") for level in levels]
    whole = max(len(text.partition(".")[0]) for text in plain)
    places = max(len(text.partition(".")[2]) for text in plain)
    parts = [text.partition(".") for text in plain]
    return [before.zfill(whole) + (f".{after.ljust(places, '0')}" if places else "") for before, _, after in parts]


TRIAL = "gapctl.trial"
KIND = "gapctl.kind"
SCALE = "gapctl.scale"
OVERRIDES = "gapctl.overrides"
FAILURE = "gapctl.failure"
MODEL = "gapctl.model"
RUN_NAME = "mlflow.runName"
_ILLEGAL_IN_NAMES: Final = re.compile(r"[^\w\-. :/]")
"""Characters that MLflow does not accept in names of parameters."""
LONGEST_PARAM = 500
"""Characters that each version of MLflow accepts."""
DIGEST_LENGTH = 36
"""Longest digest of a data set that MLflow accepts."""


def format_trial_overrides(sweep: LoadedSweep) -> str:
    """Return the `--set` options that change which trials there are, as typed, joined by spaces."""
    typed = (" ".join(text.split()) for text in sweep.overrides)
    return " ".join(dict.fromkeys(text for text in typed if text.partition(".")[0] not in NOT_TRAINED))


def build_sweep_tags(sweep: LoadedSweep) -> dict[str, str]:
    """Return the parent run's tags."""
    overrides = format_trial_overrides(sweep)
    return {
        # Its capital letter sorts it before the trials, named for treatments.
        RUN_NAME: " ".join(filter(None, ["Sweep", sweep.scale_name_or_base, overrides])),
        "mlflow.source.name": "gapctl",
        KIND: "sweep",
        "gapctl.sweep": sweep.spec.name,
        SCALE: sweep.scale_name_or_base,
        **({OVERRIDES: overrides} if overrides else {}),
        "gapctl.question": sweep.spec.question,
        "gapctl.spec_sha256": sweep.spec_sha256,
        "gapctl.hypotheses_sha256": sweep.hypotheses_sha256,
    }


def build_sweep_params(sweep: LoadedSweep) -> dict[str, str]:
    """Return the sweep's configuration by dotted path: levels in lists where it varies, and what a search draws."""
    spec = sweep.spec
    document: dict[str, object] = {
        "scale": sweep.scale_name_or_base,
        **({f"{spec.replicate_noun}s": list(spec.replicate_numbers)} if spec.cohort is None else {}),
        **({} if spec.cohort is None else {"models": _list_model_names(spec.cohort)}),
        **spec.base.model_dump(mode="json"),
        **({"search": spec.search.model_dump(mode="json", exclude_none=True)} if spec.search else {}),
    }
    space = {} if spec.replicates is None else spec.replicates.space
    drawn = {path: f"{domain.kind} {', '.join(map(str, domain.values))}" for path, domain in space.items()}
    varied = {**drawn, **{path: str(list(levels)) for path, levels in spec.vary.items()}}
    params = {**flatten_document(document), **varied}
    return {key: str(value)[:LONGEST_PARAM] for key, value in params.items()}


def _list_model_names(cohort: Cohort) -> str:
    return ", ".join(member.name for member in cohort.members)


def build_sweep_files(sweep: LoadedSweep) -> dict[str, bytes]:
    """Return the sweep file as written and as resolved by scale and overrides, without passwords."""
    document = sweep.spec.model_dump(mode="json")
    document["tracking"]["uri"] = hide_password(sweep.spec.tracking.uri)
    resolved = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    files = {"sweep.yaml": sweep.text, "sweep.resolved.yaml": resolved}
    return {name: hide_passwords(text).encode() for name, text in files.items()}


def build_trial_tags(plan: Plan, trial: Trial, parent_run_id: str) -> dict[str, str]:
    """Return a trial's tags."""
    return {
        RUN_NAME: TreatmentColumns(plan).run_name(trial),
        "mlflow.parentRunId": parent_run_id,
        "mlflow.source.name": "gapctl",
        KIND: "trial",
        TRIAL: trial.id,
        "gapctl.sweep": plan.sweep.spec.name,
        SCALE: plan.sweep.scale_name_or_base,
        "gapctl.spec_sha256": plan.sweep.spec_sha256,
        "gapctl.hypotheses_sha256": plan.sweep.hypotheses_sha256,
        "gapctl.seed": str(trial.seed),
        "gapctl.recipe_version": str(RECIPE_VERSION),
        "gapctl.data_fingerprint": trial.data_fingerprint,
    }


def build_trial_params(plan: Plan, trial: Trial) -> dict[str, str]:
    """Return a trial's configuration by dotted path, and its treatments and seed as columns."""
    configuration = flatten_document(trial.config.model_dump(mode="json"))
    return {**{path: str(value) for path, value in configuration.items()}, **build_treatment_columns(plan, trial)}


def build_treatment_columns(plan: Plan, trial: Trial) -> dict[str, str]:
    """Return a trial's treatments by short name, and its seed, or its model and what is known of that."""
    treatments = TreatmentColumns(plan)
    return {**treatments.params(trial), **treatments.replicate(trial)}


def build_fact_params(plan: Plan, trial: Trial) -> dict[str, str]:
    """Return the parameters that say what is known of a cohort's model; nothing for another trial."""
    return {} if trial.model is None else TreatmentColumns(plan).replicate(trial)


def build_dataset_input(trial: Trial) -> "DatasetInput":
    """Return the trial's data as MLflow's input. The digest is the beginning of the fingerprint."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    data = trial.config.data
    dataset = Dataset(
        name=f"{data.dataset}-{PurePosixPath(data.source).name or data.source}",
        digest=trial.data_fingerprint[:DIGEST_LENGTH],
        source_type="gapctl",
        source=json.dumps({"dataset": data.dataset, "source": data.source}),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])


MODEL_CODE: Final = """\
\"\"\"Trial {trial} of gapctl: the pickle module with which MLflow reads tensors and builds the model.\"\"\"

from pathlib import Path

from gapctl.inference.logged_model import build_unpickler

Unpickler = build_unpickler(Path(__file__).parents[1] / "data" / "trial.yaml")
"""


def build_model_files(trial_id: str, model_id: str, run_id: str, weights: bytes, about: bytes) -> dict[str, bytes]:
    """Return the files of MLflow's pytorch flavour from the content of `final.pt` and `trial.yaml`.

    MLflow hands `model.pth` to `torch.load` with the pickle module that the files name. That module is the trial's own:
    it takes the weights as they lie in the ledger, and returns open_clip's model instead of a dictionary.
    """
    from mlflow.models import Model

    module = f"gapctl_trial_{trial_id}"
    described = Model(run_id=run_id, model_id=model_id, model_size_bytes=len(weights))
    described.add_flavor("pytorch", model_data="data", code="code", pytorch_version=_read_torch_version())
    return {
        "MLmodel": described.to_yaml().encode(),
        "data/model.pth": weights,
        "data/pickle_module_info.txt": module.encode(),
        "data/trial.yaml": about,
        f"code/{module}.py": MODEL_CODE.format(trial=trial_id).encode(),
    }


def _read_torch_version() -> str:
    """Return the version that torch gives itself, with its build, from its file: importing torch takes seconds."""
    torch = find_spec("torch")
    if torch is None or torch.origin is None:
        return "unknown"
    found = re.search(r"^__version__ = '(.+)'$", (Path(torch.origin).parent / "version.py").read_text(), re.MULTILINE)
    return found[1] if found else "unknown"
