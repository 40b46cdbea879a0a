"""The documents say what the code has: reference pages, links, and the files on the ways that architecture.md lists."""

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from command_line import gapctl

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"
PAGES = sorted([*REPOSITORY.glob("*.md"), *DOCS.rglob("*.md")])
LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)")
WAY = re.compile(r"^### (?P<way>[^\n]+) \((?P<count>\d+) files\)\n(?P<text>.*?)(?=^#|\Z)", re.MULTILINE | re.DOTALL)
WAYS = {found["way"]: found for found in WAY.finditer((DOCS / "architecture.md").read_text(encoding="utf-8"))}


def load_generator() -> ModuleType:
    """The script that makes the reference pages."""
    spec = importlib.util.spec_from_file_location("make_reference", DOCS / "make_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["sweep-file.md", "metrics.md"])
def test_a_reference_page_is_what_the_code_has(name: str) -> None:
    made = load_generator().make_pages()[name]

    assert (DOCS / "reference" / name).read_text(encoding="utf-8") == made, "run: python docs/make_reference.py"


def test_a_key_without_a_meaning_and_a_meaning_without_a_key_are_named() -> None:
    generator = load_generator()

    with pytest.raises(SystemExit, match=r"no text for \['train.lr'\]; no such key as \['train.rate'\]"):
        generator.check_texts("sweep_file", {"name", "train.lr"}, {"name": "", "train.rate": ""})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_link_of_a_page_leads_to_a_file(page: Path) -> None:
    targets = LINK.findall(re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S))

    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_each_point_of_a_list_begins_a_line(page: Path) -> None:
    assert re.findall(r"[.;:] [*] [A-Z`*].*", page.read_text(encoding="utf-8")) == []


def test_three_ways_are_listed() -> None:
    assert len(WAYS) == 3


@pytest.mark.parametrize("way", WAYS)
def test_the_files_on_a_way_exist_and_are_as_many_as_it_says(way: str) -> None:
    files = re.findall(r"^\d+\. `([\w/]+\.py)`", WAYS[way]["text"], flags=re.M)

    assert len(set(files)) == len(files) == int(WAYS[way]["count"])
    assert [name for name in files if not (REPOSITORY / "platform/gapctl" / name).is_file()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_a_page_names_no_file_that_is_not_there(page: Path) -> None:
    folders = "tests|platform|sweeps|benchmarks|dashboards|docs"
    named = re.findall(rf"`((?:{folders})/[\w/.-]+\.\w+)`", page.read_text(encoding="utf-8"))

    assert [name for name in named if not (REPOSITORY / name).exists()] == []


def test_what_the_site_needs_is_pinned_exactly() -> None:
    groups = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    lines = (REPOSITORY / "requirements-docs.lock").read_text(encoding="utf-8").splitlines()
    needed = {re.split(r"[\[>=]", requirement)[0] for requirement in groups["docs"]}

    assert needed <= {line.partition("==")[0] for line in lines}
    assert [line for line in lines if not re.match(r"[a-z0-9.-]+==[\w.]+( ; .+)?$", line)] == []


def test_the_sweep_file_of_the_quickstart_makes_twelve_trials(tmp_path: Path) -> None:
    page = (DOCS / "quickstart.md").read_text(encoding="utf-8")
    file = tmp_path / "my.yaml"
    file.write_text(re.findall(r"^```yaml\n(.*?)^```", page, flags=re.M | re.S)[0], encoding="utf-8")

    answer = gapctl("plan", str(file))

    assert answer.exit_code == 0, answer.err
    assert "12 trials" in answer.out
