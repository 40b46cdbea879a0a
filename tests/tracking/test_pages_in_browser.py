"""From MLflow's list of experiments to a run and back, in a real browser with nothing stored yet."""

import json
import shutil
import signal
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from small_sweep import FINGERPRINT, ROWS, SWEEP, Runs, start_ui

from browser import Browser, Tab, browser_program, browsing
from gapctl.config.load import load_sweep
from gapctl.ledger import Ledger
from gapctl.metrics.embedding_set import Embeddings
from gapctl.plan.plan import make_plan
from gapctl.tracking.mlflow_sync import sync_sweep
from gapctl.training.embedding_plots import draw_clouds, draw_neighbor_sheet
from gapctl.training.evaluation import GalleryPairs
from unhelpful_servers import unused_address

pytestmark = [
    pytest.mark.skipif(browser_program() is None, reason="no Chromium on this machine; Debian's is `chromium`"),
    pytest.mark.timeout(300),
]

WIDTH, HEIGHT = 1440, 900
PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
LEFT_BY_MODEL_TRAINING = ("Judges", "Prompts", "Sessions", "AI Gateway", "Start Demo")
"""Words of MLflow's pages for language models."""


@pytest.fixture(scope="module")
def registration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Installs what pyproject.toml registers, as pip would, so that it holds for a clone installed before."""
    folder = tmp_path_factory.mktemp("packages")
    metadata = folder / "gapctl-0.1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: gapctl\nVersion: 0.1.0\n")
    groups = tomllib.loads(PYPROJECT.read_text())["project"]["entry-points"]
    lines = (f"[{group}]\n" + "\n".join(f"{key} = {value}" for key, value in groups[group].items()) for group in groups)
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, empty_database: Path, registration: Path) -> Iterator[str]:
    """The address of `gapctl ui` with a finished sweep of four trials."""
    folder = tmp_path_factory.mktemp("site")
    uri = f"sqlite:///{shutil.copyfile(empty_database, folder / 'mlflow.db')}"
    file = folder / "small.yaml"
    file.write_text(SWEEP.format(name="small", levels=[0, 5]))
    plan, runs = make_plan(load_sweep(file, None, ()), lambda data: FINGERPRINT), Runs(Ledger(str(folder / "runs")))
    clouds, neighbors = draw_pictures()
    for trial in plan.trials:
        runs.ledger.trial(trial.id).save_clouds(clouds)
        runs.ledger.trial(trial.id).save_neighbors(neighbors)
        runs.finish(trial, [*ROWS[:-1], {**ROWS[-1], "bias/moad_image": 0.125}])
    sync_sweep(plan, runs.ledger, uri)
    port = unused_address().rpartition(":")[2]
    process = start_ui("--uri", uri, "--port", port, cwd=folder, packages=[str(registration)])
    assert process.stdout is not None
    page = next(line for line in process.stdout if line.startswith("MLflow: "))
    yield page.removeprefix("MLflow: ").partition("/#/")[0]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)


def draw_pictures() -> tuple[bytes, bytes]:
    """The two pictures of a trial whose eight pairs are plain images with captions."""
    image_ND, text_ND = np.random.default_rng(0).normal(size=(2, 8, 4))
    image_NHWC = np.broadcast_to(np.arange(0, 240, 30, np.uint8)[:, None, None, None], (8, 28, 28, 3))
    pairs = GalleryPairs(image_NHWC, [f"{number}-thickening-red" for number in range(8)])
    shown = draw_neighbor_sheet(
        Embeddings(image_ND, text_ND),
        lambda image_B, text_B: GalleryPairs(
            pairs.image_BHWC[image_B], [pairs.captions[one] for one in text_B.tolist()]
        ),
    )
    return draw_clouds(image_ND, text_ND), shown


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with browsing(str(browser_program()), tmp_path / "browser") as browser:
        yield browser


def test_every_page_from_the_experiments_to_a_run_and_back_is_of_model_training(site: str, browser: Browser) -> None:
    tab = browser.open(f"{site}/#/experiments", WIDTH, HEIGHT)
    visit(tab, "small", "Description")

    follow(tab, "small")
    visit(tab, "attributes=5 seed=1", "gap/rmg")
    assert_on_screen(tab, "gap/rmg", "bias/moad_image")

    follow(tab, "attributes=5 seed=1")
    visit(tab, "About this run", "bias/moad_image")

    follow(tab, "Runs")
    visit(tab, "attributes=0 seed=0", "gap/rmg")
    assert_on_screen(tab, "gap/rmg", "bias/moad_image")

    follow(tab, "Experiments")
    visit(tab, "small", "Description")


def test_a_trials_run_shows_its_clouds_and_its_sheet_of_neighbours(site: str, browser: Browser) -> None:
    tab = browser.open(f"{site}/#/experiments", WIDTH, HEIGHT)
    follow(tab, "small")
    follow(tab, "attributes=5 seed=1")
    files = "[...document.querySelectorAll('[role=tab]')].find((tab) => tab.innerText === 'Artifacts')"
    tab.wait_for(f"Boolean({files})")
    tab.press(tab.centre(files))

    for name, width in (("clouds.png", 640), ("neighbors.png", 838)):
        entry = f"[...document.querySelectorAll('div, span')].find((each) => each.innerText === {json.dumps(name)})"
        tab.wait_for(f"Boolean({entry})")
        tab.press(tab.centre(entry))
        shown = tab.wait_for(
            f"[...document.querySelectorAll('img')].filter((image) => image.naturalWidth === {width})"
            ".map((image) => image.getBoundingClientRect().width)[0]"
        )
        assert shown > 0.6 * width, f"{name} is too small to be read"


def test_the_first_page_of_mlflow_is_of_model_training_too(site: str, browser: Browser) -> None:
    visit(browser.open(site, WIDTH, HEIGHT), "Recent Experiments", "small")


def test_what_a_person_chose_in_mlflows_pages_stays(site: str, browser: Browser) -> None:
    tab = browser.open(f"{site}/#/experiments", WIDTH, HEIGHT)
    visit(tab, "small")
    tab.value("localStorage.setItem('mlflow.workflowType_v1', JSON.stringify('genai'))")

    tab.call("Page.reload")

    assert tab.wait_for("document.body.innerText.includes('Prompts')")


def visit(tab: Tab, *words: str) -> None:
    """Waits until a page shows these words, and holds that it is of model training with the assistant closed."""
    shown = tab.wait_for(
        f"{json.dumps(words)}.every((word) => document.body.innerText.includes(word)) && document.body.innerText"
    )
    assert not [word for word in LEFT_BY_MODEL_TRAINING if word in shown]
    assert not {"traces", "judges"} & set(str(tab.value("location.hash")).replace("?", "/").split("/"))
    assert tab.value("localStorage.getItem('mlflow.assistant.panelOpen_v1')") == "false"
    assert tab.value("document.body.scrollWidth") <= WIDTH


def follow(tab: Tab, text: str) -> None:
    """Clicks the first link of that text."""
    link = f"[...document.querySelectorAll('a')].find((link) => link.innerText.trim() === {json.dumps(text)})"
    tab.wait_for(f"Boolean({link})")
    tab.press(tab.centre(link))


def assert_on_screen(tab: Tab, *columns: str) -> None:
    """Holds that the heads of these columns and a value below each are within the window."""
    for column in columns:
        cell = f"document.querySelector('.ag-cell[col-id*={json.dumps(column)}]')"
        tab.wait_for(f"Boolean({cell})")
        left, right, hit = tab.value(
            f"((cell) => (({{left, right, top, bottom}}) => [left, right, "
            f"cell.contains(document.elementFromPoint(right - 4, (top + bottom) / 2))])(cell.getBoundingClientRect()))"
            f"({cell})"
        )
        assert 0 < left < right <= WIDTH, column
        assert hit, f"{column} is covered or cut off"
