"""Evaluate models of image-text pairs on held-out pairs, the same at every step and for every seed.

Index letters: N gallery images, M their captions, B images of a part, L caption positions, C classes, P prompts, D
embedding.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Final, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.model import CLIP

from gapctl.config.trial import OpenClipModel, TrialConfig
from gapctl.data.image_text.class_prompts import PromptSet, read_attribute_prompts
from gapctl.data.image_text.feed import PART_SAMPLES, decode_manifest_rows, read_zero_shot_labels, sample_gallery_rows
from gapctl.data.image_text.image import Resizing
from gapctl.data.image_text.read import (
    CaptionBatch,
    PairBatch,
    ReadStatus,
    build_gallery_read_options,
    build_training_read_options,
    require_pair_data,
)
from gapctl.data.image_text.source import PairPaths, TrialPairs, find_questions_file, load_pair_manifests
from gapctl.data.image_text.tokens import get_tokenizer
from gapctl.errors import InputError
from gapctl.metrics.classification import ClassPrompts, ZeroShotTasks
from gapctl.metrics.embedding_set import Embeddings
from gapctl.models.build import OpenClipNormaliser, PixelNormaliser, get_temperature_metrics
from gapctl.models.public import get_model_input
from gapctl.training.evaluation import FITTING_PAIRS, Floats, GalleryEncoding, GalleryPairs, TrainingEmbeddings
from gapctl.training.set_evaluation import normalise_features

TREATMENT_SEED: Final = 0
"""The seed of treated gallery captions: the same words for all seeds."""
ENCODED_TOGETHER: Final = 32
"""Pairs of a public model's gallery that are encoded together: as many as `gapctl measure --model` encodes."""
CACHED_BYTES: Final = 1 << 28
"""Largest size of a gallery's pixels that stays in memory; a larger gallery is decoded at each evaluation."""


Rows = TypeVar("Rows", bound=np.generic)


class _PairEmbeddings(NamedTuple):
    """Embeddings of the readable images and their texts, the place of each text's image, and the images' rows."""

    image_ND: Floats
    text_MD: Floats
    text_id_M: NDArray[np.int64]
    image_M: NDArray[np.int64]
    row_N: NDArray[np.int64]


class PairEvaluation:
    """Encodes the gallery with a model in float32, whatever the training's format.

    Every caption of an image is a text of it, whereas a training draws one at each access.

    Zero-shot questions come from the file that the configuration names; the first is about the object.
    """

    def __init__(self, places: PairPaths, config: TrialConfig, device: torch.device) -> None:
        """Choose the gallery.

        Raise InputError for a file of questions that does not fit the held-out pairs, and for a model's tokenizer that
        cannot be had.
        """
        self._pairs: TrialPairs = load_pair_manifests(places)
        seen = get_model_input(config.model)
        pixels = (
            None if seen.resize is None or seen.interpolation is None else Resizing(seen.resize, seen.interpolation)
        )
        data = require_pair_data(config)
        self._rule = build_gallery_read_options(data, seen.image_size, seen.context, pixels, seen.tokenizer)
        self._training_rule = build_training_read_options(data, seen.image_size, seen.context, seen.tokenizer)
        self._tokenizer = get_tokenizer(seen.tokenizer, seen.context)
        self._row_N = sample_gallery_rows(self._pairs.held_out_rows, config.evaluate.gallery)
        path = find_questions_file(places)
        self._questions: Mapping[str, PromptSet] = read_attribute_prompts(path, "data.classes") if path else {}
        self._answers = read_zero_shot_labels(self._pairs.held_out, self._row_N, self._questions)
        # As open_clip computes them, for the numbers that `gapctl measure --model` gives, to the last bit.
        exactly = isinstance(config.model, OpenClipModel)
        self._pixels = (PixelNormaliser if not exactly else OpenClipNormaliser)(seen.mean, seen.std, device)
        self._part_size = ENCODED_TOGETHER if exactly else None
        self._device = device
        self._kept: list[tuple[PairBatch, CaptionBatch]] | None = None

    @torch.no_grad()
    def encode(self, model: CLIP, *, pairs: bool = False) -> GalleryEncoding:
        """Return the encoding from which the metrics are computed.

        It has no prompts of `pairs`: InputError where they are asked for.
        """
        if pairs:
            raise InputError(
                "ideal words: the held-out pairs of a trial on image-text pairs have no prompts of an object with an "
                "attribute; expected an evaluation set of kind composition, or a trial on MAD"
            )
        with _pause_training_mode(model):
            gallery = self._encode_batches(model, self._read_batches())
            place_N = np.searchsorted(self._row_N, gallery.row_N)
            questions = {}
            for key, question in self._questions.items():
                prompts = list(question.prompts.values())
                token_PL = self._tokenizer([prompt for each in prompts for prompt in each])
                parts = np.split(self._encode_texts(model, token_PL), np.cumsum([len(each) for each in prompts])[:-1])
                prompt_CD: Floats = np.stack([part_TD.mean(axis=0) for part_TD in parts])
                questions[key] = ClassPrompts(prompt_CD, self._answers[key][place_N])
        main = next(iter(questions), None)
        zero_shot = ZeroShotTasks(questions, main)
        temperature = get_temperature_metrics(model)
        others = [question.class_N for key, question in questions.items() if key != main]
        embeddings = Embeddings(
            image_ND=gallery.image_ND,
            text_MD=gallery.text_MD,
            text_to_image_M=gallery.image_M if len(gallery.image_M) > len(gallery.row_N) else None,
            text_group_M=gallery.text_id_M,
            labels_N=questions[main].class_N if main else None,
            attributes_NF=np.stack(others, axis=1) if others else None,
            class_CD=questions[main].prompt_CD if main else None,
            logit_scale=temperature["temperature/logit_scale"],
        )
        return GalleryEncoding(embeddings, zero_shot, temperature, partial(self._get_pairs, gallery))

    @torch.no_grad()
    def encode_training_pairs(self, model: CLIP) -> TrainingEmbeddings:
        """Return embeddings of training pairs, treated as in training but not augmented.

        Of several captions of an image one is drawn. Unreadable pairs are left out.
        """
        row_N = sample_gallery_rows(self._pairs.train_rows, FITTING_PAIRS)
        parts = decode_manifest_rows(self._pairs.train, row_N, self._training_rule, seed=TREATMENT_SEED)
        with _pause_training_mode(model):
            drawn = ((part.pairs, _take_drawn_captions(part.pairs)) for part in parts if len(part.pairs.sample_B))
            encoded = self._encode_batches(model, drawn)
        return TrainingEmbeddings(encoded.image_ND, encoded.text_MD)

    def _get_pairs(
        self, gallery: _PairEmbeddings, image_B: NDArray[np.int64], text_B: NDArray[np.int64]
    ) -> GalleryPairs:
        """Return images and captions by their places among those that were encoded.

        Captions are the words of their tokens: lower case, treated, and cut where the model's context ends.
        """
        owner_B = gallery.image_M[text_B]
        rows = set(gallery.row_N[np.concatenate([image_B, owner_B])].tolist())
        images: dict[int, NDArray[np.uint8]] = {}
        tokens: dict[int, NDArray[np.int64]] = {}
        for pairs, captions in self._kept or self._decode(np.array(sorted(rows))):
            for slot, row in enumerate(pairs.sample_B.tolist()):
                if row in rows:
                    images[row] = pairs.image_BHWC[slot]
                    tokens[row] = captions.tokens_ML[captions.image_M == slot]
        number_B = text_B - np.searchsorted(gallery.image_M, owner_B)  # which of its image's captions each text is
        named = zip(gallery.row_N[owner_B].tolist(), number_B.tolist(), strict=True)
        words = [self._tokenizer.decode(tokens[row][number].tolist()) for row, number in named]
        return GalleryPairs(np.stack([images[row] for row in gallery.row_N[image_B].tolist()]), words)

    def _encode_batches(self, model: CLIP, batches: Iterable[tuple[PairBatch, CaptionBatch]]) -> _PairEmbeddings:
        images, texts, ids, places, rows, before = [], [], [], [], [], 0
        image_groups: _RowGroups[np.uint8] = _RowGroups(self._part_size)
        token_groups: _RowGroups[np.int64] = _RowGroups(self._part_size)
        for batch, captions in batches:
            images += [self._encode_images(model, group) for group in image_groups.add(batch.images_BCHW)]
            texts += [self._encode_captions(model, group) for group in token_groups.add(captions.tokens_ML)]
            ids.append(captions.text_id_M)
            places.append(captions.image_M + before)
            rows.append(batch.sample_B)
            before += len(batch.sample_B)
        images += [self._encode_images(model, group) for group in image_groups.take_rest()]
        texts += [self._encode_captions(model, group) for group in token_groups.take_rest()]
        return _PairEmbeddings(
            np.concatenate(images),
            np.concatenate(texts),
            np.concatenate(ids),
            np.concatenate(places),
            np.concatenate(rows),
        )

    def _read_batches(self) -> Iterator[tuple[PairBatch, CaptionBatch]]:
        if self._kept is not None:
            yield from self._kept
            return
        kept: list[tuple[PairBatch, CaptionBatch]] = []
        small = len(self._row_N) * 3 * self._rule.image_size**2 <= CACHED_BYTES
        for read in self._decode(self._row_N):
            if small:
                kept.append(read)
            yield read
        if small:
            self._kept = kept

    def _decode(self, row_N: NDArray[np.int64]) -> Iterator[tuple[PairBatch, CaptionBatch]]:
        for part in decode_manifest_rows(
            self._pairs.held_out, row_N, self._rule, seed=TREATMENT_SEED, all_captions=True
        ):
            # A pair that the treatment cannot treat would make the gallery differ from other arms'.
            lacking = next((left for left in part.left_out if left.why == ReadStatus.LACKING.words), None)
            if lacking is not None:
                raise InputError(
                    f"data.captions.held_out: treated, but {lacking.shard} {lacking.key} lacks what the treatment "
                    "needs; expected held-out pairs that have it, or held_out: full"
                )
            if part.captions is not None and len(part.pairs.sample_B):
                yield part.pairs, part.captions

    def _encode_images(self, model: CLIP, image_BCHW: NDArray[np.uint8]) -> Floats:
        pixels_BCHW = self._pixels.images(torch.from_numpy(image_BCHW).to(self._device))
        return normalise_features(model.encode_image(pixels_BCHW, normalize=False))

    def _encode_captions(self, model: CLIP, token_ML: NDArray[np.int64]) -> Floats:
        starts = range(0, len(token_ML), PART_SAMPLES)
        return np.concatenate([self._encode_texts(model, token_ML[start : start + PART_SAMPLES]) for start in starts])

    def _encode_texts(self, model: CLIP, token_BL: NDArray[np.int64]) -> Floats:
        return normalise_features(model.encode_text(torch.from_numpy(token_BL).to(self._device), normalize=False))


def _take_drawn_captions(pairs: PairBatch) -> CaptionBatch:
    """Return the caption that was drawn for each image."""
    return CaptionBatch(pairs.tokens_BL, pairs.text_id_B, np.arange(len(pairs.sample_B)))


class _RowGroups(Generic[Rows]):
    """Rows of arrays in their order, `size` at a time and the rest last; without a size, each array by itself."""

    def __init__(self, size: int | None) -> None:
        self._size = size
        self._held: list[NDArray[Rows]] = []

    def add(self, rows: NDArray[Rows]) -> list[NDArray[Rows]]:
        """Return the groups that are whole with these rows."""
        if self._size is None:
            return [rows]
        joined = np.concatenate([*self._held, rows])
        whole = len(joined) // self._size * self._size
        self._held = [joined[whole:]]
        return np.split(joined[:whole], range(self._size, whole, self._size)) if whole else []

    def take_rest(self) -> list[NDArray[Rows]]:
        """Return the last group, which is smaller, if there is one."""
        return [rows for rows in self._held if len(rows)]


@contextmanager
def _pause_training_mode(model: CLIP) -> Iterator[None]:
    """Use the running statistics of batch normalisation without updating them."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
