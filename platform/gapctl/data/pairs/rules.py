"""How a configuration's pairs are read: for training, and for the gallery that it is measured on."""

from gapctl.data.captions import KeepRule
from gapctl.data.degrade import DegradeRule
from gapctl.data.pairs.recipe import ReadRule
from gapctl.spec.data import PairData
from gapctl.spec.trial import TrialConfig

WHOLE = KeepRule("full")
SHARP = DegradeRule("none")


def pair_data(config: TrialConfig) -> PairData:
    """The data of a configuration that is known to be image-text pairs."""
    assert isinstance(config.data, PairData)
    return config.data


def training_rule(data: PairData, image_size: int) -> ReadRule:
    """With the configuration's treatments of captions and images."""
    return ReadRule(image_size, _keep(data), _degrade(data))


def gallery_rule(data: PairData, image_size: int) -> ReadRule:
    """With those that it also has for held-out pairs."""
    keep = _keep(data) if data.captions.held_out == "treated" else WHOLE
    return ReadRule(image_size, keep, _degrade(data) if data.images.held_out == "degraded" else SHARP)


def _keep(data: PairData) -> KeepRule:
    captions = data.captions
    return KeepRule(captions.keep, captions.rate, captions.sentences, captions.field)


def _degrade(data: PairData) -> DegradeRule:
    return DegradeRule(data.images.degrade, data.images.amount)
