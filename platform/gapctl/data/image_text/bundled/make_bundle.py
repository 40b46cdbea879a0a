"""Make the bundled pairs from a folder of OpenMoji's shards in the img2dataset layout.

Run as `python -m gapctl.data.image_text.bundled.make_bundle FOLDER`. With the same Pillow and liblzma the result is the
same to the byte.
"""

import io
import json
import lzma
import sys
from pathlib import Path
from typing import Final

from PIL import Image
from webdataset import TarWriter

from gapctl.data.image_text.index import Sample, decode_image, iterate_shard_samples
from gapctl.data.image_text.storage import list_tar_files

SIDE: Final = 72
QUALITY: Final = 85
PER_SHARD: Final = 560
KEPT: Final = ("name", "group", "subgroup", "keywords")
CREDIT: Final = {"author": "OpenMoji contributors", "license": "CC BY-SA 4.0", "source": "OpenMoji 17"}


def write_bundle(folder: Path, destination: Path = Path(__file__).parent) -> None:
    """Write the pairs of all shards in the folder, in their order."""
    samples = [sample for shard in list_tar_files(folder) for sample in iterate_shard_samples(shard)]
    for number, start in enumerate(range(0, len(samples), PER_SHARD)):
        content = _shard(samples[start : start + PER_SHARD], start)
        (destination / f"openmoji-{number:02d}.tar.xz").write_bytes(lzma.compress(content, preset=9))


def _shard(samples: list[Sample], start: int) -> bytes:
    buffer = io.BytesIO()
    with TarWriter(buffer, encoder=False, mtime=0) as writer:
        for place, sample in enumerate(samples, start):
            writer.write(_members(f"{place:06d}", sample))
    return buffer.getvalue()


def _members(key: str, sample: Sample) -> dict[str, object]:
    small = decode_image(sample).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    jpeg = io.BytesIO()
    small.save(jpeg, format="JPEG", quality=QUALITY)
    about = {name: sample.about[name] for name in KEPT} | CREDIT
    return {
        "__key__": key,
        "jpg": jpeg.getvalue(),
        "txt": str(sample.caption).encode(),
        "json": json.dumps(about, ensure_ascii=False).encode(),
    }


if __name__ == "__main__":
    write_bundle(Path(sys.argv[1]))
