"""An open_clip model with what belongs to it: its tokenizer and the way that it wants its images.

Index letters: B batch, L caption positions, D embedding.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from gapctl.encoding.weights import Weights, load_weights
from gapctl.errors import InputError
from gapctl.spec.nearest import did_you_mean

if TYPE_CHECKING:
    from PIL import Image

    ToTensor = Callable[[Image.Image], torch.Tensor]


class OpenModel(NamedTuple):
    """A model in eval mode, and `preprocess`, open_clip's settings for images.

    `quick_gelu` is what its tag's settings ask for beyond the architecture, `origin` the part of the file that the
    weights are, empty for all of it.
    """

    name: str
    weights: Weights
    model: Any
    preprocess: Mapping[str, Any]
    quick_gelu: bool
    origin: str = ""

    @property
    def architecture(self) -> str:
        """What decides, beside weights, what the model computes."""
        return f"{self.name}, quick GELU" if self.quick_gelu else self.name


def require_known(name: str) -> None:
    """Raises InputError for a name that open_clip does not know."""
    import open_clip

    names = open_clip.list_models()
    if name not in names:
        close = did_you_mean(name, names)
        raise InputError(
            f"--model {name}: no such model; expected one of open_clip's {len(names)} architectures{close}"
        )


def open_model(name: str, weights: Weights) -> OpenModel:
    """Builds a model on the CPU and loads its weights; raises InputError where they do not fit each other."""
    import open_clip
    from open_clip.transform import merge_preprocess_dict

    quick = bool(weights.preprocess.get("quick_gelu", False))
    with _quiet():
        try:
            model = open_clip.create_model(name, pretrained_text=False, force_quick_gelu=quick)
            tokenizer_of(name)
        except Exception as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise InputError(f"--model {name}: open_clip cannot build it here: {reason}") from error
    origin = load_weights(model, name, weights.path)
    preprocess = merge_preprocess_dict(model.visual.preprocess_cfg, dict(weights.preprocess))
    return OpenModel(name, weights, model.eval(), preprocess, quick, origin)


def tokenizer_of(name: str) -> Callable[[Sequence[str]], torch.Tensor]:
    """The tokenizer of an architecture: texts to int64 (B, L)."""
    import open_clip

    with _quiet():
        found: Callable[[Sequence[str]], torch.Tensor] = open_clip.get_tokenizer(name)
    return found


def transform_of(preprocess: Mapping[str, Any]) -> "ToTensor":
    """From a picture to a tensor, as these settings say."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    found: ToTensor = image_transform_v2(PreprocessCfg(**preprocess), is_train=False)
    return found


@torch.no_grad()
def encode_texts(opened: OpenModel, texts: Sequence[str]) -> NDArray[np.float32]:
    """L2-normalised embeddings of texts (B, D), on the CPU."""
    tokens_BL = tokenizer_of(opened.name)(texts)
    found: NDArray[np.float32] = opened.model.encode_text(tokens_BL, normalize=True).numpy()
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """open_clip warns that a model without weights has none, before we load them."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
