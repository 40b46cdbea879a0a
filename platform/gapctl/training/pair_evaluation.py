"""What a model trained on image-text pairs is measured on: held-out pairs, the same at every step and for every seed.

Index letters: N gallery pairs, B pairs of a part, L caption positions, C classes, P prompts, D embedding.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.model import CLIP
from torch.nn.functional import normalize

from gapctl.config.presets import CLIP_CONTEXT, PRESETS
from gapctl.config.trial import TrialConfig
from gapctl.data.image_text.feed import GalleryPart, read_rows_decoded
from gapctl.data.image_text.questions import Question, read_attributes
from gapctl.data.image_text.read import Bad, PairBatch, gallery_rule, pair_data, training_rule
from gapctl.data.image_text.source import (
    PairPlaces,
    Pairs,
    answers,
    gallery_rows,
    open_pairs,
    questions_path,
    some_rows,
)
from gapctl.data.image_text.tokens import clip_tokens
from gapctl.errors import InputError
from gapctl.metrics.classification import ClassPrompts, ZeroShot
from gapctl.metrics.embedding_set import Embeddings
from gapctl.models.build import Pixels, temperature_metrics
from gapctl.training.evaluation import FITTED_ON, Encoded, Floats, TrainingPairs

TREATMENT_SEED: Final = 0
"""Of a gallery whose captions are treated as well: the same words for all seeds."""
KEPT_BYTES: Final = 1 << 28
"""Pixels of a gallery that stay in memory; those of a larger one are decoded at each evaluation."""


class _Gallery(NamedTuple):
    """Embeddings of the pairs that could be read, and their places among the gallery's rows."""

    image_ND: Floats
    text_ND: Floats
    text_id_N: NDArray[np.int64]
    row_N: NDArray[np.int64]


class PairEvaluation:
    """Shows a model the gallery in float32, whatever the training computes in.

    Zero-shot questions come from the file that the configuration names; the first is about the object.
    """

    def __init__(self, places: PairPlaces, config: TrialConfig, device: torch.device) -> None:
        """Raises InputError for a file of questions that does not fit the held-out pairs."""
        self._pairs: Pairs = open_pairs(places)
        preset = PRESETS[config.model.preset]
        self._rule = gallery_rule(pair_data(config), preset.image_size)
        self._training_rule = training_rule(pair_data(config), preset.image_size)
        self._row_N = gallery_rows(self._pairs, config.evaluate.gallery)
        path = questions_path(places)
        self._questions: Mapping[str, Question] = read_attributes(path, "data.classes") if path else {}
        self._answers = answers(self._pairs.held_out, self._row_N, self._questions)
        self._pixels = Pixels(preset.mean, preset.std, device)
        self._device = device
        self._kept: list[PairBatch] | None = None

    @torch.no_grad()
    def encode(self, model: CLIP) -> Encoded:
        """What the metrics are computed from."""
        with _measuring(model):
            gallery = self._embedded(model, self._batches())
            place_N = np.searchsorted(self._row_N, gallery.row_N)
            questions = {
                key: ClassPrompts(self._class_means(model, question), self._answers[key][place_N])
                for key, question in self._questions.items()
            }
        main = next(iter(questions), None)
        zero_shot = ZeroShot(questions, main)
        temperature = temperature_metrics(model)
        others = [asked.class_N for key, asked in questions.items() if key != main]
        embeddings = Embeddings(
            image_ND=gallery.image_ND,
            text_MD=gallery.text_ND,
            text_group_M=gallery.text_id_N,
            labels_N=questions[main].class_N if main else None,
            attributes_NF=np.stack(others, axis=1) if others else None,
            class_CD=questions[main].prompt_CD if main else None,
            logit_scale=temperature["temperature/logit_scale"],
        )
        return Encoded(embeddings, zero_shot, temperature)

    @torch.no_grad()
    def training_pairs(self, model: CLIP) -> TrainingPairs:
        """Treated as in training, but not augmented; those that cannot be read are left out."""
        row_N = some_rows(self._pairs.train_rows, FITTED_ON)
        parts = read_rows_decoded(self._pairs.train, row_N, self._training_rule, seed=TREATMENT_SEED)
        with _measuring(model):
            found = self._embedded(model, (part.pairs for part in parts if len(part.pairs.sample_B)))
        return TrainingPairs(found.image_ND, found.text_ND)

    def _embedded(self, model: CLIP, batches: Iterable[PairBatch]) -> _Gallery:
        images, texts, ids, rows = [], [], [], []
        for batch in batches:
            images.append(self._images(model, batch))
            texts.append(self._texts(model, batch.tokens_BL))
            ids.append(batch.text_id_B)
            rows.append(batch.sample_B)
        return _Gallery(np.concatenate(images), np.concatenate(texts), np.concatenate(ids), np.concatenate(rows))

    def _batches(self) -> Iterator[PairBatch]:
        if self._kept is not None:
            yield from self._kept
            return
        parts = read_rows_decoded(self._pairs.held_out, self._row_N, self._rule, seed=TREATMENT_SEED)
        kept: list[PairBatch] = []
        small = len(self._row_N) * 3 * self._rule.image_size**2 <= KEPT_BYTES
        for part in parts:
            self._check(part)
            if small:
                kept.append(part.pairs)
            if len(part.pairs.sample_B):
                yield part.pairs
        if small:
            self._kept = [batch for batch in kept if len(batch.sample_B)]

    def _check(self, part: GalleryPart) -> None:
        """A treatment that held-out pairs lack something for would make another gallery than other arms have."""
        lacking = [left for left in part.left_out if left.why == Bad.LACKING.words]
        if lacking:
            first = lacking[0]
            raise InputError(
                f"data.captions.held_out: treated, but {first.shard} {first.key} lacks what the treatment needs; "
                "expected held-out pairs that have it, or held_out: full"
            )

    def _images(self, model: CLIP, batch: PairBatch) -> Floats:
        image_BCHW = self._pixels.images(torch.from_numpy(batch.images_BCHW).to(self._device))
        return _unit(model.encode_image(image_BCHW))

    def _texts(self, model: CLIP, token_BL: NDArray[np.int64]) -> Floats:
        return _unit(model.encode_text(torch.from_numpy(token_BL).to(self._device)))

    def _class_means(self, model: CLIP, question: Question) -> Floats:
        """Each class's mean prompt embedding (C, D)."""
        prompts = [prompt for found in question.prompts.values() for prompt in found]
        text_PD = self._texts(model, clip_tokens(CLIP_CONTEXT)(prompts))
        edges = np.cumsum([len(found) for found in question.prompts.values()])[:-1]
        mean_CD: Floats = np.stack([part.mean(axis=0) for part in np.split(text_PD, edges)])
        return mean_CD


def _unit(rows_BD: torch.Tensor) -> Floats:
    unit_BD: Floats = normalize(rows_BD.float(), dim=-1).cpu().numpy()
    return unit_BD


@contextmanager
def _measuring(model: CLIP) -> Iterator[None]:
    """Batch normalisation by the running statistics, and not moving them."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
