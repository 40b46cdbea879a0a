"""What a trial is trained and measured on, by its dataset."""

import torch

from gapctl.data.load import Material
from gapctl.data.mad.captions import CONTEXT_LENGTH, END_TOKEN, PAD_TOKEN, VOCAB_SIZE
from gapctl.data.pairs.source import PairPlaces
from gapctl.models.build import CLIP_VOCABULARY, Vocabulary
from gapctl.spec.presets import PRESETS
from gapctl.spec.trial import TrialConfig
from gapctl.training.evaluate import MadEvaluation
from gapctl.training.evaluated import Evaluation, FittingEvaluation
from gapctl.training.intervened import Intervened

MAD_VOCABULARY = Vocabulary(size=VOCAB_SIZE, context=CONTEXT_LENGTH, pad=PAD_TOKEN, end=END_TOKEN)


def vocabulary_of(config: TrialConfig) -> Vocabulary:
    """That of the preset's captions."""
    return MAD_VOCABULARY if PRESETS[config.model.preset].vocabulary == "mad" else CLIP_VOCABULARY


def evaluation_of(material: Material, config: TrialConfig, device: torch.device) -> Evaluation:
    """The gallery of a configuration, after its intervention if it has one."""
    gallery = _gallery_of(material, config, device)
    return gallery if config.evaluate.intervention == "none" else Intervened(gallery, config.evaluate)


def _gallery_of(material: Material, config: TrialConfig, device: torch.device) -> FittingEvaluation:
    if isinstance(material, PairPlaces):
        from gapctl.training.evaluate_pairs import PairEvaluation

        return PairEvaluation(material, config, device)
    return MadEvaluation(material, config, device)
