"""What a caption treatment did to the samples that it was given, as metrics."""

from dataclasses import dataclass

from gapctl.data.captions import Treated


@dataclass
class CaptionTally:
    """Sums over samples, so that tallies of many processes add up."""

    samples: int = 0
    words: int = 0
    kept: int = 0
    empty: int = 0
    lacking: int = 0

    def add(self, treated: Treated | None) -> None:
        """Counts a sample; None is one that lacks what its treatment needs."""
        self.samples += 1
        if treated is None:
            self.lacking += 1
            return
        self.words += treated.words
        self.kept += treated.kept
        self.empty += not treated.text

    def merge(self, other: "CaptionTally") -> None:
        """Adds what another process counted."""
        self.samples += other.samples
        self.words += other.words
        self.kept += other.kept
        self.empty += other.empty
        self.lacking += other.lacking

    def metrics(self) -> dict[str, float]:
        """Words kept per treated caption, their share of all words, and shares of empty and of untreatable samples."""
        treated = self.samples - self.lacking
        return {
            "captions/words_kept": self.kept / treated if treated else 0.0,
            "captions/share_kept": self.kept / self.words if self.words else 0.0,
            "captions/empty": self.empty / treated if treated else 0.0,
            "captions/lacking": self.lacking / self.samples if self.samples else 0.0,
        }
