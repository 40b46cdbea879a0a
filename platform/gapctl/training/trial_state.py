"""Hold the state of one trial apart from its training steps: model, batches, evaluations and checkpoints.

1. `TrialState` restores the newest checkpoint of its `TrialStore`, or starts from given weights or its seed.
2. `count`, `add_losses` and `add_seconds` record the steps taken.
3. `evaluate` measures the model and appends a row of history; `save` writes a checkpoint.

Index letters: B pairs of a batch, N gallery pairs, D embedding.
"""

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from gapctl.config.evaluation_sets import PlannedEvaluationSet
from gapctl.config.information import find_bayes_loss
from gapctl.config.trial import LOSSES, MadData, Model, OpenClipModel, TrialConfig, is_table
from gapctl.data.image_text.read import FeedCounts
from gapctl.data.image_text.source import PairPaths
from gapctl.data.load import Dataset
from gapctl.data.mad.captions import CONTEXT_LENGTH, END_TOKEN, PAD_TOKEN, VOCAB_SIZE, count_added_tokens
from gapctl.data.mad.feed import TrialData, require_mad_data
from gapctl.data.mad.images import MadSplit
from gapctl.data.mad.rows import IMAGE_ROWS, compute_likelihood_ratios, number_captions
from gapctl.interventions.fit import IDEAL_WORDS
from gapctl.models.build import (
    CLIP_VOCABULARY,
    ContrastiveModel,
    TokenVocabulary,
    build_model,
    set_scheduled_temperature,
)
from gapctl.models.losses import compute_loss_floor
from gapctl.models.public import build_public_model, load_public_weights
from gapctl.models.table import EmbeddingTable, TableStart
from gapctl.training.checkpoint import LossSums, pack_checkpoint, pack_weights, restore_training, unpack_weights
from gapctl.training.embedding_plots import draw_clouds, draw_neighbor_sheet
from gapctl.training.evaluation import (
    Evaluation,
    FittingEvaluation,
    InterventionEvaluation,
    MadEvaluation,
    compute_gallery_metrics,
)
from gapctl.training.optimizer import OptimizerState, compute_scheduled_temperature
from gapctl.training.workers import WorkerGroup

if TYPE_CHECKING:
    from gapctl.training.set_evaluation import SetEvaluation

MAD_VOCABULARY = TokenVocabulary(size=VOCAB_SIZE, context=CONTEXT_LENGTH, pad=PAD_TOKEN, end=END_TOKEN)
CHECKPOINT_SECONDS = 10.0
UPLOAD_SECONDS = 30.0
"""Seconds between checkpoints that go into an object store: they are most of what a training uploads."""
BEAT_SECONDS = 10.0
CHECKPOINT_SPACING = 20
"""The time between checkpoints, in multiples of the time that writing one took."""
QUICK_START_SECONDS = 1.0
"""The evaluation before the first step is not worth a checkpoint where no more than this is unsaved after it."""
UNKNOWN_HARDWARE = "unknown"
"""Hardware of the steps before a checkpoint of an earlier version, which did not record it."""
NOT_METRICS = ("samples_seen", "seconds", "data/wait_share")
"""Columns of a history that describe the training's course rather than its result."""


class TrialStore(Protocol):
    """Stores a trial's checkpoints and results; a ledger's trial folder is one."""

    def checkpoints(self) -> Sequence[tuple[str, bytes]]:
        """Return the stored checkpoints, newest first, each with its address."""
        ...

    def save_checkpoint(self, samples_seen: int, content: bytes) -> None:
        """Store a checkpoint."""
        ...

    def write_in_parallel(self) -> AbstractContextManager[None]:
        """Store what the block saves side by side; all of it is stored once it ends."""
        ...

    def save_history(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Store all evaluations so far, oldest first."""
        ...

    def save_dimensions(self, image_mean_D: Sequence[float], text_mean_D: Sequence[float]) -> None:
        """Store the final centroids of both modalities."""
        ...

    def save_axis(
        self, image_N: Sequence[float], text_N: Sequence[float], on_mean_N: Sequence[float], label_N: Sequence[int]
    ) -> None:
        """Store the gallery's final projections on the gap's direction and on the images' mean, with labels."""
        ...

    def save_clouds(self, picture: bytes) -> None:
        """Store the picture of the final embeddings."""
        ...

    def save_neighbors(self, picture: bytes) -> None:
        """Store the picture of held-out pairs with their nearest neighbours."""
        ...

    def save_steps(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Store all rows about single steps so far, oldest first."""
        ...

    def read_steps_or_empty(self) -> list[dict[str, float]]:
        """Return the stored rows about single steps; [] without any."""
        ...

    def heartbeat(self, samples_seen: int) -> None:
        """Record that the trial is alive."""
        ...


@dataclass(frozen=True)
class TrialProgress:
    """A trial's progress: `rows` are the evaluations since the last report, `loss` the latest batch's."""

    samples_seen: int
    samples_total: int
    samples_per_second: float
    loss: float
    rows: tuple[dict[str, float], ...]
    done: bool


class TrialState:
    """A trial that continues from its store's newest checkpoint.

    Without one it begins with the weights in `initial`, or those of its public model, whose sha256 is expected, or else
    with its seed's. If `leads` is false, another worker of the trial evaluates and writes, and this one takes only the
    steps. `sets` are the evaluation sets that the configuration names. With `spares_uploads`, checkpoints are
    `UPLOAD_SECONDS` apart, and there is none for an evaluation alone.
    """

    def __init__(
        self,
        config: TrialConfig,
        seed: int,
        data: Dataset,
        store: TrialStore,
        device: torch.device,
        *,
        initial: bytes | None = None,
        leads: bool = True,
        sets: Mapping[str, PlannedEvaluationSet] = MappingProxyType({}),
        weights_sha256: str = "",
        spares_uploads: bool = False,
    ) -> None:
        self.config = config
        self.data = data
        self.seed = seed
        self.leads = leads
        self.model = build_trial_model(config, seed).to(device)
        if isinstance(self.model, EmbeddingTable) and config.loss.targets == "posterior":
            self.model.likelihood_ratios = find_likelihood_ratios(data, config, device)
        self.steps_total = config.train.steps
        self._store = store
        self._spares_uploads = spares_uploads
        if initial is not None:
            self.model.load_state_dict(unpack_weights(initial))
            if config.temperature.mode == "fixed":
                set_scheduled_temperature(self.model, config.temperature.init)
        self._state, self.optimizer_state = restore_training(store.checkpoints(), self.model)
        fresh = self.optimizer_state is None and initial is None  # a checkpoint needs no public weights
        if fresh and isinstance(config.model, OpenClipModel) and config.model.weights:
            load_public_weights(self.model, config.model, weights_sha256)
            if config.temperature.mode == "fixed":
                set_scheduled_temperature(self.model, config.temperature.init)
        self.counts = FeedCounts()
        self._counted_before = FeedCounts(**self._state.feed)
        self._counted = self._counted_before
        self._evaluation = build_evaluation(data, config, device) if leads else None
        self._sets = build_set_evaluation(sets, config) if leads and config.evaluate.sets else None
        before = store.read_steps_or_empty() if leads and self.steps else []
        self._step_rows = [row for row in before if row["samples_seen"] <= self.samples_seen]
        self._step_rows_saved = len(self._step_rows)
        self._last_loss = math.nan
        self._saved_at = time.monotonic()
        self.samples_saved = self.samples_seen
        self._save_seconds = 0.0
        self._beat_at = -math.inf
        self._reported = (self.steps, len(self._state.rows))

    @property
    def steps(self) -> int:
        """Training steps so far."""
        return self._state.step

    @property
    def samples_seen(self) -> int:
        """Pairs trained on so far."""
        return self.steps * self.config.train.batch_size

    @property
    def seconds(self) -> float:
        """Wall time of training and evaluation, earlier attempts included; packed steps count by their share."""
        return self._state.seconds

    @property
    def packed(self) -> int:
        """The most trials that took a step together with this one, itself included."""
        return self._state.packed

    def begin_stretch(self, runs_on: str) -> None:
        """Record the hardware from this step on; a stretch without steps is dropped."""
        before = {step: known for step, known in self._state.stretches.items() if step < self.steps}
        if self.steps and not before:
            before = {0: UNKNOWN_HARDWARE}
        self._state.stretches = before if [*before.values()][-1:] == [runs_on] else {**before, self.steps: runs_on}

    @property
    def stretches(self) -> str:
        """The hardware by stretch, each up to a sample: `2 workers on A to 1280, 1 worker on B to 2560`."""
        ends = [*list(self._state.stretches)[1:], self.steps]
        batch = self.config.train.batch_size
        return ", ".join(
            f"{runs_on} to {end * batch}" for runs_on, end in zip(self._state.stretches.values(), ends, strict=True)
        )

    @property
    def done(self) -> bool:
        """Whether the last step was taken and the last evaluation done."""
        return self.steps >= self.steps_total and self.evaluated

    @property
    def rows(self) -> tuple[dict[str, float], ...]:
        """Every evaluation so far, oldest first."""
        return tuple(self._state.rows)

    @property
    def evaluated(self) -> bool:
        """Whether the evaluation that is due at this step has been done."""
        every, batch = self.config.evaluate.every, self.config.train.batch_size
        crossed = (self.steps * batch) // every > ((self.steps - 1) * batch) // every
        if self.steps not in (0, self.steps_total) and not crossed:
            return True
        return bool(self._state.rows) and self._state.rows[-1]["samples_seen"] == self.samples_seen

    @property
    def scheduled_temperature(self) -> float | None:
        """The temperature of the next step, where it follows a schedule."""
        return compute_scheduled_temperature(self.config.temperature, self.steps, self.steps_total)

    def count(self, caption_id_B: NDArray[np.int64], packed: int) -> None:
        """Record one step: the loss floor of its captions, and the number of trials that took it together."""
        counted = self.config.loss.equal_captions == "negatives"  # masked ones have no floor
        if self.config.loss.kind in LOSSES and counted:  # that of another package's loss is not known
            self._state.sums.floor += compute_loss_floor(caption_id_B, self.config.loss.kind)
        self._state.sums.steps += 1
        self._state.step += 1
        self._state.packed = max(self._state.packed, packed)

    def add_seconds(self, seconds: float) -> None:
        """Add wall time of steps."""
        self._state.seconds += seconds

    def add_losses(self, losses: Sequence[float]) -> None:
        """Add the losses of the steps since the last call."""
        for step, loss in enumerate(losses, self.steps - len(losses)):
            self._state.sums.loss += loss
            self._state.ending.add(loss, step, self.steps_total)
        self._last_loss = losses[-1]

    def add_step_row(self, row: dict[str, float]) -> None:
        """Add a row about a single step, which is stored before the next evaluation or checkpoint."""
        self._step_rows.append(row)

    def _save_step_rows(self) -> None:
        if len(self._step_rows) > self._step_rows_saved:
            self._store.save_steps(self._step_rows)
            self._step_rows_saved = len(self._step_rows)

    def sum_counts_over_workers(self, group: WorkerGroup) -> None:
        """Add up the feed counts of all workers, each of which must call this at the same step."""
        if not self.counts.samples:
            return
        device = self.model.logit_scale.device
        numbers = torch.tensor(self.counts.list_sample_counts(), dtype=torch.float64, device=device)
        total = (group.mean(numbers) * group.size).tolist()
        self._counted = self._counted_before.merge_counts(self.counts.replace_sample_counts(total))

    @property
    def measures_sets(self) -> bool:
        """Whether an evaluation at this step is on evaluation sets too."""
        due = self.steps == self.steps_total or self.config.evaluate.sets_at == "each"
        return self._sets is not None and due

    def evaluate(self) -> None:
        """Measure the model as it is now, and append the row to the history."""
        if self._evaluation is None:
            self._state.rows.append({"samples_seen": self.samples_seen})
            return
        started = time.monotonic()
        encoded = self._evaluation.encode(self.model)
        result = compute_gallery_metrics(encoded, self.config.evaluate.metrics)
        row = {"samples_seen": self.samples_seen, **result.metrics}
        if self.measures_sets and self._sets is not None:
            row |= self._sets.measure(self.model)
        if self._counted.samples:
            row |= self._counted.metrics()
        sums, self._state.sums = self._state.sums, LossSums()
        if sums.steps:
            row["train/loss"] = sums.loss / sums.steps
            if self.config.loss.kind in LOSSES:
                row["train/loss_floor"] = sums.floor / sums.steps
            row |= self._compare_with_bayes_loss(row["train/loss"], self.steps - sums.steps)
        if is_table(self.config) and self.steps == self.steps_total:
            # Only a loss that can be compared with the Bayes loss can be known to have converged to it.
            row |= self._state.ending.measure(row["train/loss_bayes"] if "train/loss_excess" in row else None)
        self._state.seconds += time.monotonic() - started
        self._state.rows.append({**row, "seconds": self._state.seconds})
        with self._store.write_in_parallel():
            self._save_step_rows()
            self._store.save_history(self._state.rows)
            if self.steps == self.steps_total:
                self._store.save_dimensions(result.image_mean_D.tolist(), result.text_mean_D.tolist())
                self._store.save_axis(
                    result.image_on_axis_N.tolist(),
                    result.text_on_axis_N.tolist(),
                    result.image_on_mean_N.tolist(),
                    result.label_N.tolist(),
                )
                self._store.save_clouds(draw_clouds(encoded.embeddings.image_ND, encoded.embeddings.text_MD))
                self._store.save_neighbors(draw_neighbor_sheet(encoded.embeddings, encoded.get_pairs))
        unsaved = time.monotonic() - self._saved_at
        worth = self._save_seconds * CHECKPOINT_SPACING < max(self._state.seconds, unsaved)
        quick_start = self.steps == 0 and unsaved <= QUICK_START_SECONDS
        if worth and not quick_start and not self._spares_uploads:
            self._saved_at = -math.inf  # an evaluation that costs more than a checkpoint is worth one

    def _compare_with_bayes_loss(self, loss: float, first_step: int) -> dict[str, float]:
        """Return the Bayes loss of the steps from `first_step` on, and the excess over it, where these are known."""
        config = self.config
        bayes = find_bayes_loss(config)
        if bayes is None or first_step < config.train.mismatched_steps:
            return {}
        excess = {} if config.loss.has_terms else {"train/loss_excess": loss - bayes}
        return {"train/loss_bayes": bayes, **excess}

    def heartbeat(self) -> None:
        """Refresh the store's heartbeat if `BEAT_SECONDS` have passed."""
        if self.leads and time.monotonic() - self._beat_at >= BEAT_SECONDS:
            self._store.heartbeat(self.samples_seen)
            self._beat_at = time.monotonic()

    @property
    def wants_checkpoint(self) -> bool:
        """Whether enough was done since the last checkpoint."""
        least = UPLOAD_SECONDS if self._spares_uploads else CHECKPOINT_SECONDS
        apart = max(least, CHECKPOINT_SPACING * self._save_seconds)
        return self.leads and not self.done and time.monotonic() - self._saved_at >= apart

    def save(self, optimizer: OptimizerState) -> None:
        """Write a checkpoint now."""
        self._state.feed = self._counted.state() if self._counted.samples else {}
        started = time.monotonic()
        self._save_step_rows()
        self._store.save_checkpoint(self.samples_seen, pack_checkpoint(self.model, optimizer, self._state))
        self._saved_at, self.samples_saved = time.monotonic(), self.samples_seen
        self._save_seconds = self._saved_at - started

    def weights(self) -> bytes:
        """Return the model's weights as they are now."""
        return pack_weights(self.model)

    def read_final_metrics(self) -> dict[str, float]:
        """Return the last evaluation by metric name."""
        last = self._state.rows[-1]
        return {key: value for key, value in last.items() if key not in NOT_METRICS}

    def progress(self, seconds: float) -> TrialProgress:
        """Return the progress of the `seconds` since the last call."""
        first_step, known = self._reported
        self._reported = (self.steps, len(self._state.rows))
        batch = self.config.train.batch_size
        return TrialProgress(
            samples_seen=self.samples_seen,
            samples_total=self.steps_total * batch,
            samples_per_second=(self.steps - first_step) * batch / max(seconds, 1e-9),
            loss=self._last_loss,
            rows=tuple(self._state.rows[known:]),
            done=self.done,
        )


def build_trial_model(config: TrialConfig, seed: int) -> ContrastiveModel:
    """Return the model of a configuration with the seed's weights."""
    if isinstance(config.model, OpenClipModel):
        return build_public_model(config, seed)
    vocabulary = CLIP_VOCABULARY
    if isinstance(config.data, MadData):
        vocabulary = MAD_VOCABULARY._replace(added=count_added_tokens(config.data))
    if isinstance(config.model, Model) and config.model.is_table:
        temperature = config.temperature
        learned = temperature.mode == "learned"
        start = TableStart(config.model.embed_dim, config.init.gap, temperature.init, learned, config.loss.kind)
        rows = number_captions(require_mad_data(config))
        return EmbeddingTable(IMAGE_ROWS, rows.trained, start, seed, unseen_rows=rows.number - rows.trained)
    return build_model(config, vocabulary, seed)


@lru_cache(maxsize=64)
def _compute_shared_ratios(about: MadData, split: MadSplit, device: torch.device) -> torch.Tensor:
    labels_N = split.digit_labels_N
    shown = max(1, round(len(labels_N) * about.share))
    return torch.from_numpy(compute_likelihood_ratios(about, labels_N[:shown])).to(device)


def find_likelihood_ratios(data: Dataset, config: TrialConfig, device: torch.device) -> torch.Tensor:
    """Return p(caption | image) / p(caption) by row for a table's training; trials on one source share them."""
    assert isinstance(data, TrialData)
    return _compute_shared_ratios(require_mad_data(config), data.train, device)


def build_set_evaluation(sets: Mapping[str, PlannedEvaluationSet], config: TrialConfig) -> "SetEvaluation":
    """Return the evaluation on the sets that a configuration names; raise as `SetEvaluation` does."""
    from gapctl.training.set_evaluation import SetEvaluation

    return SetEvaluation(sets, config)


def build_evaluation(material: Dataset, config: TrialConfig, device: torch.device) -> Evaluation:
    """Return the evaluation of a configuration, with its intervention if it has one.

    On image-text pairs, ideal words are of evaluation sets alone.
    """
    gallery: FittingEvaluation
    if isinstance(material, PairPaths):
        from gapctl.training.pair_evaluation import PairEvaluation

        gallery = PairEvaluation(material, config, device)
    else:
        gallery = MadEvaluation(material, config, device)
    of_sets = config.evaluate.intervention == IDEAL_WORDS and isinstance(material, PairPaths)
    plain = config.evaluate.intervention == "none" or of_sets
    return gallery if plain else InterventionEvaluation(gallery, config.evaluate)
