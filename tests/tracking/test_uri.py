"""A tracking address that could never work is refused before anything starts."""

from pathlib import Path

import pytest

from gapctl.errors import InputError
from gapctl.spec.secrets import without_passwords
from gapctl.tracking.uri import absolute, artifact_root, check_uri, database_file


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

    assert database_file("sqlite:///a/mlflow.db") == tmp_path / "a" / "mlflow.db"
    assert absolute("sqlite:///a/mlflow.db") == f"sqlite:///{tmp_path}/a/mlflow.db"
    assert artifact_root("sqlite:///a/mlflow.db") == (tmp_path / "a" / "mlartifacts").as_uri()
    assert artifact_root("http://head:5000") is None


def test_a_password_is_never_shown() -> None:
    assert without_passwords("https://me:p%40ss@host:1/x") == "https://me:***@host:1/x"
    assert without_passwords("sqlite:///mlflow.db") == "sqlite:///mlflow.db"
