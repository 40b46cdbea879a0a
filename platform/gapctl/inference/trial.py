"""Rebuild a finished trial of the ledger, and encode its evaluation gallery again."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import yaml

from gapctl.config.trial import Data, TrialConfig
from gapctl.data.load import Dataset
from gapctl.errors import InputError, first_line_of_error
from gapctl.ledger import Ledger, Result, TrialFolder
from gapctl.ledger.trial import CONFIGURATION, WEIGHTS
from gapctl.models.build import build_model
from gapctl.text import list_first_names
from gapctl.training.checkpoint import unpack_weights
from gapctl.training.evaluation import GalleryEncoding
from gapctl.training.trial_state import build_evaluation, choose_vocabulary

MAX_LISTED = 8
"""Most ids that a message lists."""

LoadData = Callable[[Data, str], Dataset]


class TrialDescription(NamedTuple):
    """The parts of `trial.yaml` that are needed here."""

    label: str
    seed: int
    data_fingerprint: str
    config: TrialConfig


class EncodedTrial(NamedTuple):
    """A trial's encoded gallery, its description, and its result in the ledger."""

    id: str
    described: TrialDescription
    result: Result
    encoded: GalleryEncoding


def encode_trial(ledger: Ledger, prefix: str, load_data: LoadData) -> EncodedTrial:
    """Encode the finished trial whose id begins with `prefix`, on the kind of device and threads of its training.

    `load_data` gets the trial's data and its fingerprint. Raises InputError for an id that is unknown, ambiguous or not
    finished, and WorkError if the trial's files are damaged.
    """
    folder = ledger.trial(_resolve_trial_id(ledger, prefix))
    result = folder.result()
    if result is None:
        raise InputError(
            f"--trial {prefix}: trial {folder.trial_id} is not finished; expected {folder.path('result.json')}. "
            "Run its sweep again: it goes on from the last checkpoint"
        )
    described = _read_description(folder)
    data = load_data(described.config.data, described.data_fingerprint)
    return EncodedTrial(folder.trial_id, described, result, _encode_gallery(folder, described, data, result))


def _resolve_trial_id(ledger: Ledger, prefix: str) -> str:
    known = ledger.list_trial_ids()
    found = [name for name in known if name.startswith(prefix)] if prefix else []
    if len(found) == 1:
        return found[0]
    if not known:
        raise InputError(f"--trial {prefix}: {ledger.root} holds no trials; expected a ledger, which --runs names")
    problem = f"{len(found)} trials in {ledger.root} begin" if found else f"no trial in {ledger.root} begins"
    listed = found or known
    raise InputError(f"--trial {prefix}: {problem} with that; expected one of {list_first_names(listed, MAX_LISTED)}")


def _read_description(folder: TrialFolder) -> TrialDescription:
    text = folder.read_text(CONFIGURATION)
    try:
        found = yaml.safe_load(text or "")
        config = TrialConfig.model_validate(found["config"])
        return TrialDescription(str(found["label"]), int(found["seed"]), str(found["data_fingerprint"]), config)
    except (yaml.YAMLError, ValueError, TypeError, KeyError) as error:
        reason = f"{type(error).__name__}: {first_line_of_error(error)}"
        raise folder.damaged(CONFIGURATION, reason) from error


def _encode_gallery(folder: TrialFolder, described: TrialDescription, data: Dataset, result: Result) -> GalleryEncoding:
    torch.set_num_threads(int(result.hardware.get("threads", 1)))
    on_gpu = result.hardware.get("device") == "cuda" and torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    model = build_model(described.config, choose_vocabulary(described.config), described.seed).to(device)
    content = folder.read(WEIGHTS)
    try:
        if content is None:
            raise ValueError("the file is missing")
        model.load_state_dict(unpack_weights(content))
    except (ValueError, RuntimeError) as error:
        reason = first_line_of_error(error)
        raise folder.damaged(WEIGHTS, reason) from error
    # Not model.eval(): a trial evaluates in training mode, and attention's fast path rounds otherwise.
    return build_evaluation(data, described.config, device).encode(model)
