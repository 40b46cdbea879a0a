"""A Lightning callback that logs the gap of every validation: `Trainer(callbacks=[GapCallback()])`."""

import sys
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

import gapctl
from gapctl.errors import InputError

if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningModule, Trainer
elif "pytorch_lightning" in sys.modules and "lightning.pytorch" not in sys.modules:
    from pytorch_lightning import Callback
elif find_spec("lightning") is not None:
    from lightning.pytorch import Callback
elif find_spec("pytorch_lightning") is not None:
    from pytorch_lightning import Callback
else:
    raise InputError("gapctl.lightning: Lightning is not installed; run `pip install lightning`")


class GapCallback(Callback):
    """Accumulate the embeddings that `validation_step` returns, and log the gap's metrics when validation ends.

    The step returns a mapping with `image_features` and `text_features`, or has other names for them, as open_clip's
    models do in their forward. The logger is the trainer's own: MLflow, W&B, TensorBoard, csv.
    """

    def __init__(self, image: str = "image_features", text: str = "text_features", prefix: str = "") -> None:
        """Take the names under which the step returns embeddings, and what metric names begin with."""
        super().__init__()
        self._image, self._text, self._prefix = image, text, prefix
        self._gap = gapctl.Gap()

    def on_validation_epoch_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Forget the last validation."""
        self._gap.reset()
        if hasattr(self._gap, "to"):  # the sums of several GPUs are exchanged where the model is
            self._gap.to(pl_module.device)

    def on_validation_batch_end(
        self,
        trainer: "Trainer",
        pl_module: "LightningModule",
        outputs: object,
        batch: object,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add a batch; raise InputError where the step did not return its embeddings."""
        if not isinstance(outputs, Mapping) or not {self._image, self._text} <= set(outputs):
            found = f"the names {', '.join(map(str, outputs))}" if isinstance(outputs, Mapping) else f"{outputs!r}"
            raise InputError(
                f"GapCallback: validation_step returned {found[:200]}; expected a mapping with {self._image!r} and "
                f"{self._text!r}. Return them beside the loss, or give GapCallback(image=..., text=...) their names"
            )
        self._gap.update(outputs[self._image], outputs[self._text])

    def on_validation_epoch_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Log the metrics, which are of all ranks; the few batches of the sanity check are not logged."""
        if not trainer.sanity_checking:
            pl_module.log_dict({f"{self._prefix}{key}": value for key, value in self._gap.compute().items()})
