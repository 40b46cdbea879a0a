"""A trial's store for tests that need no disk."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext


class MemoryStore:
    """A trial's store in memory, with the checkpoints that a disk would have."""

    def __init__(self) -> None:
        self.saved: list[tuple[str, bytes]] = []
        self.rows: list[Mapping[str, float]] = []
        self.steps: list[dict[str, float]] = []
        self.clouds: bytes | None = None
        self.neighbors: bytes | None = None
        self.centroids: tuple[Sequence[float], Sequence[float]] | None = None
        self.axis: tuple[Sequence[float], Sequence[float], Sequence[float], Sequence[int]] | None = None

    def checkpoints(self) -> Sequence[tuple[str, bytes]]:
        return list(reversed(self.saved))

    def save_checkpoint(self, samples_seen: int, content: bytes) -> None:
        self.saved.append((str(samples_seen), content))

    def write_in_parallel(self) -> AbstractContextManager[None]:
        return nullcontext()

    def save_history(self, rows: Sequence[Mapping[str, float]]) -> None:
        self.rows = list(rows)

    def save_dimensions(self, image_mean_D: Sequence[float], text_mean_D: Sequence[float]) -> None:
        self.centroids = (image_mean_D, text_mean_D)

    def save_axis(
        self, image_N: Sequence[float], text_N: Sequence[float], on_mean_N: Sequence[float], label_N: Sequence[int]
    ) -> None:
        self.axis = (image_N, text_N, on_mean_N, label_N)

    def save_clouds(self, picture: bytes) -> None:
        self.clouds = picture

    def save_neighbors(self, picture: bytes) -> None:
        self.neighbors = picture

    def save_steps(self, rows: Sequence[Mapping[str, float]]) -> None:
        self.steps = [dict(row) for row in rows]

    def read_steps_or_empty(self) -> list[dict[str, float]]:
        return [dict(row) for row in self.steps]

    def heartbeat(self, samples_seen: int) -> None:
        pass
