"""Make the table of open_clip's public models that gapctl ships, from the installed open_clip and published results.

    python docs/make_cohort_table.py FOLDER > platform/gapctl/config/cohorts/open_clip@YEAR-MONTH.csv

FOLDER has `openclip_results.csv` and `openclip_retrieval_results.csv` of open_clip's repository (its folder docs/).
Parameters, widths and sizes are those of open_clip's configurations. What each tag was trained on is in `PRETRAINING`
below, with the paper that says so. Nothing is downloaded.
"""

import csv
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import open_clip
import torch


class Pretraining(NamedTuple):
    """What a tag's weights were trained on: the data's name, its image-text pairs, and the source of both."""

    data: str
    pairs: float | None
    source: str
    filter: str = ""


DATACOMP: Final = "arXiv 2304.14108, table 3"
PRETRAINING: Final[Mapping[str, Pretraining]] = {
    "openai": Pretraining("wit", 400e6, "arXiv 2103.00020"),
    "yfcc15m": Pretraining("yfcc15m", 15e6, "arXiv 2103.00020"),
    "cc12m": Pretraining("cc12m", 12e6, "arXiv 2102.08981"),
    "laion400m": Pretraining("laion400m", 413e6, "arXiv 2111.02114"),
    "laion_aesthetic": Pretraining("laion_aesthetic", 900e6, "model cards of laion/CLIP-convnext_base_w"),
    "laion2b": Pretraining("laion2b", 2.32e9, "arXiv 2210.08402"),
    "mscoco_finetuned_laion2b": Pretraining("laion2b", 2.32e9, "arXiv 2210.08402"),
    "laion5b": Pretraining("laion5b", 5.85e9, "arXiv 2210.08402"),
    "frozen_laion5b": Pretraining("laion5b", 5.85e9, "arXiv 2210.08402"),
    "datacomp_xl": Pretraining("datacomp1b", 1.4e9, DATACOMP, "image_clip"),
    "datacomp_l": Pretraining("datacomp_l", 140e6, DATACOMP, "image_clip"),
    "datacomp_m": Pretraining("datacomp_m", 14e6, DATACOMP, "image_clip"),
    "datacomp_s34b": Pretraining("datacomp1b", 1.4e9, DATACOMP, "image_clip"),
    "datacomp_s_": Pretraining("datacomp_s", 1.4e6, DATACOMP, "image_clip"),
    "datacompdr": Pretraining("datacompdr", 1.28e9, "arXiv 2311.17049"),
    "datacomp1b": Pretraining("datacomp1b", 1.4e9, DATACOMP, "image_clip"),
    "commonpool_xl_clip": Pretraining("commonpool_xl", 3.8e9, DATACOMP, "clip"),
    "commonpool_xl_laion": Pretraining("commonpool_xl", 1.3e9, DATACOMP, "laion"),
    "commonpool_xl_s": Pretraining("commonpool_xl", 12.8e9, DATACOMP, "none"),
    "commonpool_l_clip": Pretraining("commonpool_l", 384e6, DATACOMP, "clip"),
    "commonpool_l_laion": Pretraining("commonpool_l", 130e6, DATACOMP, "laion"),
    "commonpool_l_image": Pretraining("commonpool_l", 293e6, DATACOMP, "image"),
    "commonpool_l_text": Pretraining("commonpool_l", 317e6, DATACOMP, "text"),
    "commonpool_l_basic": Pretraining("commonpool_l", 298e6, DATACOMP, "basic"),
    "commonpool_l_s": Pretraining("commonpool_l", 1.28e9, DATACOMP, "none"),
    "commonpool_m_clip": Pretraining("commonpool_m", 38e6, DATACOMP, "clip"),
    "commonpool_m_laion": Pretraining("commonpool_m", 13e6, DATACOMP, "laion"),
    "commonpool_m_image": Pretraining("commonpool_m", 29e6, DATACOMP, "image"),
    "commonpool_m_text": Pretraining("commonpool_m", 31e6, DATACOMP, "text"),
    "commonpool_m_basic": Pretraining("commonpool_m", 30e6, DATACOMP, "basic"),
    "commonpool_m_s": Pretraining("commonpool_m", 128e6, DATACOMP, "none"),
    "commonpool_s_clip": Pretraining("commonpool_s", 3.8e6, DATACOMP, "clip"),
    "commonpool_s_laion": Pretraining("commonpool_s", 1.3e6, DATACOMP, "laion"),
    "commonpool_s_image": Pretraining("commonpool_s", 3e6, DATACOMP, "image"),
    "commonpool_s_text": Pretraining("commonpool_s", 3.2e6, DATACOMP, "text"),
    "commonpool_s_basic": Pretraining("commonpool_s", 3e6, DATACOMP, "basic"),
    "commonpool_s_s": Pretraining("commonpool_s", 12.8e6, DATACOMP, "none"),
    "metaclip_400m": Pretraining("metaclip", 400e6, "arXiv 2309.16671"),
    "metaclip_fullcc": Pretraining("metaclip", 2.5e9, "arXiv 2309.16671"),
    "metaclip_altogether": Pretraining("altogether", None, "arXiv 2410.17251"),
    "metaclip2_worldwide": Pretraining("metaclip2", 29e9, "arXiv 2507.22062"),
    "dfn2b": Pretraining("dfn", 2e9, "arXiv 2309.17425"),
    "dfn5b": Pretraining("dfn", 5e9, "arXiv 2309.17425"),
    "dfndr2b": Pretraining("dfndr2b", 2e9, "arXiv 2508.20691"),
    "merged2b": Pretraining("merged2b", 2e9, "arXiv 2303.15389"),
    "webli": Pretraining("webli", 10e9, "arXiv 2209.06794, 2303.15343, 2502.14786"),
    "meta": Pretraining("pe", 5.4e9, "arXiv 2504.13181"),
    "v1": Pretraining("laion_coco_nllb", None, "arXiv 2309.01859"),
    "mrl": Pretraining("laion_coco_nllb", None, "arXiv 2309.01859"),
}
"""What each tag was trained on, by the beginning of its name; the longest that fits is meant."""
RESULTS: Final = {
    "published/imagenet_accuracy": ("openclip_results.csv", "ImageNet 1k"),
    "published/coco_i2t_recall_1": ("openclip_retrieval_results.csv", "MSCOCO text retr. R@1"),
    "published/coco_t2i_recall_1": ("openclip_retrieval_results.csv", "MSCOCO image retr. R@1"),
}
"""Published numbers, in percent: the file and the column of each."""
LEAST_RECALL: Final = 5.0
"""COCO recall of images to texts at 1, in percent, below which the paper leaves a model out."""
POOL: Final = re.compile(r"(?:commonpool|datacomp)_(xl|l|m|s)_")
"""The size of DataComp's pool that the pairs were chosen from."""
COUNTS: Final = {"m": 1e6, "b": 1e9}
RESOLUTION: Final = re.compile(r"[-_](224|240|256|320|336|378|384|448|512)$")
VARIANT: Final = re.compile(r"(_e\d\d|_ft|_ft_soup|_augreg|_augreg_rewind|_augreg_soup|_lt)$")
COLUMNS: Final = (
    "architecture",
    "weights",
    "pretraining_set",
    "pretraining_pairs",
    "pretraining_filter",
    "pool",
    "pretraining_samples",
    "parameters",
    "gflops",
    "embed_dim",
    "image_size",
    "patch_size",
    "tower",
    "loss",
    "lineage",
    "fine_tuned",
    "duplicate",
    "weak",
    "repository",
    *RESULTS,
)
PARAMETERS: Final = "params (M)"
FLOPS: Final = "FLOPs (B)"
"""Of a forward pass on a pair, a decoder of captions included."""


def main() -> None:
    """Print the table: a row for each pair of architecture and tag, in open_clip's order."""
    folder = Path(sys.argv[1])
    published = {file: read_results(folder / file) for file, _ in RESULTS.values()}
    listed = open_clip.list_pretrained()
    print(f"# open_clip {open_clip.__version__}; made by docs/make_cohort_table.py")
    print("# published/: docs/openclip_results.csv and docs/openclip_retrieval_results.csv of open_clip, in percent")
    writer = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for architecture, tag in listed:
        writer.writerow(describe_model(architecture, tag, listed, published))


def read_results(file: Path) -> dict[tuple[str, str], dict[str, str]]:
    """Return the rows of a published table by architecture and tag."""
    with file.open(newline="", encoding="utf-8") as opened:
        return {(row["name"], row["pretrained"]): row for row in csv.DictReader(opened)}


def describe_model(
    architecture: str,
    tag: str,
    listed: list[tuple[str, str]],
    published: Mapping[str, Mapping[tuple[str, str], Mapping[str, str]]],
) -> dict[str, object]:
    """Return the row of one model; what is not known is left empty."""
    config = open_clip.get_model_config(architecture)
    trained = PRETRAINING[max((start for start in PRETRAINING if tag.startswith(start)), key=len)]
    seen = re.search(r"_s(\d+)([mb])_", f"{tag}_")
    vision, plain = config["vision_cfg"], architecture.removesuffix("-quickgelu")
    settings = open_clip.get_pretrained_cfg(architecture, tag)
    row: dict[str, object] = {
        "architecture": architecture,
        "weights": tag,
        "pretraining_set": trained.data,
        "pretraining_pairs": trained.pairs and int(trained.pairs),
        "pretraining_filter": trained.filter,
        "pool": pool[1] if (pool := POOL.match(tag)) else None,
        "pretraining_samples": int(int(seen[1]) * COUNTS[seen[2]]) if seen else None,
        "parameters": count_parameters(architecture) or find_published(PARAMETERS, 1e6, plain, tag, published),
        "gflops": find_published(FLOPS, 1, plain, tag, published),
        "embed_dim": config["embed_dim"],
        "image_size": vision.get("image_size"),
        "patch_size": vision.get("patch_size") or find_patch_size(str(vision.get("timm_model_name", ""))),
        "tower": name_tower(vision),
        "loss": "siglip" if "siglip" in architecture.lower() else "coca" if "coca" in architecture else "clip",
        "lineage": f"{RESOLUTION.sub('', plain)} {VARIANT.sub('', tag)}",
        "fine_tuned": explain_fine_tuning(architecture, tag),
        "repository": str(settings.get("hf_hub", "")).rpartition("/")[0],
        "duplicate": explain_duplicate(architecture, tag, listed, bool(settings.get("quick_gelu"))),
    }
    for name, (file, column) in RESULTS.items():
        found = published[file].get((architecture, tag)) or published[file].get((plain, tag))
        row[name] = round(100 * float(found[column]), 2) if found and found[column] else None
    recall = row["published/coco_i2t_recall_1"]
    row["weak"] = "COCO R@1 below 5 %" if isinstance(recall, float) and recall < LEAST_RECALL else None
    return row


def count_parameters(architecture: str) -> int | None:
    """Return the number of weights, counted without memory for them; None where open_clip would need a download."""
    try:
        with torch.device("meta"):
            model = open_clip.create_model(
                architecture, device="meta", load_weights=False, pretrained_hf=False, pretrained_image=False
            )
    except Exception:
        return None
    return sum(value.numel() for value in model.parameters())


def find_published(
    column: str,
    unit: float,
    architecture: str,
    tag: str,
    published: Mapping[str, Mapping[tuple[str, str], Mapping[str, str]]],
) -> int | float | None:
    """Return a published size of a model in this unit, whole for one above 1; None where there is none."""
    for rows in published.values():
        if row := rows.get((architecture, tag)) or rows.get((f"{architecture}-quickgelu", tag)):
            return round(float(row[column]) * unit) if unit > 1 else float(row[column])
    return None


def find_patch_size(timm_name: str) -> int | None:
    """Return the patch size that the name of one of timm's models has."""
    found = re.search(r"patch(\d+)", timm_name)
    return int(found[1]) if found else None


def name_tower(vision: Mapping[str, Any]) -> str:
    """Return the kind of an image tower: vit, resnet, convnext, eva, vitamin or fastvit."""
    name = str(vision.get("timm_model_name", ""))
    kinds = {"convnext": "convnext", "eva": "eva", "vitamin": "vitamin", "fastvit": "fastvit", "mobileclip": "fastvit"}
    for part, kind in kinds.items():
        if part in name:
            return kind
    return "resnet" if isinstance(vision.get("layers"), list) else "vit"


def explain_fine_tuning(architecture: str, tag: str) -> str:
    """Return what a model was fine-tuned on after its pretraining; an empty text for a pretrained one."""
    if tag.startswith("mscoco_finetuned"):
        return "fine-tuned on COCO"
    if architecture.startswith("nllb-clip"):
        return "fine-tuned from other weights on LAION-COCO-NLLB"
    return ""


def explain_duplicate(architecture: str, tag: str, listed: list[tuple[str, str]], quick_gelu: bool) -> str:
    """Return which other row has the same weights, or those of a later epoch of the same run; else an empty text."""
    quick = f"{architecture}-quickgelu"
    if quick_gelu and (quick, tag) in listed:
        return f"the weights of {quick} {tag}, which has their activation"
    if tag == "laion400m_e31":
        return f"an earlier epoch of {architecture} laion400m_e32"
    if tag == "laion2b_s34b_b82k_augreg_rewind" or tag.endswith(("_ft", "_augreg_soup", "_ft_soup")):
        return "continues or averages another row's training" if tag != "laion2b_s34b_b82k_augreg_soup" else ""
    if architecture.endswith("-quickgelu") and not quick_gelu:
        return f"the weights of {architecture.removesuffix('-quickgelu')} {tag} with another activation"
    return ""


if __name__ == "__main__":
    main()
