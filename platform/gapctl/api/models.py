"""Encode data with any model, load a trial's model, and close the gap of embeddings after the fact.

1. `encode` shows a model the pairs of any place that `gapctl measure --data` takes, or pairs in memory.
2. `load_model` gives a finished trial's model, or a public one, as open_clip's triple: model, preprocess, tokenizer.
3. `intervene` fits and judges every intervention on embeddings, as `gapctl intervene` does.

Index letters: N images, M texts, B rows of a batch, D embedding.
"""

import html
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import numpy as np

from gapctl.api.arrays import build_paired_embeddings, convert_embeddings_to_array, reject_arrays_beside_encoded
from gapctl.errors import InputError, first_line_of_error, require_packages
from gapctl.metrics.embedding_set import Embeddings

if TYPE_CHECKING:
    import polars as pl
    import torch
    from open_clip.model import CLIP

    from gapctl.interventions.judge import ClosingAnswer, InterventionReport

DEFAULT_RUNS = "runs"
BATCH_SIZE = 64
Number = TypeVar("Number", int, float)
PairSource = str | Path | Sequence[str | Path] | Iterable[tuple[Any, str | Sequence[str]]]
"""A place, several places, or pairs of an image (PIL's, or a file) and its caption or captions."""


@dataclass(frozen=True)
class EncodedData:
    """Embeddings of images (N, D) and of their captions (M, D), for `gapctl.measure` and `gapctl.intervene`.

    `keys` names each image, `captions` are the texts in the order of their rows, and `text_to_image` gives each text's
    image. `skipped` says for each sample that could not be read why.
    """

    embeddings: Embeddings
    keys: tuple[str, ...]
    captions: tuple[str, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)

    @property
    def images(self) -> np.ndarray:
        """The images' embeddings (N, D), float32."""
        return self.embeddings.image_ND

    @property
    def texts(self) -> np.ndarray:
        """The texts' embeddings (M, D), float32."""
        return self.embeddings.text_MD

    @property
    def text_to_image(self) -> np.ndarray:
        """Each text's image (M,)."""
        pairing = self.embeddings.text_to_image_M
        return np.arange(len(self.texts)) if pairing is None else pairing

    def __repr__(self) -> str:
        skipped = f", {len(self.skipped)} samples skipped" if self.skipped else ""
        return f"<{len(self.images):,} images and {len(self.texts):,} texts, {self.images.shape[1]} wide{skipped}>"


class _Pair(NamedTuple):
    """One image, opened, with its key and its captions."""

    key: str
    image: object
    captions: Sequence[str]


def encode(
    model: object,
    preprocess: Callable[[Any], object],
    tokenizer: Callable[[list[str]], object],
    data: PairSource,
    *,
    batch_size: int = BATCH_SIZE,
    device: "str | torch.device | None" = None,
) -> EncodedData:
    """Encode images and their captions with any model.

    Args:
        model: Anything with `encode_image` and `encode_text` (open_clip), with `get_image_features` and
            `get_text_features` (transformers: CLIP, SigLIP), or a pair of functions, of images and of tokens.
        preprocess: From a PIL image to the model's input, as open_clip's transform or transformers' image processor.
        tokenizer: From a list of texts to the model's input.
        data: A place that `gapctl measure --data` takes (shards, a folder, a csv, COCO's json), several of them, or
            pairs of an image (PIL's, or a file's path) and a caption or a list of captions.
        batch_size: Images, or texts, that are encoded together.
        device: Where inputs are moved; the model's own if left out.

    Returns:
        The embeddings, with the model's logit scale if it has one.

    Raises:
        InputError: There are no pairs, or the model returns no rows of numbers for them.

    """
    require_packages("torch", "PIL")
    import torch

    if not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(f"`batch_size`: found {batch_size!r}; expected a whole number of at least 1")
    encode_image, encode_text = _find_encoders(model)
    place = _find_device(model, device)
    images: list[np.ndarray] = []
    texts: list[np.ndarray] = []
    keys: list[str] = []
    captions: list[str] = []
    owners: list[int] = []
    skipped: dict[str, str] = {}
    with torch.no_grad():
        for batch in _cut_batches(_iterate_pairs(data, skipped), batch_size):
            inputs = _stack_inputs([preprocess(pair.image) for pair in batch], place)
            images.append(_read_features("image", _call_encoder(encode_image, inputs), len(batch)))
            for pair in batch:
                owners += [len(keys)] * len(pair.captions)
                captions += pair.captions
                keys.append(pair.key)
        if not keys:
            raise InputError(_explain_no_pairs(skipped))
        for start in range(0, len(captions), batch_size):
            some = captions[start : start + batch_size]
            texts.append(
                _read_features("text", _call_encoder(encode_text, _move_tensors(tokenizer(some), place)), len(some))
            )
    pairing = np.array(owners)
    embeddings = Embeddings(
        np.concatenate(images),
        np.concatenate(texts),
        text_to_image_M=pairing if len(captions) > len(keys) else None,
        text_group_M=np.unique(np.array(captions), return_inverse=True)[1],
        logit_scale=_read_logit_scale(model),
    )
    return EncodedData(embeddings, tuple(keys), tuple(captions), skipped)


def _find_encoders(model: object) -> tuple[Callable[..., object], Callable[..., object]]:
    if isinstance(model, tuple) and len(model) == 2 and all(map(callable, model)):
        return model[0], model[1]
    for names in (("encode_image", "encode_text"), ("get_image_features", "get_text_features")):
        if all(callable(getattr(model, name, None)) for name in names):
            return getattr(model, names[0]), getattr(model, names[1])
    raise InputError(
        f"`model`: found a {type(model).__name__}; expected a model with encode_image and encode_text, or with "
        "get_image_features and get_text_features, or a pair of functions (of images, of tokens)"
    )


def _find_device(model: object, device: "str | torch.device | None") -> "torch.device":
    import torch

    if device is not None:
        try:
            return torch.empty(0, device=device).device
        except (RuntimeError, TypeError, AssertionError) as error:
            reason = first_line_of_error(error)
            raise InputError(
                f"`device`: {device!r} cannot be used here ({reason}); expected 'cpu' or 'cuda'"
            ) from error
    parameters = getattr(model, "parameters", None)
    first = next(iter(parameters()), None) if callable(parameters) else None
    return torch.device("cpu") if first is None else first.device


def _iterate_pairs(data: PairSource, skipped: dict[str, str]) -> Iterator[_Pair]:
    if isinstance(data, str | Path):
        yield from _read_pairs_from_places([data], skipped)
        return
    if not isinstance(data, Iterable):
        raise InputError(f"`data`: found a {type(data).__name__}; expected a place, or pairs of images and captions")
    listed = data if isinstance(data, Iterator) else list(data)
    if isinstance(listed, list) and all(isinstance(each, str | Path) for each in listed):
        yield from _read_pairs_from_places(cast("list[str | Path]", listed), skipped)
        return
    for row, each in enumerate(listed):
        if not isinstance(each, Sequence) or isinstance(each, str) or len(each) != 2:
            raise InputError(
                f"`data`: item {row} is a {type(each).__name__}; expected a pair of an image and its captions"
            )
        image, given = each
        captions = list(given) if isinstance(given, list | tuple) else [given]
        if not captions or not all(isinstance(caption, str) for caption in captions):
            raise InputError(f"`data`: item {row} has the caption {given!r}; expected a text, or several in a list")
        yield _Pair(str(row), _open_image(row, image), captions)


def _read_pairs_from_places(places: Sequence[str | Path], skipped: dict[str, str]) -> Iterator[_Pair]:
    """Read the pairs of places by the rules of `gapctl measure --data`, several lines of a text as several captions."""
    from gapctl.data.image_text.class_prompts import CaptionLineMode, split_captions
    from gapctl.data.image_text.index import decode_image, iterate_shard_samples
    from gapctl.data.image_text.storage import list_or_pack_local_shards

    try:
        shards = list_or_pack_local_shards([str(place) for place in places])
    except InputError as error:
        raise InputError(str(error).replace("--data", "`data`:")) from None
    for shard in shards:
        for sample in iterate_shard_samples(Path(shard.address)):
            captions = split_captions(sample.caption or "", CaptionLineMode.LINES)
            if sample.image is None or not captions:
                skipped[sample.key] = "no image" if sample.image is None else "no caption"
                continue
            try:
                yield _Pair(sample.key, decode_image(sample), captions)
            except ValueError as error:
                skipped[sample.key] = str(error).splitlines()[0] if str(error) else "the image cannot be read"


def _open_image(row: int, image: object) -> object:
    if not isinstance(image, str | Path):
        return image
    from gapctl.data.image_text.image import decode_rgb_image

    try:
        return decode_rgb_image(Path(image).read_bytes())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"`data`: item {row}: {image}: cannot be read as an image ({reason})") from error


def _cut_batches(pairs: Iterator[_Pair], size: int) -> Iterator[list[_Pair]]:
    batch = []
    for pair in pairs:
        batch.append(pair)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _stack_inputs(inputs: list[Any], device: "torch.device") -> Any:
    """Stack what `preprocess` returned: tensors, or transformers' mappings of tensors and arrays."""
    import torch

    if isinstance(inputs[0], Mapping):
        names = list(inputs[0])
        return {name: _stack_inputs([each[name] for each in inputs], device) for name in names}
    tensors = [torch.as_tensor(np.asarray(each) if isinstance(each, list) else each) for each in inputs]
    squeezed = [each[0] if each.ndim == 4 and len(each) == 1 else each for each in tensors]
    try:
        return torch.stack(squeezed).to(device)
    except RuntimeError as error:
        raise InputError(
            f"`preprocess`: its results do not stack ({first_line_of_error(error)}); expected tensors of one shape"
        ) from error


def _move_tensors(inputs: object, device: "torch.device") -> object:
    if isinstance(inputs, Mapping):
        return {name: _move_tensors(value, device) for name, value in inputs.items()}
    return inputs.to(device) if hasattr(inputs, "to") else inputs


def _call_encoder(encoder: Callable[..., object], inputs: object) -> object:
    return encoder(**inputs) if isinstance(inputs, Mapping) else encoder(inputs)


def _read_features(name: str, found: object, rows: int) -> np.ndarray:
    """Return a batch's embeddings in float32; some models wrap them in a record with `pooler_output`."""
    found = getattr(found, "pooler_output", found)
    features = convert_embeddings_to_array(f"the model's {name} embeddings", found)
    if len(features) != rows:
        raise InputError(
            f"`model`: returned {len(features)} {name} embeddings for {rows} inputs; expected one for each"
        )
    return features.astype(np.float32)


def _read_logit_scale(model: object) -> float | None:
    """Return exp of the model's `logit_scale`, as open_clip and transformers keep it, or None."""
    scale = getattr(model, "logit_scale", None)
    if scale is None or not hasattr(scale, "exp"):
        return None
    return float(scale.detach().float().exp().mean())


def _explain_no_pairs(skipped: Mapping[str, str]) -> str:
    if not skipped:
        return "`data`: found no pair; expected images with captions"
    key, reason = next(iter(skipped.items()))
    first = f"{key}: {reason}"
    return f"`data`: none of {len(skipped)} samples can be used (the first, {first}); expected images with captions"


def load_model(
    model: str, runs: str | Path = DEFAULT_RUNS, *, pretrained: str | None = None
) -> "tuple[CLIP, Callable[[Any], torch.Tensor], Callable[[str | Sequence[str]], torch.Tensor]]":
    """Return open_clip's triple of a model, its preprocess and its tokenizer: of a finished trial, or a public model.

    Args:
        model: A finished trial of the ledger `runs`, by its id or its beginning; or `hf-hub:organisation/name` or
            `local-dir:/path`; or with `pretrained` one of open_clip's architectures.
        runs: The ledger, for a trial.
        pretrained: A tag of the architecture, or a file of weights. Weights are read as tensors only.

    Returns:
        The model on the CPU, in eval mode, its transform of images and its tokenizer. Captions of MAD's trials are
        values with hyphens between them, such as `3-thickening-red`.

    Raises:
        InputError: There is no such model, its weights do not fit, or the trial is unknown or unfinished.

    """
    require_packages("torch", "open_clip")
    if pretrained is not None or model.startswith(("hf-hub:", "local-dir:")):
        return _load_public_model(model, pretrained)
    from gapctl.inference.trial import build_preprocess, build_tokenizer, load_trial_model
    from gapctl.ledger import Ledger

    rebuilt, config = load_trial_model(Ledger(str(runs)), model)
    return rebuilt.eval(), build_preprocess(config), build_tokenizer(config)


def _load_public_model(name: str, pretrained: str | None) -> "tuple[CLIP, Callable[[Any], torch.Tensor], Any]":
    from gapctl.inference.model import build_transform, load_open_clip_model, load_tokenizer
    from gapctl.models.sources import check_model_name, find_or_download_weights

    try:
        check_model_name(name, pretrained)
        opened = load_open_clip_model(name, find_or_download_weights(name, pretrained))
    except InputError as error:
        words = str(error).replace("--pretrained", "`pretrained`").replace("--model", "`model`")
        raise type(error)(words) from error
    return opened.model, build_transform(opened.preprocess), load_tokenizer(name, opened.weights.folder)


class Judgement:
    """What each intervention does to the gap and to every quality on images that it was not fitted on."""

    def __init__(self, report: "InterventionReport", answer: "ClosingAnswer") -> None:
        self.report, self.answer = report, answer

    @property
    def sentence(self) -> str:
        """The answer in one sentence."""
        from gapctl.report.intervene_page import summarise_answer

        return summarise_answer(self.answer, self.report)

    def frame(self) -> "pl.DataFrame":
        """Return a polars frame with a row for each intervention and metric.

        `value` is the metric after the intervention, `change` against nothing, with the interval from `low` to `high`.
        """
        import polars as pl

        return pl.DataFrame(
            [
                {"intervention": each.name, "metric": key, **change._asdict()}
                for each in self.report.judged
                for key, change in each.changes.items()
            ],
            infer_schema_length=None,
        )

    def __repr__(self) -> str:
        return f"Does closing the gap help here? {self.sentence}\n{self.frame()}"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(self.sentence)}</p>{self.frame()._repr_html_()}"


def intervene(
    images: object,
    texts: object = None,
    labels: object = None,
    attributes: object = None,
    text_to_image: object = None,
    *,
    lambdas: Sequence[float] | None = None,
    remove: Sequence[int] | None = None,
    ideal_words: bool = False,
    calibration: float = 0.5,
    seed: int = 0,
) -> Judgement:
    """Close the gap of embeddings after the fact, and judge whether that helps, as `gapctl intervene` does.

    Args:
        images: Embeddings (N, D), or what `encode` returned, alone.
        texts: Embeddings (M, D); the other arrays are those of `measure`.
        labels: Each image's object (N,).
        attributes: Each image's attribute (N,) or (N, factors).
        text_to_image: Each text's image (M,).
        lambdas: How far to shift along the mean difference; 1 closes it.
        remove: How many of the dimensions that carry the gap to remove.
        ideal_words: Also replace texts by sums of ideal words, of the mean texts of each label with each attribute.
        calibration: The share of the images that interventions are fitted on; the others judge them.
        seed: Decides the split and the resamples.

    Raises:
        InputError: An array is none or does not fit the others, the images cannot be split, or for ideal words some
            label has no image with some attribute.

    """
    from gapctl.interventions.fit import SHIFT_LAMBDAS, list_candidates, list_default_removal_counts
    from gapctl.interventions.judge import judge_closing, judge_interventions
    from gapctl.metrics.classification import ZeroShotTasks

    encoded = getattr(images, "embeddings", None)
    if isinstance(encoded, Embeddings):
        reject_arrays_beside_encoded(texts=texts, labels=labels, attributes=attributes, text_to_image=text_to_image)
        embeddings = encoded
    else:
        embeddings = build_paired_embeddings(images, texts, labels, attributes, text_to_image)[0]
    if not isinstance(calibration, int | float) or isinstance(calibration, bool) or not 0 < calibration < 1:
        raise InputError(f"`calibration`: found {calibration!r}; expected a share between 0 and 1")
    if not isinstance(seed, int) or seed < 0:
        raise InputError(f"`seed`: found {seed!r}; expected a whole number from 0 on")
    width = embeddings.image_ND.shape[1]
    tried = list_candidates(
        SHIFT_LAMBDAS if lambdas is None else _read_numbers("lambdas", lambdas, float),
        list_default_removal_counts(width) if remove is None else _read_numbers("remove", remove, int),
        ideal_words=ideal_words,
    )
    report = judge_interventions(embeddings, ZeroShotTasks(), tried, calibration, seed)
    return Judgement(report, judge_closing(report))


def _read_numbers(name: str, values: Sequence[float], kind: Callable[[float], Number]) -> tuple[Number, ...]:
    try:
        return tuple(kind(value) for value in values)
    except (TypeError, ValueError) as error:
        raise InputError(f"`{name}`: found {values!r}; expected a list of numbers") from error
