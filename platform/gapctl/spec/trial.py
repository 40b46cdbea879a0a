"""One CLIP training, completely described: the `base` of a sweep file and the resolved configuration of a trial."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gapctl.spec.presets import PRESETS


class Frozen(BaseModel):
    """Immutable; a misspelt key is an error, not a silent default, and true or "5" is no number."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, strict=True, allow_inf_nan=False)


FactorName = Literal["digit", "thickness", "swelling", "fracture", "scale", "colour"]
PresetName = Literal["mad-tiny"]
MOST_SAMPLES = 1_000_000_000_000


class Captions(Frozen):
    """What a MAD caption says: the main factor and `attributes` of the other five, drawn anew at each access."""

    attributes: Annotated[int, Field(ge=0, le=5)] = 5
    order: Literal["shuffled", "canonical"] = "shuffled"


class Data(Frozen):
    """Where image-caption pairs come from: `bundled`, a folder of MNIST's IDX files, or a folder of MAD's shards."""

    dataset: Literal["mad"] = "mad"
    source: Annotated[str, Field(min_length=1)] = "bundled"
    main_factor: FactorName = "digit"
    captions: Captions = Captions()


class Model(Frozen):
    """An architecture by the name of its preset, and the width of the shared embedding."""

    preset: PresetName = "mad-tiny"
    embed_dim: Annotated[int, Field(ge=2, le=4096)] = 64

    @model_validator(mode="after")
    def _preset_is_known(self) -> "Model":
        assert self.preset in PRESETS
        return self


class Temperature(Frozen):
    """The softmax temperature: `learned` starts at `init` and is clamped at 1/100; `fixed` stays there."""

    mode: Literal["learned", "fixed"] = "learned"
    init: Annotated[float, Field(ge=0.01, le=10.0)] = 0.07


class Loss(Frozen):
    """The contrastive loss: CLIP's softmax both ways, or SigLIP's pairwise sigmoid."""

    kind: Literal["clip", "siglip"] = "clip"


class Train(Frozen):
    """AdamW with a linear warm-up and a cosine decay to zero; `samples` are pairs seen, `warmup` is a share of them."""

    samples: Annotated[int, Field(ge=1, le=MOST_SAMPLES)] = 51_200
    batch_size: Annotated[int, Field(ge=2, le=1_048_576)] = 256
    lr: Annotated[float, Field(gt=0.0, le=10.0)] = 1.0e-3
    weight_decay: Annotated[float, Field(ge=0.0, le=10.0)] = 0.1
    warmup: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    @model_validator(mode="after")
    def _a_batch_fits(self) -> "Train":
        if self.samples < self.batch_size:
            raise ValueError(
                f"samples ({self.samples}) is smaller than batch_size ({self.batch_size}): not one step would run"
            )
        return self


class Evaluate(Frozen):
    """How often (in training samples) and on how many held-out pairs a trial is measured."""

    every: Annotated[int, Field(ge=1, le=MOST_SAMPLES)] = 25_600
    gallery: Annotated[int, Field(ge=2, le=168_000)] = 4_096


class TrialConfig(Frozen):
    """Everything that decides a trial's numbers, except its seed and its data's content."""

    data: Data = Data()
    model: Model = Model()
    temperature: Temperature = Temperature()
    loss: Loss = Loss()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
