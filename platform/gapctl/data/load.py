"""Load the data that all trials on one source share."""

from gapctl.config.trial import Data, MadData
from gapctl.data.image_text.source import PairPaths, load_pair_manifests, prepare_large_source, resolve_pair_paths
from gapctl.data.mad.feed import TrialData, load_mad_arrays
from gapctl.data.parallel_shards import OnProgress

Dataset = TrialData | PairPaths
"""MAD's images, or the paths of image-text pairs, which each process reads for itself."""


def load_dataset(data: Data, on_progress: OnProgress | None = None) -> Dataset:
    """Return MAD's images, made and cached at first use, or the checked paths of image-text pairs.

    Raise InputError for data that is missing or does not fit together.
    """
    if isinstance(data, MadData):
        return load_mad_arrays(data, on_progress)
    places = resolve_pair_paths(data)
    if on_progress is not None:
        prepare_large_source(places, on_progress)
    load_pair_manifests(places)
    return places
