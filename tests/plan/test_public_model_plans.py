"""A plan with public models: ids by content, names with the nearest, files beside the sweep file, hubs that fail."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from command_line import Answer, gapctl
from gapctl.cli.options import compute_data_source_fingerprint
from gapctl.config.architectures import find_architecture
from gapctl.config.checks import explain_unlogged
from gapctl.config.load import load_sweep
from gapctl.errors import InputError
from gapctl.io.atomic import hash_file
from gapctl.ledger import Ledger
from gapctl.ledger.preregistration import rebuild_plan, record_sweep_file
from gapctl.models.public import read_public_model
from gapctl.plan.plan import Plan, hash_design, make_plan
from gapctl.tracking.run_contents import LONGEST_PARAM, TreatmentColumns, build_treatment_columns
from hub import Hub, serve_hub, use_hub
from tiny_models import HALVES, TINY_OWN_WORDS, TINY_RESNET, TINY_SIGLIP, TINY_VIT, write_model

WEIGHTS = "open_clip_model.safetensors"
SWEEP = """\
name: public
question: Does fine-tuning change the gap?
base:
  data: {{dataset: {dataset}}}
  model: {model}
  train: {{samples: 32, batch_size: 16, precision: float32}}
  evaluate: {{every: 32, gallery: 20}}
vary: {vary}
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder apart from the sweep file's, which has a configuration, a folder and weights."""
    read_public_model.cache_clear()
    folder = write_model(tmp_path / "sweeps" / "tiny", TINY_VIT)
    (tmp_path / "sweeps" / "tiny.json").write_text(json.dumps(TINY_VIT), encoding="utf-8")
    (tmp_path / "sweeps" / "tiny.pt").write_bytes((folder / WEIGHTS).read_bytes())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "sweeps"


@pytest.fixture
def hub(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve_hub() as hub:
        hub.add("tiny/vit", place / "tiny")
        use_hub(hub, place / "cache", monkeypatch)
        yield hub


def write_sweep(
    place: Path, model: str, vary: str = "{train.lr: [1.0e-3, 2.0e-3]}", dataset: str = "image_text"
) -> Path:
    (place / "public.yaml").write_text(SWEEP.format(model=model, vary=vary, dataset=dataset), encoding="utf-8")
    return place / "public.yaml"


def plan(place: Path, model: str, **more: str) -> Plan:
    return make_plan(load_sweep(write_sweep(place, model, **more)), compute_data_source_fingerprint)


def ids(found: Plan) -> list[str]:
    return [trial.id for trial in found.trials]


def test_the_same_weights_are_the_same_trials_wherever_they_are_named(place: Path, hub: Hub) -> None:
    written = ["{architecture: tiny.json, weights: tiny.pt}"]
    written += [f"{{architecture: tiny.json, weights: '{name}'}}" for name in ("local-dir:tiny", "hf-hub:tiny/vit")]
    plans = [plan(place, model) for model in written]
    assert ids(plans[0]) == ids(plans[1]) == ids(plans[2])
    assert {trial.weights_sha256 for trial in plans[2].trials} == {hash_file(place / "tiny" / WEIGHTS)}
    assert not hub.downloads()  # a hub names the sha256 of what it stores


def test_other_weights_images_or_architectures_are_other_trials(place: Path) -> None:
    write_model(place / "other", TINY_VIT, seed=1)
    write_model(place / "grey", TINY_VIT, preprocess=HALVES)
    write_model(place / "resnet", TINY_RESNET)
    written = [
        "{architecture: tiny.json}",
        *(f"{{architecture: tiny.json, weights: 'local-dir:{name}'}}" for name in ("tiny", "other", "grey")),
        "{architecture: resnet/open_clip_config.json, weights: 'local-dir:resnet'}",
    ]
    found = [ids(plan(place, model)) for model in written]
    assert len({each for pair in found for each in pair}) == 10


def test_weights_can_be_the_treatment(place: Path) -> None:
    write_model(place / "other", TINY_VIT, seed=1)
    found = plan(place, "{architecture: tiny.json}", vary="{model.weights: ['local-dir:tiny', 'local-dir:other', '']}")
    assert len({trial.id for trial in found.trials}) == 3
    assert [bool(trial.weights_sha256) for trial in found.trials] == [True, True, False]


def test_a_plan_is_rebuilt_from_a_ledger_without_the_weights(place: Path, tmp_path: Path) -> None:
    found = plan(place, "{architecture: tiny.json, weights: tiny.pt}")
    ledger = Ledger(str(tmp_path / "runs"))
    ledger.declare_plan(found)
    for name in ("tiny.pt", "tiny.json"):
        (place / name).unlink()
    declaration = ledger.read_declaration("public")
    assert declaration is not None
    rebuilt = rebuild_plan(declaration, "base", "here")
    assert ids(rebuilt) == ids(found)
    assert record_sweep_file(rebuilt).fingerprints == record_sweep_file(found).fingerprints


COHORT_OF_FILES = """\
name: cohort
question: Do wide models differ?
base:
  data: {dataset: image_text}
  model: {architecture: tiny.json, weights: tiny.pt}
  train: {samples: 0, batch_size: 16, precision: float32}
  evaluate: {every: 32, gallery: 20}
cohort: {models: models.csv, covariates: [log parameters, embed_dim]}
"""


def test_a_sweep_started_by_name_is_rebuilt_from_another_folder_without_its_models(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(place / "other", TINY_VIT, seed=1)
    (place / "models.csv").write_text(
        "name,architecture,weights\none,tiny.json,tiny.pt\ntwo,tiny.json,local-dir:other\n", encoding="utf-8"
    )
    (place / "cohort.yaml").write_text(COHORT_OF_FILES, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    found = make_plan(load_sweep(Path("cohort")), compute_data_source_fingerprint)
    ledger = Ledger(str(tmp_path / "runs"))
    ledger.declare_plan(found)
    for name in ("tiny.pt", "models.csv"):
        (place / name).unlink()
    (place / "tiny.json").write_text(json.dumps({**TINY_VIT, "embed_dim": 24}), encoding="utf-8")
    monkeypatch.chdir(tmp_path / "elsewhere")

    declaration = ledger.read_declaration("cohort")
    assert declaration is not None
    assert declaration.asked["base"].folder == str(place)
    rebuilt = rebuild_plan(declaration, "base", "here")
    assert ids(rebuilt) == ids(found)
    assert [trial.model.get_fact("embed_dim") for trial in rebuilt.trials if trial.model] == [12, 12], "as declared"
    (place / "tiny.json").unlink()
    assert rebuild_plan(declaration, "base", "here") == rebuilt


def test_an_older_declaration_without_the_folder_is_still_rebuilt(place: Path, tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path / "runs"))
    found = plan(place, "{architecture: tiny.json, weights: tiny.pt}")
    ledger.declare_plan(found)
    path = tmp_path / "runs" / "public.sweep.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    for kept in ("asked", "declared"):
        del document[kept]["base"]["folder"]
    path.write_text(json.dumps(document), encoding="utf-8")

    older = ledger.read_declaration("public")
    assert older is not None
    assert ids(rebuild_plan(older, "base", "here")) == ids(found)


def test_a_folder_that_moves_keeps_the_design_of_files_that_are_levels(place: Path, tmp_path: Path) -> None:
    (place / "other.pt").write_bytes((write_model(place / "other", TINY_VIT, seed=1) / WEIGHTS).read_bytes())
    asked = """hypotheses:
  - {id: weights, claim: They differ., test: contrast, response: gap/rmg, factor: model.weights,
     between: [tiny.pt, other.pt], direction: either, smallest_effect: 0.01}
"""

    def read() -> Plan:
        sweep = write_sweep(place, "{architecture: tiny.json}", vary="{model.weights: [tiny.pt, other.pt]}")
        sweep.write_text(sweep.read_text(encoding="utf-8") + asked, encoding="utf-8")
        return make_plan(load_sweep(sweep), compute_data_source_fingerprint)

    before = read()
    place = place.rename(tmp_path / "moved")
    after = read()
    assert [trial.arm_label for trial in before.trials] == ["weights=tiny.pt", "weights=other.pt"]
    assert ids(after) == ids(before)
    assert hash_design(after) == hash_design(before)
    assert after.sweep.hypotheses_sha256 == before.sweep.hypotheses_sha256


def test_arms_of_a_mediation_that_name_files_are_found_beside_the_sweep_file(place: Path, tmp_path: Path) -> None:
    (place / "other.pt").write_bytes((write_model(place / "other", TINY_VIT, seed=1) / WEIGHTS).read_bytes())
    asked = """hypotheses:
  - {id: through-weights, claim: It does., test: mediation, response: gap/rmg, factor: train.lr,
     between: [1.0e-3, 2.0e-3], mediator: model.weights, free: tiny.pt, fixed: FIXED, direction: either,
     smallest_effect: 0.01}
"""
    varied = "{model.weights: [tiny.pt, other.pt], train.lr: [1.0e-3, 2.0e-3]}"

    def write(fixed: str) -> Path:
        sweep = write_sweep(place, "{architecture: tiny.json}", vary=varied)
        sweep.write_text(sweep.read_text(encoding="utf-8") + asked.replace("FIXED", fixed), encoding="utf-8")
        return sweep

    found = plan_file(write("other.pt"))
    (hypothesis,) = found.sweep.spec.hypotheses
    assert getattr(hypothesis, "fixed", "") == str(place / "other.pt")
    assert_refused(gapctl("plan", str(write("oter.pt"))), "hypotheses[0].fixed: found", "a level of model.weights")
    write("other.pt")
    place = place.rename(tmp_path / "moved")
    assert plan_file(place / "public.yaml").sweep.hypotheses_sha256 == found.sweep.hypotheses_sha256


def test_runs_and_columns_in_mlflow_name_files_of_models_without_their_folders(place: Path) -> None:
    (place / "other.pt").write_bytes((write_model(place / "other", TINY_VIT, seed=1) / WEIGHTS).read_bytes())
    write_model(place / "third", TINY_VIT, seed=2)
    found = plan(place, "{architecture: tiny.json}", vary="{model.weights: [tiny.pt, other.pt, 'local-dir:third']}")
    columns = TreatmentColumns(found)
    assert [columns.run_name(trial) for trial in found.trials] == [
        "weights=tiny.pt seed=0",
        "weights=other.pt seed=0",
        "weights=third seed=0",
    ]
    assert [columns.params(trial)["weights"] for trial in found.trials] == ["tiny.pt", "other.pt", "third"]


def test_names_of_facts_are_legal_in_mlflow_and_overwrite_no_column(place: Path) -> None:
    write_model(place / "other", TINY_VIT, seed=1)
    (place / "models.csv").write_text(
        "name,architecture,weights,params (M),seed,size\none,tiny.json,tiny.pt,5,x,7\n"
        f"two,tiny.json,local-dir:other,6,y,{'long' * 200}\n",
        encoding="utf-8",
    )
    text = COHORT_OF_FILES.replace("samples: 0", "samples: 32")
    (place / "cohort.yaml").write_text(text, encoding="utf-8")
    found = plan_file(place / "cohort.yaml")
    one, two = (build_treatment_columns(found, trial) for trial in found.trials)
    assert one == {"params _M_": "5", "size": "7", "model": "one"}
    assert len(two["size"]) == LONGEST_PARAM


def test_a_model_of_another_width_is_compared_by_its_leading_dimensions(place: Path) -> None:
    base = load_sweep(write_sweep(place, "{architecture: tiny.json, weights: tiny.pt}")).spec.base
    assert not explain_unlogged("agreement/leading_dims_seeds", base, {"model.embed_dim": ["", 64]})


def test_presets_keep_their_ids(place: Path) -> None:
    found = plan(place, "{preset: pairs-small, embed_dim: 32}")
    assert ids(found) == PRESET_IDS
    assert {trial.model_fingerprint for trial in found.trials} == {""}


PRESET_IDS = ["618a066996c3", "13da29adca2a"]
"""As they were before public models could be trials."""


def test_the_plan_shows_parameters_operations_and_weights(place: Path) -> None:
    sweep = write_sweep(place, "{architecture: tiny.json, weights: 'local-dir:tiny'}")
    printed = gapctl("plan", str(sweep)).out
    sha256 = hash_file(place / "tiny" / WEIGHTS)
    size, start = "0.8 M parameters", f"weights local-dir:.*, sha256 {sha256[:12]}"
    assert re.search(rf"tiny.json: {size}, [\d.]+e\+06 FLOPs for training on a pair; {start}", printed)
    trial = json.loads(gapctl("plan", str(sweep), "--json").out)["trials"][0]
    assert trial["public_model"]["weights_sha256"] == sha256
    assert trial["public_model"]["flops"] == 32 * find_architecture(str(place / "tiny.json")).count_training_flops()


def test_models_that_are_only_measured_share_a_line_of_an_encoding_and_no_phrase_is_repeated(
    place: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (place / "cohort.yaml").write_text(COHORT, encoding="utf-8")
    printed = gapctl("plan", str(place / "cohort.yaml")).out
    (line,) = re.findall(r"^ViT-B-32: (.*)$", printed, flags=re.M)
    assert re.match(r"151.1 M parameters, 1.48e\+10 FLOPs for encoding a pair; weights openai; laion400m_e31;", line)
    assert "training on a pair" not in printed
    assert printed.count("sha256") == 1 + printed.count("hypotheses sha256")
    assert "at least" in re.findall(r"^196 trials, .*$", printed, flags=re.M)[0]


def test_the_plan_says_that_hours_leave_out_the_images_of_evaluation_sets(place: Path) -> None:
    sweep = write_sweep(place, "{architecture: tiny.json, weights: tiny.pt}")
    note = "hours are without the images of evaluation sets"
    assert note not in gapctl("plan", str(sweep)).out
    sweep.write_text(sweep.read_text().replace("gallery: 20", "gallery: 20, sets: [coco]"), encoding="utf-8")
    assert f"{note}: coco\n" in gapctl("plan", str(sweep)).out


@pytest.mark.parametrize(
    ("name", "millions"), [("ViT-B-32", 151.3), ("ViT-B-16", 149.6), ("RN50", 102.0), ("ViT-L-14", 427.6)]
)
def test_parameters_are_those_that_open_clip_publishes(name: str, millions: float) -> None:
    found = find_architecture(name).count_parameters()
    assert found is not None
    assert found / 1e6 == pytest.approx(millions, rel=3e-3)  # norms and biases are left out


def test_of_towers_of_other_libraries_the_plan_says_that_it_does_not_know(place: Path) -> None:
    timm: dict[str, Any] = {**TINY_VIT, "vision_cfg": {"timm_model_name": "resnet18", "image_size": 32}}
    (place / "timm.json").write_text(json.dumps(timm), encoding="utf-8")
    printed = gapctl("plan", str(write_sweep(place, "{architecture: timm.json}"))).out
    assert "timm.json: an unknown number of parameters, unknown FLOPs for training on a pair; random weights" in printed
    assert "FLOPs: at least 1 min of one CPU core" in flatten(printed)
    assert "without 2 trials whose operations are not known" in printed


def assert_refused(ran: Answer, *parts: str) -> None:
    assert (ran.exit_code, ran.out) == (2, "")
    assert "Traceback" not in ran.err
    for part in parts:
        assert part in ran.err


WRONG: dict[str, tuple[str, str]] = {
    "an unknown architecture": (
        "{architecture: ViT-B32}",
        "base.model.architecture: found 'ViT-B32'; did you mean ViT-B-32?",
    ),
    "nothing like any": ("{architecture: zzzzzz}", "expected one of open_clip's 1"),
    "a missing file": (
        "{architecture: none.json}",
        "none.json', and there is no such file",
    ),
    "no configuration": ("{architecture: list.json}", "which lacks some of embed_dim, vision_cfg, text_cfg"),
    "no JSON": ("{architecture: text.json}", "which cannot be read"),
    "a tokenizer that runs code": ("{architecture: hf.json}", "wants to run code of a repository (trust_remote_code)"),
    "a text tower of another library": (
        "{architecture: roberta-ViT-B-32}",
        "base.train.samples: found 32 with roberta-ViT-B-32, whose text tower is of the transformers library",
    ),
    "an architecture that writes": (
        "{architecture: coca_ViT-B-32}",
        "which also writes captions (CoCa), and whose loss is of captions too; expected 0, which measures it",
    ),
    "an unknown tag": (
        "{architecture: ViT-B-32, weights: openay}",
        "base.model.weights: found 'openay': neither a file nor a tag; expected a file, or one of the tags of ViT-B-32",
    ),
    "an unknown folder": (
        "{architecture: tiny.json, weights: 'local-dir:none'}",
        "none': no such folder",
    ),
    "another architecture": (
        "{architecture: tiny.json, weights: 'local-dir:resnet'}",
        "of another architecture than",
    ),
    "weights alone": ("{weights: tiny.pt}", "base.model.architecture: missing; expected it here"),
    "a preset too": (
        "{preset: vit-b-32, architecture: ViT-B-32}",
        "found 'vit-b-32' beside architecture; expected one of them",
    ),
    "a misspelt key": (
        "{architecture: ViT-B-32, weight: openai}",
        "base.model.weight: unknown key; did you mean weights?",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_models_are_answered_with_the_place(place: Path, wrong: str) -> None:
    model, message = WRONG[wrong]
    write_model(place / "resnet", TINY_RESNET)
    (place / "list.json").write_text("[1]", encoding="utf-8")
    (place / "text.json").write_text("tiny", encoding="utf-8")
    own = {"hf_tokenizer_name": "a/b", "tokenizer_kwargs": {"trust_remote_code": True}}
    named = {**TINY_VIT, "text_cfg": {**TINY_VIT["text_cfg"], **own}}
    (place / "hf.json").write_text(json.dumps(named), encoding="utf-8")
    sweep = write_sweep(place, model)
    assert_refused(gapctl("plan", str(sweep)), f"{sweep}:", message)


def test_mad_has_presets_only(place: Path) -> None:
    sweep = write_sweep(place, "{architecture: ViT-B-32}", dataset="mad")
    assert_refused(
        gapctl("plan", str(sweep)), "found 'ViT-B-32' with dataset mad; expected dataset image_text, or one of MAD's"
    )


def test_what_needs_weights_is_refused_without(place: Path) -> None:
    for change, message in (
        ("base.train.samples=0", "found 0 without model.weights or init_from; expected at least a batch"),
        ("base.temperature.mode=frozen", "found 'frozen' without model.weights or init_from"),
    ):
        ran = gapctl("plan", str(write_sweep(place, "{architecture: tiny.json}")), "--set", change)
        assert_refused(ran, message)
        with_weights = write_sweep(
            place, "{architecture: tiny.json, weights: tiny.pt}", vary="{evaluate.gallery: [10, 20]}"
        )
        assert gapctl("plan", str(with_weights), "--set", change).exit_code == 0


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (429, "answered 429 for open_clip_config.json: too many requests"),
        (500, "answered 500 for open_clip_config.json"),
    ],
)
def test_a_hub_that_fails_is_answered_with_the_place(place: Path, hub: Hub, status: int, message: str) -> None:
    hub.statuses["tiny/vit"] = status
    sweep = write_sweep(place, "{architecture: tiny.json, weights: 'hf-hub:tiny/vit'}")
    ran = gapctl("train", str(sweep), "--trial", "0")
    assert_refused(ran, f"{sweep}:5:", "base.model.weights: found 'hf-hub:tiny/vit': ", message)
    planned = gapctl("plan", str(sweep))
    assert planned.exit_code == 0
    assert message in flatten(planned.out)


def test_a_hub_without_the_repository_is_answered_with_the_place(place: Path, hub: Hub) -> None:
    sweep = write_sweep(place, "{architecture: tiny.json, weights: 'hf-hub:tiny/vitt'}")
    assert_refused(gapctl("plan", str(sweep)), "base.model.weights: found 'hf-hub:tiny/vitt': no such repository at")


def test_without_a_network_the_plan_says_what_to_place_where(
    place: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    sweep = write_sweep(place, "{architecture: tiny.json, weights: 'hf-hub:tiny/vit'}")
    parts = ("HF_HUB_OFFLINE forbids to download it", "give weights: local-dir:FOLDER")
    assert_refused(gapctl("train", str(sweep), "--trial", "0"), *parts)
    printed = flatten(gapctl("plan", str(sweep)).out)
    assert "of 1 of 1 model the sha256 of the weights is not known yet" in printed
    assert all(part in printed for part in parts)


COHORT = """\
name: cohort
question: Do public models differ?
base:
  data: {dataset: image_text}
  model: {architecture: ViT-B-32, weights: openai}
  train: {samples: 0}
  evaluate: {every: 32, gallery: 20}
cohort: {models: open_clip, source: the table of open_clip}
vary: {data.captions.keep: [words]}
"""


def test_every_model_of_the_shipped_table_is_planned_without_a_network_and_without_transformers(
    place: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setitem(sys.modules, "transformers", None)
    (place / "cohort.yaml").write_text(COHORT, encoding="utf-8")
    document = json.loads(gapctl("plan", str(place / "cohort.yaml"), "--json").out)
    trials = document["trials"]
    assert len(trials) == len({trial["id"] for trial in trials}) == 196
    assert all(trial["provisional"] and re.fullmatch(r"[0-9a-f]{12}\?", trial["id"]) for trial in trials)
    assert {trial["public_model"]["weights_sha256"] for trial in trials} == {""}
    unknown = {trial["model"].split()[0] for trial in trials if trial["public_model"]["parameters"] is None}
    assert unknown == {"nllb-clip-base-siglip", "nllb-clip-large-siglip"}  # the table has no number either
    assert len(document["totals"]["unknown_weights"]) == 196
    siglip = next(trial["public_model"] for trial in trials if trial["model"] == "ViT-B-16-SigLIP webli")
    assert siglip["parameters"] == 203_155_970  # the cohort's facts, as timm's tower cannot be counted
    assert siglip["flops"] == 20 * 46_440_000_000
    counted = next(trial["public_model"]["flops"] for trial in trials if trial["model"] == "ViT-B-32 openai")
    assert counted == pytest.approx(20 * 14.78e9, rel=1e-3)  # a pass over the gallery, as open_clip publishes it
    assert sum(trial["public_model"]["flops"] is None for trial in trials) == document["totals"]["unknown"] > 0


@pytest.mark.parametrize(
    ("name", "least", "place_of_data"), [("public_models", 101, "data/coco"), ("dci", 8, "data/dci")]
)
def test_the_public_scale_is_planned_with_hours_and_money_before_anything_is_fetched(
    place: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, name: str, least: int, place_of_data: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    ran = gapctl("plan", name, "--scale", "public", "--json")
    assert ran.exit_code == 0, ran.err
    document = json.loads(ran.out)
    assert len(document["trials"]) >= least
    assert all(trial["id"].endswith("?") for trial in document["trials"])
    (missing,) = document["totals"]["missing_data"]
    assert f"{name}.yaml:" in missing
    assert f"{place_of_data}: no such file or folder" in missing
    assert document["totals"]["rent"]["hours"] > 0
    assert document["totals"]["rent"]["cost"] > 0
    refused = gapctl("sweep", name, "--scale", "public", "--runs", str(place / "runs"))
    assert_refused(refused, f"{place_of_data}: no such file or folder")
    assert not (place / "runs").exists()


def test_a_plan_lists_trials_whose_evaluation_sets_are_still_to_be_fetched(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAPCTL_CACHE", str(place / "cache"))
    sweep = write_sweep(place, "{architecture: tiny.json, weights: tiny.pt}")
    for sets, defined, message in (
        ("[coco]", "", "base.evaluate.sets[0]: coco: not on this machine; `gapctl data fetch coco` downloads it"),
        ("[birds]", "{birds: {kind: retrieval, source: nowhere}}", "evaluation_sets.birds: evaluation set birds: "),
    ):
        text = sweep.read_text(encoding="utf-8").partition("evaluation_sets:")[0]
        text = re.sub(r"gallery: 20.*}", f"gallery: 20, sets: {sets}}}", text)
        sweep.write_text(text + (f"evaluation_sets: {defined}\n" if defined else ""), encoding="utf-8")
        document = json.loads(gapctl("plan", str(sweep), "--json").out)
        assert [trial["id"][-1] for trial in document["trials"]] == ["?", "?"]
        assert message in document["totals"]["missing_data"][0]
        assert_refused(gapctl("train", str(sweep), "--trial", "0"), message)


def test_a_sweep_lists_all_weights_that_it_lacks_before_it_begins(
    place: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (place / "cohort.yaml").write_text(COHORT, encoding="utf-8")
    ran = gapctl("sweep", str(place / "cohort.yaml"), "--runs", str(place / "runs"))
    assert_refused(ran, "of 196 models, this one among them", "`hf download REPOSITORY FILE` brings each")
    assert "ViT-B-32 laion2b_s34b_b79k: open_clip_model.safetensors of huggingface.co/laion/" in ran.err
    assert ran.err.count(" of huggingface.co/") >= 196
    assert not (place / "runs").exists()


def test_a_hub_that_cannot_be_reached_is_not_asked_for_every_model(
    place: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def refuse(url: str) -> None:
        asked.append(url)
        raise ConnectionError("no route to host")

    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", refuse)
    (place / "cohort.yaml").write_text(COHORT, encoding="utf-8")
    assert "no route to host" in flatten(gapctl("plan", str(place / "cohort.yaml")).out)
    assert len(asked) == 1


def test_an_id_is_known_again_once_the_hub_answers(place: Path, hub: Hub) -> None:
    model = "{architecture: tiny.json, weights: 'hf-hub:tiny/vit'}"
    known = ids(plan(place, model))
    read_public_model.cache_clear()
    hub.statuses["tiny/vit"] = 503
    provisional = make_plan(load_sweep(place / "public.yaml"), compute_data_source_fingerprint, provisional=True)
    assert all(trial.is_provisional and not trial.weights_sha256 for trial in provisional.trials)
    hub.statuses.clear()
    assert ids(plan(place, model)) == known


def flatten(printed: str) -> str:
    return " ".join(printed.split())


def test_a_downloaded_model_is_planned_without_a_network(
    place: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gapctl.models.sources import find_or_download_weights

    model = "{architecture: tiny.json, weights: 'hf-hub:tiny/vit'}"
    before = ids(plan(place, model))
    find_or_download_weights("hf-hub:tiny/vit", None)
    read_public_model.cache_clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert ids(plan(place, model)) == before


def test_a_level_that_is_wrong_is_named_by_its_line(place: Path) -> None:
    sweep = write_sweep(
        place, "{architecture: tiny.json}", vary="{model.weights: ['local-dir:tiny', 'local-dir:none']}"
    )
    with pytest.raises(
        InputError, match=r"public.yaml:8:\d+: vary.model.weights\[1\]: found 'local-dir:.*none': no such"
    ):
        plan_file(sweep)


def plan_file(sweep: Path) -> Plan:
    return make_plan(load_sweep(sweep), compute_data_source_fingerprint)


def test_weights_with_a_tokenizer_that_the_architecture_does_not_name_are_refused(place: Path) -> None:
    write_model(place / "words", TINY_OWN_WORDS)
    (place / "siglip.json").write_text(json.dumps(TINY_SIGLIP), encoding="utf-8")
    sweep = write_sweep(place, "{architecture: siglip.json, weights: 'local-dir:words'}")
    assert_refused(gapctl("plan", str(sweep)), "whose captions are cut by tiny/words; expected an architecture that")


def test_the_plan_says_where_the_library_of_a_tokenizer_is_missing(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    write_model(place / "words", TINY_OWN_WORDS)
    sweep = write_sweep(place, "{architecture: words/open_clip_config.json, weights: 'local-dir:words'}")
    printed = flatten(gapctl("plan", str(sweep)).out)
    assert "1 model cannot be trained or measured here without the transformers library" in printed
    assert "run `pip install transformers sentencepiece`" in printed
