"""The same six images with five captions each, laid out as people have them."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl

from gapctl.data.image_text.class_prompts import split_caption_lines
from gapctl.data.image_text.index import iterate_shard_samples
from gapctl.data.image_text.pack import find_or_pack_shards
from gapctl.data.image_text.storage import list_shards
from pair_shards import pair, write_shard

IMAGES = range(6)
CLASSES = ("cat", "dog", "dog")
"""Two classes of one name, as ImageNet has them."""


def captions(number: int) -> list[str]:
    words = pair(number)["txt"].decode()
    return [
        words,
        f"there is {words}",
        f"{words}, on noise",
        f"a picture, number {number}",
        f"“quoted” – and ünïcode {number}",
    ]


SAME = [(pair(number)["jpg"], captions(number)) for number in IMAGES]
"""Image and captions of every sample of any layout, as `contents` returns them."""


def write_images(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in IMAGES:
        (folder / f"{number:06d}.jpg").write_bytes(pair(number)["jpg"])
    return folder


def write_folder(place: Path) -> Path:
    write_images(place / "photos")
    for number in IMAGES:
        (place / "photos" / f"{number:06d}.txt").write_text("\n".join(captions(number)) + "\n", encoding="utf-8")
    return place / "photos"


def write_csv(place: Path) -> Path:
    """A csv whose rows of one image stand apart."""
    write_images(place / "images")
    rows = [f'images/{number:06d}.jpg,"{captions(number)[line]}"' for line in range(5) for number in IMAGES]
    (place / "pairs.csv").write_text("\n".join(["image,caption", *rows]), encoding="utf-8")
    return place / "pairs.csv"


def write_open_clip_csv(place: Path) -> Path:
    """open_clip's own form: separated by tabs, and called csv."""
    write_images(place)
    rows = [f"{place}/{number:06d}.jpg\t{caption}" for number in IMAGES for caption in captions(number)]
    (place / "train.csv").write_text("\n".join(["filepath\ttitle", *rows, ""]), encoding="utf-8")
    return place / "train.csv"


def write_parquet(place: Path) -> Path:
    write_images(place / "images")
    listed = {"file_name": [f"images/{number:06d}.jpg" for number in IMAGES], "text": list(map(captions, IMAGES))}
    pl.DataFrame(listed).write_parquet(place / "pairs.parquet")
    return place / "pairs.parquet"


def write_embedded_parquet(place: Path) -> Path:
    """Two pieces of a table whose cells are the images, as Hugging Face's data sets have them."""
    for piece, numbers in enumerate((IMAGES[:4], IMAGES[4:])):
        pictures = [{"bytes": pair(number)["jpg"], "path": f"{number}.jpg"} for number in numbers]
        table = pl.DataFrame({"image": pictures, "caption": list(map(captions, numbers))})
        (place / "data").mkdir(exist_ok=True)
        table.write_parquet(place / "data" / f"test-{piece:05d}-of-00002.parquet")
    return place / "data"


def coco(images: Sequence[int] = IMAGES) -> dict[str, list[dict[str, object]]]:
    listed = [(number, line) for line in range(5) for number in images]
    return {
        "images": [{"id": 100 + number, "file_name": f"{number:06d}.jpg", "height": 48} for number in images],
        "annotations": [
            {"id": row, "image_id": 100 + number, "caption": captions(number)[line]}
            for row, (number, line) in enumerate(listed)
        ],
    }


def write_coco(place: Path) -> Path:
    """COCO's folders: val2017/ and annotations/captions_val2017.json."""
    write_images(place / "val2017")
    (place / "annotations").mkdir()
    (place / "annotations" / "captions_val2017.json").write_text(json.dumps(coco()), encoding="utf-8")
    return place / "annotations" / "captions_val2017.json"


def members(number: int) -> dict[str, bytes]:
    return {"jpg": pair(number)["jpg"], "txt": "\n".join(captions(number)).encode()}


def write_img2dataset(place: Path) -> Path:
    (place / "shards").mkdir()
    about = {"status": "success", "url": "https://example.org/a.jpg"}
    write_shard(
        place / "shards" / "00000.tar",
        ((f"{number:09d}", {**members(number), "json": json.dumps(about).encode()}) for number in IMAGES),
    )
    (place / "shards" / "00000_stats.json").write_text("{}", encoding="utf-8")
    pl.DataFrame({"url": ["https://example.org/a.jpg"], "caption": ["a"]}).write_parquet(place / "shards/00000.parquet")
    return place / "shards"


def write_clip_benchmark(place: Path) -> Path:
    """A data set of CLIP_benchmark for retrieval: the folder above its one split."""
    (place / "wds" / "test").mkdir(parents=True)
    write_shard(place / "wds" / "test" / "0.tar", ((f"s{number:07d}", members(number)) for number in IMAGES))
    (place / "wds" / "test" / "nshards.txt").write_text("1\n", encoding="utf-8")
    (place / "wds" / "dataset_type.txt").write_text("retrieval\n", encoding="utf-8")
    return place / "wds"


def write_unsorted(place: Path) -> Path:
    """A tar with all captions first, and the images in another order."""
    texts = [(f"{number:06d}", {"txt": members(number)["txt"]}) for number in IMAGES]
    pictures = [(f"{number:06d}", {"jpg": members(number)["jpg"]}) for number in (3, 1, 0, 5, 2, 4)]
    return write_shard(place / "unsorted.tar", [*texts, *pictures])


LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "a folder": write_folder,
    "a csv": write_csv,
    "open_clip's csv": write_open_clip_csv,
    "a parquet table": write_parquet,
    "a parquet table with its images": write_embedded_parquet,
    "COCO's json": write_coco,
    "img2dataset's shards": write_img2dataset,
    "CLIP_benchmark's shards": write_clip_benchmark,
    "an unsorted tar": write_unsorted,
}


def write_classification(place: Path) -> Path:
    """A data set of CLIP_benchmark for classification: labels in place of captions."""
    (place / "classes" / "test").mkdir(parents=True)
    labelled = ((f"s{number:07d}", {"jpg": pair(number)["jpg"], "cls": str(number % 3).encode()}) for number in IMAGES)
    write_shard(place / "classes" / "test" / "0.tar", labelled)
    (place / "classes" / "classnames.txt").write_text("\n".join((*CLASSES, "")), encoding="utf-8")
    templates = "a photo of a {c}.\na drawing of a {c}.\n"
    (place / "classes" / "zeroshot_classification_templates.txt").write_text(templates, encoding="utf-8")
    return place / "classes"


def contents(place: Path | str) -> list[tuple[bytes | None, list[str]]]:
    """Image and captions of every sample, in order, as other verbs would read them."""
    shards = [each for place in find_or_pack_shards([str(place)], local=True) for each in place.shards]
    samples = [sample for shard in list_shards(shards) for sample in iterate_shard_samples(Path(shard.address))]
    return [(sample.image, split_caption_lines(sample.caption or "")) for sample in samples]
