"""The report answers the question on one page that needs no network and trusts no text."""

import hashlib
import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import polars as pl
import pytest
from analysis_examples import (
    ATTRIBUTES,
    CONDITIONAL,
    INCONCLUSIVE,
    MEDIATED,
    REFUTED,
    SUPPORTED,
    THRESHOLD,
    VERDICTS,
    analysis,
)

from gapctl.analysis.results import AnalysisResults, Interval
from gapctl.report.html import load_vega_code
from gapctl.report.sweep_page import render_report
from page_reading import PageReader

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> & \"quoted\" 'so' ${x} $question"
MODES = {"temperature.mode": ["learned", "fixed"]}
NOTHING = Interval(math.nan, math.nan)


def page(shown: AnalysisResults) -> PageReader:
    return PageReader(render_report(shown))


@cache
def usual() -> PageReader:
    """The page of the usual analysis, which many tests read."""
    return page(analysis())


def test_nothing_on_the_page_is_loaded_from_elsewhere() -> None:
    read = usual()
    loading = {"src", "href", "srcset", "data", "action", "poster", "background"}
    addresses = [value for _, attributes in read.elements for name, value in attributes.items() if name in loading]

    assert [address for address in addresses if not address.startswith("#")] == ["data:,"]
    assert not re.search(r"url\(|@import", "".join(read.styles))


def test_the_page_forbids_itself_to_load_anything_and_to_evaluate_text() -> None:
    policy = next(item["content"] for item in usual().attributes("meta") if "http-equiv" in item)

    assert policy.startswith("default-src 'none';")
    assert "unsafe-eval" not in policy
    assert "http" not in policy


def test_a_threshold_is_shown_with_its_value_and_no_treatment() -> None:
    words = page(analysis(verdicts=[THRESHOLD])).words

    assert "Mean of relative modality gap (RMG), less 0.1" in words
    assert "test threshold: response against a value" in words
    assert "response gap/rmg value 0.1" in words


def test_the_response_of_a_threshold_is_drawn_by_every_treatment() -> None:
    levels = {ATTRIBUTES: [0, 1, 2], **MODES}
    without, shown = (
        page(analysis(levels, verdicts=[replace(THRESHOLD, response=response)])).charts()
        for response in ("gap/rmg", "quality/object_accuracy")
    )

    assert len([name for name in shown if name not in without and "object_accuracy" in name]) == len(levels)


def test_the_chart_library_is_on_the_page_once() -> None:
    read = page(analysis({ATTRIBUTES: [0, 1, 2], **MODES}))

    assert len(read.charts()) > 10
    assert sum(script.count("window.vegaEmbed=") for script in read.scripts) == 1
    assert sum(len(script) > 500_000 for script in read.scripts) == 1


def test_every_chart_has_its_place_and_every_place_its_chart() -> None:
    read = usual()
    places = [attributes["data-chart"] for _, attributes in read.elements if "data-chart" in attributes]

    assert sorted(places) == sorted(read.charts())
    assert {"rmg-by-attributes", "l2m-by-attributes", "moad-by-attributes", "entropy-by-attributes"} < set(places)
    assert {"path-rmg", "path-temperature", f"strip-{SUPPORTED.id}"} < set(places)


def test_every_hypothesis_is_shown_with_its_verdict_effect_interval_and_p() -> None:
    words = usual().words

    for verdict in VERDICTS:
        assert verdict.claim in words
        assert verdict.reason in words
    assert "✓ supported Each further" in words
    assert "✗ refuted Captions" in words
    assert "? inconclusive The object bias" in words
    assert "−0.0531 per attribute" in words
    assert "95 % interval −0.0612 to −0.0450" in words
    assert "p after Holm < 0.001" in words
    assert "p after Holm 0.330" in words
    assert "smallest effect 0.02" in words


def test_the_outcome_comes_before_everything_else() -> None:
    words = usual().words

    assert "✓ 1 supported, ✗ 1 refuted, ? 1 inconclusive · alpha 0.05, Holm over 3 · 18 of 18 trainings done" in words
    assert words.index("1 supported") < words.index(SUPPORTED.claim) < words.index("What the treatment did")


def test_a_verdict_within_some_trainings_says_which_in_words_and_by_their_paths() -> None:
    words = page(analysis(verdicts=[CONDITIONAL, MEDIATED])).words

    assert "(5 against 0), where order of the caption is canonical and tied is true 0.012" in words
    assert "levels compared 5 against 0" in words
    assert "only trainings with data.captions.order: canonical, model.tied: true" in words
    assert "effect at learned (free) 12.5 (9.0 to 16.0)" in words


def test_an_unsettled_verdict_says_how_many_seeds_would_settle_it() -> None:
    assert "About 8 seeds would probably settle it" in page(analysis(verdicts=[INCONCLUSIVE])).words
    assert "would probably settle it:" not in page(analysis(verdicts=[REFUTED])).words.replace("Where more", "")


def test_hypotheses_declared_in_time_are_confirmed_with_their_hash() -> None:
    words = usual().words

    assert f"Declared before the first training; hypotheses' sha256 {'4a54' * 16}" in words
    assert "EXPLORATORY" not in words


def test_undeclared_hypotheses_are_marked_exploratory_on_top_and_on_each_verdict() -> None:
    verdicts = [replace(verdict, exploratory=True) for verdict in VERDICTS]
    words = page(analysis(verdicts=verdicts, declared_sha256=None)).words

    assert "EXPLORATORY: These hypotheses were not written down before the first training began" in words
    assert words.count("EXPLORATORY") == 1 + len(verdicts)
    assert "Declared before" not in words


def test_changed_hypotheses_show_both_hashes() -> None:
    words = page(analysis(declared_sha256="beef" * 16)).words

    assert "EXPLORATORY: The hypotheses were changed after the first training began" in words
    assert "beef" * 16 in words
    assert "4a54" * 16 in words


def test_missing_trainings_are_announced() -> None:
    words = page(analysis(planned=20)).words

    assert "INCOMPLETE: 2 of 20 trainings have not finished" in words
    assert "18 done of 20 planned" in words
    assert "INCOMPLETE" not in usual().words


def test_no_text_of_a_sweep_file_becomes_markup_or_code() -> None:
    levels = {"data.captions.order": [HOSTILE, "canonical"]}
    verdict = replace(SUPPORTED, claim=HOSTILE, reason=HOSTILE, factor="data.captions.order")
    read, plain = page(analysis(levels, verdicts=[verdict], question=HOSTILE)), page(analysis(verdicts=[SUPPORTED]))

    assert len(read.scripts) == len(plain.scripts) == 4
    assert not read.attributes("img")
    assert not [name for _, attributes in read.elements for name in attributes if name.startswith("on")]
    assert read.words.count("alert(1)") >= 4
    assert HOSTILE in str(read.charts()["path-rmg"]["layer"][0]["encoding"]["color"]["scale"]["domain"][0])
    assert HOSTILE in read.words


def test_the_page_is_well_formed() -> None:
    assert usual().unclosed == []


def test_the_same_analysis_gives_the_same_bytes_in_every_process() -> None:
    code = (
        "import hashlib, analysis_examples as e; from gapctl.report.sweep_page import render_report as r;"
        "print(hashlib.sha256(r(e.analysis()).encode()).hexdigest())"
    )
    tests = Path(__file__).parents[1]
    paths = os.pathsep.join([str(tests.parent / "platform"), str(tests.parent / "dashboards"), str(tests / "report")])
    environment = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": paths}
    elsewhere = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)

    render_report(analysis(MODES))
    assert elsewhere.strip() == hashlib.sha256(render_report(analysis()).encode()).hexdigest()


def test_the_table_has_a_row_per_training_with_sortable_numbers() -> None:
    shown = analysis()
    html = render_report(shown)
    rows = re.findall(r'<tr id="trial-.*?</tr>', html)
    values = [float(re.findall(r'data-value="([^"]+)"', row)[1]) for row in rows]

    assert [re.findall(r'class="text">([^<]*seed=\d)<', row)[0] for row in rows] == shown.trials["label"].to_list()
    assert values == shown.trials["gap/rmg"].to_list()
    assert all(trial in row for trial, row in zip(shown.trials["trial"], rows, strict=True))


def test_a_value_that_is_no_number_is_a_dash_that_sorts_last() -> None:
    trials = analysis().trials.with_columns(pl.when(pl.col("seed") == 1).then(math.nan).otherwise("gap/l2m").alias("x"))
    broken = analysis().trials.with_columns(trials["x"].alias("gap/l2m"))

    assert render_report(analysis(trials=broken)).count('data-value="NaN">–<') == 6


def test_it_says_how_to_run_it_again() -> None:
    assert "gapctl sweep sweeps/imbalance.yaml --scale laptop" in usual().words
    assert "--scale" not in page(analysis(scale=None)).words
    assert "--scale 'two words; rm'" in page(analysis(scale="two words; rm")).words


def test_one_seed_gives_a_page_without_intervals() -> None:
    judged = replace(
        INCONCLUSIVE, ci=NOTHING, ci_bootstrap=NOTHING, p=math.nan, p_direction=math.nan, p_claim=math.nan, seeds=1
    )
    words = page(analysis(seeds=1, verdicts=[judged])).words

    assert "95 % interval too few seeds" in words
    assert "p after Holm –" in words
    assert "One seed, so no interval." in words
    assert "nan" not in words.lower()


def test_a_hypothesis_without_an_estimate_is_shown_without_a_chart() -> None:
    judged = replace(INCONCLUSIVE, estimate=math.nan, ci=NOTHING, ci_bootstrap=NOTHING, standardised=math.nan)
    read = page(analysis(verdicts=[judged]))

    assert judged.claim in read.words
    assert f"strip-{judged.id}" not in read.charts()


def test_a_sweep_that_has_only_begun_gives_a_page() -> None:
    full = analysis()
    empty = analysis(trials=full.trials.clear(), curves=full.curves.clear(), history=full.history.clear(), planned=18)
    read = page(empty)

    assert "No training has finished yet." in read.words
    assert "0 of 18 trainings done" in read.words
    assert SUPPORTED.claim in read.words


def test_a_sweep_without_hypotheses_is_called_descriptive() -> None:
    words = page(analysis(verdicts=[])).words

    assert "This sweep file states no hypotheses" in words
    assert "What the verdicts mean" not in words
    assert "Declared before" not in words


def test_a_damaged_bundle_in_the_cache_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAPCTL_CACHE", str(tmp_path))
    load_vega_code.cache_clear()
    whole = load_vega_code()
    (kept,) = (tmp_path / "vega").glob("*.js")
    kept.write_text(kept.read_text(encoding="utf-8")[:-1], encoding="utf-8")
    load_vega_code.cache_clear()

    assert load_vega_code() == whole
    assert kept.read_text(encoding="utf-8").endswith(whole)
