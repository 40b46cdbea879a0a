"""Whatever comes between us and MLflow is said in words that a person can act on."""

import re
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from gapctl.tracking.store import explain_error, open_mlflow_client
from unhelpful_servers import answering, silent, unused_address

Place = Callable[[], AbstractContextManager[str]]


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (lambda: nullcontext(unused_address()), r"nothing answers there \(connection refused\)"),
        (lambda: answering(404), r"what answers there is not an MLflow server \(HTTP 404\)"),
        (lambda: answering(200), "what answers there is not an MLflow server"),
        (lambda: answering(401), r"it refuses us \(HTTP 401\); set MLFLOW_TRACKING_USERNAME"),
        (lambda: answering(503), r"it answers with errors \(HTTP 503\)"),
        (silent, "it did not answer in time"),
    ],
    ids=["refused", "404", "not MLflow", "401", "503", "silent"],
)
def test_a_server_that_is_no_help_is_described(place: Place, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with place() as address, pytest.raises(Exception, match="API request") as failure:
        open_mlflow_client(address).get_experiment_by_name("any")

    assert_words(failure.value, words)


def test_an_unknown_name_is_described() -> None:
    with pytest.raises(OSError, match=r"not known|resolution|service") as failure:
        socket.create_connection(("no-such-host.invalid", 80))

    assert_words(failure.value, "no machine of that name is known")


def test_a_database_that_cannot_be_opened_is_described_in_its_own_words(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "something").touch()
    with pytest.raises(Exception, match="unable to open") as failure:
        open_mlflow_client(f"sqlite:///{tmp_path / 'folder'}")

    assert_words(failure.value, "unable to open database file")


def test_an_error_of_many_lines_is_cut_to_one() -> None:
    assert explain_error(ValueError("first\nsecond")) == "first"
    assert explain_error(ValueError("x" * 500)) == "x" * 400 + "..."
    assert explain_error(ValueError()) == "ValueError"


def test_an_error_that_repeats_the_address_is_told_without_its_password() -> None:
    said = explain_error(ValueError("cannot connect to postgresql://me@srv:hunter2@srv.example.org/db"))

    assert said == "cannot connect to postgresql://me@srv:***@srv.example.org/db"


def assert_words(error: BaseException, words: str) -> None:
    said = explain_error(error)
    assert re.match(words, said), said
    assert "Traceback" not in said
