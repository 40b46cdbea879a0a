"""How a folder of shards is laid out: what decides its bytes, which files it has and which digits are in each.

    mad.json            what the folder holds; written last, so a folder that has it is whole
    manifest.parquet    a row per digit: split, index, label, shard, byte offset, the shard's sha256
    variants.parquet    a row per variant: its number, its four factor values, its offset within a digit
    train-00000.npy     uint8 (digits, 24, 28, 28), a thousand digits a file (webdataset: train-00000.tar)
    .making/            only while the folder is being made: what was asked for, and a record per finished shard

Standard library only: `gapctl plan` reads it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from gapctl.data.mad.source import SPLITS, Split
from gapctl.stores import is_foreign

Format = Literal["npy", "webdataset"]
FORMATS: Final[tuple[Format, ...]] = get_args(Format)
DIGITS_PER_SHARD: Final = 1000
DESCRIPTION: Final = "mad.json"
MANIFEST: Final = "manifest.parquet"
VARIANTS_TABLE: Final = "variants.parquet"
MAKING: Final = ".making"
TABLES: Final = (MANIFEST, VARIANTS_TABLE)
_SUFFIX: Final[dict[Format, str]] = {"npy": "npy", "webdataset": "tar"}


@dataclass(frozen=True)
class Request:
    """What decides the bytes of every file; `limit` is how many digits of a split at most, None for all."""

    source: str
    generator: int
    seed: int
    limit: int | None
    format: Format
    digits_per_shard: int

    @property
    def fingerprint(self) -> str:
        """The images' name: that of the whole source's where nothing was left out and the seed is the usual one."""
        seed = f"-seed{self.seed}" if self.seed else ""
        limit = "" if self.limit is None else f"-first{self.limit}"
        return f"{self.source}-v{self.generator}{seed}{limit}"


@dataclass(frozen=True)
class Shard:
    """Digits `first` to `first + count` of a split."""

    split: Split
    number: int
    first: int
    count: int
    format: Format

    @property
    def name(self) -> str:
        """The shard's file."""
        return f"{self.split}-{self.number:05d}.{_SUFFIX[self.format]}"


def shards_of(digits: Mapping[Split, int], request: Request) -> list[Shard]:
    """Every shard of a folder with so many digits per split, in order."""
    size = request.digits_per_shard
    return [
        Shard(split, number, first, min(size, digits[split] - first), request.format)
        for split in SPLITS
        if split in digits
        for number, first in enumerate(range(0, digits[split], size))
    ]


def foreign_files(folder: Path, shards: Sequence[Shard]) -> list[str]:
    """Names in the folder that are not of the layout of these shards; without shards, all but what marks the making.

    What other systems leave in any folder is passed over.
    """
    own = {MAKING, *((DESCRIPTION, *TABLES) if shards else ()), *(shard.name for shard in shards)}
    return sorted(path.name for path in folder.iterdir() if path.name not in own and not is_foreign(path.name))
