"""Turn what people hold (numpy, torch on any device, anything with `__array__`) into checked numpy arrays.

1. `convert_embeddings_to_array` takes embeddings, `convert_labels_to_array` numbers or words,
  `convert_attributes_to_array` one or several
   columns of them.
2. `build_paired_embeddings` takes images and texts with their pairing and labels, and returns checked `Embeddings`.

Every fault is an InputError that names the argument, what was found, what was expected and what to do.

Index letters: N images, M texts, A rows of any array, F factors, D embedding.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from gapctl.errors import InputError, first_line_of_error
from gapctl.metrics.checks import Pairing, check_arrays, check_embedding_shape, make_array_error
from gapctl.metrics.embedding_set import Embeddings, build_embeddings

if TYPE_CHECKING:
    import torch

LARGEST_INTEGER = np.iinfo(np.int64).max


def convert_embeddings_to_array(name: str, value: object) -> NDArray[np.floating]:
    """Return embeddings as floats of shape (A, D); bfloat16, which numpy lacks, becomes float32.

    Raise InputError for anything that is no array of floating-point rows. Values are not checked.
    """
    array = convert_to_numpy_array(name, value)
    if array.dtype.kind not in "f":
        raise make_array_error(
            name, f"of type {array.dtype}", "floating-point embeddings", "Encode the data, and give the model's output"
        )
    check_embedding_shape(name, array)
    return np.ascontiguousarray(array)  # sums over another order of memory differ in their last digit


def convert_to_numpy_array(name: str, value: object) -> NDArray[np.generic]:
    """Return any array as numpy's, from whatever device; raise InputError for what is none."""
    if value is None:
        raise make_array_error(name, "None", "an array of shape (rows, width)")
    if isinstance(value, str | bytes):
        raise make_array_error(
            name, f"the text {str(value)[:40]!r}", "an array", "Read a file with `gapctl measure --embeddings` instead"
        )
    if isinstance(value, Mapping | set | frozenset) or callable(value):
        raise make_array_error(name, f"a {type(value).__name__}", "an array", "Give one of its arrays")
    if _is_tensor(value):
        return _convert_tensor(name, value)
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise make_array_error(name, "a masked array", "an array without gaps", "Leave the masked rows out")
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        reason = first_line_of_error(error)
        raise make_array_error(
            name, f"a {type(value).__name__} that is no array ({reason})", "rows of equal length"
        ) from error
    if array.dtype.name == "bfloat16":  # the type that jax registers with numpy, whose kind is "V"
        return array.astype(np.float32)
    if array.dtype == object and array.size and all(isinstance(each, str) for each in array.flat):
        return array.astype(str)  # as pandas keeps words
    if array.dtype == object:
        raise make_array_error(
            name, f"a {type(value).__name__} of Python objects or of rows that differ in length", "one array of numbers"
        )
    return array


def convert_labels_to_array(name: str, value: object) -> NDArray[np.int64]:
    """Return labels as whole numbers: numbers as they are, words by their place in sorted order."""
    array = convert_to_numpy_array(name, value)
    if array.dtype.kind in "US":
        place_A: NDArray[np.int64] = np.unique(array, return_inverse=True)[1].reshape(array.shape).astype(np.int64)
        return place_A
    if array.dtype.kind == "b":
        return array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise make_array_error(
            name, f"of type {array.dtype}", "whole numbers or words", "Give class numbers, not scores"
        )
    if array.dtype.kind == "u" and array.size and array.max() > LARGEST_INTEGER:
        raise make_array_error(name, f"{array.max()}, beyond int64", f"numbers up to {LARGEST_INTEGER}")
    return array.astype(np.int64)


def convert_attributes_to_array(name: str, value: object) -> NDArray[np.int64]:
    """Return attributes as (N,) or (N, F); a mapping or a table with a column for each factor is stacked."""
    if not isinstance(value, Mapping) and not hasattr(value, "columns"):
        labels = convert_to_numpy_array(name, value)
        if labels.ndim == 2 and labels.dtype.kind in "US":
            return np.stack([convert_labels_to_array(name, column) for column in labels.T], axis=1)
        return convert_labels_to_array(name, labels)
    table = cast("Mapping[str, object]", value)
    columns = list(table) if isinstance(value, Mapping) else list(table.columns)  # type: ignore[attr-defined]
    read = [convert_labels_to_array(f"{name}[{column!r}]", table[column]) for column in columns]
    if not read or any(column.ndim != 1 or len(column) != len(read[0]) for column in read):
        shapes = ", ".join(f"{column}: {each.shape}" for column, each in zip(columns, read, strict=True))
        raise make_array_error(name, f"columns of shapes {shapes or 'none'}", "one entry for each image in each column")
    return np.stack(read, axis=1)


def build_paired_embeddings(
    images: object,
    texts: object,
    labels: object = None,
    attributes: object = None,
    text_to_image: object = None,
    least: int = 2,
) -> tuple[Embeddings, Pairing]:
    """Return checked embeddings, and how texts are paired with images, by the rules of `gapctl measure --embeddings`.

    Raise InputError for arrays that are none, do not fit together, hold rows without a direction or fewer than `least`.
    """
    arrays: dict[str, NDArray[np.floating] | NDArray[np.int64]] = {
        "image": convert_embeddings_to_array("images", images),
        "text": convert_embeddings_to_array("texts", texts),
    }
    if labels is not None:
        arrays["labels"] = convert_labels_to_array("labels", labels)
    if attributes is not None:
        arrays["attributes"] = convert_attributes_to_array("attributes", attributes)
    if text_to_image is not None:
        arrays["text_to_image"] = _read_whole_numbers("text_to_image", text_to_image)
    try:
        pairing = check_arrays(arrays, least)
    except InputError as error:
        # In a file the arrays are called `image` and `text`.
        raise InputError(str(error).replace("`image`", "`images`").replace("`text`", "`texts`")) from None
    return build_embeddings(arrays, pairing), pairing


def _read_whole_numbers(name: str, value: object) -> NDArray[np.int64]:
    array = convert_to_numpy_array(name, value)
    if array.dtype.kind not in "iu":
        raise make_array_error(name, f"of type {array.dtype}", "whole numbers, each text's image")
    return convert_labels_to_array(name, array)


def _is_tensor(value: object) -> bool:
    """Tell torch's tensors from other objects without importing torch."""
    return any(kind.__module__.split(".")[0] == "torch" and kind.__name__ == "Tensor" for kind in type(value).__mro__)


def _convert_tensor(name: str, value: object) -> NDArray[np.generic]:
    import torch

    tensor = cast("torch.Tensor", value).detach()
    if tensor.is_meta:
        raise make_array_error(name, "a tensor on the device `meta`, which holds no numbers", "a tensor with numbers")
    if tensor.layout != torch.strided:
        raise make_array_error(name, f"a tensor of layout {tensor.layout}", "a dense one", "Call .to_dense() first")
    if tensor.is_quantized or tensor.is_complex():
        kind = "quantised" if tensor.is_quantized else "complex"
        raise make_array_error(name, f"a {kind} tensor ({tensor.dtype})", "floating-point numbers", "Convert it first")
    known = tensor.dtype in (torch.float16, torch.float32, torch.float64) or not tensor.is_floating_point()
    try:
        array: NDArray[np.generic] = (tensor if known else tensor.float()).cpu().numpy()
    except (RuntimeError, TypeError) as error:
        reason = first_line_of_error(error)
        raise InputError(f"`{name}`: a tensor that cannot be read here ({reason}); expected one of numbers") from error
    return array


def reject_arrays_beside_encoded(**others: object) -> None:
    """Raise InputError for arrays beside encoded data, which has its own."""
    for name, value in others.items():
        if value is not None:
            raise make_array_error(name, "beside encoded data, which has its own", "the encoded data alone")
