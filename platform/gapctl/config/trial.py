"""One CLIP training, completely described: the `base` of a sweep file and the configuration of a trial.

`TrialConfig` at the end holds a model for each section: `data` (MAD or image-text pairs), `model`, `temperature`,
`loss`, `train` and `evaluate`. Each model checks itself; checks across sections are in `TrialConfig`. With `init_from`,
`TrialConfig.parent` is the training whose weights this one starts from.

The docstrings of models become descriptions in `sweeps/schema.json`.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from gapctl.config.architectures import (
    Architecture,
    find_architecture,
    is_architecture_file,
    list_architectures,
)
from gapctl.config.base import (
    NO_PASSWORD,
    Address,
    FrozenModel,
    OmitFromHash,
    WrongValueError,
    find_nearest,
    flatten_document,
    format_choices,
    format_yaml_value,
    replace_at_path,
)
from gapctl.config.hypotheses import Level, Slug
from gapctl.config.metrics import METRICS
from gapctl.config.presets import PRESETS, TABLE, Preset
from gapctl.extensions import Kind, explain_unusable, find_extension, list_announced, list_extensions
from gapctl.text import join_or

FactorName = Literal["digit", "thickness", "swelling", "fracture", "scale", "colour"]
FACTOR_VALUES: Final[Mapping[str, int]] = {
    "digit": 10,
    "thickness": 3,
    "swelling": 2,
    "fracture": 2,
    "scale": 2,
    "colour": 7,
}
"""The number of values of each factor of a MAD image; one over it is the chance of guessing the factor."""
TREATMENT_NAMES: Final = (
    "full",
    "half",
    "quarter",
    "words",
    "sentences",
    "keywords",
    "objects",
    "attributes",
    "shuffled",
    "length_matched",
    "enriched",
)
"""The caption treatments that gapctl itself has."""
UNDRAWN_TREATMENTS: Final = ("full", "keywords", "objects", "attributes", "enriched")
"""Those of them that draw nothing."""
DrawTime = Literal["each_access", "once"]
NO_FACTORS: Final = "none"
"""The level of `captions.fixed` at which attributes are drawn."""
MOST_SYNONYMS: Final = 4
"""The most words of a value, for which the numbers of captions (`compute_caption_ids`) have room."""
LOSSES: Final = ("clip", "siglip")
"""The contrastive losses that gapctl itself has."""
FULL_ATTRIBUTES: Final = 5
"""The attributes of a MAD caption that says all: every factor besides the main one."""
Degrade = Literal["none", "blur", "downscale", "grey", "patches"]
AMOUNTS: Final[Mapping[str, tuple[float, float]]] = {
    "none": (0, 0),
    "blur": (0, 64),
    "downscale": (1, 64),
    "grey": (0, 0),
    "patches": (0, 1),
}
"""The range of `amount` for each degradation of images."""


def _check_name(kind: Kind, name: str, own: Sequence[str]) -> str:
    """Return a name of gapctl's own or of an installed package; raise ValueError for any other."""
    if name in own:
        return name
    if name not in list_extensions(kind):
        known = [*own, *list_announced(kind)]
        hint = (
            ""
            if find_nearest(name, known)
            else f", or the name of one that an installed package announces in the group gapctl.{kind}"
        )
        raise ValueError(f"found {name!r}; {format_choices(name, known)}{hint}")
    if why := explain_unusable(kind, name):
        raise ValueError(why)
    return name


def has_logit_bias(loss: str) -> bool:
    """Return whether models that are trained by a loss have a logit bias, as SigLIP's do."""
    other = None if loss in LOSSES else find_extension("losses", loss)
    return loss == "siglip" or (other is not None and other.initial_bias is not None)


def _describe_names(own: Sequence[str]) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [{"enum": list(own)}, {"type": "string", "pattern": r"^[A-Za-z_]\w*$"}]})


Keep = Annotated[
    str, AfterValidator(lambda name: _check_name("treatments", name, TREATMENT_NAMES)), _describe_names(TREATMENT_NAMES)
]
LossName = Annotated[str, AfterValidator(lambda name: _check_name("losses", name, LOSSES)), _describe_names(LOSSES)]


def _check_metric_name(name: str) -> str:
    """Return the name of another package's metric; raise ValueError for any other."""
    if name in METRICS:
        raise ValueError(f"found {name!r}, which every training measures; expected a metric of an installed package")
    if why := explain_unusable("metrics", name):
        raise ValueError(why)
    return name


MetricNames = list[Annotated[str, AfterValidator(_check_metric_name)]]


def _read_fixed_factors(found: object, main_factor: object = None) -> object:
    """Return the factors of a list, or of a text such as `colour, scale`, in their own order; `none` means none.

    Raise ValueError for other names, with those that may be written, of which `main_factor` is none.
    """
    if isinstance(found, str):
        found = [] if found.strip() == NO_FACTORS else [name.strip() for name in found.split(",")]
    if not isinstance(found, list | tuple):
        return found
    for name in found:
        if name not in FACTOR_VALUES:
            expected = format_choices(str(name), [each for each in FACTOR_VALUES if each != main_factor])
            raise ValueError(f"found {format_yaml_value(name)}; {expected}, several in a list, or {NO_FACTORS}")
        if found.count(name) > 1:
            raise ValueError(f"found {name!r} {found.count(name)} times; expected each factor once")
    return tuple(name for name in FACTOR_VALUES if name in found)


FixedFactors = Annotated[
    tuple[FactorName, ...],
    BeforeValidator(_read_fixed_factors),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "array", "items": {"enum": list(FACTOR_VALUES)}, "uniqueItems": True},
                {"enum": [NO_FACTORS]},
                {"type": "string", "pattern": rf"^({'|'.join(FACTOR_VALUES)})(, *({'|'.join(FACTOR_VALUES)}))*$"},
            ]
        }
    ),
]


class MadCaptions(FrozenModel):
    """What a MAD caption says: the main factor and `attributes` of the other five, drawn anew at each access.

    `fixed` lists those attributes instead, such as `[colour, scale]` or, as a level of a factor, `colour, scale`: every
    caption then says these and no others, in training and held out. With `none`, they are drawn.

    In training, each value that is said is with probability `noise` another value of its factor; captions that are
    held out say what is so. These are the arm's `own`, with as many attributes, or `full` with all five, in the same
    `order`; zero-shot prompts are the arm's own either way.

    With `synonyms` each value has so many words, and each time it is said one of them is drawn: anew at `each_access`,
    or `once` for each value and each digit of the source, so that a digit always has the same words.
    """

    attributes: Annotated[int, Field(ge=0, le=5)] = 5
    fixed: Annotated[FixedFactors, OmitFromHash(before=[])] = ()
    order: Literal["shuffled", "canonical"] = "shuffled"
    noise: Annotated[float, Field(ge=0.0, le=1.0), OmitFromHash(before=0.0)] = 0.0
    held_out: Annotated[Literal["own", "full"], OmitFromHash(before="own")] = "own"
    synonyms: Annotated[int, Field(ge=1, le=MOST_SYNONYMS), OmitFromHash(before=1)] = 1
    synonym_draw: Annotated[DrawTime, OmitFromHash(before="each_access")] = "each_access"

    @model_validator(mode="before")
    @classmethod
    def _count_fixed(cls, found: object) -> object:
        """Return the document with `attributes`, which follows from a list of them where it is not given."""
        if not isinstance(found, Mapping) or "attributes" in found or not found.get("fixed"):
            return found
        try:
            fixed = _read_fixed_factors(found["fixed"])
        except ValueError:
            return found
        return {**found, "attributes": len(fixed)} if isinstance(fixed, tuple) and fixed else found

    @model_validator(mode="after")
    def _check_fixed(self) -> "MadCaptions":
        if self.fixed and self.attributes != len(self.fixed):
            listed = f"expected {len(self.fixed)}, as many as captions.fixed lists ({', '.join(self.fixed)})"
            raise WrongValueError("attributes", f"found {self.attributes}; {listed}")
        if self.synonym_draw == "once" and self.synonyms == 1:
            raise WrongValueError("synonym_draw", "found 'once' with synonyms 1; expected 2 or more synonyms there")
        return self


class MadData(FrozenModel):
    """MAD, from `bundled`, a folder of MNIST's IDX files, or a folder of MAD's shards.

    Training sees the first `share` of the source's digits.

    With `sides: image_image` (arXiv 2405.18570) the second encoder is another image encoder, and in a caption's place
    it sees a picture of it: an image with the values that the caption would have named, all else drawn anew. Both
    sides then share what image and caption share, and each has as much to itself. What is logged of texts is of these
    images: zero-shot classes are 32 pictures each, and only the own partner is a match.
    """

    dataset: Literal["mad"] = "mad"
    source: Annotated[str, Field(min_length=1), NO_PASSWORD] = "bundled"
    main_factor: FactorName = "digit"
    captions: MadCaptions = MadCaptions()
    share: Annotated[float, Field(gt=0.0, le=1.0), OmitFromHash(before=1.0)] = 1.0
    sides: Annotated[Literal["image_text", "image_image"], OmitFromHash(before="image_text")] = "image_text"

    @field_validator("captions", mode="before")
    @classmethod
    def _check_fixed_names(cls, found: object, info: ValidationInfo) -> object:
        """Return the captions unchanged; refuse wrong names in `fixed` here, where the main factor is known."""
        if isinstance(found, Mapping):
            try:
                _read_fixed_factors(found.get("fixed"), info.data.get("main_factor"))
            except ValueError as error:
                raise WrongValueError("fixed", str(error)) from error
        return found

    @model_validator(mode="after")
    def _check_captions(self) -> "MadData":
        if self.main_factor in self.captions.fixed:
            text = f"found {self.main_factor!r}, the main factor, which every caption says anyway; expected others"
            raise WrongValueError("captions.fixed", text)
        if self.sides == "image_image" and self.captions.order == "canonical":
            text = "found image_image with captions.order canonical; pictures have no order; expected shuffled there"
            raise WrongValueError("sides", text)
        if self.sides == "image_image" and self.captions.synonyms > 1:
            text = f"found image_image with captions.synonyms {self.captions.synonyms}; pictures have no words"
            raise WrongValueError("sides", f"{text}; expected 1 there")
        return self

    @property
    def address(self) -> str:
        """The data's location; trials with equal addresses share the loaded data."""
        return self.source


class PairCaptions(FrozenModel):
    """What training reads of a caption: `keep` names a treatment, the others are settings of those that have any.

    `rate` is the share of words that `words` and `length_matched` keep, `sentences` how many of them `sentences`
    keeps, `field` the key of a sample's json that `enriched` adds. A treatment that draws does so anew at
    `each_access`, as in arXiv 2404.07983, or `once`: a pair is then cut alike in every epoch. Held-out captions are
    read `full`, as there, or `treated` like those of training. `keep` may also name a treatment of an installed
    package.
    """

    keep: Keep = "full"
    rate: Annotated[float, Field(ge=0.0, le=1.0)] = 0.25
    sentences: Annotated[int, Field(ge=1, le=1000)] = 1
    field: str = ""
    held_out: Literal["full", "treated"] = "full"
    draw: Annotated[DrawTime, OmitFromHash(before="each_access")] = "each_access"

    @model_validator(mode="after")
    def _require_enriching_field(self) -> "PairCaptions":
        if self.keep == "enriched" and not self.field:
            raise WrongValueError("field", "found '' with keep enriched; expected the json key of the second caption")
        return self

    @model_validator(mode="after")
    def _check_time_of_draw(self) -> "PairCaptions":
        if self.draw == "once" and self.keep in UNDRAWN_TREATMENTS:
            drawing = join_or([name for name in TREATMENT_NAMES if name not in UNDRAWN_TREATMENTS])
            text = f"found 'once' with keep {self.keep}, which draws nothing; expected keep {drawing} there"
            raise WrongValueError("draw", text)
        return self


class PairImages(FrozenModel):
    """How images are impoverished, and by how much (`amount`: pixels of blur, a factor, or a share of patches).

    Held-out images are shown `plain`, or `degraded` like those of training.
    """

    degrade: Degrade = "none"
    amount: Annotated[float, Field(ge=0.0, le=64.0)] = 0.0
    held_out: Literal["plain", "degraded"] = "plain"

    @model_validator(mode="after")
    def _check_amount(self) -> "PairImages":
        low, high = AMOUNTS[self.degrade]
        if not low <= self.amount <= high:
            raise WrongValueError("amount", f"found {self.amount:g}; expected {low:g} to {high:g} for {self.degrade}")
        return self


def _name_as_hashed(dataset: object) -> object:
    """Return the name of a data set that ids and hashes are made with: `image_text` was called `cc12m` at first."""
    return "cc12m" if dataset == "image_text" else dataset


class PairData(FrozenModel):
    """Image-text pairs in img2dataset's layout: `bundled`, or a folder or file with the manifest of their shards.

    Pairs to measure on come from `held_out`, another such place; without one they are a share of the source's, by
    their images. `classes` is a file of zero-shot questions. A training stops where more than `bad_share` of its
    samples cannot be read.
    """

    dataset: Annotated[
        Literal["cc12m"], BeforeValidator(_name_as_hashed), WithJsonSchema({"enum": ["image_text", "cc12m"]})
    ]
    source: Annotated[str, Field(min_length=1), NO_PASSWORD] = "bundled"
    held_out: Address = ""
    held_out_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    captions: PairCaptions = PairCaptions()
    images: PairImages = PairImages()
    classes: Address = ""
    bad_share: Annotated[float, Field(ge=0.0, le=1.0)] = 0.05

    @property
    def address(self) -> str:
        """The data's location; trials with equal addresses share the loaded data."""
        return "\n".join([self.source, self.held_out or f"{self.held_out_share!r}", self.classes])


Data = MadData | PairData

DATASETS: Final[Mapping[str, type[MadData] | type[PairData]]] = {"mad": MadData, "cc12m": PairData}
"""The model of each `data.dataset`; without that key, the dataset is MAD."""


def _read_dataset(found: object) -> object:
    if isinstance(found, MadData | PairData):
        return found.dataset
    return _name_as_hashed(found.get("dataset", "mad")) if isinstance(found, Mapping) else "mad"


AnyData = Annotated[
    Annotated[MadData, Tag("mad")] | Annotated[PairData, Tag("cc12m")],
    Discriminator(_read_dataset),
]


PresetName = Literal["mad-tiny", "mad-patch4", "table", "pairs-small", "vit-b-32", "rn50-cc12m"]
Intervention = Literal[
    "none",
    "shift",
    "centre",
    "standardise",
    "orthogonal",
    "translate",
    "remove_1",
    "remove_3",
    "remove_10",
    "remove_30",
    "ideal_words",
]
MOST_SAMPLES = 1_000_000_000_000
MOST_SPEED = 1000.0
"""The highest ratio of a temperature's learning rate to the weights'; the step is theirs in float32, made longer."""
LossWeight = Annotated[float, Field(ge=0.0, le=1000.0), OmitFromHash(before=0.0)]
SPLIT_PATHS = ("data.source", "data.held_out", "data.dataset")
"""Prefixes of the paths that decide which pairs are trained on and which are held out."""

CAPTION_PATHS: Final = ("data.captions.", "data.main_factor")
"""Prefixes of the paths that decide which captions there are."""

PLAIN_EVALUATION: Mapping[str, object] = {"intervention": "none", "strength": 1.0, "sets": [], "sets_at": "last"}
"""How a parent training is measured unless `init_from` names these values."""
PLAIN_TRAIN_FIELDS: Final[Mapping[str, Sequence[tuple[str, int | float, str]]]] = {
    "mad": [(name, plain, "whose steps are one pass") for name, plain in (("micro_batches", 1), ("compile", False))],
    "cc12m": [("mismatched", 0.0, "whose batches may be dealt to several workers")],
}
"""Fields of `train` that a dataset does not support: the one value that each may have, and why."""


class Model(FrozenModel):
    """An architecture by the name of its preset, the width of the shared embedding, and what its encoders share.

    `table` has no encoders ("unconstrained features model"): each of MAD's 1,680 combinations of factors and each
    caption has an embedding of its own, and the training moves these alone. It ends at the loss' optimum, whatever
    encoders could reach.

    With `shared: blocks` (arXiv 2406.17639) the second encoder has no blocks of its own: its blocks, last norm and
    projection are the image encoder's last ones, so that both end in one and the same map. Patches and tokens keep
    their own embeddings, and an image encoder with more blocks has its first ones to itself, as part of its embedding.
    """

    preset: PresetName = "mad-tiny"
    embed_dim: Annotated[int, Field(ge=2, le=4096)] = 64
    shared: Annotated[Literal["nothing", "blocks"], OmitFromHash(before="nothing")] = "nothing"

    @property
    def towers(self) -> Preset:
        """The preset: both encoders, and the settings that belong to them. A table has none."""
        return PRESETS[self.preset]

    @property
    def is_table(self) -> bool:
        """Whether the model is an embedding per factor combination and caption, without encoders."""
        return self.preset == TABLE

    @model_validator(mode="after")
    def _check_shared_blocks(self) -> "Model":
        if self.shared == "blocks" and (self.is_table or not self.towers.has_shareable_blocks):
            fitting = " or ".join(name for name, preset in PRESETS.items() if preset.has_shareable_blocks)
            why = "which has no encoders" if self.is_table else "whose encoders differ in width or kind"
            text = f"found 'blocks' with preset {self.preset}, {why}"
            raise WrongValueError("shared", f"{text}; expected nothing, or preset {fitting}")
        return self


class OpenClipModel(FrozenModel):
    """An architecture of open_clip, or a json file of its form (a path from the sweep file), and its weights.

    `weights` are a tag of the architecture, `hf-hub:ORGANISATION/NAME`, `local-dir:FOLDER`, or a file (a path from the
    sweep file); without them a training begins with random ones. With `train.samples: 0` they are measured as they
    are, with more they are fine-tuned. Image size, mean, deviation and context are the model's own.
    """

    architecture: Annotated[str, Field(min_length=1)]
    weights: Address = ""

    @model_validator(mode="before")
    @classmethod
    def _refuse_preset(cls, found: object) -> object:
        if isinstance(found, Mapping) and found.get("preset") is not None:
            beside = "architecture" if "architecture" in found else "weights"
            raise WrongValueError("preset", f"found {found['preset']!r} beside {beside}; expected one of them")
        return found

    @field_validator("architecture", mode="after")
    @classmethod
    def _check_architecture(cls, architecture: str) -> str:
        # A file may be elsewhere when a trial is read again; it is looked for when a plan is made.
        if not is_architecture_file(architecture) and list_architectures():
            why = find_architecture(architecture).explain_unmeasurable()
            if why is not None:
                raise ValueError(f"found {architecture!r}, {why}")
        return architecture

    @property
    def can_read_architecture(self) -> bool:
        """Whether the architecture can be read here: without open_clip, only a file can."""
        return is_architecture_file(self.architecture) or bool(list_architectures())

    @property
    def towers(self) -> Architecture:
        """The architecture as open_clip describes it. Raises ValueError where its file is gone."""
        return find_architecture(self.architecture)

    @property
    def embed_dim(self) -> int:
        """The width of the shared embedding."""
        return self.towers.embed_dim

    @property
    def shared(self) -> Literal["nothing", "blocks"]:
        """What the encoders share: nothing."""
        return "nothing"

    @property
    def address(self) -> str:
        """Names the model in messages and records; models of one address have one fingerprint."""
        return f"model {self.architecture} {self.weights}".rstrip()

    @property
    def source(self) -> str:
        """Where the model comes from."""
        return self.weights or self.architecture


def get_model_name(model: Model | OpenClipModel) -> str:
    """Return the name of a preset or an architecture, for titles and tables."""
    return model.preset if isinstance(model, Model) else model.architecture


def is_table(config: "TrialConfig") -> bool:
    """Return whether a training moves an embedding per factor combination and caption, without encoders."""
    return isinstance(config.model, Model) and config.model.is_table


def reset_caption_wording(data: MadData) -> MadData:
    """Return a data section without what changes no row of a table: the order of captions, and their words."""
    plain = MadCaptions()
    kept = {"order": plain.order, "synonyms": plain.synonyms, "synonym_draw": plain.synonym_draw}
    return data.model_copy(update={"captions": data.captions.model_copy(update=kept)})


MODEL_KINDS: Final[Mapping[str, type[Model] | type[OpenClipModel]]] = {
    "a preset": Model,
    "an architecture": OpenClipModel,
}
"""The two forms of `model`; the key `architecture` tells them apart."""


def _read_model_kind(found: object) -> str:
    if isinstance(found, Model | OpenClipModel):
        return "a preset" if isinstance(found, Model) else "an architecture"
    named = isinstance(found, Mapping) and ("architecture" in found or ("weights" in found and "preset" not in found))
    return "an architecture" if named else "a preset"


AnyModel = Annotated[
    Annotated[Model, Tag("a preset")] | Annotated[OpenClipModel, Tag("an architecture")],
    Discriminator(_read_model_kind),
]


class Start(FrozenModel):
    """Where embeddings are before the first step.

    `gap` is a distance of the means (`gap/l2m`) that is put between the sides of a table; 0 puts none. Encoders begin
    where their weights take them, so it is of preset table alone. With `init_from` it is of that training's start.
    """

    gap: Annotated[float, Field(ge=0.0, le=1.9), OmitFromHash(before=0.0)] = 0.0


class Temperature(FrozenModel):
    """The softmax temperature: `learned` starts at `init` and is clamped at 1/100; `fixed` stays there.

    `schedule` goes from `init` to `final` by equal factors, whatever the gradient says. `frozen` stays where the
    weights of `init_from` or `model.weights` have it; there, `learned` goes on from theirs too. A learned temperature's
    logarithm moves at `lr`, warmed up and decayed as train.lr is; without it, at train.lr. Other modes leave `lr`
    unused.
    """

    mode: Literal["learned", "fixed", "schedule", "frozen"] = "learned"
    init: Annotated[float, Field(ge=0.01, le=10.0)] = 0.07
    final: Annotated[Annotated[float, Field(ge=0.01, le=10.0)] | None, OmitFromHash(before=None)] = None
    lr: Annotated[Annotated[float, Field(gt=0.0, le=10.0)] | None, OmitFromHash(before=None)] = None

    @model_validator(mode="after")
    def _check_final(self) -> "Temperature":
        if self.mode == "schedule" and self.final is None:
            raise WrongValueError("mode", "found 'schedule' without final; expected final, the last step's temperature")
        if self.mode != "schedule" and self.final is not None:
            raise WrongValueError(
                "final", f"found {self.final:g} with mode {self.mode}; expected it with mode schedule only"
            )
        return self


LOSS_TERMS: Final = ("alignment", "uniformity", "cross_uniformity")
"""Weights of what may be added to the contrastive loss."""


class Loss(FrozenModel):
    """The contrastive loss: CLIP's softmax both ways, or SigLIP's pairwise sigmoid; and weights of what is added to it.

    `alignment` adds the mean of |x_i - y_i|^2 over a batch's pairs, `uniformity` the log of the mean of
    exp(-2 |x_i - x_j|^2) over different samples, images and texts averaged (arXiv 2005.10242), and `cross_uniformity`
    the log of the mean of exp(-2 |x_i - y_j|^2) over unmatched images and texts (arXiv 2405.18570, which adds all
    three). `train/loss` is of the whole sum, `train/loss_floor` and `train/loss_bayes` of the contrastive loss alone.
    `kind` may also name a loss of an installed package (docs/extending.md), whose floor is not known.

    The target of an image is the caption `drawn` with it, and of a caption its image. Tables may be given the
    `posterior` instead: how probable each caption of the batch is as the image's, by the rule that drew them, and each
    image as the caption's. Gradients are the same on average, without the noise of the draw, so that far fewer pairs
    are needed; `train/loss` is of the drawn pairs either way.

    Captions of a batch that are equal, word for word, are each other's `negatives`, as in CLIP; `masked`, they are left
    out: an image is neither to be near nor far from them. Only MAD's trainings of encoders can mask them.
    """

    kind: LossName = "clip"
    targets: Annotated[Literal["drawn", "posterior"], OmitFromHash(before="drawn")] = "drawn"
    equal_captions: Annotated[Literal["negatives", "masked"], OmitFromHash(before="negatives")] = "negatives"
    alignment: LossWeight = 0.0
    uniformity: LossWeight = 0.0
    cross_uniformity: LossWeight = 0.0

    @property
    def has_terms(self) -> bool:
        """Whether anything is added to the contrastive loss."""
        return any(getattr(self, name) for name in LOSS_TERMS)


class Train(FrozenModel):
    """AdamW with a linear warm-up and a cosine decay to zero; `samples` are pairs seen, `warmup` is a share of them.

    With `micro_batches` a batch goes through the towers in so many parts, for the gradient of the whole batch's loss.
    0 samples leave the weights of `init_from`, or of `model.weights`, as they are: they are measured once.
    `mismatched` is the share of the steps, the first ones, in which each text goes with another image of its batch
    (arXiv 2412.07909); it may still be true of that image, as one caption in ten is where captions name a digit alone.
    """

    samples: Annotated[int, Field(ge=0, le=MOST_SAMPLES)] = 51_200
    batch_size: Annotated[int, Field(ge=2, le=1_048_576)] = 256
    lr: Annotated[float, Field(gt=0.0, le=10.0)] = 1.0e-3
    weight_decay: Annotated[float, Field(ge=0.0, le=10.0)] = 0.1
    warmup: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    micro_batches: Annotated[int, Field(ge=1, le=65_536), OmitFromHash(before=1)] = 1
    compile: Annotated[bool, OmitFromHash(before=False)] = False
    mismatched: Annotated[float, Field(ge=0.0, le=1.0), OmitFromHash(before=0.0)] = 0.0

    @model_validator(mode="after")
    def _check_batch(self) -> "Train":
        if 0 < self.samples < self.batch_size:
            raise ValueError(
                f"samples ({self.samples}) is smaller than batch_size ({self.batch_size}): not one step would run"
            )
        if self.batch_size % self.micro_batches:
            raise ValueError(f"batch_size ({self.batch_size}) cannot be cut into {self.micro_batches} micro_batches")
        return self

    @property
    def steps(self) -> int:
        """Whole batches in `samples`; a remainder smaller than a batch is not trained on."""
        return self.samples // self.batch_size

    @property
    def warmup_steps(self) -> int:
        """The steps over which the learning rate rises."""
        return round(self.warmup * self.steps)

    @property
    def mismatched_steps(self) -> int:
        """The first steps, whose texts go with other images."""
        return round(self.mismatched * self.steps)


class Evaluate(FrozenModel):
    """How often (in training samples) and on how many held-out pairs a trial is measured.

    Before it is measured, `intervention` moves all that was encoded, `strength` of the way to where it would put it:
    0 changes nothing, 1 is all of it, and beyond 1 `shift` and `centre` go past each other's means. `metrics` names
    metrics of installed packages that are measured as well. `sets` names evaluation sets, which are measured at the
    `last` evaluation, or at `each`; their metrics are named `<set>/<metric>`. Of the interventions, sets know
    `ideal_words` alone, which replaces the texts of those of kind composition, and of MAD's galleries.
    """

    every: Annotated[int, Field(ge=1, le=MOST_SAMPLES)] = 25_600
    gallery: Annotated[int, Field(ge=2, le=168_000)] = 4_096
    intervention: Annotated[Intervention, OmitFromHash(before="none")] = "none"
    strength: Annotated[float, Field(ge=-10.0, le=10.0), OmitFromHash(before=1.0)] = 1.0
    metrics: Annotated[MetricNames, OmitFromHash(before=[])] = Field(default_factory=list)
    sets: Annotated[list[Slug], OmitFromHash(before=[])] = Field(default_factory=list)
    sets_at: Annotated[Literal["last", "each"], OmitFromHash(before="last")] = "last"

    @field_validator("metrics", "sets", mode="after")
    @classmethod
    def _check_repeated_names(cls, names: list[str], info: ValidationInfo) -> list[str]:
        for name in names:
            if names.count(name) > 1:
                noun = str(info.field_name).removesuffix("s")
                raise ValueError(f"found {name!r} {names.count(name)} times; expected each {noun} once")
        return names

    @model_validator(mode="after")
    def _check_strength(self) -> "Evaluate":
        if self.intervention == "none" and self.strength != 1.0:
            expected = "expected an intervention, or strength 0 of one for doing nothing"
            raise WrongValueError("strength", f"found {self.strength:g} with intervention none; {expected}")
        return self

    @property
    def removed(self) -> int | None:
        """The number of dimensions that the intervention removes; None where it removes none."""
        kind, _, count = self.intervention.partition("_")
        return int(count) if kind == "remove" else None


Changes = Annotated[
    dict[str, Level], BeforeValidator(lambda found: flatten_document(found) if isinstance(found, Mapping) else found)
]
"""Values of a training by their dotted path into `base`."""


class TrialConfig(FrozenModel):
    """Everything that decides a trial's numbers, except its seed and its data's content.

    `init_from` are changes to this configuration by dotted path: with them it describes another training of the same
    seed, which is trained first, and whose last weights this one begins with. Its schedules begin anew. That training
    is measured without an intervention unless the changes name one, since none changes its weights.
    """

    data: AnyData = MadData()
    model: AnyModel = Model()
    init: Annotated[Start, OmitFromHash(before={})] = Start()
    init_from: Annotated[Changes, OmitFromHash(before={})] = Field(default_factory=dict)
    temperature: Temperature = Temperature()
    loss: Loss = Loss()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()

    @field_validator("model", mode="after")
    @classmethod
    def _check_preset(cls, model: Model | OpenClipModel, info: ValidationInfo) -> Model | OpenClipModel:
        data = info.data.get("data")
        if isinstance(model, OpenClipModel):
            if data is not None and data.dataset == "mad":
                expected = "expected dataset image_text, or one of MAD's presets"
                raise WrongValueError("architecture", f"found {model.architecture!r} with dataset mad; {expected}")
            return model
        dataset = "mad" if model.is_table else model.towers.dataset
        if data is not None and dataset != data.dataset:
            fitting = [name for name, preset in PRESETS.items() if preset.dataset == data.dataset]
            expected = " or ".join([*fitting, *([TABLE] if data.dataset == "mad" else [])])
            raise WrongValueError("preset", f"found {model.preset!r} with dataset {data.dataset}; expected {expected}")
        if model.is_table and isinstance(data, MadData):
            _check_table_data(data)
        return model

    @field_validator("init", mode="after")
    @classmethod
    def _check_start(cls, init: Start, info: ValidationInfo) -> Start:
        model = info.data.get("model")
        if init.gap and model is not None and not (isinstance(model, Model) and model.is_table):
            found = f"found {init.gap:g} with {get_model_name(model)}, which begins where its weights take it"
            raise WrongValueError("gap", f"{found}; expected 0, or model.preset table")
        return init

    @field_validator("temperature", mode="after")
    @classmethod
    def _check_frozen(cls, temperature: Temperature, info: ValidationInfo) -> Temperature:
        if temperature.mode == "frozen" and not _begins_with_weights(info):
            without = _name_missing_weights(info)
            raise WrongValueError(
                "mode", f"found 'frozen' without {without}; expected learned, fixed or schedule there"
            )
        return temperature

    @field_validator("train", mode="after")
    @classmethod
    def _check_dataset_step(cls, train: Train, info: ValidationInfo) -> Train:
        data = info.data.get("data")
        dataset = "" if data is None else data.dataset
        for name, plain, reason in PLAIN_TRAIN_FIELDS.get(dataset, ()):
            found = getattr(train, name)
            if found != plain:
                expected = f"expected {str(plain).lower()} with dataset {dataset}, {reason}"
                raise WrongValueError(name, f"found {str(found).lower()}; {expected}")
        return train

    @field_validator("train", mode="after")
    @classmethod
    def _check_mismatched_targets(cls, train: Train, info: ValidationInfo) -> Train:
        loss = info.data.get("loss")
        if train.mismatched and loss is not None and loss.targets == "posterior":
            text = f"found {train.mismatched:g} with loss.targets posterior, which is of matched pairs; expected 0"
            raise WrongValueError("mismatched", text)
        return train

    @field_validator("train", mode="after")
    @classmethod
    def _check_table_precision(cls, train: Train, info: ValidationInfo) -> Train:
        model = info.data.get("model")
        if train.precision == "bfloat16" and isinstance(model, Model) and model.is_table:
            text = "found 'bfloat16' with model.preset table, whose small steps would be lost in it"
            raise WrongValueError("precision", f"{text}; expected auto or float32")
        return train

    @field_validator("train", mode="after")
    @classmethod
    def _check_samples(cls, train: Train, info: ValidationInfo) -> Train:
        if train.samples == 0 and not _begins_with_weights(info):
            without = _name_missing_weights(info)
            measured = "the weights of another training" if without == "init_from" else "those weights"
            expected = f"expected at least a batch; with {without}, 0 measures {measured}"
            raise WrongValueError("samples", f"found 0 without {without}; {expected}")
        return train

    @field_validator("train", mode="after")
    @classmethod
    def _check_trainable(cls, train: Train, info: ValidationInfo) -> Train:
        model = info.data.get("model")
        if train.samples == 0 or not isinstance(model, OpenClipModel):
            return train
        try:
            why = model.towers.explain_untrainable()
        except ValueError:
            return train  # a file may be elsewhere when a trial is read again
        if why is not None:
            text = f"found {train.samples:,} with {model.architecture}, {why}; expected 0, which measures it"
            raise WrongValueError("samples", text)
        return train

    @field_validator("evaluate", mode="after")
    @classmethod
    def _check_removed_dimensions(cls, evaluate: Evaluate, info: ValidationInfo) -> Evaluate:
        model = info.data.get("model")
        if isinstance(model, OpenClipModel) and (
            is_architecture_file(model.architecture) or not model.can_read_architecture
        ):
            return evaluate  # its width is known when a plan is made
        if model is not None and evaluate.removed is not None and evaluate.removed >= model.embed_dim:
            found = f"found {evaluate.intervention!r} with model.embed_dim {model.embed_dim}"
            raise WrongValueError("intervention", f"{found}; expected fewer dimensions to be removed than there are")
        return evaluate

    @field_validator("evaluate", mode="after")
    @classmethod
    def _check_sets(cls, evaluate: Evaluate, info: ValidationInfo) -> Evaluate:
        if evaluate.sets and isinstance(info.data.get("data"), MadData):
            text = "whose models know the words of MAD alone; expected dataset image_text, or no sets"
            raise WrongValueError("sets", f"found {', '.join(evaluate.sets)} with dataset mad, {text}")
        if evaluate.intervention == "ideal_words" and not evaluate.sets and isinstance(info.data.get("data"), PairData):
            text = "where captions name no pairs; expected evaluate.sets with one of kind composition, or dataset mad"
            raise WrongValueError("intervention", f"found 'ideal_words' with dataset image_text and no sets, {text}")
        return evaluate

    @field_validator("loss", mode="after")
    @classmethod
    def _check_loss_sides(cls, loss: Loss, info: ValidationInfo) -> Loss:
        data = info.data.get("data")
        if isinstance(data, MadData) and data.sides == "image_image" and loss.kind not in LOSSES:
            expected = f"expected {join_or(LOSSES)}, as other losses are trained with a text encoder"
            raise WrongValueError("kind", f"found {loss.kind!r} with data.sides image_image; {expected}")
        model = info.data.get("model")
        is_lookup = isinstance(model, Model) and model.is_table
        if is_lookup and loss.kind not in LOSSES:
            expected = f"expected {join_or(LOSSES)}, or a preset with encoders"
            raise WrongValueError("kind", f"found {loss.kind!r} with model.preset table; {expected}")
        if loss.equal_captions == "masked":
            unlike = ""
            if isinstance(data, PairData):
                unlike = "dataset image_text, whose steps cannot leave captions out"
            elif data is not None and data.sides == "image_image":
                unlike = "data.sides image_image; no two pictures are equal"
            elif is_lookup:
                unlike = "model.preset table, whose steps cannot leave captions out"
            elif loss.kind not in LOSSES:
                unlike = f"loss.kind {loss.kind}, which is another package's"
            if unlike:
                raise WrongValueError("equal_captions", f"found 'masked' with {unlike}; expected negatives there")
        return loss

    @field_validator("loss", mode="after")
    @classmethod
    def _check_loss_targets(cls, loss: Loss, info: ValidationInfo) -> Loss:
        model = info.data.get("model")
        if loss.targets == "drawn" or model is None:
            return loss
        if not (isinstance(model, Model) and model.is_table):
            text = f"found 'posterior' with {get_model_name(model)}; expected drawn, or model.preset table"
            raise WrongValueError("targets", text)
        if loss != Loss(targets="posterior"):
            text = "found 'posterior' beside another loss than clip's alone; expected kind clip and nothing added"
            raise WrongValueError("targets", text)
        return loss

    @model_validator(mode="after")
    def _check_temperature_rate(self) -> "TrialConfig":
        found, most = self.temperature.lr, MOST_SPEED * self.train.lr
        if self.temperature.mode == "learned" and found is not None and found > most:
            text = f"found {found:g} with train.lr {self.train.lr:g}; expected at most {most:g}, a thousand times that"
            raise WrongValueError("temperature.lr", text)
        return self

    @model_validator(mode="after")
    def _check_init_from(self) -> "TrialConfig":
        parent = self.parent
        for name in ("model", "loss") if parent is not None else ():
            if getattr(parent, name) != getattr(self, name):
                text = f"changes {name}; expected this training's {name}, as the weights become its own"
                raise WrongValueError("init_from", text)
        if isinstance(self.data, MadData) and self.init_from.get("data.sides", self.data.sides) != self.data.sides:
            text = "changes data.sides; expected this training's sides, as the weights become its own"
            raise WrongValueError("init_from", text)
        words = "data.captions.synonyms"
        if isinstance(self.data, MadData) and self.init_from.get(words, own := self.data.captions.synonyms) != own:
            text = f"changes {words}; expected this training's words, as the weights become its own"
            raise WrongValueError("init_from", text)
        if parent is not None and parent.init.gap != self.init.gap:
            text = f"found {self.init.gap:g} with init_from, whose training began at {parent.init.gap:g}"
            raise WrongValueError("init.gap", f"{text}; expected the same, as its last weights are where this begins")
        if is_table(self) and any(path.startswith(CAPTION_PATHS) for path in self.init_from):
            text = "changes what captions name; expected this training's captions, as a table has an embedding for each"
            raise WrongValueError("init_from", text)
        if any(path.startswith(SPLIT_PATHS) for path in self.init_from) and self.data.dataset == "cc12m":
            text = "expected the same pairs, so that none held out was trained on"
            raise WrongValueError("init_from", f"changes one of {', '.join(SPLIT_PATHS)}; {text}")
        return self

    @property
    def extensions(self) -> list[tuple[Kind, str]]:
        """The metrics, treatment and loss of other packages that this training uses, by kind and name."""
        named: list[tuple[Kind, str]] = [("metrics", name) for name in self.evaluate.metrics]
        if isinstance(self.data, PairData) and self.data.captions.keep not in TREATMENT_NAMES:
            named.append(("treatments", self.data.captions.keep))
        if self.loss.kind not in LOSSES:
            named.append(("losses", self.loss.kind))
        return named

    @property
    def parent(self) -> "TrialConfig | None":
        """The training whose last weights this one starts from; None where it starts from a seed's."""
        return _apply_changes(self, self.init_from) if self.init_from else None


def _check_table_data(data: MadData) -> None:
    """Raise WrongValueError where a table would have no embedding for what it is trained or measured on."""
    if data.sides == "image_image":
        text = "found 'table' with data.sides image_image; expected image_text, or one of MAD's presets with encoders"
        raise WrongValueError("preset", text)
    if data.captions.held_out == "full" and data.captions.attributes < FULL_ATTRIBUTES:
        text = "found 'table' with data.captions.held_out full, whose captions no training shows it"
        raise WrongValueError("preset", f"{text}; expected held_out: own")


def _name_missing_weights(info: ValidationInfo) -> str:
    """Return the keys that would give a training weights to begin with."""
    return "model.weights or init_from" if isinstance(info.data.get("model"), OpenClipModel) else "init_from"


def _begins_with_weights(info: ValidationInfo) -> bool:
    """Return whether a training begins with those of another training, or of a public model."""
    model = info.data.get("model")
    return bool(info.data.get("init_from")) or (isinstance(model, OpenClipModel) and bool(model.weights))


def _apply_changes(config: TrialConfig, changes: Mapping[str, Level]) -> TrialConfig:
    """Return the configuration with these values; raise ValueError where they do not fit."""
    document = config.model_dump(exclude={"init_from"})
    known = flatten_document(document)
    for path, value in changes.items():
        if path not in known:
            raise WrongValueError("init_from", f"{path}: no such value; {format_choices(path, known)}")
        document = replace_at_path(document, path.split("."), value)
    if document["temperature"]["mode"] != "schedule" and "temperature.final" not in changes:
        document["temperature"]["final"] = None
    document["evaluate"] |= {
        name: value for name, value in PLAIN_EVALUATION.items() if f"evaluate.{name}" not in changes
    }
    try:
        return TrialConfig.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        wrong = first.get("ctx", {}).get("error", first["msg"])
        key = [wrong.key] if isinstance(wrong, WrongValueError) else []
        where = ".".join(str(step) for step in (*first["loc"], *key) if step not in (*DATASETS, *MODEL_KINDS))
        raise WrongValueError("init_from", f"{where}: {wrong}") from error
