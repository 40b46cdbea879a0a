"""Find an open_clip model: its configuration and its weights, by name, in a folder or in a repository of a hub.

A name is one of three, in open_clip's own spelling:

* `ViT-B-32`: an architecture of open_clip. Its weights are a tag, or a file.
* `local-dir:/path`: a folder with `open_clip_config.json` and a file of weights.
* `hf-hub:organisation/name`: the same two files in a repository of a hub, which `HF_ENDPOINT` may name.

1. `check_model_name` answers wrong names before anything is read; of a hub it downloads the configuration, some
  kilobytes.
2. `find_or_download_weights` returns the file of weights with its sha256, downloaded if needed by huggingface_hub's
   own client and cache. It takes up a connection that breaks where it broke.
3. `download_from_hub` asks a hub for a file; `io/hub.py` says what went wrong, and what to do, where it fails.
"""

import json
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from gapctl.config.architectures import LOCAL_FOLDER, REQUIRED_KEYS
from gapctl.config.base import format_word_suggestion, hash_value
from gapctl.errors import InputError, UnknownWeightsError, first_line_of_error, require_packages
from gapctl.folders import expand_home
from gapctl.io.atomic import hash_file
from gapctl.io.hub import FetchError, describe_hub_failure
from gapctl.text import format_first_names

HUB: Final = "hf-hub:"
CONFIG_NAME: Final = "open_clip_config.json"
WEIGHTS_NAMES: Final = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
)
"""Names of weights in a folder, in open_clip's order of preference."""
HUB_WEIGHTS_NAMES: Final = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
"""Names of weights in a repository, in open_clip's order of preference."""
WEIGHTS_SUFFIXES: Final = (".safetensors", ".bin", ".pt", ".pth")
TOKENIZER_FILES: Final = ("tokenizer*", "vocab*", "merges*", "special_tokens*", "added_tokens*", "*.model")
"""Files of a folder that decide how a Hugging Face tokenizer cuts texts."""
SHA256: Final = r"[0-9a-f]{64}"
MAX_NAMED: Final = 4
"""Most names that a message lists."""
SILENT_SECONDS: Final = 60.0
"""For how long a hub that could not be reached is not asked for hashes again: a plan has many models."""
BY_HAND: Final = f"Or copy {CONFIG_NAME} and the weights into a folder, and give --model {LOCAL_FOLDER}FOLDER"

Answer = TypeVar("Answer")
ImageSettings = Mapping[str, Any]
"""open_clip's settings of images, or a tag's whole configuration."""


class HubError(UnknownWeightsError):
    """A hub that did not answer as hoped: not reached, overloaded, or stopped in the middle. The name may be right."""


class WeightsFile(NamedTuple):
    """A file of weights; `preprocess` are a tag's own image settings, empty for others.

    `folder` holds the model's own open_clip_config.json; None for an architecture of open_clip.
    """

    path: Path
    sha256: str
    preprocess: ImageSettings
    folder: Path | None = None


def has_own_weights(name: str) -> bool:
    """Return whether a name stands for a configuration and weights in one place, a folder or a repository."""
    return name.startswith((HUB, LOCAL_FOLDER))


def check_model_name(name: str, pretrained: str | None) -> None:
    """Raise InputError for a name that nothing has, without downloading weights; HubError where a hub fails."""
    require_packages("torch", "open_clip")
    if has_own_weights(name):
        if pretrained is not None:
            raise InputError(f"--pretrained {pretrained}: {name} has weights of its own; leave --pretrained out")
        folder = find_config_folder(name)
        if name.startswith(LOCAL_FOLDER):
            _choose_weights(name, folder)
        return
    require_known_model(name)
    if pretrained is None:
        raise InputError(f"--model {name} without --pretrained; expected a tag, or a file of weights")
    if not expand_home(pretrained).is_file():
        get_tag_image_settings(name, pretrained)


def require_known_model(name: str) -> None:
    """Raise InputError if open_clip does not know the name of an architecture."""
    import open_clip

    names = open_clip.list_models()
    if name not in names:
        close = format_word_suggestion(name, names)
        other = f", or {HUB}ORGANISATION/NAME or {LOCAL_FOLDER}FOLDER" if not close else ""
        raise InputError(
            f"--model {name}: no such model; expected one of open_clip's {len(names)} architectures{other}{close}"
        )


def find_sha256(name: str, pretrained: str | None) -> str:
    """Return the sha256 of a model's weights, downloading them only where nothing else tells it; raise as they are."""
    if name.startswith(HUB):
        folder = find_config_folder(name)
        try:
            return find_hub_sha256(name.removeprefix(HUB), HUB_WEIGHTS_NAMES, revision=folder.name)
        except FetchError as problem:
            raise _build_hub_error(name, problem) from problem
    if name.startswith(LOCAL_FOLDER) or (pretrained is not None and expand_home(pretrained).is_file()):
        return find_or_download_weights(name, pretrained).sha256
    settings = get_tag_image_settings(name, pretrained or "")
    repository, _, file = str(settings.get("hf_hub", "")).rpartition("/")
    if not repository:
        return find_or_download_weights(name, pretrained).sha256
    try:
        return find_hub_sha256(repository, _list_alternatives(file) if file else HUB_WEIGHTS_NAMES)
    except FetchError as problem:
        raise _explain_missing_tag(name, pretrained or "", settings, problem) from problem


def find_or_download_weights(name: str, pretrained: str | None) -> WeightsFile:
    """Return a model's weights, downloaded if needed. Raise InputError if there are none, HubError if a hub fails."""
    if has_own_weights(name):
        folder = find_config_folder(name)
        if name.startswith(LOCAL_FOLDER):
            path = _choose_weights(name, folder)
        else:  # huggingface_hub names the folder by the commit, from which the weights are to be too
            path = _download_own(name, HUB_WEIGHTS_NAMES, revision=folder.name)
        return WeightsFile(path.absolute(), _hash_verified(name, path), {}, folder)
    if pretrained is None:
        raise InputError(f"--model {name} without --pretrained; expected a tag, or a file of weights")
    path = expand_home(pretrained)
    if path.is_file():
        return WeightsFile(path.absolute(), hash_file(path), {})
    settings = get_tag_image_settings(name, pretrained)
    path = _download_tag_weights(name, pretrained, settings)
    return WeightsFile(path.absolute(), _hash_verified(f"{name} {pretrained}", path), settings)


def get_tag_image_settings(name: str, tag: str) -> ImageSettings:
    """Return open_clip's record of a tag; raise InputError for a folder or an unknown tag."""
    import open_clip

    path = expand_home(tag)
    if path.is_dir():
        held = sorted(each.name for each in path.iterdir() if each.suffix in WEIGHTS_SUFFIXES)
        inside = (
            f"one of the files in it ({format_first_names(held, MAX_NAMED)})"
            if held
            else "a file of weights, and it holds none"
        )
        whole = f", or --model {LOCAL_FOLDER}{tag} for the model in it" if (path / CONFIG_NAME).is_file() else ""
        raise InputError(f"--pretrained {tag}: a folder; expected {inside}{whole}")
    settings: ImageSettings = open_clip.get_pretrained_cfg(name, tag)
    if settings:
        return settings
    tags = open_clip.list_pretrained_tags_by_model(name)
    expected = f"a file, or one of the tags of {name}: {', '.join(tags)}" if tags else f"a file ({name} has no tags)"
    close = format_word_suggestion(tag, tags)
    raise InputError(f"--pretrained {tag}: neither a file nor a tag; expected {expected}{close}")


def find_config_folder(name: str) -> Path:
    """Return the folder with a model's open_clip_config.json, downloaded from a hub if needed.

    Raise InputError where there is none, or it is none that open_clip can build; HubError where the hub fails.
    """
    if name.startswith(LOCAL_FOLDER):
        folder = expand_home(name.removeprefix(LOCAL_FOLDER))
        if not name.removeprefix(LOCAL_FOLDER) or not folder.is_dir():
            raise InputError(f"--model {name}: no such folder; expected one with {CONFIG_NAME} and weights")
        if not (folder / CONFIG_NAME).is_file():
            raise InputError(f"--model {name}: no {CONFIG_NAME} in this folder; expected open_clip's, and weights")
    else:
        folder = _download_own(name, (CONFIG_NAME,)).parent
    read_config(name, folder)
    return folder.absolute()


def read_config(name: str, folder: Path) -> dict[str, Any]:
    """Return a folder's open_clip_config.json. Raise InputError if open_clip cannot build a model from it."""
    path = folder / CONFIG_NAME
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"--model {name}: {path}: damaged ({first_line_of_error(error)}); expected JSON") from error
    described = document.get("model_cfg") if isinstance(document, dict) else None
    if not isinstance(described, dict) or any(key not in described for key in REQUIRED_KEYS):
        found = f"{', '.join(map(str, document)) or 'nothing'}" if isinstance(document, dict) else "no object"
        raise InputError(
            f"--model {name}: {path}: found {found}; expected `model_cfg` with {', '.join(REQUIRED_KEYS)}, as "
            "open_clip's models have it"
        )
    wrong = [key for key in REQUIRED_KEYS[1:] if not isinstance(described[key], dict)]
    if wrong:
        raise InputError(f"--model {name}: {path}: model_cfg.{wrong[0]} is no object; expected open_clip's settings")
    options = described["text_cfg"].get("tokenizer_kwargs") or {}
    if options.get("trust_remote_code"):
        raise InputError(
            f"--model {name}: {path}: its tokenizer wants to run code of the repository (trust_remote_code), which is "
            "never done; expected a tokenizer of the transformers library"
        )
    return document


def hash_config(name: str, folder: Path) -> str:
    """Return the sha256 of what decides, besides weights and image settings, what a folder's model computes."""
    described = read_config(name, folder)["model_cfg"]
    files = hash_tokenizer_files(folder) if described["text_cfg"].get("hf_tokenizer_name") else {}
    return hash_value({"model_cfg": described, "tokenizer": files})


def hash_tokenizer_files(folder: Path) -> dict[str, str]:
    """Return the sha256 of each file of a folder's tokenizer by its name."""
    found = sorted({path for pattern in TOKENIZER_FILES for path in folder.glob(pattern) if path.is_file()})
    return {path.name: hash_file(path) for path in found}


def _choose_weights(name: str, folder: Path) -> Path:
    """Return the file of weights in a folder that open_clip would take; raise InputError if none or several fit."""
    held = sorted(path.name for path in folder.iterdir() if path.suffix in WEIGHTS_SUFFIXES and path.is_file())
    known = [usual for usual in WEIGHTS_NAMES if usual in held]
    if known or len(held) == 1:
        return folder / (known or held)[0]
    if not held:
        raise InputError(f"--model {name}: no weights in this folder; expected {WEIGHTS_NAMES[0]}")
    raise InputError(
        f"--model {name}: several files of weights ({format_first_names(held, MAX_NAMED)}); expected one, or one named "
        f"{WEIGHTS_NAMES[0]}"
    )


def _download_own(name: str, files: Sequence[str], revision: str | None = None) -> Path:
    try:
        return download_from_hub(name.removeprefix(HUB), files, revision)
    except FetchError as problem:
        raise _build_hub_error(name, problem) from problem


def _build_hub_error(name: str, problem: FetchError) -> InputError:
    text = problem.format(f"--model {name}")
    return InputError(text) if problem.wrong_name else HubError(text, name.removeprefix(HUB))


def _download_tag_weights(name: str, tag: str, settings: ImageSettings) -> Path:
    import open_clip

    # A record names a repository and a file in it, or none for the usual one.
    repository, _, file = str(settings.get("hf_hub", "")).rpartition("/")
    try:
        if repository:
            return download_from_hub(repository, _list_alternatives(file) if file else HUB_WEIGHTS_NAMES)
        return Path(open_clip.download_pretrained(dict(settings)))
    except Exception as error:
        raise _explain_missing_tag(name, tag, settings, error) from error


def _explain_missing_tag(name: str, tag: str, settings: ImageSettings, error: Exception) -> HubError:
    repository, _, file = str(settings.get("hf_hub", "")).rpartition("/")
    source = f"{file or HUB_WEIGHTS_NAMES[0]} of huggingface.co/{repository}" if repository else settings["url"]
    # A tag's activation and image settings are not in a file of its weights.
    quick = settings.get("quick_gelu") and not name.endswith("-quickgelu")
    advice = f" with --model {name}-quickgelu, which these weights were trained as" if quick else ""
    own = [key for key in ("mean", "std", "interpolation", "resize_mode") if settings.get(key)]
    if own:
        advice += f". A file is shown images by the architecture's {', '.join(own)}; this tag has its own"
    return HubError(
        f"--pretrained {tag}: the weights of {name} are not on this machine and cannot be downloaded "
        f"({first_line_of_error(error)}). Where there is a network, download {source}; copy the file here and "
        f"give its path: --pretrained FILE{advice}",
        source,
    )


def _list_alternatives(file: str) -> Sequence[str]:
    """Return the names to look for: safetensors first, as open_clip does."""
    stem, dot, ending = file.rpartition(".")
    return (f"{stem}.safetensors", file) if f"{dot}{ending}" in (".bin", ".pth") else (file,)


def _hash_verified(name: str, path: Path) -> str:
    """Return a file's sha256. Raise InputError where it is not the one under which a hub's cache keeps the file."""
    found, promised = hash_file(path), path.resolve().name
    if re.fullmatch(SHA256, promised) and found != promised:
        raise InputError(
            f"--model {name}: {path}: damaged: its sha256 is {found[:12]}, and the hub's is {promised[:12]}. Delete "
            f"{path.resolve()}; the same command downloads it again"
        )
    return found


def download_from_hub(repository: str, files: Sequence[str], revision: str | None = None) -> Path:
    """Return the first of `files` that a repository has, from huggingface_hub's cache or downloaded into it.

    Args:
        repository: `organisation/name`.
        files: File names, in order of preference.
        revision: A commit, a branch or a tag; the main branch if left out.

    Raises:
        FetchError: None of them can be had.

    """
    from huggingface_hub import hf_hub_download

    def download(file: str) -> Path:
        return Path(hf_hub_download(repository, file, revision=revision))

    return _ask_hub(repository, files, download, revision)


def find_hub_sha256(repository: str, files: Sequence[str], revision: str | None = None) -> str:
    """Return the sha256 of the first of `files` that a repository has, without downloading what its hub can name.

    A file in huggingface_hub's cache needs no network. A hub that cannot be reached is not asked again for a minute.
    Raises FetchError as `download_from_hub` does.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache

    hub = constants.ENDPOINT
    silent_since, reason = _silent_hubs.get(hub, (-math.inf, ""))
    silent = time.monotonic() - silent_since < SILENT_SECONDS

    def find(file: str) -> str:
        cached = try_to_load_from_cache(repository, file, revision=revision)
        if not isinstance(cached, str):
            if silent:
                raise ConnectionError(reason)
            promised = str(get_hf_file_metadata(hf_hub_url(repository, file, revision=revision)).etag)
            if re.fullmatch(SHA256, promised):
                return promised
            cached = hf_hub_download(repository, file, revision=revision)  # a small file, named by another hash
        name = Path(cached).resolve().name
        return name if re.fullmatch(SHA256, name) else hash_file(Path(cached))

    try:
        return _ask_hub(repository, files, find, revision)
    except FetchError as problem:
        if not (problem.answered or silent):
            _silent_hubs[hub] = time.monotonic(), first_line_of_error(problem.__cause__ or problem)
        raise


_silent_hubs: Final[dict[str, tuple[float, str]]] = {}
"""The hubs that could not be reached: when, and how that showed."""


def _ask_hub(repository: str, files: Sequence[str], ask: Callable[[str], Answer], revision: str | None) -> Answer:
    """Return the answer about the first file that a repository has; raise FetchError where it has none.

    Where the hub fails, the first file in huggingface_hub's cache serves.
    """
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    hub = constants.ENDPOINT
    spelling = f"Expected {HUB}ORGANISATION/NAME, as {hub} shows it"
    if repository.count("/") != 1:
        raise FetchError(f"found {repository or 'nothing'} after {HUB}", spelling, wrong_name=True)

    def find_cached(failed: str) -> str | None:
        others = (each for each in files if each != failed)
        return next(
            (each for each in others if isinstance(try_to_load_from_cache(repository, each, revision=revision), str)),
            None,
        )

    for file in files:
        try:
            return ask(file)
        except HFValidationError as error:
            raise FetchError(first_line_of_error(error), spelling, wrong_name=True) from None
        except Exception as error:  # huggingface_hub's, httpx's of broken connections, the disk's
            if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
                continue
            gone = isinstance(error, RepositoryNotFoundError)
            if not gone and (held := find_cached(file)) is not None:
                return ask(held)
            raise describe_hub_failure(error, file, hub, f"{hub}/{repository}", BY_HAND) from error
    raise FetchError(
        f"no {' or '.join(files)} in this repository of {hub}", "Expected a model of open_clip", wrong_name=True
    )
