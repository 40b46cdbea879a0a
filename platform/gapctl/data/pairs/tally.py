"""What of a set of shards is used, and what is left out for which reason: the same words wherever shards are read."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import polars as pl

from gapctl.data.pairs.manifest import Manifest
from gapctl.data.pairs.problems import Problem
from gapctl.errors import InputError

NAMED: Final = 5
"""Shards, and kinds of members, that a line names; `--json` has all."""
NO_SAMPLES: Final = "no samples"
EXPECTED: Final = "expected samples of key.jpg, key.txt, key.json"


@dataclass(frozen=True)
class Tally:
    """`samples` is `usable` and the sum of `problems`, samples by what is wrong with them, the most frequent first.

    `ignored` counts members that belong to no sample, by their ending. `unused` names the shards without a usable
    sample and why, `damaged` those that end early, with the samples before that place and the reason.
    """

    samples: int
    usable: int
    problems: Mapping[str, int]
    ignored: Mapping[str, int]
    unused: Mapping[str, str]
    damaged: Mapping[str, tuple[int, str]]

    def with_undecodable(self, count: int) -> "Tally":
        """The same where so many of the usable samples turned out to have an image that cannot be decoded."""
        if not count:
            return self
        problems = Counter(self.problems) + Counter({Problem.UNREADABLE.value: count})
        return replace(self, usable=self.usable - count, problems=_by_count(problems))

    @property
    def reasons(self) -> str:
        """The problems in one line, with what to do; empty where there are none."""
        listed = _listed(self.problems)
        apart = self.problems.get(Problem.APART, 0)
        if apart:
            listed += (
                f"; {apart:,} keys come back after others: members of one key do not stand beside each other. Unpack "
                "the tar, and pack it again with `tar --sort=name`"
            )
        return listed

    @property
    def lines(self) -> Sequence[str]:
        """All that is left out, for a person; no line where everything is used."""
        unused = [
            f"{shard}: nothing of it is used: {why}" for shard, why in self.unused.items() if shard not in self.damaged
        ]
        return [
            *([f"left out: {self.reasons}"] if self.problems else []),
            *_named(unused, "shards of which nothing is used"),
            *self._beside,
        ]

    @property
    def _beside(self) -> Sequence[str]:
        """What the shards hold beside samples, and which of them end early."""
        damaged = [f"{shard}: damaged after {before:,} samples: {why}" for shard, (before, why) in self.damaged.items()]
        lines = list(_named(damaged, "damaged shards"))
        if self.ignored:
            kinds = _listed(dict(list(self.ignored.items())[:NAMED]))
            more = f" and {len(self.ignored) - NAMED:,} more kinds" if len(self.ignored) > NAMED else ""
            several = any("." in ending for ending in self.ignored)
            dots = " (a key ends at the first dot of a name, and what follows is the ending)" if several else ""
            lines.append(f"members of other kinds, which are never read: {kinds}{more}{dots}")
        return lines

    def require_usable(self, places: str) -> None:
        """Raise InputError that names all reasons where no sample is left."""
        if self.usable:
            return
        found = f"{self.samples:,} samples: {self.reasons}" if self.samples else NO_SAMPLES
        beside = "".join(f". {line}" for line in self._beside)
        raise InputError(f"{places}: none of its samples can be used; found {found}; {EXPECTED}{beside}")


def tally_of(manifest: Manifest) -> Tally:
    """Counts a manifest's samples, and all that its shards hold beside them."""
    counts = manifest.samples.filter(pl.col("problem").is_not_null()).group_by("shard", "problem").len()
    problems, by_shard = Counter[str](), dict[str, dict[str, int]]()
    for shard, problem, count in counts.sort("problem").iter_rows():
        problems[problem] += count
        by_shard.setdefault(shard, {})[problem] = count
    ignored: Counter[str] = Counter()
    for record in manifest.shards:
        ignored.update(record.ignored)
    return Tally(
        samples=len(manifest.samples),
        usable=len(manifest.samples) - problems.total(),
        problems=_by_count(problems),
        ignored=_by_count(ignored),
        unused={
            record.address: _listed(_by_count(by_shard.get(record.address, {}))) or NO_SAMPLES
            for record in manifest.shards
            if not record.usable
        },
        damaged={
            record.address: (record.samples, record.damage) for record in manifest.shards if record.damage is not None
        },
    )


def _by_count(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())


def _named(lines: Sequence[str], what: str) -> Sequence[str]:
    return [*lines[:NAMED], *([f"and {len(lines) - NAMED:,} more {what}"] if len(lines) > NAMED else [])]
