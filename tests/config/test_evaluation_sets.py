"""Evaluation sets in sweep files: by name, with their keys checked, their metrics known, and trial ids by content."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from command_line import gapctl
from gapctl.config.evaluation_sets import NamedSet, find_set, list_set_names, load_shipped_sets
from gapctl.config.metrics import explain_metric, find_metric, format_metric_value, is_metric
from gapctl.ledger.preregistration import merge_declaration, rebuild_plan
from gapctl.plan.plan import DataSource, Plan, hash_design, make_plan
from sweep_texts import complaints, loaded

HYPOTHESIS = {
    "id": "related",
    "claim": "Gap and recall go together.",
    "test": "correlation",
    "response": "coco/quality/i2t_recall_1",
    "against": "coco/gap/rmg",
    "direction": "decreasing",
    "smallest_effect": 0.1,
}


def document(**changes: Any) -> dict[str, Any]:
    """A sweep of four trainings that are measured on COCO and on birds."""
    return {
        "name": "sets",
        "question": "Does it?",
        "base": {
            "data": {"dataset": "image_text"},
            "model": {"preset": "pairs-small", "embed_dim": 32},
            "train": {"samples": 6400, "batch_size": 64},
            "evaluate": {"gallery": 40, "sets": ["coco", "birds"]},
        },
        "evaluation_sets": {"birds": {"kind": "classification", "source": "birds/"}, "coco": {"source": "coco/"}},
        "vary": {"train.lr": [1.0e-3, 1.0e-4, 3.0e-4, 3.0e-3]},
        "hypotheses": [HYPOTHESIS],
        "scales": {"small": {"seeds": 1}},
        **changes,
    }


def fingerprint(source: DataSource) -> str:
    return f"of {source.definition.kind}" if isinstance(source, NamedSet) else "of pairs"


def plan_of(folder: Path, content: dict[str, Any], **fingerprints: str) -> Plan:
    def find(source: DataSource) -> str:
        name = source.name if isinstance(source, NamedSet) else ""
        return fingerprints.get(name, fingerprint(source))

    return make_plan(loaded(folder, content), find)


def ids(plan: Plan) -> list[str]:
    return [trial.id for trial in plan.trials]


def test_a_file_defines_sets_and_completes_shipped_ones(tmp_path: Path) -> None:
    spec = loaded(tmp_path, document()).spec

    assert spec.evaluation_sets["birds"].kind == "classification"
    assert spec.evaluation_sets["coco"].kind == "retrieval"
    assert spec.evaluation_sets["coco"].expect.images == 5_000


def test_a_set_that_ships_may_be_counted_otherwise(tmp_path: Path) -> None:
    content = document(evaluation_sets={"coco": {"source": "x", "expect": {}}, "birds": {"kind": "retrieval"}})

    assert loaded(tmp_path, content | {"hypotheses": []}).spec.evaluation_sets["coco"].expect.images is None


def test_every_shipped_set_is_complete_and_says_how_to_get_it() -> None:
    assert set(load_shipped_sets()) == {
        "coco", "flickr30k", "imagenet", "imagenet100", "cifar10", "cifar100", "mit_states", "ut_zappos", "dci"
    }  # fmt: skip
    for name, shipped in load_shipped_sets().items():
        assert find_set(name) is not None
        assert shipped.hub.startswith("https://huggingface.co/datasets/clip-benchmark/wds_") == bool(shipped.hub)
        assert shipped.fetch <= bool(shipped.hub)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"flowers": {}}, "evaluation_sets.flowers.kind: missing; expected retrieval, classification or composition"),
        ({"flowers": {"kind": "classes"}}, "evaluation_sets.flowers.kind: found 'classes'; expected"),
        ({"flowers": {"kind": "retrieval", "souce": "x"}}, "souce: unknown key; did you mean source?"),
        ({"gap": {"kind": "retrieval"}}, "evaluation_sets.gap: found 'gap', which is a group of metrics"),
        ({"Coco": {"kind": "retrieval"}}, "evaluation_sets.Coco: found 'Coco'; expected lower-case letters"),
        (
            {"flowers": {"kind": "retrieval", "templates": ["{c}"]}},
            "evaluation_sets.flowers.templates: found with kind retrieval; expected it with kind classification alone",
        ),
        (
            {"flowers": {"kind": "composition", "prompts": {"object": "a thing"}}},
            "prompts.object: found 'a thing'; expected a prompt with {object} and no other braces",
        ),
        ({"flowers": {"kind": "retrieval", "source": "s3://me:secret@x/y"}}, "an address with a password"),
        ({"flowers": {"kind": "retrieval", "expect": {"images": 0}}}, "expect.images: found 0; expected at least 1"),
        ({"flowers": {"kind": "retrieval", "expect": {"checksum": "12"}}}, "evaluation_sets.flowers.expect.checksum"),
    ],
)
def test_a_wrong_definition_is_answered_with_its_place(tmp_path: Path, changes: dict[str, Any], complaint: str) -> None:
    content = document()
    content["evaluation_sets"] |= changes

    (line,) = complaints(tmp_path, content)

    assert line.startswith("F:")
    assert complaint in line


def test_an_unknown_set_is_answered_with_the_nearest(tmp_path: Path) -> None:
    content = document()
    content["base"]["evaluate"]["sets"] = ["coco", "bird"]

    (line,) = complaints(tmp_path, content)

    assert "base.evaluate.sets[1]: no such evaluation set; did you mean birds?" in line


def test_ideal_words_of_pairs_need_a_set_that_has_some(tmp_path: Path) -> None:
    alone, wrong, varied, right = (document(hypotheses=[]) for _ in range(4))
    alone["base"]["evaluate"] = {"intervention": "ideal_words"}
    wrong["base"]["evaluate"]["intervention"] = "ideal_words"
    varied["vary"] = {"evaluate.intervention": ["none", "ideal_words"]}
    right["vary"] = varied["vary"]
    right["base"]["evaluate"]["sets"].append("shapes")
    right["evaluation_sets"]["shapes"] = {"kind": "composition", "source": "x"}

    text = (
        "found 'ideal_words' with dataset image_text and no sets, where captions name no pairs; expected evaluate.sets"
    )
    assert any(f"evaluate.intervention: {text}" in line for line in complaints(tmp_path, alone))
    text = "found 'ideal_words', and none of coco, birds is of kind composition; expected one in evaluate.sets"
    assert any(f"base.evaluate.intervention: {text}" in line for line in complaints(tmp_path, wrong))
    assert any(f"{text}" in line and "vary" in line for line in complaints(tmp_path, varied))
    assert loaded(tmp_path, right).spec.vary["evaluate.intervention"] == ["none", "ideal_words"]


def test_a_set_named_twice_and_sets_of_digits_are_refused(tmp_path: Path) -> None:
    twice, mad = document(hypotheses=[]), document(hypotheses=[])
    twice["base"]["evaluate"]["sets"] = ["coco", "coco"]
    mad["base"] |= {"data": {"dataset": "mad"}, "model": {"preset": "mad-tiny"}}

    assert "found 'coco' 2 times; expected each set once" in complaints(tmp_path, twice)[0]
    assert "with dataset mad, whose models know the words of MAD alone" in complaints(tmp_path, mad)[0]


@pytest.mark.parametrize(
    ("response", "complaint"),
    [
        ("coco/gap/rgm", "did you mean coco/gap/rmg?"),
        ("imagenet/gap/rmg", "expected base.evaluate.sets: [coco, birds, imagenet]"),
        ("coc/gap/rmg", "coc is no such evaluation set; did you mean coco?"),
        ("coco/quality/accuracy", "sets of kind retrieval, as coco is, have no quality/accuracy"),
        ("birds/quality/i2t_recall_1", "sets of kind classification, as birds is, have no quality/i2t_recall_1"),
        ("coco/train/loss", "have no train/loss"),
        ("quality/accuracy", "it is of evaluation sets; expected the name of one before it"),
    ],
)
def test_a_hypothesis_about_a_metric_that_no_set_has_is_refused(tmp_path: Path, response: str, complaint: str) -> None:
    (line,) = complaints(tmp_path, document(hypotheses=[{**HYPOTHESIS, "response": response}]))

    assert "hypotheses[0].response" in line
    assert complaint in line


def test_a_metric_on_a_set_has_a_meaning_and_a_unit() -> None:
    name = find_metric("coco/gap/rmg")
    assert name is not None

    assert is_metric("coco/gap/rmg")
    assert not is_metric("coco/gap/nothing")
    assert (name.group, name.unit) == ("coco", "share")
    assert explain_metric("coco/quality/accuracy").startswith("on coco: zero-shot accuracy")
    assert format_metric_value("coco/quality/accuracy", 12.34) == "12.3 %"


def test_the_verb_lists_the_metrics_of_a_set() -> None:
    ran = gapctl("metrics", "imagenet/quality")

    assert ran.exit_code == 0, ran.err
    assert "imagenet/quality/mean_class_accuracy" in ran.out
    assert "recall" not in ran.out


def test_ids_without_sets_are_what_they_were(tmp_path: Path) -> None:
    content = document(hypotheses=[], evaluation_sets={})
    content["base"]["evaluate"]["sets"] = []
    plain = yaml.safe_load(yaml.safe_dump(content))
    del plain["evaluation_sets"], plain["base"]["evaluate"]["sets"]

    assert ids(plan_of(tmp_path, content)) == ids(plan_of(tmp_path, plain))
    assert hash_design(plan_of(tmp_path, content)) == hash_design(plan_of(tmp_path, plain))


def test_ids_are_of_the_sets_content_and_not_of_their_place_or_order(tmp_path: Path) -> None:
    here = plan_of(tmp_path, document())
    content = document(evaluation_sets={"birds": {"kind": "classification", "source": "moved/"}, "coco": {}})
    content["base"]["evaluate"]["sets"] = ["birds", "coco"]
    fewer = document(hypotheses=[])
    fewer["base"]["evaluate"]["sets"] = ["coco"]

    assert ids(plan_of(tmp_path, content)) == ids(here)
    assert not set(ids(plan_of(tmp_path, fewer))) & set(ids(here))
    assert not set(ids(plan_of(tmp_path, document(), birds="changed"))) & set(ids(here))
    assert hash_design(plan_of(tmp_path, document(), birds="changed")) != hash_design(here)


def test_a_preparation_is_not_measured_on_sets(tmp_path: Path) -> None:
    content = document(hypotheses=[])
    content["base"]["init_from"] = {"train.samples": 12_800}
    plain = yaml.safe_load(yaml.safe_dump(content))
    plain["base"]["evaluate"]["sets"] = []

    measured, bare = (plan_of(tmp_path, each).preparations for each in (content, plain))

    assert [each.id for each in measured] == [each.id for each in bare]
    assert not any(each.evaluation_sets for each in measured)


def test_a_plan_is_rebuilt_from_the_ledger_without_the_sets(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, document(), coco="seen")
    declaration = merge_declaration(None, plan, lambda trials: False)

    again = rebuild_plan(declaration, "base", "sets.sweep.json")

    assert ids(again) == ids(plan)
    assert again.trials[0].evaluation_sets == plan.trials[0].evaluation_sets


def test_a_scale_and_an_option_change_a_sets_place_and_counts(tmp_path: Path) -> None:
    content = document(scales={"tiny": {"evaluation_sets.coco.source": "tiny/", "evaluation_sets.coco.expect": {}}})
    content["scales"]["tiny"].pop("evaluation_sets.coco.expect")
    content["scales"]["tiny"]["evaluation_sets.coco.expect.images"] = 8

    sweep = loaded(tmp_path, content, "tiny", "evaluation_sets.birds.source=other/")

    assert (sweep.spec.evaluation_sets["coco"].source, sweep.spec.evaluation_sets["coco"].expect.images) == ("tiny/", 8)
    assert sweep.spec.evaluation_sets["birds"].source == "other/"


def test_a_set_that_cannot_be_opened_is_named_with_the_line_that_defines_it(tmp_path: Path) -> None:
    content = document(hypotheses=[])
    content["evaluation_sets"]["birds"]["source"] = str(tmp_path / "nowhere")
    content["base"]["evaluate"]["sets"] = ["birds"]
    loaded(tmp_path, content)

    ran = gapctl("train", str(tmp_path / "sweep.yaml"), "--trial", "0")

    assert ran.exit_code == 2
    assert "evaluation_sets.birds: evaluation set birds: " in ran.err
    assert "nowhere: no such file or folder" in ran.err


def test_names_are_listed_with_those_of_the_file_first() -> None:
    assert list_set_names(["birds", "coco"])[:3] == ["birds", "coco", "cifar10"]
