"""The samples of one tar shard; of untrusted members only images, texts and JSON are looked at."""

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gapctl.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

IMAGES: Final = ("jpg", "jpeg", "png", "webp")
FORMATS: Final = ("JPEG", "PNG", "WEBP")
"""No other decoder sees a shard's bytes: some of Pillow's start other programs."""
BLOCK: Final = 512


class Sample(NamedTuple):
    """A sample as it lies in its shard; `about` is the content of its JSON member, empty where there is none."""

    key: str
    image: bytes | None
    caption: str | None
    about: dict[str, Any]


def samples_of(shard: Path) -> Iterator[Sample]:
    """The samples in the order of the tar; raises InputError where it is damaged, or holds no sample at all."""
    from webdataset.tariterators import group_by_keys, tar_file_iterator

    count = 0
    try:
        with shard.open("rb") as opened:
            members = ({**member, "__url__": str(shard)} for member in tar_file_iterator(opened))
            for members_by_ending in group_by_keys(members):
                yield _sample(members_by_ending)
                count += 1
        _require_end(shard)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        reason = str(error).split(" @ ")[0]
        raise InputError(f"{shard}: a damaged tar, after {count} samples ({reason}); fetch it again") from error
    if not count:
        raise InputError(f"{shard}: an empty shard; expected samples of key.jpg, key.txt, key.json")


def _require_end(shard: Path) -> None:
    """Raises ReadError where the members do not end in the block of zeros that ends a tar.

    To `tarfile` a header that it cannot read, and a file cut between two members, are the end.
    """
    with tarfile.open(shard) as opened:
        for _ in opened:
            pass
        assert opened.fileobj is not None
        opened.fileobj.seek(opened.offset)
        if opened.fileobj.read(BLOCK) != bytes(BLOCK):
            raise tarfile.ReadError(f"what stands at byte {opened.offset} is neither a member nor the end")
        while opened.fileobj.read(1 << 20):
            pass  # a compressed tar is checked when its last byte is read


def picture_of(sample: Sample) -> "Image.Image":
    """The decoded image in RGB; raises ValueError where it cannot be read."""
    from PIL import Image

    assert sample.image is not None
    try:
        with Image.open(io.BytesIO(sample.image), formats=FORMATS) as opened:
            return opened.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"unreadable image: {error}") from error


def _sample(members: dict[str, Any]) -> Sample:
    image = next((members[ending] for ending in IMAGES if ending in members), None)
    caption = members.get("txt")
    words = None if caption is None else caption.decode("utf-8", errors="replace").strip()
    return Sample(members["__key__"], image, words or None, about_of(members.get("json")))


def about_of(content: bytes | None) -> dict[str, Any]:
    """What a sample's JSON member says; nothing where it is missing, damaged, or no object."""
    try:
        found = json.loads(content or b"{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
