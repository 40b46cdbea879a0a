"""What a feed did: samples, stand-ins, words kept, and how long the training waited for it."""

from dataclasses import asdict, dataclass, field
from typing import Any

from gapctl.data.pairs.decoded import Bad, Decoded


@dataclass
class FeedCounts:
    """Sums since the training began, of one worker; plain numbers, so that a checkpoint can hold them.

    `substituted` counts stand-ins by what was wrong with the planned sample. `waited_s` of `total_s` seconds the
    training had nothing to do because its next batch was not ready.
    """

    samples: int = 0
    words: int = 0
    kept: int = 0
    empty: int = 0
    substituted: dict[str, int] = field(default_factory=dict)
    waited_s: float = 0.0
    total_s: float = 0.0

    def add(self, read: Decoded) -> None:
        """Counts the samples of a batch."""
        self.samples += len(read.sample_N)
        self.words += int(read.words_N.sum())
        self.kept += int(read.kept_N.sum())
        self.empty += int((read.tokens_NL[:, 2] == 0).sum())
        for bad in read.bad_N[read.bad_N != Bad.SOUND].tolist():
            words = Bad(bad).words
            self.substituted[words] = self.substituted.get(words, 0) + 1

    @property
    def substituted_share(self) -> float:
        """The share of planned samples that others stand in for."""
        return sum(self.substituted.values()) / self.samples if self.samples else 0.0

    def metrics(self) -> dict[str, float]:
        """The same as metrics: shares, and words kept per caption."""
        samples = max(1, self.samples)
        return {
            "data/substituted": self.substituted_share,
            "data/wait_share": self.waited_s / self.total_s if self.total_s else 0.0,
            "captions/words_kept": self.kept / samples,
            "captions/share_kept": self.kept / self.words if self.words else 0.0,
            "captions/empty": self.empty / samples,
        }

    def plus(self, other: "FeedCounts") -> "FeedCounts":
        """Both together."""
        reasons = self.substituted.keys() | other.substituted.keys()
        return FeedCounts(
            self.samples + other.samples,
            self.words + other.words,
            self.kept + other.kept,
            self.empty + other.empty,
            {why: self.substituted.get(why, 0) + other.substituted.get(why, 0) for why in sorted(reasons)},
            self.waited_s + other.waited_s,
            self.total_s + other.total_s,
        )

    def numbers(self) -> list[float]:
        """What was counted of samples, as a list that can be added up over workers; seconds are each worker's own."""
        reasons = [self.substituted.get(bad.words, 0) for bad in Bad if bad != Bad.SOUND]
        return [self.samples, self.words, self.kept, self.empty, *reasons]

    def with_numbers(self, numbers: list[float]) -> "FeedCounts":
        """These seconds with other counts."""
        samples, words, kept, empty, *reasons = (round(number) for number in numbers)
        named = zip((bad.words for bad in Bad if bad != Bad.SOUND), reasons, strict=True)
        substituted = {why: count for why, count in named if count}
        return FeedCounts(samples, words, kept, empty, substituted, self.waited_s, self.total_s)

    def state(self) -> dict[str, Any]:
        """For a checkpoint; `FeedCounts(**state)` is the same again."""
        return asdict(self)
