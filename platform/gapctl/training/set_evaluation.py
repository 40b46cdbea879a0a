"""Measure models on evaluation sets: the same code for trials and for `gapctl measure`, so that both agree bit by bit.

1. `SetModel` is a model with its own way to read images and texts: a preset's, or that of an open_clip model.
2. `encode_set` shows it a set, batch by batch; `_encode_images` and `_encode_texts` do so on one core per batch.
3. `measure_set` computes every metric that the embeddings and the kind of the set allow, named without the set.
4. `SetEvaluation` opens the sets of a trial before it is trained, and measures them all; `replace_set_texts` puts ideal
   words in place of the texts of compositions.

Batches are the same whatever the number of threads, and each is computed by one: so the numbers do not depend on it.

Index letters: N images, M texts, C classes, P prompts, B rows of a batch, L token positions, D embedding.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.model import CLIP
from PIL import Image
from torch.nn.functional import normalize

from gapctl.config.evaluation_sets import NamedSet, PlannedEvaluationSet
from gapctl.config.trial import Evaluate, TrialConfig
from gapctl.data.image_text.class_prompts import PromptSet
from gapctl.data.image_text.evaluation_sets import (
    ATTRIBUTE,
    CLASS,
    OBJECT,
    PAIR,
    OpenedEvaluationSet,
    decode_set_images,
    open_set,
)
from gapctl.data.image_text.feed import run_in_order
from gapctl.data.image_text.tokens import get_tokenizer
from gapctl.data.parallel_shards import OnProgress, ignore_progress
from gapctl.errors import InputError, WorkError
from gapctl.interventions.fit import IDEAL_WORDS
from gapctl.interventions.ideal_words import replace_by_ideal_words
from gapctl.metrics.classification import ClassPrompts, PairQuestion, ZeroShotTasks, measure_class_accuracies
from gapctl.metrics.embedding_set import Embeddings, normalise_rows
from gapctl.metrics.sampling import THOROUGH_LIMITS
from gapctl.metrics.suite import measure_at_logit_scales
from gapctl.models.build import get_temperature_metrics
from gapctl.models.public import get_model_input

Floats = NDArray[np.float32]
Item = TypeVar("Item")
Result = TypeVar("Result")

BATCH_SIZE: Final = 32
"""Images or texts that are encoded together, whatever the machine: sums then have the same order everywhere."""
BATCHES_AHEAD: Final = 4
"""Batches of pixels that are read while a GPU encodes others."""

Tokenize = Callable[[Sequence[str], int], torch.Tensor]
"""From texts and a context length to tokens int64 (B, L); longer texts are cut."""


class SetModel(NamedTuple):
    """A model, and how it reads images and texts; `context` is the number of tokens that its texts have."""

    model: CLIP
    transform: Callable[[Image.Image], torch.Tensor]
    tokenize: Tokenize
    context: int


def build_trial_set_model(model: CLIP, config: TrialConfig) -> SetModel:
    """Return a trial's model with its own way to read: open_clip's transform, and its tokenizer.

    Raise InputError where the tokenizer cannot be had.
    """
    from open_clip.transform import PreprocessCfg, image_transform_v2

    seen = get_model_input(config.model)
    settings = PreprocessCfg(size=seen.image_size, mean=seen.mean, std=seen.std)
    if seen.interpolation is not None and seen.resize is not None:
        settings = replace(settings, interpolation=seen.interpolation, resize_mode=seen.resize)

    def tokenize(texts: Sequence[str], context: int) -> torch.Tensor:
        return torch.from_numpy(get_tokenizer(seen.tokenizer, context)(texts))

    return SetModel(model, image_transform_v2(settings, is_train=False), tokenize, seen.context)


@dataclass(frozen=True, eq=False)
class EncodedEvaluationSet:
    """A set as a model sees it: embeddings, questions, the model's temperature, and how many captions were cut."""

    opened: OpenedEvaluationSet
    embeddings: Embeddings
    questions: Mapping[str, ClassPrompts]
    temperature: dict[str, float]
    cut: int
    pairs: Mapping[str, PairQuestion] = field(default_factory=dict)

    @property
    def zero_shot(self) -> ZeroShotTasks:
        """The questions about objects and attributes, which interventions are judged by too."""
        asked = {key: self.questions[key] for key in (OBJECT, ATTRIBUTE) if key in self.questions}
        return ZeroShotTasks(asked, OBJECT if asked else None, self.pairs)

    def measure_accuracies(self) -> dict[str, float]:
        """Return the accuracies, and the captions that were cut, that only evaluation sets have."""
        image_ND = normalise_rows(self.embeddings.image_ND)
        found: dict[str, float] = {}
        if CLASS in self.questions:
            top, by_class = measure_class_accuracies(image_ND, self.questions[CLASS])
            found |= {"quality/accuracy": top, "quality/mean_class_accuracy": by_class}
        if PAIR in self.questions:
            found["quality/pair_accuracy"] = measure_class_accuracies(image_ND, self.questions[PAIR])[0]
        if self.opened.captions:
            found["captions/cut"] = float(self.cut)
        return found


@torch.no_grad()
def encode_set(
    opened: OpenedEvaluationSet, shown: SetModel, on_progress: OnProgress = ignore_progress, *, pairs: bool = False
) -> EncodedEvaluationSet:
    """Show a set to a model, in float32 on the device where it is; `on_progress` gets the images done, and all.

    With `pairs`, the prompts of every object with every attribute are encoded too, of which ideal words are made.
    Raise InputError for captions that are cut where the set refuses that, and for embeddings that are not finite.
    """
    with _use_for_encoding(shown.model) as threads:
        texts = [caption for captions in opened.captions for caption in captions]
        cut = _count_cut(opened, texts, shown)
        questions = {
            key: ClassPrompts(_average_prompts(question.prompts, shown, threads), question.class_N)
            for key, question in opened.questions.items()
        }
        pair_PD = _encode_texts(opened.combinations, shown, threads) if pairs and opened.combinations else None
        text_MD = _encode_texts(texts, shown, threads) if texts else None
        image_ND = _encode_images(opened, shown, threads, on_progress)
    for name, rows_AD in (("image", image_ND), ("text", text_MD)):
        if rows_AD is not None and not np.isfinite(rows_AD).all():
            raise InputError(
                f"evaluation set {opened.name}: the model's {name} embeddings are not finite; expected numbers. Its "
                "weights are damaged, or its training diverged"
            )
    temperature = get_temperature_metrics(shown.model)
    embeddings = _build_embeddings(opened, image_ND, text_MD, questions, temperature["temperature/logit_scale"])
    asked = {} if pair_PD is None else {ATTRIBUTE: _build_pair_question(pair_PD, questions)}
    return EncodedEvaluationSet(opened, embeddings, questions, temperature, cut, asked)


def _build_pair_question(pair_PD: Floats, questions: Mapping[str, ClassPrompts]) -> PairQuestion:
    object_N, value_N = questions[OBJECT].class_N, questions[ATTRIBUTE].class_N
    shape = len(questions[OBJECT].prompt_CD), len(questions[ATTRIBUTE].prompt_CD)
    present_OA = np.zeros(shape, bool)
    present_OA[object_N, value_N] = True
    return PairQuestion(pair_PD.reshape(*shape, -1), object_N, value_N, present_OA)


def replace_set_texts(encoded: EncodedEvaluationSet, share: float = 1.0) -> EncodedEvaluationSet:
    """Return a composition set with all texts replaced by sums of ideal words, `share` of the way.

    Raise InputError for a set that was encoded without pairs.
    """
    embeddings, zero_shot = replace_by_ideal_words(encoded.embeddings, encoded.zero_shot, share)
    (pair,) = zero_shot.pairs.values()
    present_PD = pair.prompt_OAD[pair.present_OA]  # in the order of the pairs of the set
    questions = {**zero_shot.questions, PAIR: encoded.questions[PAIR]._replace(prompt_CD=present_PD)}
    return replace(encoded, embeddings=embeddings, questions=questions, pairs=zero_shot.pairs)


def _build_embeddings(
    opened: OpenedEvaluationSet,
    image_ND: Floats,
    text_MD: Floats | None,
    questions: Mapping[str, ClassPrompts],
    logit_scale: float,
) -> Embeddings:
    """Return a set's embeddings: captions, or each class's prompts as the text of its images, or each image's pair.

    Captions match the image that they belong to and no other, as in CLIP_benchmark. The texts of compositions are one
    per image, on which arXiv 2404.07983 measures the bias of texts.
    """
    if text_MD is not None:
        owner_M = np.repeat(np.arange(opened.images), [len(captions) for captions in opened.captions])
        return Embeddings(image_ND, text_MD, text_to_image_M=owner_M, logit_scale=logit_scale)
    if CLASS in questions:
        prompt_CD, class_N = questions[CLASS]
        return Embeddings(image_ND, prompt_CD, prompt_of_N=class_N, labels_N=class_N, logit_scale=logit_scale)
    pair_CD, pair_N = questions[PAIR]
    return Embeddings(
        image_ND,
        pair_CD[pair_N],
        text_group_M=pair_N,
        labels_N=questions[OBJECT].class_N,
        attributes_NF=questions[ATTRIBUTE].class_N[:, None],
        class_CD=questions[OBJECT].prompt_CD,
        logit_scale=logit_scale,
    )


def measure_set(encoded: EncodedEvaluationSet, others: Sequence[str] | None = None) -> dict[str, float]:
    """Return all metrics of an encoded set by name, with entropies at the model's own logit scale.

    `others` are metrics of other packages, all of them if None. Raise ExtensionError for one that goes wrong.
    """
    embeddings, extra = encoded.embeddings, encoded.measure_accuracies()
    scales = [] if embeddings.logit_scale is None else [embeddings.logit_scale]
    return measure_at_logit_scales(embeddings, scales, THOROUGH_LIMITS, encoded.zero_shot, extra, others).values


class SetEvaluation:
    """The sets of a trial, opened before it is trained so that what is wrong with them shows then."""

    def __init__(self, planned: Mapping[str, PlannedEvaluationSet], config: TrialConfig) -> None:
        """Raise InputError for a set that is not whole, and WorkError for another than the trial was planned with."""
        self._config = config
        self._opened: list[OpenedEvaluationSet] = []
        for name in config.evaluate.sets:
            if name not in planned:
                raise WorkError(f"evaluation set {name}: the trial was planned without it; plan it again")
            opened = open_set(NamedSet(name, planned[name].definition))
            if opened.fingerprint != planned[name].fingerprint:
                raise WorkError(
                    f"evaluation set {name}: {opened.about['source']} is another set here (fingerprint "
                    f"{opened.fingerprint}, not {planned[name].fingerprint}) than the sweep was planned with; put the "
                    "same data on every machine"
                )
            self._opened.append(opened)

    def measure(self, model: CLIP) -> dict[str, float]:
        """Return the metrics of all sets, each with its set's name; raise ArithmeticError as other evaluations do."""
        shown = build_trial_set_model(model, self._config)
        found: dict[str, float] = {}
        for opened in self._opened:
            try:
                encoded = encode_set_for_trial(opened, shown, self._config.evaluate)
                measured = measure_set(encoded, others=self._config.evaluate.metrics)
            except InputError as error:
                raise ArithmeticError(str(error)) from error
            found |= {f"{opened.name}/{key}": value for key, value in measured.items()}
        return found


def encode_set_for_trial(
    opened: OpenedEvaluationSet,
    shown: SetModel,
    evaluate: Evaluate,
    on_progress: OnProgress = ignore_progress,
    *,
    pairs: bool = False,
) -> EncodedEvaluationSet:
    """Show a set to a model as its trial does: of compositions, texts are replaced where `evaluate` says so."""
    replaced = evaluate.intervention == IDEAL_WORDS and opened.definition.kind == "composition"
    encoded = encode_set(opened, shown, on_progress, pairs=pairs or replaced)
    return replace_set_texts(encoded, evaluate.strength) if replaced else encoded


@contextmanager
def _use_for_encoding(model: CLIP) -> Iterator[int]:
    """Use a model as it is after training, and one core for each of torch's operations; restore both afterwards.

    Yield the number of cores that torch may use, on which batches are computed side by side.
    """
    training, threads = model.training, torch.get_num_threads()
    model.eval()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)
        model.train(training)


def _find_device(model: CLIP) -> torch.device:
    device: torch.device = next(model.parameters()).device
    return device


def _encode_images(opened: OpenedEvaluationSet, shown: SetModel, threads: int, on_progress: OnProgress) -> Floats:
    """Return the unit embeddings of all images (N, D), batch by batch: read and encoded side by side on a CPU."""
    device = _find_device(shown.model)

    def read(row_B: NDArray[np.int64]) -> torch.Tensor:
        return torch.stack([shown.transform(image) for image in decode_set_images(opened, row_B)])

    @torch.no_grad()
    def encode(image_BCHW: torch.Tensor) -> Floats:
        return normalise_features(shown.model.encode_image(image_BCHW.to(device)))

    def read_and_encode(row_B: NDArray[np.int64]) -> Floats:
        return encode(read(row_B))

    batches = [opened.row_N[start : start + BATCH_SIZE] for start in range(0, opened.images, BATCH_SIZE)]
    if device.type == "cpu":
        encoded = _map_batches(read_and_encode, batches, threads)
    else:
        encoded = map(encode, _map_batches(read, batches, threads))
    parts: list[Floats] = []
    for part_BD in encoded:
        parts.append(part_BD)
        on_progress(min(len(parts) * BATCH_SIZE, opened.images), opened.images)
    return np.concatenate(parts)


def _encode_texts(texts: Sequence[str], shown: SetModel, threads: int) -> Floats:
    """Return the unit embeddings of texts (M, D)."""
    device = _find_device(shown.model)

    @torch.no_grad()
    def encode(batch: Sequence[str]) -> Floats:
        return normalise_features(shown.model.encode_text(shown.tokenize(batch, shown.context).to(device)))

    batches = [texts[start : start + BATCH_SIZE] for start in range(0, len(texts), BATCH_SIZE)]
    return np.concatenate(list(_map_batches(encode, batches, threads if device.type == "cpu" else 1)))


def _map_batches(work: Callable[[Item], Result], batches: Iterable[Item], threads: int) -> Iterator[Result]:
    """Yield the results in order, computed by so many threads, a few of them ahead."""
    return run_in_order((partial(work, batch) for batch in batches), threads, threads + BATCHES_AHEAD)


def normalise_features(rows_BD: torch.Tensor) -> Floats:
    """Return embeddings (B, D) divided by their lengths, as float32 of numpy."""
    unit_BD: Floats = normalize(rows_BD.float(), dim=-1).cpu().numpy()
    return unit_BD


def _average_prompts(prompts: PromptSet, shown: SetModel, threads: int) -> Floats:
    """Return each class's direction (C, D): the unit rows of its prompts averaged, and made of length 1 again."""
    asked = list(prompts.prompts.values())
    text_PD = _encode_texts([prompt for each in asked for prompt in each], shown, threads)
    mean_CD = text_PD.reshape(len(asked), len(asked[0]), -1).mean(axis=1)
    unit_CD: Floats = normalise_rows(mean_CD, "class").astype(np.float32)
    return unit_CD


def _count_cut(opened: OpenedEvaluationSet, texts: Sequence[str], shown: SetModel) -> int:
    """Return how many captions the model's context cuts; raise InputError where the set refuses that.

    A text is cut if one more place for tokens changes the others, or leaves something in the last.
    """
    cut, first = 0, ""
    for start in range(0, len(texts), 1024):
        part = texts[start : start + 1024]
        short_BL, long_BL = shown.tokenize(part, shown.context), shown.tokenize(part, shown.context + 1)
        changed_B = (long_BL[:, : shown.context] != short_BL).any(dim=1)
        cut += int(changed_B.sum())
        if not first and bool(changed_B.any()):
            first = part[int(changed_B.nonzero()[0])]
    if cut and opened.definition.cut_captions == "refuse":
        raise InputError(
            f"evaluation set {opened.name}: {cut:,} of {len(texts):,} captions are longer than the model's "
            f"{shown.context} tokens (the first: {first[:60]!r}...); expected shorter ones, or cut_captions: count"
        )
    return cut
