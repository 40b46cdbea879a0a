"""gapctl: experiments on the modality gap, object bias and entropy of contrastive vision-language models.

Every name of `__all__` is imported when it is first used, so that `import gapctl` takes milliseconds and needs neither
torch nor Ray nor MLflow.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from gapctl import evaluation_sets, losses, metrics, treatments
    from gapctl.api.accumulators import Entropy, Gap, ObjectBias
    from gapctl.api.measures import Measures, entropy, l2i, l2m, measure, moad, rmg
    from gapctl.api.models import EncodedData, Judgement, encode, intervene, load_model
    from gapctl.api.sweeps import Analysis, Sweep, analyze, history, load_sweep, trials, verdicts
    from gapctl.errors import GapctlError, InputError, WorkError

__version__ = "0.1.0"

__all__ = [
    "Analysis",
    "EncodedData",
    "Entropy",
    "Gap",
    "GapctlError",
    "InputError",
    "Judgement",
    "Measures",
    "ObjectBias",
    "Sweep",
    "WorkError",
    "analyze",
    "encode",
    "entropy",
    "evaluation_sets",
    "history",
    "intervene",
    "l2i",
    "l2m",
    "load_model",
    "load_sweep",
    "losses",
    "measure",
    "metrics",
    "moad",
    "rmg",
    "treatments",
    "trials",
    "verdicts",
]

_MODULES: Final = {
    "gapctl.api.accumulators": ("Entropy", "Gap", "ObjectBias"),
    "gapctl.api.measures": ("Measures", "entropy", "l2i", "l2m", "measure", "moad", "rmg"),
    "gapctl.api.models": ("EncodedData", "Judgement", "encode", "intervene", "load_model"),
    "gapctl.api.sweeps": ("Analysis", "Sweep", "analyze", "history", "load_sweep", "trials", "verdicts"),
    "gapctl.errors": ("GapctlError", "InputError", "WorkError"),
}
_HOMES: Final = {name: module for module, names in _MODULES.items() for name in names}
_ACCUMULATORS: Final = "gapctl.api.accumulators"
_SUBMODULES: Final = ("evaluation_sets", "losses", "metrics", "treatments")
"""Modules with `register`, for metrics, treatments, losses and evaluation sets of one's own."""


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name in _SUBMODULES:
        return import_module(f"gapctl.{name}")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'gapctl' has no attribute {name!r}; it offers {', '.join(__all__)}")
    if home == _ACCUMULATORS and find_spec("torchmetrics") is not None and find_spec("torch") is not None:
        value = getattr(import_module("gapctl.api.torchmetrics_adapter"), f"{name}Metric")
    else:
        value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
