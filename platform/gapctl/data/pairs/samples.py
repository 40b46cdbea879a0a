"""The samples of one tar shard; of untrusted members only images, texts and JSON are looked at."""

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gapctl.data.pairs.index_shard import index_shard
from gapctl.data.pairs.members import Content
from gapctl.data.pairs.read_image import read_image
from gapctl.data.pairs.stored import content_of
from gapctl.errors import InputError

if TYPE_CHECKING:
    from PIL import Image


class Sample(NamedTuple):
    """A sample as it lies in its shard; `about` is the content of its JSON member, empty where there is none."""

    key: str
    image: bytes | None
    caption: str | None
    about: dict[str, Any]


def samples_of(shard: Path, left_out: Collection[int] = ()) -> Iterator[Sample]:
    """The samples in the order of the tar, but those at the places `left_out`, counted from 0.

    Raises InputError where the tar is damaged, or holds no sample at all.
    """
    try:
        with content_of(str(shard)) as content:
            found = index_shard(content)
            for place, row in enumerate(found.samples):
                if place not in left_out:
                    yield sample_at(content, row._asdict())
    except OSError as error:
        raise InputError(f"{shard}: cannot be read ({error.strerror}); expected a tar shard") from error
    if found.damage:
        raise damaged_shard(str(shard), len(found.samples), found.damage)
    if not found.samples:
        raise InputError(f"{shard}: an empty shard; expected samples of key.jpg, key.txt, key.json")


def damaged_shard(address: str, samples: int, damage: str) -> InputError:
    """The error for a shard that ends early, after so many samples."""
    return InputError(f"{address}: a damaged tar, after {samples} samples ({damage}); fetch it again")


def sample_at(content: Content, row: Mapping[str, Any]) -> Sample:
    """The sample of a manifest's row in its shard's content; parts that are missing are None."""

    def part(name: str) -> bytes:
        start = row[f"{name}_offset"]
        return content[start : start + row[f"{name}_bytes"]]

    caption = part("caption").decode("utf-8-sig", errors="replace").strip()
    return Sample(row["key"], part("image") or None, caption or None, about_of(part("json")))


def picture_of(sample: Sample) -> "Image.Image":
    """The decoded image in RGB; raises ValueError where it cannot be read."""
    assert sample.image is not None
    return read_image(sample.image)


def about_of(content: bytes | None) -> dict[str, Any]:
    """What a sample's JSON member says; nothing where it is missing, damaged, or no object."""
    try:
        found = json.loads(content or b"{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
