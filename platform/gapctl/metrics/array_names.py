"""Recognise arrays of saved embeddings by the names that people give them, code labels in words, and read `.pt` files.

1. `match_array_names` maps each known array to the name that it has in a file.
2. `convert_words_to_numbers` turns labels and attributes in words into numbers, in sorted order, equally for all
   shards.
3. `read_torch_arrays` reads a dict of tensors; nothing in it is unpickled.
"""

import pickle
import warnings
import zipfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gapctl.errors import InputError, first_line_of_error

ALIASES: Final[Mapping[str, Sequence[str]]] = {
    "image": (
        "image_features",
        "image_embeddings",
        "image_embeds",
        "image_emb",
        "img_features",
        "img_embeddings",
        "img_embeds",
        "img_emb",
        "images",
    ),
    "text": (
        "text_features",
        "text_embeddings",
        "text_embeds",
        "text_emb",
        "txt_features",
        "txt_embeddings",
        "txt_embeds",
        "txt_emb",
        "texts",
    ),
    "text_to_image": ("txt2img", "text2image", "text2img"),
}
"""Other names of arrays: of open_clip's and transformers' outputs, of clip-retrieval and of CLIP's evaluations."""
WORDS: Final = ("labels", "attributes")
"""Arrays that may hold words."""


def match_array_names(path: Path, present: Collection[str], known: Iterable[str]) -> dict[str, str]:
    """Return the name that each known array has among those present; an array's own name comes before others.

    Raise InputError if two others name the same array.
    """
    names: dict[str, str] = {}
    for array in known:
        others = [name for name in ALIASES.get(array, ()) if name in present]
        if array in present:
            names[array] = array
        elif len(others) > 1:
            raise InputError(
                f"{path}: {' and '.join(f'`{name}`' for name in others)} may both be `{array}`; expected one of them. "
                f"Rename the one that is meant to `{array}`"
            )
        elif others:
            names[array] = others[0]
    return names


def list_array_aliases(known: Iterable[str]) -> list[str]:
    """Return all names of the known arrays, the longest first, so that a pattern finds the whole of a name."""
    return sorted((name for array in known for name in (array, *ALIASES.get(array, ()))), key=len, reverse=True)


def convert_words_to_numbers(
    shards: Mapping[Path, Mapping[str, NDArray[np.generic]]],
) -> dict[Path, dict[str, NDArray[np.generic]]]:
    """Return the arrays of all shards with words replaced by numbers: 0 for the first word of all in sorted order.

    Attributes of shape (N, F) are numbered factor by factor. Raise InputError for class prompts, of which only a number
    says which row of `text` an image has, and for words in some shards and numbers in others.
    """
    coded = {path: dict(arrays) for path, arrays in shards.items()}
    for name in WORDS:
        kinds = {path: arrays[name].dtype.kind in "US" for path, arrays in shards.items() if name in arrays}
        if not any(kinds.values()):
            continue
        for path, words in kinds.items():
            if not words:
                raise InputError(f"{path}: `{name}`: numbers, and words in other shards; expected the same in all")
            _refuse_prompts(path, name, shards[path])
        columns = {path: _split_columns(shards[path][name]) for path in kinds}
        factors = min(len(each) for each in columns.values())
        numbers = {path: [] for path in kinds}  # type: dict[Path, list[NDArray[np.int64]]]
        for factor in range(factors):
            parts = [each[factor] for each in columns.values()]
            number_A = np.unique(np.concatenate(parts), return_inverse=True)[1].astype(np.int64)
            ends = np.cumsum([len(part) for part in parts])[:-1]
            for path, part_A in zip(columns, np.split(number_A, ends), strict=True):
                numbers[path].append(part_A)
        for path, found in numbers.items():
            single = shards[path][name].ndim == 1
            coded[path][name] = found[0] if single else np.stack(found, axis=1)
    return coded


def _split_columns(word_A: NDArray[np.generic]) -> list[NDArray[np.generic]]:
    """Return the words of each factor; bytes become text, so that both are ordered alike."""
    text_A = np.char.decode(word_A.astype(np.bytes_), "utf-8", "replace") if word_A.dtype.kind == "S" else word_A
    return [text_A] if text_A.ndim == 1 else list(text_A.T)


def _refuse_prompts(path: Path, name: str, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    clouds = [arrays[cloud] for cloud in ("image", "text") if cloud in arrays]
    if name == "labels" and "text_to_image" not in arrays and len({len(cloud) for cloud in clouds}) > 1:
        raise InputError(
            f"{path}: `labels`: words, where the texts are class prompts ({len(clouds[1])} for {len(clouds[0])} "
            "images); expected numbers, the row of `text` with each image's prompt"
        )


def read_torch_arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    """Read a `.pt` file of a dict of tensors by name, or of lists of words and whole numbers.

    Raise InputError for a missing or damaged file, for pickled objects, and for anything but such a dict.
    """
    expected = "expected a dict of tensors, as torch.save({'image': ..., 'text': ...}, file) writes it"
    if not path.is_file():
        raise InputError(f"{path}: no such file; {expected}")
    try:
        import torch
    except ImportError as error:
        raise InputError(f"{path}: a file of torch's, which is not installed; run `pip install torch`") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it doubts about a pickle is an error here
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(f"{path}: pickled objects, which are never loaded; {expected}") from error
    except (OSError, ValueError, EOFError, RuntimeError, KeyError, zipfile.BadZipFile) as error:
        reason = first_line_of_error(error)
        raise InputError(f"{path}: damaged, or no file of torch's ({reason}); {expected}") from error
    if not isinstance(content, Mapping) or not content or not all(isinstance(name, str) for name in content):
        raise InputError(f"{path}: a {type(content).__name__} without arrays by name; {expected}")
    return {name: array for name, value in content.items() if (array := _convert_value(value)) is not None}


def _convert_value(value: object) -> NDArray[np.generic] | None:
    """Return a tensor or a list as an array, or None for anything else; formats that numpy lacks are widened."""
    import torch

    if isinstance(value, torch.Tensor) and value.layout == torch.strided and not value.is_quantized:
        plain = value.detach()
        same = plain.dtype in (torch.float16, torch.float32, torch.float64) or not plain.is_floating_point()
        array: NDArray[np.generic] = (plain if same else plain.float()).resolve_conj().resolve_neg().numpy()
        return array
    if not isinstance(value, list | tuple) or not value:
        return None
    try:
        listed = np.array(value)
    except ValueError:  # rows of unequal length
        return None
    return listed if listed.dtype.kind in "iuUf" else None
