"""What a trial is trained on: MAD, whose captions are made, or image-text pairs, whose captions are treated."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from gapctl.spec.added_later import AddedLater
from gapctl.spec.address import NO_PASSWORD, Address
from gapctl.spec.frozen import Frozen, WrongValueError

FactorName = Literal["digit", "thickness", "swelling", "fracture", "scale", "colour"]
FACTOR_VALUES: Final[Mapping[str, int]] = {
    "digit": 10,
    "thickness": 3,
    "swelling": 2,
    "fracture": 2,
    "scale": 2,
    "colour": 7,
}
"""How many values each factor of a MAD image has, which makes the chance of guessing one."""
Keep = Literal[
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
]
Degrade = Literal["none", "blur", "downscale", "grey", "patches"]
AMOUNTS: Final[Mapping[str, tuple[float, float]]] = {
    "none": (0, 0),
    "blur": (0, 64),
    "downscale": (1, 64),
    "grey": (0, 0),
    "patches": (0, 1),
}
"""The range of `amount` for each degradation of images."""


class MadCaptions(Frozen):
    """What a MAD caption says: the main factor and `attributes` of the other five, drawn anew at each access.

    In training, each value that is said is with probability `noise` another value of its factor; captions that are
    held out say what is so. These are the arm's `own`, with as many attributes, or `full` with all five, in the same
    `order`; zero-shot prompts are the arm's own either way.
    """

    attributes: Annotated[int, Field(ge=0, le=5)] = 5
    order: Literal["shuffled", "canonical"] = "shuffled"
    noise: Annotated[float, Field(ge=0.0, le=1.0), AddedLater(before=0.0)] = 0.0
    held_out: Annotated[Literal["own", "full"], AddedLater(before="own")] = "own"


class MadData(Frozen):
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
    share: Annotated[float, Field(gt=0.0, le=1.0), AddedLater(before=1.0)] = 1.0
    sides: Annotated[Literal["image_text", "image_image"], AddedLater(before="image_text")] = "image_text"

    @model_validator(mode="after")
    def _order_of_captions(self) -> "MadData":
        if self.sides == "image_image" and self.captions.order == "canonical":
            text = "found image_image with captions.order canonical; pictures have no order; expected shuffled there"
            raise WrongValueError("sides", text)
        return self

    @property
    def address(self) -> str:
        """Where it lies; equal for trials that can share what is loaded."""
        return self.source


class PairCaptions(Frozen):
    """What training reads of a caption: `keep` names a treatment, the others are settings of those that have any.

    `rate` is the share of words that `words` and `length_matched` keep, `sentences` how many of them `sentences`
    keeps, `field` the key of a sample's json that `enriched` adds. Held-out captions are read `full`, as in
    arXiv 2404.07983, or `treated` like those of training.
    """

    keep: Keep = "full"
    rate: Annotated[float, Field(ge=0.0, le=1.0)] = 0.25
    sentences: Annotated[int, Field(ge=1, le=1000)] = 1
    field: str = ""
    held_out: Literal["full", "treated"] = "full"

    @model_validator(mode="after")
    def _enriched_by_something(self) -> "PairCaptions":
        if self.keep == "enriched" and not self.field:
            raise WrongValueError("field", "found '' with keep enriched; expected the json key of the second caption")
        return self


class PairImages(Frozen):
    """How images are impoverished, and by how much (`amount`: pixels of blur, a factor, or a share of patches).

    Held-out images are shown `plain`, or `degraded` like those of training.
    """

    degrade: Degrade = "none"
    amount: Annotated[float, Field(ge=0.0, le=64.0)] = 0.0
    held_out: Literal["plain", "degraded"] = "plain"

    @model_validator(mode="after")
    def _amount_fits(self) -> "PairImages":
        low, high = AMOUNTS[self.degrade]
        if not low <= self.amount <= high:
            raise WrongValueError("amount", f"found {self.amount:g}; expected {low:g} to {high:g} for {self.degrade}")
        return self


class PairData(Frozen):
    """Image-text pairs in img2dataset's layout: `bundled`, or a folder or file with the manifest of their shards.

    Pairs to measure on come from `held_out`, another such place; without one they are a share of the source's, by
    their images. `classes` is a file of zero-shot questions. A training stops where more than `bad_share` of its
    samples cannot be read.
    """

    dataset: Literal["cc12m"]
    source: Annotated[str, Field(min_length=1), NO_PASSWORD] = "bundled"
    held_out: Address = ""
    held_out_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    captions: PairCaptions = PairCaptions()
    images: PairImages = PairImages()
    classes: Address = ""
    bad_share: Annotated[float, Field(ge=0.0, le=1.0)] = 0.05

    @property
    def address(self) -> str:
        """Where it lies; equal for trials that can share what is loaded."""
        return "\n".join([self.source, self.held_out or f"{self.held_out_share!r}", self.classes])


Data = MadData | PairData

DATASETS: Final[Mapping[str, type[MadData] | type[PairData]]] = {"mad": MadData, "cc12m": PairData}
"""The models by the name that `data.dataset` takes; without it, MAD."""


def _dataset(found: Any) -> Any:
    if isinstance(found, MadData | PairData):
        return found.dataset
    return found.get("dataset", "mad") if isinstance(found, Mapping) else "mad"


AnyData = Annotated[
    Annotated[MadData, Tag("mad")] | Annotated[PairData, Tag("cc12m")],
    Discriminator(_dataset),
]
