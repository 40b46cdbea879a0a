"""Open an open_clip model: load its weights, and build its tokenizer and image transform.

1. `models/sources.py` has found its configuration and its weights.
2. `load_open_clip_model` builds the model, and `models/weights.py` loads the file into it.

Index letters: B batch, L caption positions, D embedding.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.overrides import TorchFunctionMode

from gapctl.config.architectures import LOCAL_FOLDER
from gapctl.errors import InputError, first_line_of_error, make_missing_package_error
from gapctl.models.sources import HUB, ImageSettings, WeightsFile, hash_config, read_config
from gapctl.models.weights import load_weights
from gapctl.training.set_evaluation import SetModel

if TYPE_CHECKING:
    from open_clip.model import CLIP
    from PIL import Image

    ToTensor = Callable[[Image.Image], torch.Tensor]


class OpenModel(NamedTuple):
    """A model in eval mode, and open_clip's image settings (`preprocess`).

    `quick_gelu` is whether its tag requires that activation, `origin` the part of the file that the weights are, "" for
    all of it.
    """

    name: str
    weights: WeightsFile
    model: "CLIP"
    preprocess: ImageSettings
    quick_gelu: bool
    origin: str = ""

    @property
    def architecture(self) -> str:
        """What decides, besides weights, what the model computes: a name, or the hash of its own configuration."""
        if self.weights.folder is not None:
            return hash_config(self.name, self.weights.folder)
        return f"{self.name}, quick GELU" if self.quick_gelu else self.name


class _SkipInitialWeights(TorchFunctionMode):
    """Leaves out the random numbers of new layers, which take seconds for a large model, as a file replaces them."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if getattr(func, "__module__", "") == "torch.nn.init" or func in (torch.Tensor.normal_, torch.Tensor.uniform_):
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def load_open_clip_model(name: str, weights: WeightsFile) -> OpenModel:
    """Build a model on the CPU and load its weights. Raises InputError if they do not fit."""
    import open_clip
    from open_clip.transform import merge_preprocess_dict

    quick = bool(weights.preprocess.get("quick_gelu", False))
    known_as = name if weights.folder is None else f"{LOCAL_FOLDER}{weights.folder}"
    with _silence_open_clip():
        try:
            with _SkipInitialWeights():
                model = open_clip.create_model(
                    known_as, load_weights=False, pretrained_text=False, force_quick_gelu=quick
                )
            load_tokenizer(name, weights.folder)
        except ModuleNotFoundError as error:
            raise InputError(f"--model {name}: {make_missing_package_error(error.name or str(error))}") from error
        except Exception as error:
            reason = first_line_of_error(error)
            raise InputError(f"--model {name}: open_clip cannot build it here: {reason}") from error
    origin = load_weights(model, name, weights.path)
    preprocess = merge_preprocess_dict(model.visual.preprocess_cfg, dict(weights.preprocess))
    return OpenModel(name, weights, model.eval(), preprocess, quick, origin)


class TextTokenizer(Protocol):
    """open_clip's tokenizers: from texts to tokens int64 (B, L); L is `context_length`, or else the model's own."""

    def __call__(self, texts: Sequence[str], context_length: int | None = None) -> torch.Tensor:
        """Return the tokens of texts."""
        ...


def load_tokenizer(name: str, folder: Path | None = None) -> TextTokenizer:
    """Return a model's tokenizer, from texts to int64 (B, L); `folder` has its own configuration, if it has one."""
    import open_clip

    with _silence_open_clip():
        found: TextTokenizer
        described = read_config(name, folder)["model_cfg"]["text_cfg"] if folder is not None else {}
        if name.startswith(HUB) and (known_as := described.get("hf_tokenizer_name")):
            # open_clip.get_tokenizer(name) would ask the hub for the configuration again, in every process.
            found = open_clip.tokenizer.HFTokenizer(
                known_as,
                context_length=described.get("context_length", open_clip.tokenizer.DEFAULT_CONTEXT_LENGTH),
                tokenizer_mode=described.get("tokenizer_mode"),
                **described.get("tokenizer_kwargs", {}),
            )
        else:
            found = open_clip.get_tokenizer(name if folder is None else f"{LOCAL_FOLDER}{folder}")
    return found


def build_open_clip_set_model(opened: OpenModel) -> SetModel:
    """Return an open_clip model as evaluation sets are shown to it: with its own transform, tokenizer and context."""
    tokenizer = load_tokenizer(opened.name, opened.weights.folder)

    def tokenize(texts: Sequence[str], context: int) -> torch.Tensor:
        return tokenizer(list(texts), context_length=context)

    return SetModel(opened.model, build_transform(opened.preprocess), tokenize, int(opened.model.context_length))


def build_transform(preprocess: ImageSettings) -> "ToTensor":
    """Return the transform from an image to a tensor with these settings."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    found: ToTensor = image_transform_v2(PreprocessCfg(**preprocess), is_train=False)
    return found


@torch.no_grad()
def encode_texts(opened: OpenModel, texts: Sequence[str]) -> NDArray[np.float32]:
    """Return L2-normalised embeddings of texts (B, D), on the CPU."""
    tokens_BL = load_tokenizer(opened.name, opened.weights.folder)(texts)
    found: NDArray[np.float32] = opened.model.encode_text(tokens_BL, normalize=True).numpy()
    return found


@contextmanager
def _silence_open_clip() -> Iterator[None]:
    """Suppress open_clip's warning about a model without weights, which are loaded afterwards."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
