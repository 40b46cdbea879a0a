"""The table of what machines cost and do: `prices.yaml` beside this file, or a user's own."""

from functools import cache
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from gapctl.spec.frozen import Frozen
from gapctl.spec.messages import problems_in
from gapctl.spec.presets import PRESETS
from gapctl.spec.problem import SpecError, dotted, refusal
from gapctl.spec.yaml_source import Kind, read_yaml

SHIPPED: Final = Path(__file__).parent / "prices.yaml"
KIND: Final = Kind("a table of prices", str(SHIPPED), "as_of, checked, assumptions, gpus and instances")

Positive = Annotated[float, Field(gt=0.0, le=1e6)]
Minutes = Annotated[float, Field(ge=0.0, le=1440.0)]


class Gpu(Frozen):
    """Memory that a program can use, in GiB, and the peak of dense 16-bit products, in 1e12 operations a second."""

    memory_gib: Positive
    peak_tflops: Positive


class Instance(Frozen):
    """One kind of machine: cores, GPUs by their name in the table, and prices per hour."""

    cloud: Literal["aws", "gcp", "other"]
    cpus: Annotated[int, Field(ge=1, le=4096)]
    on_demand: Positive
    spot: Positive
    gpu: str | None = None
    gpus: Annotated[int, Field(ge=0, le=64)] = 0


class Assumptions(Frozen):
    """What no list says: the share of a GPU's peak by preset, how often spot machines vanish, how long a new one takes
    to start."""

    gpu_mfu: dict[str, Annotated[float, Field(gt=0.0, le=1.0)]]
    checkpoint_seconds: Annotated[float, Field(gt=0.0, le=86_400.0)]
    start_minutes: Minutes
    preemptions_per_hour: Annotated[float, Field(ge=0.0, le=60.0)]

    @field_validator("gpu_mfu")
    @classmethod
    def _for_every_preset(cls, shares: dict[str, float]) -> dict[str, float]:
        missing = [name for name in PRESETS if name not in shares]
        if missing:
            raise ValueError(f"found no share for {', '.join(missing)}; expected one for every preset")
        return shares


class Prices(Frozen):
    """The whole table; `checked` says whether somebody compared it with the clouds' lists at `as_of`."""

    as_of: Annotated[str, Field(pattern=r"^\d{4}-\d{2}(-\d{2})?$")]
    checked: bool
    currency: Annotated[str, Field(min_length=1, max_length=8)]
    region: dict[str, str]
    assumptions: Assumptions
    gpus: dict[str, Gpu]
    instances: Annotated[dict[str, Instance], Field(min_length=1)]

    @model_validator(mode="after")
    def _gpus_are_listed(self) -> "Prices":
        for name, instance in self.instances.items():
            if (instance.gpu is None) != (instance.gpus == 0):
                raise ValueError(f"instances.{name}: found gpu without gpus, or the other way round; expected both")
            if instance.gpu is not None and instance.gpu not in self.gpus:
                raise ValueError(f"instances.{name}: found the GPU {instance.gpu!r}; expected one of gpus")
        return self


def read_prices(path: Path = SHIPPED) -> Prices:
    """Reads a table; raises SpecError, with lines and columns, where it is wrong."""
    source = read_yaml(path, KIND)
    try:
        return Prices.model_validate(source.document)
    except ValidationError as error:
        problems = problems_in(error, source.document, Prices)
        lines = [f"{source.locate(each.path)}: {dotted(each.path)}: {each.text}" for each in problems]
        raise refusal(lines) from error


@cache
def shipped_prices() -> Prices:
    """The table of this version."""
    return read_prices()


def gpu_memory(prices: Prices, instance: str) -> float | None:
    """The memory of one GPU of a kind of machine, in GiB; None where it has none or is not in the table."""
    found = prices.instances.get(instance)
    return None if found is None or found.gpu is None else prices.gpus[found.gpu].memory_gib


def unknown_instance(prices: Prices, instance: str, where: str) -> SpecError:
    """The error for a machine that the table lacks."""
    from gapctl.spec.nearest import did_you_mean

    near = did_you_mean(instance, list(prices.instances))
    return SpecError(
        f"{where}: found the machine {instance!r}, of which no price is known{near}; expected one of the table's "
        f"{len(prices.instances)}. Copy {SHIPPED.name} of gapctl.cluster, add it there, and give the copy with --prices"
    )
