"""`gapctl.Gap`, `ObjectBias` and `Entropy` as `torchmetrics.Metric`s, for where torchmetrics is installed.

`GapMetric`, `ObjectBiasMetric` and `EntropyMetric` show themselves by those public names.

Each holds the states of its plain sibling in `accumulators.py` as tensors, so that torchmetrics moves them between
devices, saves them, and adds them over the ranks of a distributed run. The arithmetic is the sibling's.
"""

from typing import Any, Literal, Self, cast

import numpy as np
import torch
from torchmetrics import Metric
from torchmetrics.utilities.distributed import gather_all_tensors

from gapctl.api import accumulators
from gapctl.api.accumulators import States, require_same_kind
from gapctl.errors import InputError


class _TorchAccumulator(Metric):
    """States of a plain accumulator as tensors; `update` of a subclass passes a batch to `_add_states`.

    As with every metric of torchmetrics, `state_dict` has the states after `persistent(True)` alone.
    """

    is_differentiable = False

    def __init_subclass__(cls) -> None:
        # torchmetrics shows a metric, and names it in a collection, by this name; users know it as `gapctl.Gap`.
        if cls.__module__ == __name__:
            cls.__name__ = cls.__name__.removesuffix("Metric")

    def __init__(self, plain: accumulators.Accumulator, **options: object) -> None:
        super().__init__(**{"dist_sync_fn": gather_padded, **options})
        self._plain = plain
        # A MetricCollection shares the states of metrics that have equal ones under equal names after the first batch.
        self._prefix = "text_" if getattr(plain, "side", None) == "text" else ""
        for name, empty in plain.empty.items():
            reduce = drop_empty_rows if isinstance(plain, accumulators.Entropy) else "sum"
            self.add_state(self._prefix + name, torch.from_numpy(empty.copy()), dist_reduce_fx=cast("Any", reduce))

    def _read_states(self) -> States:
        names = self._plain.empty
        return {name: cast("torch.Tensor", getattr(self, self._prefix + name)).cpu().numpy() for name in names}

    def _add_states(self, states: States) -> None:
        joined = self._plain.combine(self._read_states(), states)
        for name, state in joined.items():
            setattr(self, self._prefix + name, torch.from_numpy(np.ascontiguousarray(state)).to(self.device))

    def forward(self, *batch: object, **named: object) -> dict[str, float]:
        """Add a batch, and return the metrics of that batch alone; none for a batch of a single row."""
        self.update(*batch, **named)
        try:
            return self._plain.compute_metrics(self._plain.sum_batch(*batch, **named))
        except InputError:
            return {}

    def compute(self) -> dict[str, float]:
        """Return the metrics of all batches and ranks by name; raise InputError if there are fewer than two rows."""
        return self._plain.compute_metrics(self._read_states())

    def merge(self, other: Self) -> None:
        """Add all batches of another accumulator of this kind; raise InputError for embeddings of another width."""
        require_same_kind(self, other)
        self._add_states(other._read_states())
        self._update_count += other._update_count
        self._computed = None

    def merge_state(self, incoming_state: object) -> None:
        """Add another metric's batches, as torchmetrics calls it."""
        self.merge(cast("Self", incoming_state))


class GapMetric(_TorchAccumulator, accumulators.Watch):
    """Accumulate the modality gap over batches of matched pairs: `gap/l2m`, `gap/rmg` and their siblings.

    A `torchmetrics.Metric`; options are those of torchmetrics, such as `sync_on_compute=False` where one rank alone
    evaluates. Source: arXiv 2404.07983, sec. 3.
    """

    def __init__(self, **options: object) -> None:
        self._sibling = accumulators.Gap()
        super().__init__(self._sibling, **options)

    def update(self, image_features: object, text_features: object, text_to_image: object = None) -> None:
        """Add a batch of images (B, D) and texts, of any norm.

        Text i belongs to image i, or to row `text_to_image[i]` of this batch. Raise InputError for arrays that do not
        fit together, with the row.
        """
        self._add_states(self._sibling.sum_batch(image_features, text_features, text_to_image))


class ObjectBiasMetric(_TorchAccumulator):
    """Accumulate object bias (MOAD) of one modality over batches: `bias/moad_image` and its four parts.

    A `torchmetrics.Metric`; options are those of torchmetrics. Source: arXiv 2404.07983, sec. 3.
    """

    def __init__(self, side: Literal["image", "text"] = "image", **options: object) -> None:
        self._sibling = accumulators.ObjectBias(side)
        super().__init__(self._sibling, **options)

    def update(
        self,
        features: object = None,
        labels: object = None,
        attributes: object = None,
        *,
        image_features: object = None,
        text_features: object = None,
    ) -> None:
        """Add a batch of embeddings (B, D), their objects (B,) and attributes (B,) or (B, factors).

        Embeddings are `features`, or else those of its side among `image_features` and `text_features`, so that one
        call serves a collection of accumulators. Objects and attributes are class numbers from 0 on. Raise InputError
        for arrays that are missing or do not fit together, with the row.
        """
        batch = self._sibling.sum_batch(
            features, labels, attributes, image_features=image_features, text_features=text_features
        )
        self._add_states(batch)


class EntropyMetric(_TorchAccumulator):
    """Accumulate images and texts, and compute the entropies of their softmax over the whole gallery.

    A `torchmetrics.Metric`; every row is kept in float32. Source: arXiv 2404.07983, sec. 6.
    """

    def __init__(self, logit_scale: float, **options: object) -> None:
        self._sibling = accumulators.Entropy(logit_scale)
        super().__init__(self._sibling, **options)

    def update(self, image_features: object, text_features: object) -> None:
        """Add a batch of images (B, D) and texts (C, D), of any norm, to the gallery."""
        self._add_states(self._sibling.sum_batch(image_features, text_features))


def gather_padded(state: torch.Tensor, group: object = None) -> list[torch.Tensor]:
    """Gather a state from all ranks, padded with zeros to the largest shape; a rank without batches has none."""
    gathered = gather_all_tensors(state, group)
    largest = torch.tensor([list(each.shape) for each in gathered]).amax(dim=0).tolist()
    return [_pad_to_shape(each, largest) for each in gathered]


def drop_empty_rows(stacked_RND: torch.Tensor) -> torch.Tensor:
    """Return the rows of all ranks without the padding, whose rows are zero; embeddings' rows have length one."""
    rows_MD = stacked_RND.flatten(0, 1)
    return rows_MD[rows_MD.abs().sum(dim=1) > 0]


def _pad_to_shape(tensor: torch.Tensor, shape: list[int]) -> torch.Tensor:
    padding = [
        extra for size, most in zip(reversed(tensor.shape), reversed(shape), strict=True) for extra in (0, most - size)
    ]
    return torch.nn.functional.pad(tensor, padding)
