"""Build a trial's model where MLflow loads it.

`mlflow.pytorch.load_model` calls `torch.load` with a pickle module that the model's files name. For a trial, that
module has the class of `build_unpickler`: it reads nothing but tensors, and returns the model with these weights.
"""

import pickle
from pathlib import Path
from typing import Final

from open_clip.model import CLIP

from gapctl.inference.trial import build_model_from_description, parse_description

ALLOWED: Final = {("collections", "OrderedDict"), ("torch._utils", "_rebuild_tensor_v2")}
"""All that the pickle of a dictionary of tensors refers to, besides storages, which torch reads itself."""


def build_unpickler(file: Path) -> type[pickle.Unpickler]:
    """Return an unpickler that builds the model of the `trial.yaml` in `file` with the weights that it reads.

    Raise ValueError for a damaged file, InputError for one whose training needs a package that is missing here.
    """
    described = parse_description(file.read_text(encoding="utf-8"), str(file))

    class ModelUnpickler(pickle.Unpickler):
        """Reads a dictionary of tensors and returns the trial's model on the CPU, in eval mode, with these weights."""

        def find_class(self, module: str, name: str) -> object:
            """Return one of the few functions that build tensors. Raise UnpicklingError for anything else."""
            if (module, name) not in ALLOWED:
                raise pickle.UnpicklingError(f"the weights of {file.parent} refer to {module}.{name}, not to tensors")
            return super().find_class(module, name)

        def load(self) -> CLIP:
            """Return the model."""
            weights = super().load()
            model = build_model_from_description(described)
            model.load_state_dict(weights)
            return model.eval()

    return ModelUnpickler
