"""Which shards a person means: files, folders of them, and braces such as `{00000..00011}.tar`."""

from collections.abc import Sequence
from pathlib import Path

from gapctl.errors import InputError


def shard_files(places: Sequence[str]) -> list[Path]:
    """The tar files that these places name, folders in the order of names, each file once.

    Raises InputError for a place that is not there, a folder without shards, and a file of no bytes.
    """
    found = [path for place in places for path in _expanded(place)]
    for path in found:
        if not path.stat().st_size:
            raise InputError(f"--data {path}: an empty shard (0 bytes); expected a tar of key.jpg, key.txt, key.json")
    return list(dict.fromkeys(found))


def _expanded(place: str) -> list[Path]:
    from webdataset.shardlists import expand_urls

    if "://" in place:
        raise InputError(f"--data {place}: an address; expected files or folders on this machine. Copy the shards here")
    return [path for name in expand_urls(place) for path in _files(Path(name).expanduser())]


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path.absolute()]
    if not path.is_dir():
        raise InputError(f"--data {path}: no such file or folder; expected tar shards in the img2dataset layout")
    shards = sorted(path.absolute().glob("*.tar"))
    if not shards:
        raise InputError(f"--data {path}: no .tar file in this folder; expected shards in the img2dataset layout")
    return shards
