"""Rebuild a finished trial of the ledger, and encode its evaluation gallery again."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from open_clip.model import CLIP

from gapctl.config.evaluation_sets import EvaluationSet
from gapctl.config.trial import Data, MadData, TrialConfig, is_table
from gapctl.data.image_text.evaluation_sets import OpenedEvaluationSet
from gapctl.data.image_text.tokens import get_tokenizer
from gapctl.data.load import Dataset
from gapctl.data.mad.captions import convert_captions_to_tokens
from gapctl.data.parallel_shards import OnProgress
from gapctl.errors import InputError, first_line_of_error
from gapctl.extensions import SINGULAR, explain_unusable
from gapctl.ledger import Ledger, Result, TrialFolder
from gapctl.ledger.trial import CONFIGURATION, WEIGHTS
from gapctl.models.public import get_model_input
from gapctl.text import format_first_names
from gapctl.training.checkpoint import unpack_weights
from gapctl.training.evaluation import GalleryEncoding
from gapctl.training.set_evaluation import EncodedEvaluationSet, build_trial_set_model, encode_set_for_trial
from gapctl.training.trial_state import build_evaluation, build_trial_model

if TYPE_CHECKING:
    from PIL import Image

MAX_LISTED = 8
"""Most ids that a message lists."""

LoadData = Callable[[Data, str], Dataset]


class TrialDescription(NamedTuple):
    """The parts of `trial.yaml` that are needed here; `sets` are the evaluation sets that the trial was measured on."""

    label: str
    seed: int
    data_fingerprint: str
    config: TrialConfig
    sets: Mapping[str, EvaluationSet]


class EncodedTrial(NamedTuple):
    """A trial's encoded gallery, its description, and its result in the ledger."""

    id: str
    described: TrialDescription
    result: Result
    encoded: GalleryEncoding


def encode_gallery_with_trial_model(
    ledger: Ledger, prefix: str, load_data: LoadData, *, pairs: bool = False
) -> EncodedTrial:
    """Encode the finished trial whose id begins with `prefix`, on the kind of device and threads of its training.

    With `pairs`, a model of MAD is shown prompts of the main factor with each other one too.
    `load_data` gets the trial's data and its fingerprint. Raises InputError for an id that is unknown, ambiguous or not
    finished, and WorkError if the trial's files are damaged.
    """
    folder = ledger.trial(_resolve_trial_id(ledger, prefix))
    result = _require_result(folder, prefix)
    described = _read_description(folder)
    data = load_data(described.config.data, described.data_fingerprint)
    encoded = _encode_gallery(folder, described, data, result, pairs=pairs)
    return EncodedTrial(folder.trial_id, described, result, encoded)


def _resolve_trial_id(ledger: Ledger, prefix: str) -> str:
    known = ledger.list_trial_ids()
    found = [name for name in known if name.startswith(prefix)] if prefix else []
    if len(found) == 1:
        return found[0]
    if not known:
        raise InputError(f"--trial {prefix}: {ledger.root} holds no trials; expected a ledger, which --runs names")
    problem = f"{len(found)} trials in {ledger.root} begin" if found else f"no trial in {ledger.root} begins"
    listed = found or known
    raise InputError(f"--trial {prefix}: {problem} with that; expected one of {format_first_names(listed, MAX_LISTED)}")


def _require_result(folder: TrialFolder, prefix: str) -> Result:
    result = folder.result()
    if result is None:
        raise InputError(
            f"--trial {prefix}: trial {folder.trial_id} is not finished; expected {folder.path('result.json')}. "
            "Run its sweep again: it goes on from the last checkpoint"
        )
    return result


def _read_description(folder: TrialFolder) -> TrialDescription:
    try:
        return parse_description(folder.read_text(CONFIGURATION) or "", folder.path(CONFIGURATION))
    except ValueError as error:
        raise folder.damaged(CONFIGURATION, str(error)) from error


def parse_description(text: str, address: str) -> TrialDescription:
    """Parse the text of the `trial.yaml` at an address.

    Raise ValueError if it is damaged, InputError if it needs a package that cannot be used here.
    """
    try:
        found = yaml.safe_load(text)
        _require_packages(found, address)
        config = TrialConfig.model_validate(found["config"])
        named = found.get("evaluation_sets", {}).items()
        sets = {name: EvaluationSet.model_validate(each["definition"]) for name, each in named}
        return TrialDescription(str(found["label"]), int(found["seed"]), str(found["data_fingerprint"]), config, sets)
    except (yaml.YAMLError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{type(error).__name__}: {first_line_of_error(error)}") from error


def _require_packages(description: object, address: str) -> None:
    """Raise InputError where a package whose metric, treatment or loss the trial used is not installed."""
    named = description.get("extensions") if isinstance(description, Mapping) else None
    for key, code in named.items() if isinstance(named, Mapping) else ():
        kind, _, name = key.partition("/")
        if explain_unusable(kind, name):
            raise InputError(
                f"{address}: its training had {SINGULAR[kind]} {name} of {code['package']} "
                f"{code['version']}, which cannot be used here; install that package"
            )


def _encode_gallery(
    folder: TrialFolder, described: TrialDescription, data: Dataset, result: Result, *, pairs: bool
) -> GalleryEncoding:
    torch.set_num_threads(int(result.hardware.get("threads", 1)))
    device = _choose_device(result)
    model = _load_weights(folder, described).to(device)
    # Not model.eval(): a trial evaluates in training mode, and attention's fast path rounds otherwise.
    return build_evaluation(data, described.config, device).encode(model, pairs=pairs)


def _choose_device(result: Result) -> torch.device:
    """Return the kind of device that a trial was trained on, if it is here."""
    on_gpu = result.hardware.get("device") == "cuda" and torch.cuda.is_available()
    return torch.device("cuda" if on_gpu else "cpu")


class EncodedTrialSet(NamedTuple):
    """An evaluation set as a trial's last model sees it, the trial's description, and its result in the ledger."""

    id: str
    described: TrialDescription
    result: Result
    encoded: EncodedEvaluationSet


def encode_set_with_trial_model(
    ledger: Ledger,
    prefix: str,
    open_named: Callable[[TrialDescription], OpenedEvaluationSet],
    on_progress: OnProgress,
    *,
    pairs: bool = False,
) -> EncodedTrialSet:
    """Show an evaluation set to the model of the finished trial whose id begins with `prefix`, as its trial did.

    `open_named` opens the set, given the trial. Raise as `encode_gallery_with_trial_model` does, and InputError for a
    trial on MAD, whose models know no other words.
    """
    folder = ledger.trial(_resolve_trial_id(ledger, prefix))
    result = _require_result(folder, prefix)
    described = _read_description(folder)
    if described.config.data.dataset == "mad":
        raise InputError(
            f"--trial {prefix}: a training on MAD, whose models know no other words; expected one on image-text pairs"
        )
    opened = open_named(described)
    model = _load_weights(folder, described).to(_choose_device(result))
    shown = build_trial_set_model(model, described.config)
    encoded = encode_set_for_trial(opened, shown, described.config.evaluate, on_progress, pairs=pairs)
    return EncodedTrialSet(folder.trial_id, described, result, encoded)


def _load_weights(folder: TrialFolder, described: TrialDescription) -> CLIP:
    """Build the trial's model on the CPU with its last weights; raise WorkError if their file is damaged."""
    model = build_model_from_description(described)
    content = folder.read(WEIGHTS)
    try:
        if content is None:
            raise ValueError("the file is missing")
        model.load_state_dict(unpack_weights(content))
    except (ValueError, RuntimeError) as error:
        raise folder.damaged(WEIGHTS, first_line_of_error(error)) from error
    return model


def build_model_from_description(described: TrialDescription) -> CLIP:
    """Build the trial's model on the CPU with the weights that it began with, unless it began with another's."""
    return build_trial_model(described.config, described.seed)


class TrialModel(NamedTuple):
    """A trial's model on the CPU, and the configuration that it was trained by."""

    model: CLIP
    config: TrialConfig


def load_trial_model(ledger: Ledger, prefix: str) -> TrialModel:
    """Load the model of the finished trial whose id begins with `prefix`.

    Raise as `encode_gallery_with_trial_model` does.
    """
    folder = ledger.trial(_resolve_trial_id(ledger, prefix))
    _require_result(folder, prefix)
    described = _read_description(folder)
    if is_table(described.config):
        raise InputError(
            f"trial {folder.trial_id} is a table (model.preset table), which has no encoders to load; expected a "
            "training of another preset"
        )
    return TrialModel(_load_weights(folder, described), described.config)


def build_preprocess(config: TrialConfig) -> "Callable[[Image.Image], torch.Tensor]":
    """Return the transform from a PIL image to the model's input (3, H, W), as a trial's evaluation reads images."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    seen = get_model_input(config.model)
    settings = PreprocessCfg(size=seen.image_size, mean=seen.mean, std=seen.std)
    if seen.resize is not None and seen.interpolation is not None:
        settings.resize_mode, settings.interpolation = seen.resize, seen.interpolation
    transform: Callable[[Image.Image], torch.Tensor] = image_transform_v2(settings, is_train=False)
    return transform


def build_tokenizer(config: TrialConfig) -> "Callable[[str | Sequence[str]], torch.Tensor]":
    """Return the function from one or several captions to tokens int64 (B, L).

    Captions of MAD are values with hyphens between them, as `gapctl data preview` shows them. It raises InputError for
    a value that MAD does not have, and where a public model's tokenizer cannot be had.
    """
    encode: Callable[[Sequence[str]], NDArray[np.int64]]
    if isinstance(config.data, MadData):
        encode = partial(convert_captions_to_tokens, synonyms=config.data.captions.synonyms)
    else:
        seen = get_model_input(config.model)
        encode = get_tokenizer(seen.tokenizer, seen.context)

    def tokenize(captions: str | Sequence[str]) -> torch.Tensor:
        return torch.from_numpy(encode([captions] if isinstance(captions, str) else list(captions)))

    return tokenize
