"""Saved embeddings are found under the names that people give them, with labels in words, and as `.pt` files."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from command_line import gapctl
from embedding_files import ROWS, Arrays, arrays, write_npy_folder, write_npz, write_safetensors

WORDS = {
    "labels": np.array(["cat", "dog", "owl"])[arrays()["labels"]],
    "attributes": np.array(["blue", "green", "red", "the rest"])[arrays()["attributes"]],
}
"""The same labels in words, which are sorted as their numbers are."""


def write_parquet(path: Path, content: Arrays) -> str:
    columns = {name: array.tolist() for name, array in content.items()}
    pl.DataFrame(columns).write_parquet(path.with_suffix(".parquet"))
    return str(path.with_suffix(".parquet"))


def write_pt(path: Path, content: Arrays) -> str:
    tensors = {
        name: array.tolist() if array.dtype.kind == "U" else torch.from_numpy(array) for name, array in content.items()
    }
    torch.save(tensors, path.with_suffix(".pt"))
    return str(path.with_suffix(".pt"))


WRITERS: dict[str, Callable[[Path, Arrays], str]] = {
    "npz": write_npz,
    "parquet": write_parquet,
    "safetensors": write_safetensors,
    "pt": write_pt,
    "npy folder": write_npy_folder,
}


def measured(place: str) -> dict[str, Any]:
    ran = gapctl("measure", "--embeddings", place, "--json")
    assert (ran.exit_code, ran.err) == (0, "")
    document: dict[str, Any] = json.loads(ran.out)
    return document


@pytest.fixture
def expected(tmp_path: Path) -> dict[str, Any]:
    metrics: dict[str, Any] = measured(write_npz(tmp_path / "expected", arrays()))["metrics"]
    assert "bias/moad_image" in metrics
    return metrics


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize(
    "names",
    [("image", "text"), ("image_features", "text_features"), ("img_emb", "text_emb"), ("image_embeds", "texts")],
)
def test_usual_names_are_known_in_every_format(
    tmp_path: Path, expected: dict[str, Any], form: str, names: tuple[str, str]
) -> None:
    renamed = {dict(zip(("image", "text"), names, strict=True)).get(name, name): a for name, a in arrays().items()}

    found = measured(WRITERS[form](tmp_path / "named", renamed))

    assert found["metrics"] == expected
    assert found["inputs"]["unused_arrays"] == []


@pytest.mark.parametrize("form", [form for form in WRITERS if form != "safetensors"])
def test_labels_and_attributes_in_words_are_numbered_in_sorted_order(
    tmp_path: Path, expected: dict[str, Any], form: str
) -> None:
    assert measured(WRITERS[form](tmp_path / "words", arrays() | WORDS))["metrics"] == expected


def test_words_have_one_number_in_all_shards(tmp_path: Path, expected: dict[str, Any]) -> None:
    whole = arrays() | WORDS
    order = np.argsort(arrays()["labels"], kind="stable")
    (tmp_path / "shards").mkdir()
    for shard, rows in enumerate((order[:3], order[3:])):
        write_npz(tmp_path / "shards" / f"{shard}", {name: array[rows] for name, array in whole.items()})
    one = measured(write_npz(tmp_path / "one", {name: array[order] for name, array in whole.items()}))

    assert measured(str(tmp_path / "shards"))["metrics"] == one["metrics"]


def test_numbered_files_of_other_names_are_shards(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    for shard, rows in enumerate((slice(0, 5), slice(5, None))):
        for name, given in (("image", "img_emb"), ("text", "text_emb")):
            np.save(tmp_path / "shards" / f"{given}_{shard}.npy", arrays()[name][rows])
    clouds = {name: arrays()[name] for name in ("image", "text")}

    found = measured(str(tmp_path / "shards"))

    assert found["metrics"] == measured(write_npz(tmp_path / "one", clouds))["metrics"]


def test_the_pairing_has_other_names_too(tmp_path: Path) -> None:
    pairing = {"image": arrays()["image"][:6], "text": arrays()["text"]}
    of_text = np.arange(ROWS) // 2
    named, other = (write_npz(tmp_path / name, pairing | {name: of_text}) for name in ("text_to_image", "txt2img"))

    assert measured(named)["metrics"] == measured(other)["metrics"]
    assert measured(other)["inputs"]["pairing"] == "text_to_image"


def test_an_array_of_its_own_name_comes_before_others(tmp_path: Path, expected: dict[str, Any]) -> None:
    found = measured(write_npz(tmp_path / "both", arrays() | {"image_features": arrays()["text"]}))

    assert found["metrics"] == expected
    assert found["inputs"]["unused_arrays"] == ["image_features"]


def test_tensors_of_formats_that_numpy_lacks_are_widened(tmp_path: Path) -> None:
    clouds = {name: torch.from_numpy(arrays()[name]).bfloat16() for name in ("image", "text")}
    torch.save({name: cloud.requires_grad_() for name, cloud in clouds.items()}, tmp_path / "half.pt")
    wide = {name: cloud.detach().float().numpy() for name, cloud in clouds.items()}

    found = measured(str(tmp_path / "half.pt"))

    assert found["metrics"] == measured(write_npz(tmp_path / "wide", wide))["metrics"]


class Bomb:
    """Leaves a file behind wherever it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("unpickled"),)


def saved(content: Any) -> Callable[[Path], str]:
    def write(place: Path) -> str:
        torch.save(content, place / "a.pt")
        return str(place / "a.pt")

    return write


def pickled(place: Path) -> str:
    (place / "a.pt").write_bytes(pickle.dumps({"image": Bomb()}))
    return str(place / "a.pt")


def cut(place: Path) -> str:
    path = Path(write_pt(place / "a", arrays()))
    path.write_bytes(path.read_bytes()[:-500])
    return str(path)


def mixed_shards(place: Path) -> str:
    (place / "shards").mkdir()
    write_npz(place / "shards" / "0", arrays())
    write_npz(place / "shards" / "1", arrays() | WORDS)
    return str(place / "shards")


def made(**changed: Any) -> Callable[[Path], str]:
    return lambda place: write_npz(place / "a", {**arrays(), **changed})


def renamed(**names: str) -> Callable[[Path], str]:
    return lambda place: write_npz(
        place / "a", {**{names.get(name, name): array for name, array in arrays().items()}, "img_emb": arrays()["text"]}
    )


WRONG: dict[str, tuple[Callable[[Path], str], str]] = {
    "two names": (renamed(image="image_features"), "`image_features` and `img_emb` may both be `image`; expected one"),
    "no text": (renamed(text="words", image="x"), "a.npz: no array `text`; the archive has attributes, img_emb"),
    "a pickle": (saved({"image": Bomb()}), "a.pt: pickled objects, which are never loaded; expected a dict of tensors"),
    "a plain pickle": (pickled, "a.pt: "),
    "cut short": (cut, "a.pt: damaged, or no file of torch's ("),
    "a tensor": (saved(torch.ones(3, 2)), "a.pt: a Tensor without arrays by name; expected a dict of tensors"),
    "a list": (saved([torch.ones(3, 2)]), "a.pt: a list without arrays by name"),
    "numbers": (saved({"image": 1, "text": 2}), "a.pt: no array `image`"),
    "sparse": (saved({"image": torch.eye(3).to_sparse(), "text": torch.eye(3)}), "a.pt: no array `image`; the file"),
    "a missing file": (lambda place: f"{place}/no.pt", "no.pt: no such file; expected a dict of tensors"),
    "words for prompts": (
        made(text=arrays()["text"][:3], labels=WORDS["labels"]),
        "`labels`: words, where the texts are class prompts (3 for 12 images); expected numbers, the row of `text`",
    ),
    "words and numbers": (mixed_shards, "0.npz: `labels`: numbers, and words in other shards; expected the"),
    "words for the pairing": (made(text_to_image=WORDS["labels"]), "`text_to_image`: of type <U3; expected whole"),
    "words of a matrix": (made(labels=WORDS["attributes"]), "`labels`: of shape (12, 2); expected (12,)"),
    "words for images": (made(image=WORDS["labels"]), "`image`: of type <U3; expected floating-point embeddings"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_files_get_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.chdir(tmp_path)
    write, message = WRONG[wrong]

    ran = gapctl("measure", "--embeddings", write(tmp_path))

    assert (ran.exit_code, ran.out) == (2, "")
    assert message in ran.err
    assert ran.err.count("\n") == 1
    assert not Path("unpickled").exists()
