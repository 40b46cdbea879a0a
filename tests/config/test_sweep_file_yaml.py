"""YAML is read as people mean it, and what it can mean besides is refused at its place."""

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from gapctl.config.base import SpecError
from gapctl.config.load import load_sweep
from gapctl.config.yaml_file import MOST_BYTES, parse_yaml_value
from sweep_texts import SHIPPED, TINY, complaints, edited, loaded, written

READ_AS = {
    "1e-3": 0.001,
    "1E3": 1000.0,
    "1.5e+2": 150.0,
    ".5": 0.5,
    "2.": 2.0,
    "-3": -3,
    "+3": 3,
    "1_000": 1000,
    "0": 0,
    "true": True,
    "False": False,
    "null": None,
    "~": None,
    "": None,
    "010": "010",
    "0x10": "0x10",
    "0o7": "0o7",
    "0b1": "0b1",
    "1:30": "1:30",
    "2024-05-01": "2024-05-01",
    "no": "no",
    "yes": "yes",
    "on": "on",
    "off": "off",
    "NO": "NO",
    "=": "=",
    "<<": "<<",
    "nan": "nan",
    "inf": "inf",
    "'3'": "3",
    '"true"': "true",
    "1.2.3": "1.2.3",
    "1__0": 10,
    "_1": "_1",
}


@pytest.mark.parametrize("text", READ_AS)
def test_a_word_is_read_as_people_mean_it(text: str) -> None:
    _, value = parse_yaml_value(f"key: {text}")

    assert value == {"key": READ_AS[text]}
    assert type(value["key"]) is type(READ_AS[text])


def test_a_rate_with_an_exponent_and_no_point_is_a_number(tmp_path: Path) -> None:
    assert loaded(tmp_path, edited(("samples: 512", "samples: 512, lr: 1e-4"))).spec.base.train.lr == 1e-4


def test_a_level_that_yaml_1_1_would_take_for_false_is_text(tmp_path: Path) -> None:
    found = complaints(tmp_path, edited(("attributes: [0, 5]", "attributes: [0, 5, no]")))

    assert found[0].endswith("found 'no'; expected a whole number")


AT_SEEDS = edited(("question: Does it?", "question: Does it?\nseeds: HERE"))
REFUSED = {
    "an alias": ("*x", "F:3:8: not YAML: found the alias *x; write the value out"),
    "a tag": ("!!int '3'", "F:3:8: not YAML: found the tag !!int; write the plain value"),
    "a tag that PyYAML cannot read": ("!!bool x", "F:3:8: not YAML: found the tag !!bool; write the plain value"),
    "a date by its tag": ("!!timestamp x", "F:3:8: not YAML: found the tag !!timestamp"),
    "an empty number by its tag": ("!!float ''", "F:3:8: not YAML: found the tag !!float"),
    "a python object": ("!!python/object/apply:os.system [ls]", "F:3:8: not YAML: found the tag !!python/object"),
    "a number too long to print": ("9" * 5000, "F:3:8: not YAML: found a number of 5000 digits"),
    "half a character": (r'"\ud800"', "F:3:8: not YAML: found half of a character (a lone surrogate)"),
    "an open list": ("[1, 2", "F:4:5: not YAML: expected ',' or ']', but got ':'"),
    "an open quote": ("'3", "not YAML: found unexpected end of stream"),
    "a tab": ("\t3", "F:3:8: not YAML: found a tab; indent with spaces"),
    "a null character": ("\0", "F:3:8: not YAML: the character 0x00 is not allowed"),
    "a bell": ("3 # \a", "F:3:12: not YAML: the character 0x07 is not allowed"),
    "two values": ("3: 4", "F:3:9: not YAML: mapping values are not allowed here"),
    "a key that is a list": ("{[1]: 2}", "F:3:9: not YAML: found unhashable key"),
    "a key that is a number": ("{1: 2}", "F:3:9: seeds.1: this key is no text; expected a name, in quotes if need be"),
    "a key that is nothing": ("{~: 2}", "F:3:9: seeds.~: this key is no text"),
    "a key twice": ("{a: 1, a: 2}", "F:3:15: seeds.a: given twice, first in line 3; expected it once"),
    "a deep list": ("[" * 500 + "]" * 500, "not YAML: nested too deeply"),
    "a deep mapping": ("{a: " * 500 + "}" * 500, "not YAML: nested too deeply"),
    "a list of some depth": ("[" * 90 + "]" * 90, "F:3:1: seeds: found [[[[[[[["),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_place_in_a_question_is_refused_where_it_stands(tmp_path: Path, name: str) -> None:
    value, expected = REFUSED[name]
    found = complaints(tmp_path, AT_SEEDS.replace("HERE", value))

    assert any(expected in line for line in found), found
    assert all(line.startswith("F:") for line in found)


def test_aliases_cannot_make_a_small_file_large(tmp_path: Path) -> None:
    layers = "\n".join(
        f"k{level}: &a{level} [{', '.join(f'*a{level - 1}' for _ in range(9))}]" for level in range(1, 30)
    )

    assert complaints(tmp_path, f"k0: &a0 [x]\n{layers}")[0].startswith("F:2:10: not YAML: found the alias *a0")


def test_a_key_given_twice_is_answered_with_both_lines(tmp_path: Path) -> None:
    found = complaints(tmp_path, TINY + "name: other\n")

    assert found == ["F:25:1: name: given twice, first in line 1; expected it once"]


DIALECTS: dict[str, Any] = {
    "with a byte order mark": "\ufeff" + TINY,
    "with Windows line ends": TINY.replace("\n", "\r\n"),
    "with old Mac line ends": TINY.replace("\n", "\r"),
    "with a document marker": f"---\n{TINY}...\n",
    "without a last line end": TINY.rstrip(),
    "with comments": TINY.replace("\n", " # a comment\n"),
    "with an anchor nobody uses": edited(("seeds: 1", "seeds: &one 1")),
}


@pytest.mark.parametrize("name", DIALECTS)
def test_the_same_sweep_is_read_from_a_file(tmp_path: Path, name: str) -> None:
    assert loaded(tmp_path, DIALECTS[name]).spec_sha256 == loaded(tmp_path, TINY).spec_sha256


@pytest.mark.parametrize("name", ["with a byte order mark", "with Windows line ends"])
def test_places_do_not_move_in_a_file(tmp_path: Path, name: str) -> None:
    found = complaints(tmp_path, DIALECTS[name].replace("name: tiny", "nme: tiny").replace("samples:", "smaples:"))

    assert [line.split(": ")[0] for line in found] == ["F:1:1", "F:4:11"]


NO_SWEEP = {
    "empty": (b"", "F:1:1: found nothing; expected a sweep file: a mapping with name, question, base, vary"),
    "a comment": (b"# soon", "F:1:1: found nothing; expected a sweep file"),
    "a word": (b"hello", "F:1:1: found 'hello'; expected a sweep file"),
    "a list": (b"- a\n- b", "F:1:1: found ['a', 'b']; expected a sweep file"),
    "two documents": (b"a: 1\n---\nb: 1", "F:2:1: not YAML: but found another document"),
    "latin-1": ("question: caf\xe9".encode("latin-1"), "F:1:14: not UTF-8: found the byte 0xe9; expected a text file"),
    "latin-1 further down": (b"a: 1\nb: \xff", "F:2:4: not UTF-8: found the byte 0xff"),
    "utf-16": (TINY.encode("utf-16"), "F:1:1: not UTF-8: found the byte 0xff"),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0", "F:1:1: not UTF-8: found the byte 0x89"),
    "a gzip": (b"\x1f\x8b\x08\0\0\0", "F:1:2: not UTF-8: found the byte 0x8b"),
    "too long": (b"# \n" * 40_000, "F: longer than 100,000 bytes; expected a sweep file like sweeps/imbalance.yaml"),
}


@pytest.mark.parametrize("name", NO_SWEEP)
def test_a_file_that_is_no_sweep_is_told_what_a_sweep_is(tmp_path: Path, name: str) -> None:
    content, expected = NO_SWEEP[name]

    assert complaints(tmp_path, content)[0].startswith(expected)


def test_a_file_without_end_is_not_read_to_its_end() -> None:
    with pytest.raises(SpecError, match="longer than"):
        load_sweep(Path("/dev/zero"))


def test_a_sweep_file_may_come_through_a_pipe_or_link(tmp_path: Path) -> None:
    link = tmp_path / "link.yaml"
    link.symlink_to(SHIPPED)

    assert load_sweep(link).spec_sha256 == load_sweep(SHIPPED).spec_sha256


def test_the_shipped_sweep_is_far_below_the_longest() -> None:
    assert len(SHIPPED.read_bytes()) * 10 < MOST_BYTES


def test_the_text_is_kept_as_it_was_read(tmp_path: Path) -> None:
    path = written(tmp_path, TINY)

    assert load_sweep(path).text == TINY
    assert load_sweep(path).path == path


def test_nesting_has_its_own_limit_whatever_libraries_make_of_pythons() -> None:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(5_000)
    try:
        with pytest.raises(yaml.YAMLError, match="nested too deeply"):
            parse_yaml_value("[" * 500 + "]" * 500)
    finally:
        sys.setrecursionlimit(before)
