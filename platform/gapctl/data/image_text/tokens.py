"""Cut captions into tokens: by open_clip's own tokenizer, or by the one of the Hugging Face hub that a model names.

1. `ClipTokenizer` gives the ids of open_clip's own, many times as fast.
2. `PublicTokenizer` is one of the transformers library, as open_clip uses it.
3. `get_tokenizer` returns a process's tokenizer of a model; in a decoding process it is built anew.

Index letters: N captions, L tokens.
"""

import importlib.util
import json
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from gapctl.config.architectures import HubTokenizer
from gapctl.errors import InputError, first_line_of_error, require_transformers

MAX_CACHED_WORDS: Final = 1 << 18
"""Words in the cache, about 50 MB; a full cache is emptied."""


class Tokenizer(Protocol):
    """What cuts captions into tokens, and puts words together again."""

    def __call__(self, captions: Sequence[str]) -> NDArray[np.int64]:
        """Return the ids of each caption (N, context), padded at the end."""
        ...

    def ids(self, caption: str) -> list[int]:
        """Return the ids of one caption; zeros may be left out at the end."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Return a caption's words from its ids."""
        ...


class ClipTokenizer:
    """Returns open_clip's tokens five to fifty times as fast; captions are cut to `context` tokens in the same way.

    A token never spans a space, so a caption's tokens are those of its words. open_clip's repair of broken encodings
    and HTML, half of its time, leaves printable ASCII without "&" unchanged.
    """

    def __init__(self, context: int) -> None:
        self._open_clip: Any = _load_tokenizer_module().SimpleTokenizer(context_length=context)
        self._context = context
        self._ids: dict[str, Sequence[int]] = {}

    def __call__(self, captions: Sequence[str]) -> NDArray[np.int64]:
        """Return the ids of each caption (N, context), with zeros after the end."""
        tokens_NL = np.zeros((len(captions), self._context), dtype=np.int64)
        for place, caption in enumerate(captions):
            ids = self.ids(caption)
            tokens_NL[place, : len(ids)] = ids
        return tokens_NL

    def ids(self, caption: str) -> list[int]:
        """Return the ids of one caption, start and end included."""
        ids = [self._open_clip.sot_token_id]
        if caption.isascii() and caption.isprintable() and "&" not in caption:
            words = caption.lower().split()
        else:
            words = self._open_clip.clean_fn(caption).split(" ")
        for word in words:
            ids += self._encode_word(word)
            if len(ids) >= self._context:
                break
        return [*ids[: self._context - 1], self._open_clip.eot_token_id]

    def decode(self, ids: Sequence[int]) -> str:
        """Return a caption's words from its ids, in lower case; what follows the end is left out."""
        inner = ids[1 : list(ids).index(self._open_clip.eot_token_id)]
        return str(self._open_clip.decode(inner)).strip()

    def _encode_word(self, word: str) -> Sequence[int]:
        known = self._ids.get(word)
        if known is None:
            if len(self._ids) >= MAX_CACHED_WORDS:
                self._ids.clear()
            whole, byte_of = self._open_clip, self._open_clip.byte_encoder
            pieces = ("".join(byte_of[byte] for byte in found.encode()) for found in whole.pat.findall(word))
            known = self._ids[word] = [whole.encoder[part] for piece in pieces for part in whole.bpe(piece).split(" ")]
        return known


def _load_tokenizer_module() -> Any:
    """Load this file of open_clip alone: the package takes seconds to import, in each process that reads."""
    if "open_clip" in sys.modules:
        return importlib.import_module("open_clip.tokenizer")
    package = importlib.util.find_spec("open_clip")
    assert package is not None
    assert package.submodule_search_locations is not None
    file = Path(package.submodule_search_locations[0]) / "tokenizer.py"
    spec = importlib.util.spec_from_file_location("gapctl_open_clip_tokenizer", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def get_clip_tokenizer(context: int) -> ClipTokenizer:
    """Return the process's tokenizer for this context."""
    return ClipTokenizer(context)


class PublicTokenizer:
    """A tokenizer of the transformers library, by open_clip's own code; one thread uses it at a time.

    Raise InputError where that library or a file of the tokenizer is missing.
    """

    def __init__(self, named: HubTokenizer, context: int) -> None:
        require_transformers(f"{named.source}, which cuts this model's captions, is a tokenizer of that library")
        tokenizers = _load_tokenizer_module()
        try:
            self._open_clip: Any = tokenizers.HFTokenizer(
                named.source, context_length=context, tokenizer_mode=named.mode, **json.loads(named.options)
            )
        except ImportError as error:
            reason = first_line_of_error(error)
            raise InputError(f"{named.source}, a tokenizer: it needs another package ({reason}); install it") from error
        except Exception as error:  # of the transformers library, of the hub's client, of a damaged file
            raise InputError(
                f"{named.source}, a tokenizer: its files cannot be had on this machine ({first_line_of_error(error)}). "
                f"Where there is a network, run `hf download {named.source} --include 'tokenizer*' '*.model' "
                "'vocab*' 'merges*' 'special_tokens*' 'config.json'`, and copy the folder that it fills (HF_HOME, or "
                "~/.cache/huggingface) here"
            ) from error
        self._context = context
        self._lock = Lock()

    def __call__(self, captions: Sequence[str]) -> NDArray[np.int64]:
        """Return the ids of each caption (N, context), padded as the tokenizer pads."""
        if not captions:
            return np.zeros((0, self._context), dtype=np.int64)
        with self._lock:
            found: NDArray[np.int64] = self._open_clip(list(captions)).numpy()
        return found

    def ids(self, caption: str) -> list[int]:
        """Return the ids of one caption, padding included."""
        return [int(each) for each in self([caption])[0]]

    def decode(self, ids: Sequence[int]) -> str:
        """Return a caption's words from its ids, as the tokenizer writes them."""
        with self._lock:
            return str(self._open_clip.tokenizer.decode(list(ids), skip_special_tokens=True)).strip()


@cache
def get_public_tokenizer(named: HubTokenizer, context: int) -> PublicTokenizer:
    """Return the process's tokenizer of this name and context; raise InputError where it cannot be had."""
    return PublicTokenizer(named, context)


def get_tokenizer(named: HubTokenizer | None, context: int) -> Tokenizer:
    """Return the process's tokenizer, open_clip's own for None; raise InputError where it cannot be had."""
    return get_clip_tokenizer(context) if named is None else get_public_tokenizer(named, context)
