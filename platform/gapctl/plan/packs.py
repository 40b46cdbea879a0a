"""Which trials may be trained together as one batched model: those that differ in nothing that shapes a step."""

from collections.abc import Sequence

from gapctl.plan.trials import Trial
from gapctl.spec.data import MadCaptions, MadData
from gapctl.spec.trial import TrialConfig

Pack = tuple[Trial, ...]


def packed(trials: Sequence[Trial], size: int) -> tuple[Pack, ...]:
    """Groups of at most `size` trials of one shape; trials keep their order, packs that of their first trials.

    Trials on image-text pairs are trained alone.
    """
    waiting: dict[str, list[Trial]] = {}
    packs: list[list[Trial]] = []
    for trial in trials:
        shape = shape_of(trial.config).model_dump_json() if trial.config.data.dataset == "mad" else trial.id
        pack = waiting.get(shape)
        if pack is None or len(pack) == size:
            pack = waiting[shape] = []
            packs.append(pack)
        pack.append(trial)
    return tuple(tuple(pack) for pack in packs)


def shape_of(config: TrialConfig) -> TrialConfig:
    """A configuration without what packed trials may differ in: captions, main factor, where a temperature begins."""
    assert isinstance(config.data, MadData)  # others are trained alone
    data = MadData(source=config.data.source, captions=MadCaptions(), sides=config.data.sides)
    temperature = config.temperature.model_copy(update={"init": 0.07})
    return config.model_copy(update={"data": data, "temperature": temperature})
