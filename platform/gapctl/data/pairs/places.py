"""Which shards of this machine `--data` means: files, folders of them, and braces such as `{00000..00011}.tar`."""

from collections.abc import Sequence

from gapctl.data.pairs.stored import Stored, stored_shards
from gapctl.errors import InputError


def local_shards(places: Sequence[str]) -> list[Stored]:
    """The tar files that these places name, folders in the order of names, each file once.

    Raises InputError for a place that is not there, a folder without shards, and a file of no bytes.
    """
    for place in places:
        if "://" in place:
            raise InputError(
                f"--data {place}: an address; expected files or folders on this machine. Copy the shards here"
            )
    try:
        found = stored_shards(places)
    except InputError as error:
        raise InputError(f"--data {error}") from error
    for shard in found:
        if not shard.bytes:
            raise InputError(
                f"--data {shard.address}: an empty shard (0 bytes); expected a tar of key.jpg, key.txt, key.json"
            )
    return found
