"""A tracking address that could never work is refused before anything starts."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from gapctl.errors import InputError
from gapctl.io.passwords import has_password, hide_password, hide_passwords
from gapctl.tracking.store import check_uri, find_database_file, locate_artifact_root, make_sqlite_uri_absolute


@pytest.mark.parametrize(
    ("uri", "finding"),
    [
        ("nonsense://x", "'nonsense://x', which is no kind of address"),
        ("mlflow.db", "'mlflow.db', which is no kind of address"),
        ("file:./mlruns", "which is no kind of address"),
        ("http://", "which names no host and port"),
        ("https://host:port", "which names no host and port"),
        ("sqlite://", "which names no file"),
        ("sqlite:///:memory:", "which names no file"),
        ("sqlite:///missing/mlflow.db", "but there is no folder .*/missing; make it"),
        ("sqlite:///folder", "but .*/folder is a folder"),
        ("sqlite:///text.db", "but .*/text.db is not an SQLite database; move it away"),
        ("postgresql+nodriver://host/db", "which cannot be read: .*nodriver"),
        ("postgresql://host:port/db", "whose host and port cannot be read"),
        ("mysql://me:x@:x/db", r"'mysql://me:\*\*\*@:x/db', whose host and port cannot be read"),
        ("postgresql://me:s@[::1/db", r"'postgresql://me:\*\*\*@\[::1/db', whose host and port cannot be read"),
        (f"sqlite:///{'x' * 300}.db", "but that file cannot be looked at: File name too long"),
        (
            "postgresql://me:secret@host/db",
            r"'postgresql://me:\*\*\*@host/db', whose driver psycopg2? is not installed",
        ),
    ],
)
def test_an_impossible_address_is_named_with_what_was_expected(
    uri: str, finding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.db").write_text("some text of mine")

    with pytest.raises(InputError, match=rf"tracking\.uri: found .*{finding}.*; expected sqlite:///FILE, http"):
        check_uri(uri)


def test_a_part_of_a_password_that_reads_as_a_port_is_not_repeated() -> None:
    with pytest.raises(InputError, match="whose host and port cannot be read; write a : / or @ of a password") as said:
        check_uri("postgresql://me:pa@ss:word@host/db")

    assert "word@" not in str(said.value)


@pytest.mark.parametrize("uri", ["sqlite:///mlflow.db", "http://head:5000", "https://mlflow.example.org/path"])
def test_a_possible_address_is_let_through_whether_or_not_somebody_answers(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check_uri(uri)

    assert list(tmp_path.iterdir()) == []


def test_a_file_without_the_right_to_write_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mlflow.db"
    file.touch()
    monkeypatch.setattr("os.access", lambda path, mode: False)  # tests may run as root, who may write anything

    with pytest.raises(InputError, match=r"mlflow\.db cannot be written; change its rights"):
        check_uri(f"sqlite:///{file}")


def test_a_relative_database_is_below_the_current_folder_and_its_files_are_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert find_database_file("sqlite:///a/mlflow.db") == tmp_path / "a" / "mlflow.db"
    assert make_sqlite_uri_absolute("sqlite:///a/mlflow.db") == f"sqlite:///{tmp_path}/a/mlflow.db"
    assert locate_artifact_root("sqlite:///a/mlflow.db") == (tmp_path / "a" / "mlartifacts").as_uri()
    assert locate_artifact_root("http://head:5000") is None


PASSWORDS = {
    "https://me:p%40ss@host:1/x": "https://me:***@host:1/x",
    "postgresql://me@srv:secret@srv.postgres.database.azure.com/db": "postgresql://me@srv:***@srv.postgres.database.azure.com/db",
    "postgresql://me:sec'ret@h/db": "postgresql://me:***@h/db",
    'postgresql://me:sec"ret@h/db': "postgresql://me:***@h/db",
    "postgresql://me:s@c/r:t@h/db": "postgresql://me:***@h/db",
    "postgresql://:secret@h/db": "postgresql://:***@h/db",
}


@pytest.mark.parametrize(("address", "shown"), PASSWORDS.items())
def test_a_password_is_never_shown(address: str, shown: str) -> None:
    assert hide_password(address) == shown
    assert hide_password(f"tracking.uri={address}") == f"tracking.uri={shown}"
    assert has_password(address)
    assert hide_passwords(f"uri: {address} # {address}") == f"uri: {shown} # {shown}"
    assert hide_passwords(f"cannot reach {address} now") == f"cannot reach {shown} now"


@pytest.mark.parametrize("address", [*PASSWORDS, "postgresql://me:two words@h/db", "mysql://me:a,'}b@h/db"])
@pytest.mark.parametrize(
    "written",
    [
        lambda document: yaml.safe_dump(document, width=1000),
        lambda document: yaml.safe_dump(document, width=1000, default_flow_style=True),
        lambda document: yaml.safe_dump(document, width=1000, default_style='"'),
        lambda document: yaml.safe_dump(document, width=1000, default_style="'"),
        lambda document: json.dumps(document, separators=(",", ":")),
    ],
    ids=["block", "flow", "double quotes", "single quotes", "JSON"],
)
def test_a_document_is_the_same_but_for_its_passwords(address: str, written: Callable[[object], str]) -> None:
    document = {"question": "Ask me@host?", "tracking": {"uri": address}, "seeds": "http://head:5000", "who": "a@b"}
    kept = yaml.safe_load(hide_passwords(written(document)))

    assert kept == {**document, "tracking": {"uri": hide_password(address)}}


@pytest.mark.parametrize(
    "address", ["sqlite:///mlflow.db", "http://head:5000", "s3://bucket/a:b@c", "postgresql:///db"]
)
def test_an_address_without_a_password_stays(address: str) -> None:
    assert hide_password(address) == hide_passwords(address) == address
    assert not has_password(address)


def test_a_word_without_spaces_ends_with_the_quote_that_ends_its_value() -> None:
    text = '{"question":"see http://head:5000","who":"a@b"}'

    assert hide_passwords(text) == text
