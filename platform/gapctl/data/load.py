"""What all trials on one source share, ready for their processes."""

from pathlib import Path

from gapctl.data.feed import OnProgress, TrialData, load_trial_data
from gapctl.spec.data import Data, MadData, PairData

Material = TrialData | PairData
"""MAD's images, or where pairs lie, which each process reads for itself."""


def load_material(data: Data, on_progress: OnProgress | None = None) -> Material:
    """MAD's images, made and cached at first use, or the places of pairs that were looked at.

    Raises InputError for what is missing or does not fit together.
    """
    if isinstance(data, MadData):
        return load_trial_data(data, on_progress)
    from gapctl.data.pairs.source import open_pairs

    found = everywhere(data)
    open_pairs(found)
    return found


def everywhere(data: PairData) -> PairData:
    """The same places for a process in another folder."""
    names = ("source", "held_out", "classes")
    return data.model_copy(update={name: _absolute(getattr(data, name)) for name in names})


def _absolute(place: str) -> str:
    if place in ("", "bundled") or "://" in place:
        return place
    return str(Path(place).expanduser().absolute())
