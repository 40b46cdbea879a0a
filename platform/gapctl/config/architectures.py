"""open_clip's architectures, read from its json files without importing it: sizes, parameters, operations.

An architecture is a name that open_clip has a file for, or a path of such a file. `find_architecture` reads it;
`OpenClipModel` in trial.py is how a sweep file names it. Counts follow from the configuration, and are None for towers
of other libraries (timm, transformers), whose layers it does not describe.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, overload

from gapctl.config.base import format_choices, hash_value
from gapctl.config.presets import CLIP_CONTEXT, PatchTower, ResNet, Tower

JSON_SUFFIX: Final = ".json"
LOCAL_FOLDER: Final = "local-dir:"
"""open_clip's scheme of folders with a configuration and weights."""
MODEL_PATHS: Final = ("model.architecture", "model.weights")
"""Values of a training that may be files."""
REQUIRED_KEYS: Final = ("embed_dim", "vision_cfg", "text_cfg")
CLIP_TOKENS: Final = 49_408
"""Tokens of open_clip's own tokenizer."""
HEAD_WIDTH: Final = 64
VIT_ADAMW: Final = ((0.9, 0.98), 1e-6)
OTHER_ADAMW: Final = ((0.9, 0.999), 1e-8)
"""Betas and epsilon by which open_clip trains transformers, and other image towers."""


_TEXTS: Final[ContextVar[Mapping[str, str]]] = ContextVar("architecture_texts")


@contextmanager
def override_architecture_texts(texts: Mapping[str, str]) -> Iterator[None]:
    """Let cohorts that are read meanwhile keep these texts of json files, by path: what files say may change later."""
    token = _TEXTS.set(texts)
    try:
        yield
    finally:
        _TEXTS.reset(token)


def get_overriding_architecture_texts() -> Mapping[str, str]:
    """Return the texts of json files that a cohort which is being read keeps."""
    return _TEXTS.get({})


def is_architecture_file(name: str) -> bool:
    """Return whether a name is a path of a json file."""
    return name.endswith(JSON_SUFFIX)


@cache
def list_architectures() -> dict[str, Path]:
    """Map the names of open_clip's architectures to their files; empty where open_clip is not installed."""
    package = find_spec("open_clip")
    if package is None or not package.submodule_search_locations:
        return {}
    folder = Path(package.submodule_search_locations[0]) / "model_configs"
    return {path.stem: path for path in sorted(folder.glob(f"*{JSON_SUFFIX}"))}


@overload
def strip_model_folder(value: str) -> str: ...


@overload
def strip_model_folder(value: object) -> object: ...


def strip_model_folder(value: object) -> object:
    """Return a model's file, or each of a list, by its name where it is an absolute path; anything else as it is."""
    if isinstance(value, list):
        return [strip_model_folder(each) for each in value]
    if not isinstance(value, str) or not Path(value.removeprefix(LOCAL_FOLDER)).is_absolute():
        return value
    return Path(value.removeprefix(LOCAL_FOLDER)).name


def find_architecture(name: str) -> "Architecture":
    """Return the architecture of a name or a json file. Raise ValueError with what was found and expected."""
    if is_architecture_file(name):
        path = Path(name).expanduser()
        if not path.is_file():
            raise ValueError(f"found {name!r}, and there is no such file; expected a json file of open_clip's form")
        return _read_architecture(name, path)
    known = list_architectures()
    if not known:
        raise ValueError(f"found {name!r}, and open_clip is not installed; run `pip install open_clip_torch`")
    if name not in known:
        expected = f"expected one of open_clip's {len(known)} architectures, or a json file of its form"
        raise ValueError(f"found {name!r}; {format_choices(name, known, expected)}")
    return _read_known_architecture(name, known[name])


@cache  # files of an installed package stay as they are, and a cohort of models has each of them read many times
def _read_known_architecture(name: str, path: Path) -> "Architecture":
    return _read_architecture(name, path)


def _read_architecture(name: str, path: Path) -> "Architecture":
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(f"found {name!r}, which cannot be read ({reason}); expected JSON") from error
    return parse_architecture(name, text)


def parse_architecture(name: str, text: str) -> "Architecture":
    """Return the architecture of a json file's text. Raise ValueError with what was found and expected."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise ValueError(f"found {name!r}, which cannot be read ({error}); expected JSON") from error
    return build_architecture(name, document)


def build_architecture(name: str, document: object) -> "Architecture":
    """Return the architecture of a configuration, or of a document with one under `model_cfg`; raise ValueError."""
    described = document.get("model_cfg", document) if isinstance(document, dict) else None
    if not isinstance(described, dict) or any(key not in described for key in REQUIRED_KEYS):
        raise ValueError(f"found {name!r}, which lacks some of {', '.join(REQUIRED_KEYS)}; expected open_clip's form")
    vision, text = described["vision_cfg"], described["text_cfg"]
    width = described["embed_dim"]
    if not isinstance(vision, dict) or not isinstance(text, dict) or not isinstance(width, int) or width < 2:
        raise ValueError(
            f"found {name!r}, whose embed_dim is no number or whose vision_cfg or text_cfg is no mapping; expected "
            "open_clip's form"
        )
    own = document.get("preprocess_cfg") if isinstance(document, dict) and described is not document else None
    return Architecture(
        name, json.dumps(described, sort_keys=True), json.dumps(own if isinstance(own, dict) else {}, sort_keys=True)
    )


@dataclass(frozen=True)
class HubTokenizer:
    """A tokenizer of the transformers library: a repository or a folder, open_clip's mode, and its options as JSON."""

    source: str
    mode: str | None = None
    options: str = "{}"


@dataclass(frozen=True)
class Architecture:
    """An architecture: its name, open_clip's configuration, and image settings that stand beside it, as JSON."""

    name: str
    text_of_configuration: str
    text_of_images: str = "{}"

    @property
    def described(self) -> dict[str, Any]:
        """open_clip's configuration, a new copy."""
        found: dict[str, Any] = json.loads(self.text_of_configuration)
        return found

    @property
    def images(self) -> dict[str, Any]:
        """The image settings beside the configuration (`preprocess_cfg`); empty for open_clip's own files."""
        found: dict[str, Any] = json.loads(self.text_of_images)
        return found

    @property
    def embed_dim(self) -> int:
        """The width of the shared embedding."""
        return int(self.described["embed_dim"])

    @property
    def image_size(self) -> int:
        """The side of an image in pixels, of its shorter side where they differ."""
        size = self.described["vision_cfg"].get("image_size", 224)
        return int(min(size) if isinstance(size, list) else size)

    @property
    def context(self) -> int:
        """The number of tokens of a caption."""
        return int(self.described["text_cfg"].get("context_length", CLIP_CONTEXT))

    @property
    def is_resnet(self) -> bool:
        """Whether the image tower is open_clip's own ResNet."""
        return isinstance(self.described["vision_cfg"].get("layers"), list)

    @property
    def adamw(self) -> tuple[tuple[float, float], float]:
        """AdamW's betas and epsilon, as open_clip chooses them."""
        vision = self.described["vision_cfg"]
        transformer = not self.is_resnet and "vit" in str(vision.get("timm_model_name", "vit"))
        return VIT_ADAMW if transformer else OTHER_ADAMW

    @property
    def image(self) -> PatchTower | ResNet | None:
        """The image tower; None for one of another library, and for one that a decoder of captions reads too."""
        vision = self.described["vision_cfg"]
        if self.writes_captions or "timm_model_name" in vision or isinstance(vision.get("image_size"), list):
            return None
        width, layers = int(vision.get("width", 768 if not self.is_resnet else 64)), vision.get("layers", 12)
        if self.is_resnet:
            one, two, three, four = (int(each) for each in layers)
            return ResNet(width, (one, two, three, four), self.image_size)
        heads = max(1, width // int(vision.get("head_width", HEAD_WIDTH)))
        return PatchTower(width, int(layers), heads, self.image_size, int(vision.get("patch_size", 16)))

    @property
    def text(self) -> Tower | None:
        """The text tower; None for one of another library."""
        text = self.described["text_cfg"]
        if "hf_model_name" in text:
            return None
        width = int(text.get("width", 512))
        return Tower(width, int(text.get("layers", 12)), int(text.get("heads", 8)), self.context)

    def count_training_flops(self) -> int | None:
        """Return the floating-point operations of training on one pair: forward once, backward twice that."""
        image, text = self.image, self.text
        if image is None or text is None:
            return None
        wider = _count_wider(image, self._mlp_ratio("vision_cfg")) * 2 * getattr(image, "tokens", 0)
        wider += _count_wider(text, self._mlp_ratio("text_cfg")) * 2 * text.tokens
        forward = image.count_forward_flops(self.embed_dim) + text.count_forward_flops()
        return 3 * (forward + 2 * self.embed_dim * text.width + wider)

    def count_parameters(self) -> int | None:
        """Return the number of weights of both towers, their embeddings and projections; norms and biases are left out.

        None for towers of another library.
        """
        image, text = self.image, self.text
        if image is None or text is None:
            return None
        tokens = int(self.described["text_cfg"].get("vocab_size", CLIP_TOKENS))
        found = 12 * text.width**2 * text.layers + text.width * (text.tokens + tokens + self.embed_dim)
        found += _count_wider(text, self._mlp_ratio("text_cfg"))
        if isinstance(image, ResNet):
            return found + count_resnet_weights(image, self.embed_dim)
        patches = 3 * image.patch_size**2 * image.width
        found += _count_wider(image, self._mlp_ratio("vision_cfg"))
        return found + 12 * image.width**2 * image.layers + patches + image.width * (image.tokens + self.embed_dim)

    def _mlp_ratio(self, part: str) -> float:
        return float(self.described[part].get("mlp_ratio", 4.0))

    @property
    def writes_captions(self) -> bool:
        """Whether the architecture has, besides two encoders, a decoder that writes captions (CoCa)."""
        return "multimodal_cfg" in self.described

    @property
    def tokenizer(self) -> HubTokenizer | None:
        """The Hugging Face tokenizer that cuts captions; None for open_clip's own."""
        text = self.described["text_cfg"]
        if not text.get("hf_tokenizer_name"):
            return None
        options = json.dumps(text.get("tokenizer_kwargs") or {}, sort_keys=True)
        return HubTokenizer(str(text["hf_tokenizer_name"]), text.get("tokenizer_mode"), options)

    def explain_unmeasurable(self) -> str | None:
        """Return why the architecture cannot be a trial here, None where it can."""
        vision, text = self.described["vision_cfg"], self.described["text_cfg"]
        if isinstance(vision.get("image_size"), list) and len(set(vision["image_size"])) > 1:
            return "whose images are no squares; expected an architecture with square images"
        if self.context < 3:
            return f"whose context_length is {self.context}; expected 3 or more"
        options = text.get("tokenizer_kwargs") or {}
        if options.get("trust_remote_code"):
            return "whose tokenizer wants to run code of a repository (trust_remote_code), which is never done"
        if self.tokenizer is not None:
            return None
        if options:
            return "whose text_cfg has tokenizer_kwargs without hf_tokenizer_name; expected both or neither"
        if text.get("hf_model_name"):
            return (
                "whose text_cfg has hf_model_name without hf_tokenizer_name; expected the tokenizer of its text tower"
            )
        if int(text.get("vocab_size", CLIP_TOKENS)) < CLIP_TOKENS:
            return f"whose vocab_size is below {CLIP_TOKENS:,}, the tokens of open_clip's tokenizer"
        return None

    def explain_untrainable(self) -> str | None:
        """Return why the architecture can be measured, and not trained; None where it can be trained."""
        if self.writes_captions:
            return "which also writes captions (CoCa), and whose loss is of captions too"
        if self.described["text_cfg"].get("hf_model_name"):
            return "whose text tower is of the transformers library, and drops units by random numbers of its own"
        return None


def fingerprint_model_parts(
    configuration: object, images: object, weights_sha256: str, tokenizer_files: object = None
) -> str:
    """Return what stands for a public model in a trial's id: a hash of configuration and images, and its weights.

    `tokenizer_files` are those of a folder's own tokenizer, by name, with their sha256.
    """
    described = {"model_cfg": configuration, "images": images}
    described |= {"tokenizer": tokenizer_files} if tokenizer_files else {}
    return f"{hash_value(described)}-{weights_sha256}"


def _count_wider(tower: PatchTower | Tower | ResNet, ratio: float) -> int:
    """Count the weights of blocks whose hidden layer is not four times as wide, beyond those of usual ones."""
    return 0 if isinstance(tower, ResNet) else round(2 * (ratio - 4) * tower.width**2 * tower.layers)


def count_resnet_weights(tower: ResNet, embed_dim: int) -> int:
    """Count the stem, the groups of bottlenecks, and the attention pooling (arXiv 2103.00020, sec. 2.4)."""
    half, width, wide = tower.width // 2, tower.width, tower.width * 32
    found = 9 * (3 * half + half * half + half * width)
    entering = width
    for group, blocks in enumerate(tower.layers):
        narrow, leaving = width << group, 4 * (width << group)
        found += entering * narrow + 9 * narrow**2 + narrow * leaving + entering * leaving
        found += (blocks - 1) * (2 * leaving * narrow + 9 * narrow**2)
        entering = leaving
    tokens = (tower.image_size // 32) ** 2 + 1
    return found + 3 * wide**2 + wide * embed_dim + tokens * wide
