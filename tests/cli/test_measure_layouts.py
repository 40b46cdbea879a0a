"""The same images and captions give the same numbers in every layout, by `measure`, `intervene` and trainings."""

import json
from pathlib import Path
from typing import Any

import pytest
from model_measures import MODEL, forbid_encoding, name_model, no_ray, opened

from command_line import gapctl
from gapctl.config.trial import PairData
from gapctl.data.image_text.manifest import read_manifest
from gapctl.data.image_text.pack import find_or_pack_shards
from gapctl.data.image_text.source import (
    find_manifest,
    hash_pair_data,
    load_pair_manifests,
    resolve_pair_paths,
)
from gapctl.data.image_text.storage import list_shards
from gapctl.errors import MissingDataError
from gapctl.inference.shards import ShardCache, encode_shards
from layout_places import LAYOUTS, write_classification, write_folder
from memory_store import MemoryStore
from pair_shards import pair, write_pairs, write_shard
from pair_trials import finished, pair_config

MANY = range(20)
"""Images enough for interventions."""


def write_many_rows(place: Path) -> Path:
    for number in MANY:
        (place / f"{number:03d}.jpg").write_bytes(pair(number)["jpg"])
    rows = [f"{number:03d}.jpg,number {number} {words}" for number in MANY for words in ("alone", "again")]
    (place / "many.csv").write_text("\n".join(["image,caption", *rows]), encoding="utf-8")
    return place / "many.csv"


def write_many_members(place: Path) -> Path:
    texts = {number: f"number {number} alone\nnumber {number} again".encode() for number in MANY}
    return write_shard(
        place / "many.tar", ((f"{number:03d}", {"jpg": pair(number)["jpg"], "txt": texts[number]}) for number in MANY)
    )


WRITERS = {**LAYOUTS, "class labels": write_classification, "rows": write_many_rows, "members": write_many_members}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def places(tiny_model: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every layout, its shards encoded: all at once, as each encoding builds the model."""
    found = {name: write(tmp_path_factory.mktemp("layout")) for name, write in WRITERS.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GAPCTL_CACHE", str(cache))
        resolved = find_or_pack_shards([str(each) for each in found.values()], local=True)
    shards = list_shards([shards for each in resolved for shards in each.shards])
    encode_shards(
        [Path(shard.address) for shard in shards],
        opened(tiny_model),
        ShardCache(cache / "embeddings"),
        no_ray,
        workers=1,
    )
    return found


@pytest.fixture
def place(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own to work in, and the file's cache in use."""
    forbid_encoding(monkeypatch)
    monkeypatch.setenv("GAPCTL_CACHE", str(cache))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def measure(tiny_model: Path, *data: Path, verb: str = "measure") -> dict[str, Any]:
    named = [option for each in data for option in ("--data", str(each))]
    ran = gapctl(verb, *name_model(tiny_model), *named, "--workers", "1", "--json")
    assert (ran.exit_code, ran.err) == (0, "")
    document: dict[str, Any] = json.loads(ran.out)
    return document


@pytest.fixture(scope="module")
def by_shards(tiny_model: Path, cache: Path, places: dict[str, Path]) -> dict[str, Any]:
    """What is measured of the shards as img2dataset writes them, which the other layouts are held against."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GAPCTL_CACHE", str(cache))
        return measure(tiny_model, places["img2dataset's shards"])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_numbers_to_the_last_bit(
    place: Path, tiny_model: Path, places: dict[str, Path], by_shards: dict[str, Any], layout: str
) -> None:
    document = measure(tiny_model, places[layout])

    assert document["metrics"] == by_shards["metrics"]
    assert (document["inputs"]["pairs"], document["inputs"]["captions"]["texts"]) == (6, 30)
    assert {"gap/rmg", "gap/l2m", "entropy/i2t_nats", "quality/t2i_recall_1"} <= set(document["metrics"])


def test_interventions_take_the_same_places(place: Path, tiny_model: Path, places: dict[str, Path]) -> None:
    answers = [measure(tiny_model, places[name], verb="intervene") for name in ("rows", "members")]

    assert answers[0]["inputs"]["captions"]["texts"] == 40
    for answer in answers:
        del answer["inputs"]
    assert answers[0] == answers[1]


def test_what_was_packed_is_told(place: Path, tiny_model: Path, places: dict[str, Path]) -> None:
    folder = places["a folder"]
    packed = measure(tiny_model, folder)["inputs"]["packed"]
    ran = gapctl("measure", *name_model(tiny_model), "--data", str(folder))

    assert list(packed) == [str(folder)]
    assert packed[str(folder)]["layout"] == "a folder of images"
    assert any(line.startswith(f"{folder}: a folder of images, packed into ") for line in ran.out.splitlines())


def test_class_labels_and_their_prompts_are_measured_without_further_options(
    place: Path, tiny_model: Path, places: dict[str, Path]
) -> None:
    document = measure(tiny_model, places["class labels"])

    assert document["inputs"]["label_key"] == "cls"
    assert document["inputs"]["captions"]["texts"] == 6
    assert {"quality/object_accuracy", "geometry/neighborhood_kendall"} <= set(document["metrics"])
    assert gapctl("data", "pack", str(places["class labels"]), "--out", "by_hand").exit_code == 0
    assert measure(tiny_model, Path("by_hand"))["metrics"] == document["metrics"]


def test_a_wrong_place_is_refused_before_a_model_is_built(place: Path) -> None:
    (place / "pairs.csv").write_text("image,caption\na.jpg,words\n", encoding="utf-8")
    (place / "nothing.pt").touch()

    ran = gapctl("measure", "--model", MODEL, "--pretrained", "nothing.pt", "--data", "pairs.csv")

    assert (ran.exit_code, ran.out) == (2, "")
    assert "--data pairs.csv: row 1 (line 2): a.jpg is neither in . nor in a folder beside it" in ran.err


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_training_reads_the_samples_of_every_layout(place: Path, layout: str) -> None:
    source = LAYOUTS[layout](place)
    if layout in ("img2dataset's shards", "CLIP_benchmark's shards"):
        source = next(source.rglob("*.tar")).parent
        with pytest.raises(MissingDataError, match=r"no manifest.parquet beside these shards.*gapctl data index"):
            hash_pair_data(PairData(dataset="image_text", source=str(source)))
        assert gapctl("data", "index", str(source)).exit_code == 0
    data = PairData(dataset="image_text", source=str(source), held_out_share=0.5)

    pairs = load_pair_manifests(resolve_pair_paths(data))

    assert len(pairs.train_rows) + len(pairs.held_out_rows) == 6
    assert len(hash_pair_data(data)) == 16
    marks = set(pairs.train.samples["image_mark"])
    assert marks == set(read_manifest(find_manifest(str(reference(place)))).samples["image_mark"])


def train_on(source: Path) -> dict[str, float]:
    """The last numbers of a training of two steps on the data at a place, five captions an image, half of each."""
    if next(source.rglob("*.tar"), None) is not None:
        source = next(source.rglob("*.tar")).parent
        assert gapctl("data", "index", str(source)).exit_code == 0
    data = {"dataset": "image_text", "source": str(source), "held_out_share": 0.5, "captions": {"keep": "half"}}
    train = {"samples": 8, "batch_size": 4, "precision": "float32"}
    config = pair_config(data=data, train=train, evaluate={"every": 4, "gallery": 6})
    return finished(config, MemoryStore()).read_final_metrics()


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout != "img2dataset's shards"])
def test_a_training_has_the_same_numbers_in_every_layout_to_the_last_bit(
    place: Path, trained_on_shards: dict[str, float], layout: str
) -> None:
    numbers = train_on(LAYOUTS[layout](place))

    assert numbers == pytest.approx(trained_on_shards, rel=0, abs=0, nan_ok=True)
    assert numbers["entropy/gallery"] in (10, 15, 20)


@pytest.fixture(scope="module")
def trained_on_shards(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    return train_on(LAYOUTS["img2dataset's shards"](tmp_path_factory.mktemp("shards")))


def reference(place: Path) -> Path:
    write_pairs(place / "reference.tar", range(6))
    assert gapctl("data", "index", str(place / "reference.tar"), "--out", str(place / "r.parquet")).exit_code == 0
    return place / "r.parquet"


def test_the_same_data_in_the_same_layout_give_a_training_the_same_id_wherever_they_lie(place: Path) -> None:
    fingerprints = set()
    for name in ("here", "there"):
        (place / name).mkdir()
        fingerprints.add(hash_pair_data(PairData(dataset="image_text", source=str(write_folder(place / name)))))

    assert len(fingerprints) == 1
