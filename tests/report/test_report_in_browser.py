"""A reader's way through the report in a real browser: hover, press, follow, download, zoom; a phone, and MLflow."""

import csv
import functools
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from analysis_examples import ATTRIBUTES, METRICS, analysis

from browser import Browser, Tab, browser_program, browsing
from gapctl.report.html import RunPages
from gapctl.report.page_parts import RunRecord
from gapctl.report.sweep_page import render_report

pytestmark = pytest.mark.skipif(browser_program() is None, reason="no Chromium on this machine; Debian's is `chromium`")

TRIAL = "000000000011"
"""The last one of the plan: no other is drawn over it."""
DRAWN = "document.documentElement.dataset.drawn"
CHART = "document.querySelector('[data-chart=\"rmg-by-attributes\"]')"
SEED = f"{CHART}.querySelector('[aria-roledescription=point]:last-child')"
TICKS = f"[...{CHART}.querySelectorAll('.role-axis-label text')].map((tick) => tick.textContent).join(' ')"
# MLflow's artifact view: it makes a blob of the file, and a frame that may run scripts and nothing else.
FRAME = """<!doctype html><script>
fetch("/report.html").then((answer) => answer.text()).then((html) => {
  const frame = document.createElement("iframe");
  frame.sandbox = "allow-scripts";
  frame.src = URL.createObjectURL(new Blob([html], { type: "text/html" }));
  frame.style = "width: 100%; height: 800px";
  document.body.append(frame);
});
</script><body></body>"""


class Quiet(SimpleHTTPRequestHandler):
    """Serves the folder without a word."""

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server's address, with the report as `report.html` and as MLflow shows it; runs link to this server.

    `two.html` is the report of a sweep with two factors and all metrics that its table has.
    """
    folder = tmp_path_factory.mktemp("site")
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    address = f"http://127.0.0.1:{server.server_port}"
    pages = {trial: f"#/experiments/1/runs/{trial[::-1]}a" for trial in analysis().trials["trial"]}
    (folder / "report.html").write_text(render_report(analysis(), RunRecord(run_pages=RunPages(address, None, pages))))
    (folder / "frame.html").write_text(FRAME)
    two_factors = {ATTRIBUTES: [0, 5], "data.captions.order": ["shuffled", "canonical"]}
    (folder / "two.html").write_text(render_report(analysis(two_factors, metrics=[*METRICS, "train/loss"])))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield address
    server.shutdown()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(str(browser_program()), tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture(scope="module")
def tab(browser: Browser, site: str) -> Tab:
    """The report, drawn."""
    tab = browser.open(f"{site}/report.html")
    tab.wait_for(DRAWN)
    return tab


def run_address(site: str) -> str:
    return f"{site}/#/experiments/1/runs/{TRIAL[::-1]}a"


def test_every_chart_is_drawn(tab: Tab) -> None:
    places = tab.value("document.querySelectorAll('[data-chart]').length")

    assert places > 10
    assert tab.value("document.querySelectorAll('[data-chart] svg').length") == places
    assert "could not be drawn" not in tab.value("document.body.innerText")


def test_pointing_at_a_seed_shows_its_training_and_the_id_of_its_run(tab: Tab) -> None:
    tab.point_at(tab.centre(SEED))
    shown = tab.wait_for("document.querySelector('#vg-tooltip-element.visible')?.innerText")

    assert f"trial id\t{TRIAL}" in shown
    assert "attributes=5 seed=2" in shown


def test_pressing_a_seed_keeps_it_in_view_with_a_link_that_opens_its_run(tab: Tab, browser: Browser, site: str) -> None:
    tab.press(tab.centre(SEED))
    assert TRIAL in tab.wait_for(
        "!document.getElementById('pinned').hidden && document.getElementById('pinned').innerText"
    )
    assert tab.value("document.querySelector('#pinned a').href") == run_address(site)

    box = tab.value("(({x, y}) => [x + 5, y + 5])(document.querySelector('#pinned a').getBoundingClientRect())")
    tab.press((box[0], box[1]))
    assert run_address(site) in browser.addresses()
    tab.call("Page.bringToFront")


def test_the_id_of_each_training_links_to_its_run(tab: Tab, site: str) -> None:
    linked = tab.value(
        "[...document.querySelectorAll('tbody a[data-trial]')].map((link) => [link.innerText, link.href])"
    )

    assert [trial for trial, _ in linked] == analysis().trials["trial"].to_list()
    assert dict(linked)[TRIAL] == run_address(site)


def test_a_chart_is_downloaded_as_its_rows(tab: Tab, browser: Browser) -> None:
    tab.press(tab.centre(f"{CHART}.closest('.panel').querySelector('[aria-label$=CSV]')"))
    rows = list(csv.DictReader(browser.downloaded("rmg-by-attributes.csv").splitlines()))
    trainings = {row["trial"]: float(row["value"]) for row in rows if row["shows"] == "training"}

    assert trainings == dict(analysis().trials.select("trial", "gap/rmg").iter_rows())
    assert len([row for row in rows if row["shows"] == "mean"]) == 6


def test_a_chart_is_downloaded_as_a_picture_in_the_colours_of_paper(tab: Tab, browser: Browser) -> None:
    tab.press(tab.centre(f"{CHART}.closest('.panel').querySelector('[aria-label$=SVG]')"))
    picture = browser.downloaded("rmg-by-attributes.svg")

    assert picture.startswith("<svg")
    assert "Relative modality gap" in picture
    assert "var(--" not in picture


def test_the_wheel_scrolls_the_page_and_zooms_a_chart_with_ctrl_alone(tab: Tab) -> None:
    at = tab.centre(SEED)
    before, top = tab.value(TICKS), tab.value("scrollY")

    tab.turn_wheel(at, -200)
    tab.wait_for(f"scrollY < {top}")
    assert tab.value(TICKS) == before

    tab.turn_wheel(tab.centre(SEED), -200, ctrl=True)
    tab.wait_for(f"{TICKS} !== {before!r}")


def test_nothing_is_wider_than_a_phone(browser: Browser, site: str) -> None:
    tab = browser.open(f"{site}/report.html", 360, 740)
    tab.wait_for(DRAWN)

    assert tab.value("document.documentElement.scrollWidth") == 360
    wide = (
        "[...document.querySelectorAll('.chart svg')].filter((svg) => svg.getBoundingClientRect().right > 360).length"
    )
    assert tab.value(wide) == 0


def test_the_table_of_trainings_is_whole_on_a_laptop(browser: Browser, site: str) -> None:
    tab = browser.open(f"{site}/two.html", 1280, 800)
    tab.wait_for(DRAWN)

    assert (
        tab.value("(({scrollWidth, clientWidth}) => scrollWidth - clientWidth)(document.querySelector('.scroll'))") == 0
    )


def test_on_paper_nothing_is_folded_and_on_the_screen_all_is_as_before(browser: Browser, site: str) -> None:
    tab = browser.open(f"{site}/report.html")
    tab.wait_for(DRAWN)
    tab.value("document.querySelector('details.meaning').open = true")
    opened = "[...document.querySelectorAll('details')].filter((details) => details.open).length"
    places = tab.value("document.querySelectorAll('details').length")

    tab.value("window.dispatchEvent(new Event('beforeprint'))")
    assert tab.value(opened) == places > 3

    tab.value("window.dispatchEvent(new Event('afterprint'))")
    assert tab.value(opened) == 1


def test_what_is_folded_is_printed_also_where_no_script_runs(browser: Browser, site: str) -> None:
    tab = browser.open(f"{site}/report.html")
    tab.wait_for(DRAWN)
    hidden = "[...document.querySelectorAll('details dl')].filter((list) => !list.checkVisibility()).length"
    assert tab.value(hidden) > 3

    tab.call("Emulation.setEmulatedMedia", media="print")
    assert tab.value(hidden) == 0


def test_in_mlflows_frame_addresses_and_rows_are_offered_to_be_copied(browser: Browser, site: str) -> None:
    browser.open(f"{site}/frame.html")
    frame = browser.frame()
    frame.wait_for(DRAWN)
    kept = sorted(browser.downloads.iterdir())

    frame.value(f"document.querySelector('a[data-trial=\"{TRIAL}\"]').click()")
    assert frame.value("document.querySelector('#offer textarea').value") == run_address(site)
    frame.value("document.querySelector('#offer').close()")

    frame.value(f"{CHART}.closest('.panel').querySelector('[aria-label$=CSV]').click()")
    assert frame.wait_for("document.querySelector('#offer textarea')?.value").count(TRIAL) == 1
    assert sorted(browser.downloads.iterdir()) == kept
