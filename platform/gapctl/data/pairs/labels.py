"""Labels of samples from what their JSON says.

Index letters: N samples.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gapctl.errors import InputError
from gapctl.spec.nearest import did_you_mean

NAMED: Final = 12
"""Keys that a message names."""


class Described(Protocol):
    """A sample by its key, and what its JSON says."""

    @property
    def key(self) -> str: ...

    @property
    def about(self) -> Mapping[str, Any]: ...


class Labels(NamedTuple):
    """A number per sample, and the classes that the numbers stand for."""

    label_N: NDArray[np.int64]
    names: tuple[str, ...]


def labels_of(option: str, samples: Sequence[Described], key: str, classes: Sequence[str] | None = None) -> Labels:
    """What each sample's JSON has under `key`, numbered by `classes`, or by the sorted values where there are none.

    Raises InputError for a sample that has nothing there, something that is no single value, or another class.
    """
    values = [_value(option, sample, key) for sample in samples]
    names = tuple(sorted(set(values)) if classes is None else classes)
    number = {name: index for index, name in enumerate(names)}
    for sample, value in zip(samples, values, strict=True):
        if value not in number:
            close = did_you_mean(value, names)
            raise InputError(
                f"{option}: sample {sample.key}: {key} is {value!r}, which is none of the {len(names)} classes{close} "
                "Add it to the file, or leave such samples out"
            )
    return Labels(np.array([number[value] for value in values], dtype=np.int64), names)


def _value(option: str, sample: Described, key: str) -> str:
    if key not in sample.about:
        present = sorted(sample.about)
        listed = f"it has {', '.join(present[:NAMED])}" if present else "it has no json, or an empty one"
        close = did_you_mean(key, present)
        raise InputError(f"{option}: sample {sample.key} has no label `{key}` in its json; {listed}{close}")
    value = sample.about[key]
    if not isinstance(value, str | int | float) or value == "":
        raise InputError(f"{option}: sample {sample.key}: `{key}` is {value!r}; expected a single word or number")
    return str(value)
