"""Hypotheses about metrics that no training of their sweep logs are refused before anything is trained."""

from pathlib import Path
from typing import Any

import pytest

from sweep_texts import complaints, document

ON_PAIRS: dict[str, Any] = {
    "data": {"dataset": "cc12m"},
    "model": {"preset": "pairs-small"},
    "train": {"samples": 512, "batch_size": 64},
    "evaluate": {"every": 512, "gallery": 100},
}


def about(response: str, *, pairs: bool = False, **base: Any) -> dict[str, Any]:
    """A sweep with one hypothesis, about this metric."""
    content = document()
    content["hypotheses"] = [{**content["hypotheses"][1], "response": response}]
    if pairs:
        content["base"] = ON_PAIRS
        content["vary"] = {"train.lr": [1.0e-3, 2.0e-3]}
        content["hypotheses"][0] |= {"factor": "train.lr", "between": [1.0e-3, 2.0e-3]}
    content["base"] = {**content["base"], **base}
    return content


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (about("captions/empty"), "of image-text pairs"),
        (about("train/loss", train={"samples": 0}, init_from={"train.samples": 512}), "train.samples is 0"),
        (about("temperature/bias"), "only loss.kind siglip"),
        (about("bias/moad_image", pairs=True), "expected data.classes"),
        (about("quality/accuracy_colour", pairs=True), "of a factor of MAD"),
        (about("entropy/i2t_nats_at_1000", pairs=True), "galleries have 1,000 pairs"),
        (about("train/loss_bayes", pairs=True), "how likely a natural caption is with an image is not known"),
        (about("information/shared", pairs=True), "the information of natural captions is not known"),
        (about("train/loss_bayes", loss={"equal_captions": "masked"}), "with equal captions masked"),
        (about("train/loss_excess", data={"share": 0.25}), "a share of the digits may show some more often"),
        (about("train/converged", data={"share": 0.25}, model={"preset": "table"}), "expected data.share 1"),
        (about("train/loss_excess", loss={"alignment": 1.0}), "something is added to the contrastive loss"),
        (
            about("train/converged", loss={"uniformity": 1.0}, model={"preset": "table"}),
            "something is added to the contrastive loss",
        ),
        (about("gap/l2m_excess", loss={"uniformity": 1.0}), "something is added to the contrastive loss"),
        (about("gap/l2m_excess", data={"share": 0.5}), "no table is known to have converged"),
        (about("train/loss_bayes", train={"mismatched": 1.0}), "no pair ever matches its image"),
    ],
)
def test_a_metric_that_is_never_there_is_refused(tmp_path: Path, content: dict[str, Any], expected: str) -> None:
    (line,) = complaints(tmp_path, content)

    assert "hypotheses[0].response" in line or "hypotheses.0.response" in line
    assert expected in line


@pytest.mark.parametrize(
    "content",
    [
        about("temperature/bias", loss={"kind": "siglip"}),
        about("train/loss_excess"),
        about("information/image_given_caption"),
        about("gap/samples_to_small_l2m"),
        about("gap/samples_to_small_l2m", pairs=True),
        about("captions/empty", pairs=True),
        about("entropy/i2t_nats_at_100", pairs=True),
        about("bias/moad_image", pairs=True, data={"dataset": "cc12m", "classes": "questions.txt"}),
    ],
)
def test_one_that_may_be_there_is_not(tmp_path: Path, content: dict[str, Any]) -> None:
    assert complaints(tmp_path, content) == []


def comparing(response: str, between: list[Any], vary: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A sweep with one contrast between two levels of the first factor that varies."""
    content = about(response, **{"data": {"captions": {"attributes": 2}}, **more.pop("base", {})})
    content["vary"] = vary
    content["hypotheses"][0] |= {"factor": next(iter(vary)), "between": between, **more.pop("hypothesis", {})}
    return content | more


EQUAL = {"loss.equal_captions": ["negatives", "masked"]}
HELD_OUT = {"data.captions.held_out": ["own", "full"]}
BY_NAME = {"treatments": {"what": {"plain": {}, "few": {"data.share": 0.25}}}, "vary": {"what": ["plain", "few"]}}


@pytest.mark.parametrize(
    ("content", "place", "expected"),
    [
        (comparing("train/loss_excess", ["negatives", "masked"], EQUAL), "between[1]", "found 'masked', where no"),
        (comparing("train/loss_bayes", ["plain", "few"], **BY_NAME), "between[1]", "expected data.share 1"),
        (comparing("gap/rmg_excess", ["full", "own"], HELD_OUT), "between[0]", "held_out own"),
        (
            comparing("gap/l2m_excess", ["image_text", "image_image"], {"data.sides": ["image_text", "image_image"]}),
            "between[1]",
            "no table has pictures for captions",
        ),
        (
            comparing(
                "gap/rmg_excess",
                [1.0e-3, 2.0e-3],
                {"train.lr": [1.0e-3, 2.0e-3], **EQUAL},
                hypothesis={"where": {"loss.equal_captions": "masked"}},
            ),
            "where.loss.equal_captions",
            "no table masks equal captions",
        ),
    ],
)
def test_a_level_whose_trainings_never_log_the_response_is_refused(
    tmp_path: Path, content: dict[str, Any], place: str, expected: str
) -> None:
    (line,) = complaints(tmp_path, content)

    assert f"hypotheses[0].{place}: found" in line
    assert expected in line


@pytest.mark.parametrize(
    "content",
    [
        comparing("train/loss", ["negatives", "masked"], EQUAL),
        comparing(
            "train/loss_excess",
            [1.0e-3, 2.0e-3],
            {"train.lr": [1.0e-3, 2.0e-3], **EQUAL},
            hypothesis={"where": {"loss.equal_captions": "negatives"}},
        ),
        comparing("gap/rmg_excess", ["own", "full"], HELD_OUT, base={"data": {"captions": {"attributes": 5}}}),
    ],
)
def test_levels_whose_trainings_log_the_response_are_compared(tmp_path: Path, content: dict[str, Any]) -> None:
    assert complaints(tmp_path, content) == []
