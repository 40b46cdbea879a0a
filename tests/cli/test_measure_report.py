"""`gapctl measure --report` and `--log`: a page that needs no network, and a run in MLflow with the same numbers."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient

from command_line import gapctl
from page_reading import PageReader

GOLDEN = Path(__file__).parents[1] / "golden"
PAIRS = str(GOLDEN / "pairs_small.npz")
CHARTS = {"plane", "similarities", "dimensions", "removals"}


def page_of(folder: Path, embeddings: str = PAIRS) -> str:
    ran = gapctl("measure", "--embeddings", embeddings, "--report", str(folder / "report.html"), "--json")
    assert (ran.exit_code, ran.err) == (0, "")
    return (folder / "report.html").read_text(encoding="utf-8")


def charts_of(page: str) -> dict[str, dict[str, Any]]:
    return PageReader(page).charts()


def without_scripts(page: str) -> str:
    return re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)


def rows_of(chart: dict[str, Any]) -> list[dict[str, float]]:
    """The one table that a chart draws."""
    (rows,) = chart["datasets"].values()
    return list(rows)


def test_the_page_draws_four_charts_and_loads_nothing(tmp_path: Path) -> None:
    page = page_of(tmp_path)

    assert set(charts_of(page)) == CHARTS
    assert set(re.findall(r'data-chart="([^"]+)"', page)) == CHARTS
    assert "default-src 'none'" in page
    assert not re.search(r'(?:src|href)="(?!data:)', without_scripts(page))


def test_the_page_has_every_measure_with_its_meaning(tmp_path: Path) -> None:
    page = page_of(tmp_path)

    metrics = json.loads(gapctl("measure", "--embeddings", PAIRS, "--json").out)["metrics"]
    for key in metrics:
        assert f">{key.split('/')[1]}</th>" in page
    assert f"<td>{metrics['gap/l2m']:.4f}</td>" in page


def test_the_charts_show_what_was_measured(tmp_path: Path) -> None:
    charts = charts_of(page_of(tmp_path))

    metrics = json.loads(gapctl("measure", "--embeddings", PAIRS, "--json").out)["metrics"]
    differences = [row["value"] for row in rows_of(charts["dimensions"])]
    assert np.linalg.norm(differences) == pytest.approx(metrics["gap/l2m"], rel=1e-3)
    first = [row["value"] for row in rows_of(charts["removals"]) if row["removed"] == 0]
    wanted = [metrics[key] for key in ("gap/rmg", "gap/l2m", "quality/i2t_recall_1")]
    assert first == pytest.approx(wanted, abs=1e-5)


def test_the_same_embeddings_give_the_same_page(tmp_path: Path) -> None:
    assert page_of(tmp_path) == page_of(tmp_path)


def test_class_prompts_have_a_page_without_removal(tmp_path: Path) -> None:
    page = page_of(tmp_path, str(GOLDEN / "classes.npz"))

    assert set(charts_of(page)) == CHARTS - {"removals"}


def test_a_name_that_looks_like_markup_is_text_on_the_page(tmp_path: Path) -> None:
    hostile = tmp_path / "<img src=x onerror=alert(1)>.npz"
    hostile.write_bytes(Path(PAIRS).read_bytes())

    page = page_of(tmp_path, str(hostile))

    assert "<img" not in without_scripts(page)
    assert "&lt;img src=x" in page


def test_a_report_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    ran = gapctl("measure", "--embeddings", PAIRS, "--report", str(tmp_path / "none" / "a.html"))

    assert ran.exit_code == 2
    assert ran.out == ""
    assert "--report" in ran.err
    assert "expected a file in a folder that exists" in ran.err


def test_logged_measures_are_a_finished_run_with_the_page_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    ran = gapctl("measure", "--embeddings", PAIRS, "--log", "--json")

    assert (ran.exit_code, ran.err) == (0, "")
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("measurements")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.metrics == pytest.approx(json.loads(ran.out)["metrics"])
    assert run.data.params["file"] == PAIRS
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {"report.html", "measures.json"}


def test_a_store_without_log_is_refused() -> None:
    ran = gapctl("measure", "--embeddings", PAIRS, "--uri", "sqlite:///a.db")

    assert ran.exit_code == 2
    assert ran.err == "gapctl: --uri belongs to --log; expected both or neither\n"


def test_an_impossible_store_is_refused_before_anything_is_read() -> None:
    ran = gapctl("measure", "--embeddings", "none.npz", "--log", "--uri", "ftp://host")

    assert ran.exit_code == 2
    assert "tracking.uri: found 'ftp://host'" in ran.err
