"""What docs/hypotheses.md shows to copy is a sweep file, and its metrics are those that trials log."""

import re
from pathlib import Path
from textwrap import dedent, indent

import yaml

from gapctl.config.hypotheses import TESTS
from gapctl.config.load import load_sweep
from gapctl.config.metrics import METRICS

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs/hypotheses.md").read_text(encoding="utf-8")


def indented(page: str) -> list[str]:
    """The page's indented blocks, without what they are indented by."""
    return [dedent(block) for block in re.findall(r"(?:^    .*\n)+", page, re.MULTILINE)]


def test_the_blocks_to_copy_are_one_sweep_file_with_six_tests_and_one_of_some_trainings(tmp_path: Path) -> None:
    shipped = (REPOSITORY / "sweeps/imbalance.yaml").read_text(encoding="utf-8")
    head, _, rest = shipped.partition("\nvary:")
    seeds = rest[rest.index("\nseeds:") : rest.index("\nhypotheses:")]
    vary, *hypotheses = indented(PAGE)
    file = tmp_path / "copied.yaml"
    file.write_text(f"{head}\n{vary}{seeds}\nhypotheses:\n{indent(''.join(hypotheses), '  ')}", encoding="utf-8")

    *tests, within = load_sweep(file).spec.hypotheses
    assert [item.test for item in tests] == [test for test in TESTS if test != "prediction"]
    assert within.where == {"temperature.mode": "learned"}


def test_the_block_of_a_prediction_is_that_of_the_shipped_sweep() -> None:
    (block,) = [each for each in re.findall(r"^```yaml\n(.*?)^```", PAGE, re.M | re.S) if "test: prediction" in each]
    shipped = yaml.safe_load((REPOSITORY / "sweeps/one_law.yaml").read_text(encoding="utf-8"))["hypotheses"]

    assert yaml.safe_load(block)[0] in shipped


def test_the_page_lists_every_metric_with_its_unit_and_meaning() -> None:
    for metric in METRICS.values():
        assert f"| `{metric.key}` | {metric.unit} | {metric.meaning} |" in PAGE
