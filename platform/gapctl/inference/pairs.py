"""Join encoded shards, labels and prompts into the pairs that the metrics take.

Index letters: N samples, M their captions, C classes, P prompts, D embedding.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.data.image_text.class_prompts import Labels, PromptSet, read_sample_labels, split_caption_lines
from gapctl.data.image_text.manifest import Manifest
from gapctl.data.image_text.read import read_rows_with_samples
from gapctl.errors import InputError
from gapctl.inference.model import OpenModel, encode_texts
from gapctl.inference.shards import Floats, SampleRecord, ShardEmbeddings
from gapctl.metrics.classification import ClassPrompts, ZeroShotTasks
from gapctl.metrics.embedding_set import Embeddings
from gapctl.models.build import get_temperature_metrics


class LabelOptions(NamedTuple):
    """How samples are labelled: the key of their label, the classes, and attributes by key."""

    label_key: str | None
    classes: PromptSet | None
    attributes: Mapping[str, PromptSet]


class EncodedPairs(NamedTuple):
    """The pairs of all shards.

    `several_lines` counts the samples whose text has more than one non-empty line.
    """

    embeddings: Embeddings
    zero_shot: ZeroShotTasks
    temperature: dict[str, float]
    several_lines: int


def check_first_sample(manifest: Manifest, options: LabelOptions) -> None:
    """Check the labels of one sample, before hours are spent on all; raise as `assemble_encoded_pairs` does."""
    _, first = next(read_rows_with_samples(manifest.usable[:1]))
    sample = [SampleRecord(first.key, [], first.about)]
    _read_class_labels(sample, options)
    _read_attribute_labels(sample, options)


def assemble_encoded_pairs(opened: OpenModel, shards: Sequence[ShardEmbeddings], options: LabelOptions) -> EncodedPairs:
    """Join shards and encode the prompts. Raises InputError if labels are needed and missing."""
    samples = [sample for shard in shards for sample in shard.samples]
    captions = [caption for sample in samples for caption in sample.captions]
    text_to_image_M = np.repeat(np.arange(len(samples)), [len(sample.captions) for sample in samples])
    image_ND = np.concatenate([shard.image_ND for shard in shards if shard.samples])
    text_MD = np.concatenate([shard.text_MD for shard in shards if shard.samples])
    _require_finite("image", image_ND, samples, np.arange(len(samples)))
    _require_finite("text", text_MD, samples, text_to_image_M)
    if len(samples) < 2:
        raise InputError(
            f"a single pair, {samples[0].key}; expected at least 2, since the gap is measured between pairs"
        )
    labels = _read_class_labels(samples, options)
    attributes = _read_attribute_labels(samples, options)
    temperature = get_temperature_metrics(opened.model)
    zero_shot = _build_zero_shot(opened, options, labels, attributes)
    embeddings = Embeddings(
        image_ND=image_ND,
        text_MD=text_MD,
        text_to_image_M=text_to_image_M if len(captions) > len(samples) else None,
        text_group_M=np.unique(captions, return_inverse=True)[1],
        labels_N=labels.label_N if labels else None,
        attributes_NF=np.stack([each.label_N for each in attributes.values()], axis=1) if attributes else None,
        class_CD=zero_shot.questions[zero_shot.main].prompt_CD if zero_shot.main else None,
        logit_scale=temperature["temperature/logit_scale"],
    )
    several = sum(len(sample.captions) > 1 or len(split_caption_lines(sample.captions[0])) > 1 for sample in samples)
    return EncodedPairs(embeddings, zero_shot, temperature, several)


def _require_finite(
    name: str, rows_AD: Floats, samples: Sequence[SampleRecord], sample_of_A: NDArray[np.int64]
) -> None:
    wrong_A = np.flatnonzero(~np.isfinite(rows_AD).all(axis=1))
    if len(wrong_A):
        raise InputError(
            f"sample {samples[sample_of_A[wrong_A[0]]].key}: the model's {name} embedding is not finite "
            f"({len(wrong_A)} such); expected numbers. The weights are damaged, or from another architecture of the "
            "same shapes"
        )


def _read_class_labels(samples: Sequence[SampleRecord], options: LabelOptions) -> Labels | None:
    if options.label_key is None:
        return None
    return read_sample_labels(
        "--label-key", samples, options.label_key, tuple(options.classes.prompts) if options.classes else None
    )


def _read_attribute_labels(samples: Sequence[SampleRecord], options: LabelOptions) -> dict[str, Labels]:
    return {
        key: read_sample_labels("--attributes", samples, key, tuple(question.prompts))
        for key, question in options.attributes.items()
    }


def _build_zero_shot(
    opened: OpenModel, options: LabelOptions, labels: Labels | None, attributes: Mapping[str, Labels]
) -> ZeroShotTasks:
    questions = {
        key: ClassPrompts(_embed_prompts(opened, question), attributes[key].label_N)
        for key, question in options.attributes.items()
    }
    if options.classes is None or labels is None or options.label_key is None:
        return ZeroShotTasks(questions)
    main = ClassPrompts(_embed_prompts(opened, options.classes), labels.label_N)
    return ZeroShotTasks({options.label_key: main, **questions}, options.label_key)


def _embed_prompts(opened: OpenModel, question: PromptSet) -> NDArray[np.float32]:
    """Return the mean over templates for each class (C, D)."""
    prompts = list(question.prompts.values())
    text_PD = encode_texts(opened, [prompt for each in prompts for prompt in each])
    mean_CD: NDArray[np.float32] = text_PD.reshape(len(prompts), len(prompts[0]), -1).mean(axis=1)
    return mean_CD
