"""`gapctl measure --model` reads each line of a text as a caption of its image, or joins the lines on request."""

import io
import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from model_measures import forbid_encoding, measure, name_model
from PIL import Image

from command_line import gapctl
from pair_shards import pair, write_shard


def several(number: int) -> dict[str, bytes]:
    """A sample as CLIP_benchmark's retrieval shards have it: five captions, and a blank line at the end."""
    caption = pair(number)["txt"].decode()
    lines = (caption, f"there is {caption}", f"{caption} on noise", "a picture", f"number {number}")
    return {**pair(number), "txt": "\n".join((*lines, "")).encode()}


@pytest.fixture(scope="module")
def captioned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards of 20 images, of which all but two have five captions."""
    folder = tmp_path_factory.mktemp("captioned")
    samples = [(f"{number:06d}", several(number)) for number in range(18)]
    write_shard(folder / "00000.tar", samples[:11])
    write_shard(folder / "00001.tar", [*samples[11:], ("000018", pair(18)), ("000019", pair(19))])
    return folder


def lines_by_open_clip(tiny_model: Path) -> dict[str, np.ndarray]:
    """Every line of the captioned shards, and its image, encoded by open_clip's own functions."""
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tiny_model}")
    samples = [several(number) if number < 18 else pair(number) for number in range(20)]
    lines = [sample["txt"].decode().split("\n")[:5] for sample in samples]
    images = torch.stack([preprocess(Image.open(io.BytesIO(sample["jpg"]))) for sample in samples])
    tokens = open_clip.get_tokenizer(f"local-dir:{tiny_model}")([line for each in lines for line in each])
    with torch.no_grad():
        image_ND, text_MD = model.eval().encode_image(images).numpy(), model.encode_text(tokens).numpy()
    return {
        "image": image_ND,
        "text": text_MD,
        "text_to_image": np.repeat(np.arange(20), [len(each) for each in lines]),
    }


def test_each_line_of_a_text_is_a_caption_of_its_image(place: Path, tiny_model: Path, captioned: Path) -> None:
    document = json.loads(measure(tiny_model, captioned, "--json").out)

    np.savez("same.npz", **lines_by_open_clip(tiny_model))
    expected = json.loads(gapctl("measure", "--embeddings", "same.npz", "--json").out)["metrics"]
    compared = {key: expected[key] for key in expected if key.startswith(("gap/", "geometry/align", "geometry/unif"))}
    assert {key: document["metrics"][key] for key in compared} == pytest.approx(compared, rel=1e-3)
    assert document["inputs"]["pairs"] == 20
    assert document["inputs"]["captions"] == {"rule": "lines", "texts": 92, "samples_of_several_lines": 18}


def test_what_was_read_of_several_lines_is_said(place: Path, tiny_model: Path, captioned: Path) -> None:
    lines, whole = (measure(tiny_model, captioned, *more).out.splitlines() for more in ((), ("--captions", "whole")))

    assert lines[0].endswith(" on 2 shards: 20 images and 92 texts, 12 wide")
    several = "18 of 20 samples have several lines"
    assert lines[1] == f"92 captions of 20 images, one caption per line: {several}, and --captions whole joins them"
    assert whole[0].endswith(" on 2 shards: 20 images and 20 texts, 12 wide")
    assert whole[1] == (
        f"20 captions of 20 images, lines joined: {several}, and --captions lines reads one caption per line"
    )


def test_embeddings_of_one_rule_are_not_taken_for_those_of_the_other(
    place: Path, tiny_model: Path, captioned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines, whole = (json.loads(measure(tiny_model, captioned, *more, "--json").out) for more in ((), WHOLE))
    forbid_encoding(monkeypatch)

    assert whole["inputs"]["captions"] == {"rule": "whole", "texts": 20, "samples_of_several_lines": 18}
    assert whole["metrics"]["gap/rmg"] != lines["metrics"]["gap/rmg"]
    assert json.loads(measure(tiny_model, captioned, "--captions", "lines", "--json").out) == lines
    assert json.loads(measure(tiny_model, captioned, *WHOLE, "--json").out) == whole


WHOLE = ("--captions", "whole")


def test_texts_of_a_single_line_are_read_alike_by_both_rules(place: Path, tiny_model: Path, shards: Path) -> None:
    lines, whole = (json.loads(measure(tiny_model, shards, *more, "--json").out) for more in ((), WHOLE))

    assert lines["metrics"] == whole["metrics"]
    assert lines["inputs"]["captions"] == {"rule": "lines", "texts": 36, "samples_of_several_lines": 0}


def test_interventions_are_judged_on_images_with_all_of_their_captions(
    place: Path, tiny_model: Path, captioned: Path
) -> None:
    ran = gapctl("intervene", *name_model(tiny_model), "--data", str(captioned), "--json")

    document = json.loads(ran.out)
    assert document["inputs"]["captions"]["texts"] == 92
    assert document["split"]["calibration_images"] + document["split"]["held_out_images"] == 20


def test_an_unknown_rule_for_captions_is_refused(place: Path, tiny_model: Path, shards: Path) -> None:
    ran = measure(tiny_model, shards, "--captions", "first")

    assert ran.exit_code == 2
    assert "--captions" in ran.err
    assert "Traceback" not in ran.err
