"""One trial, advanced a piece at a time by whoever drives it: Ray Tune, a plain loop or a test.

The numbers depend on configuration, seed and data alone; how the work is cut into pieces changes nothing.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from gapctl.data.feed import Batch, MadFeed, TrialData
from gapctl.data.mad.captions import CONTEXT_LENGTH, END_TOKEN, PAD_TOKEN, VOCAB_SIZE
from gapctl.metrics.loss_floor import batch_loss_floor
from gapctl.models.build import Vocabulary, build_model
from gapctl.spec.trial import TrialConfig
from gapctl.training.checkpoint import LossSums, pack, pack_weights, restore
from gapctl.training.evaluate import Evaluation
from gapctl.training.memory import keep_freed_memory
from gapctl.training.precision import resolve_precision
from gapctl.training.schedule import learning_rate, total_steps
from gapctl.training.step import TrainingStep

CHECKPOINT_SECONDS = 10.0
BEAT_SECONDS = 10.0
VOCABULARY = Vocabulary(size=VOCAB_SIZE, context=CONTEXT_LENGTH, pad=PAD_TOKEN, end=END_TOKEN)


class Store(Protocol):
    """Where a trial keeps what it must not lose; a ledger's trial folder is one."""

    def checkpoints(self) -> Sequence[tuple[str, bytes]]: ...

    def save_checkpoint(self, samples_seen: int, content: bytes) -> None: ...

    def save_history(self, rows: Sequence[Mapping[str, float]]) -> None: ...

    def beat(self, samples_seen: int) -> None: ...


@dataclass(frozen=True)
class Progress:
    """How far a trial has come: `rows` are the evaluations since the last report, `loss` the latest batch's."""

    samples_seen: int
    samples_total: int
    samples_per_second: float
    loss: float
    rows: tuple[dict[str, float], ...]
    done: bool


class TrialRun:
    """A training that continues from its store's newest checkpoint."""

    def __init__(self, config: TrialConfig, seed: int, data: TrialData, store: Store, device: torch.device) -> None:
        self._config = config
        self._store = store
        keep_freed_memory()
        self._model = build_model(config, VOCABULARY, seed).to(device)
        self._step = TrainingStep(self._model, config, resolve_precision(config.train.precision, device))
        self._state = restore(store.checkpoints(), self._model, self._step.optimizer)
        self._step.refresh()
        self._steps = total_steps(config.train)
        self._feed = iter(MadFeed(data, config, seed, position=self.samples_seen))
        self._evaluation = Evaluation(data, config, device)
        self._last_loss = math.nan
        self._saved_at = time.monotonic()
        self._beat_at = -math.inf

    @property
    def samples_seen(self) -> int:
        """Pairs trained on so far."""
        return self._state.step * self._config.train.batch_size

    @property
    def seconds(self) -> float:
        """Wall time of training and evaluation, earlier attempts included."""
        return self._state.seconds

    @property
    def done(self) -> bool:
        """Whether the last step and the last evaluation are behind us."""
        return self._state.step >= self._steps and self._evaluated()

    @property
    def rows(self) -> tuple[dict[str, float], ...]:
        """Every evaluation so far, oldest first."""
        return tuple(self._state.rows)

    def advance(self, seconds: float) -> Progress:
        """Trains for about `seconds` of wall time, but at least one step or evaluation, and reports."""
        started, first_step, known = time.monotonic(), self._state.step, len(self._state.rows)
        while not self.done:
            self._train_or_evaluate()
            if time.monotonic() - started >= seconds:
                break
        elapsed = max(time.monotonic() - started, 1e-9)
        self._keep()
        return Progress(
            samples_seen=self.samples_seen,
            samples_total=self._steps * self._config.train.batch_size,
            samples_per_second=(self._state.step - first_step) * self._config.train.batch_size / elapsed,
            loss=self._last_loss,
            rows=tuple(self._state.rows[known:]),
            done=self.done,
        )

    def save(self) -> None:
        """Writes a checkpoint now."""
        self._store.save_checkpoint(self.samples_seen, pack(self._model, self._step.optimizer, self._state))
        self._saved_at = time.monotonic()

    def weights(self) -> bytes:
        """The model's weights as they are now."""
        return pack_weights(self._model)

    def final_metrics(self) -> dict[str, float]:
        """The last evaluation by metric name."""
        last = self._state.rows[-1]
        return {key: value for key, value in last.items() if key not in ("samples_seen", "seconds")}

    def _train_or_evaluate(self) -> None:
        started = time.monotonic()
        if self._evaluated():
            batch, _ = next(self._feed)
            self._train_on(batch)
            self._state.seconds += time.monotonic() - started
        else:
            row = self._evaluate()
            self._state.seconds += time.monotonic() - started
            self._state.rows.append({**row, "seconds": self._state.seconds})
            self._store.save_history(self._state.rows)
            self._saved_at = -math.inf  # what an evaluation costs is worth a checkpoint

    def _train_on(self, batch: Batch) -> None:
        self._last_loss = float(self._step(batch, learning_rate(self._config.train, self._state.step)))
        self._count(batch)

    def _count(self, batch: Batch) -> None:
        sums = self._state.sums
        sums.loss += self._last_loss
        sums.floor += batch_loss_floor(batch.caption_ids(), self._config.loss.kind)
        sums.steps += 1
        self._state.step += 1

    def _evaluated(self) -> bool:
        """Whether the evaluation that is due at this step has been done."""
        if not self._is_due(self._state.step):
            return True
        return bool(self._state.rows) and self._state.rows[-1]["samples_seen"] == self.samples_seen

    def _is_due(self, step: int) -> bool:
        every, batch = self._config.evaluate.every, self._config.train.batch_size
        crossed = (step * batch) // every > ((step - 1) * batch) // every
        return step == 0 or step == self._steps or crossed

    def _evaluate(self) -> dict[str, float]:
        row = {"samples_seen": self.samples_seen, **self._evaluation.measure(self._model)}
        sums, self._state.sums = self._state.sums, LossSums()
        if sums.steps:
            row["train/loss"] = sums.loss / sums.steps
            row["train/loss_floor"] = sums.floor / sums.steps
        return row

    def _keep(self) -> None:
        if time.monotonic() - self._beat_at >= BEAT_SECONDS:
            self._store.beat(self.samples_seen)
            self._beat_at = time.monotonic()
        if not self.done and time.monotonic() - self._saved_at >= CHECKPOINT_SECONDS:
            self.save()
