"""How many digits each split of a source has, everything about the source checked that can be without hashing it."""

from gapctl.data.mad.digits import load_digits
from gapctl.data.mad.shards.description import shards_source
from gapctl.data.mad.shards.mapped import open_images
from gapctl.data.mad.source import SPLITS, Split, source_folder


def count_digits(source: str) -> dict[Split, int]:
    """Return the digits per split; raises InputError for a source that a trial cannot be trained on."""
    if shards_source(source) is None:
        return {split: len(load_digits(source, split)) for split in SPLITS}
    return {split: len(open_images(source_folder(source), split)[0]) for split in SPLITS}
