"""`mad.json`: what a folder of shards holds, with a checksum of every file and one of itself.

Standard library only: `gapctl plan` asks it for the fingerprint of a trial's data.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, NamedTuple

from gapctl.data.mad.shards.layout import DESCRIPTION, MAKING, Request, Shard, shards_of
from gapctl.data.mad.source import BUNDLED, SPLITS, Split, source_folder
from gapctl.errors import InputError

KIND: Final = "MAD shards"
LAYOUT: Final = 1


class FileRecord(NamedTuple):
    """A file's size and the sha256 of its bytes."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Description:
    """A folder's request, the digits of each split that it holds, and its files by name."""

    request: Request
    digits: Mapping[Split, int]
    files: Mapping[str, FileRecord]

    def shards(self) -> list[Shard]:
        """The folder's shards, in order."""
        return shards_of(self.digits, self.request)


class DamagedDescriptionError(InputError):
    """`mad.json` is there, but is not what was written."""


def to_json(description: Description) -> bytes:
    """Return the bytes of `mad.json`."""
    body = {
        "kind": KIND,
        "layout": LAYOUT,
        "fingerprint": description.request.fingerprint,
        **asdict(description.request),
        "digits": dict(description.digits),
        "images": {split: 24 * count for split, count in description.digits.items()},
        "files": {name: record._asdict() for name, record in description.files.items()},
    }
    return (json.dumps({**body, "checksum": _checksum(body)}, indent=1) + "\n").encode()


def read_description(folder: Path) -> Description | None:
    """Return what the folder says it holds; None if it has no `mad.json`; raises InputError if that is damaged."""
    path = folder / DESCRIPTION
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}). Check its permissions.") from error
    return _parsed(folder, content)


def shards_source(source: str) -> Description | None:
    """Return the description if a source is a folder of shards, None if it is another source.

    Raises InputError for a folder of shards that is not finished.
    """
    if source == BUNDLED:
        return None
    folder = source_folder(source)
    description = read_description(folder)
    if description is None and (folder / MAKING).is_dir():
        raise InputError(
            f"{folder}: its images are not all made. Run the `gapctl data mad --out {folder}` that began it again: "
            "it makes what is left."
        )
    return description


def _parsed(folder: Path, content: bytes) -> Description:
    try:
        body = json.loads(content)
        if body.pop("checksum") != _checksum(body):
            raise ValueError("its own checksum does not fit")
        if (body["kind"], body["layout"]) != (KIND, LAYOUT):
            raise ValueError(f"kind {body['kind']!r}, layout {body['layout']!r}; expected {KIND!r}, {LAYOUT}")
        return _from_body(body)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedDescriptionError(
            f"{folder / DESCRIPTION}: damaged, or not written by this version of gapctl ({error}). Delete {folder} "
            "and make it again with `gapctl data mad --out`, or copy it again."
        ) from error


def _from_body(body: dict[str, Any]) -> Description:
    request = Request(**{field.name: body[field.name] for field in fields(Request)})
    digits = {split: body["digits"][split] for split in SPLITS if split in body["digits"]}
    return Description(request, digits, {name: FileRecord(**record) for name, record in body["files"].items()})


def _checksum(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
