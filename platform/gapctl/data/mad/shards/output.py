"""Whether a folder may be written to: nothing foreign in it, made by the same request, and room on its disk."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from gapctl.data.mad.shards.description import Description, read_description
from gapctl.data.mad.shards.layout import DESCRIPTION, MAKING, Request, Shard, foreign_files
from gapctl.data.mad.shards.write import DIGIT_BYTES
from gapctl.errors import InputError

REQUEST_FILE: Final = "request.json"
_TAR_DIGIT_BYTES: Final = 24 * 3 * 1200
"""Three members a picture; a header of 512 bytes each, and contents of one to three blocks of 512."""
_TABLES_BYTES: Final = 4_000_000
_NAMED: Final = {
    "source": "the source's digits",
    "generator": "the generator's version",
    "seed": "--seed",
    "limit": "--digits",
    "format": "--format",
    "digits_per_shard": "digits per shard",
}


def check_output(folder: Path, request: Request, shards: Sequence[Shard]) -> None:
    """Raise InputError if the folder holds anything but what this request makes; it may be missing."""
    try:
        if not folder.exists():
            return
        before = request_before(folder)
        foreign = foreign_files(folder, shards if before else ())
    except NotADirectoryError as error:
        raise InputError(f"--out {folder}: is a file; expected a folder, new or empty.") from error
    except OSError as error:
        raise unwritable(folder, error) from error
    if before is not None:
        _check_same(folder, before, request)
    if foreign:
        names = ", ".join(foreign[:5]) + (f" and {len(foreign) - 5} more" if len(foreign) > 5 else "")
        raise InputError(
            f"--out {folder}: holds other data ({names}); expected a new or empty folder, or one that "
            "`gapctl data mad --out` began. Nothing was written."
        )


def existing_description(folder: Path) -> Description | None:
    """Return what the folder was when it was last whole, also where it is being added to now."""
    return read_description(folder) or read_description(folder / MAKING)


def request_before(folder: Path) -> Request | None:
    """Return the request that the folder was made by or is being made by; None for any other folder."""
    description = existing_description(folder)
    if description is not None:
        return description.request
    try:
        return Request(**json.loads((folder / MAKING / REQUEST_FILE).read_bytes()))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{folder / MAKING / REQUEST_FILE}: damaged ({error}). Delete {folder} and make it again."
        ) from error


def bytes_needed(shards: Sequence[Shard]) -> int:
    """Return about how much the shards take, the tables included; for tar files, never less than that."""
    per_digit = {"npy": DIGIT_BYTES, "webdataset": _TAR_DIGIT_BYTES}
    return _TABLES_BYTES + sum(shard.count * per_digit[shard.format] for shard in shards)


def check_space(folder: Path, needed: int) -> None:
    """Raise InputError if the folder's disk has less than `needed` bytes free."""
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise InputError(
            f"--out {folder}: {needed / 1e6:,.0f} MB are needed, and its disk has {free / 1e6:,.0f} MB free. "
            "Free some space, give a folder on another disk, or make less with --digits. Nothing was written."
        )


def unwritable(folder: Path, error: OSError) -> InputError:
    """Return what to say of a folder that cannot be written."""
    return InputError(f"--out {folder}: cannot be written ({error.strerror}); expected a folder that can.")


def _check_same(folder: Path, before: Request, request: Request) -> None:
    old, new = asdict(before), asdict(request)
    differing = [
        f"{_NAMED[name]} {_shown(name, old)} there, {_shown(name, new)} now" for name in old if old[name] != new[name]
    ]
    if differing:
        raise InputError(
            f"--out {folder}: was made otherwise: {'; '.join(differing)}. Give another folder, or delete this one to "
            f"make it anew ({DESCRIPTION} says how it was made). Nothing was written."
        )


def _shown(name: str, request: Mapping[str, object]) -> str:
    value = request[name]
    return "all" if name == "limit" and value is None else str(value)
