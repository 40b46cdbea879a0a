"""A machine's notice is read from its cloud's metadata service, here a server of this test that speaks its protocol."""

import socket
import threading
import urllib.error

import pytest

from gapctl.io.cloud_metadata import detect_cloud, read_spot_notice
from metadata_service import AMAZON_TOKEN, GOOGLE_FLAVOR, metadata
from unhelpful_servers import answering, unused_address

ACTION, PREEMPTED = "GET /latest/meta-data/spot/instance-action", "GET /computeMetadata/v1/instance/preempted"
NOON = 1_800_014_400.0
"""2027-01-15 12:00:00 UTC."""


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """No service answers but where a test has one."""
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", unused_address())
    monkeypatch.setenv("GCE_METADATA_HOST", unused_address().removeprefix("http://"))
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED", raising=False)


def test_amazon_announces_the_second_at_which_it_takes_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"PUT /latest/api/token": "a token"}
    with metadata(answers, AMAZON_TOKEN) as address:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"{address}/")
        assert detect_cloud() == "aws"
        assert read_spot_notice("aws", now=NOON) is None
        answers[ACTION] = '{"action": "terminate", "time": "2027-01-15T12:02:00Z"}'
        assert read_spot_notice("aws", now=NOON) == NOON + 120


def test_what_answers_without_http_and_what_is_no_address_is_no_cloud(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GCE_METADATA_HOST", "metadata:x")
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        greeting = threading.Thread(target=lambda: server.accept()[0].sendall(b"220 mail\r\n"), daemon=True)
        greeting.start()
        assert detect_cloud() is None
        greeting.join()


def test_google_announces_it_half_a_minute_before(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"GET /computeMetadata/v1/instance/id": "4711", PREEMPTED: "FALSE"}
    with metadata(answers, GOOGLE_FLAVOR) as address:
        monkeypatch.setenv("GCE_METADATA_HOST", address.removeprefix("http://"))
        assert detect_cloud() == "google"
        assert read_spot_notice("google", now=NOON) is None
        answers[PREEMPTED] = "TRUE"
        assert read_spot_notice("google", now=NOON) == NOON + 30


def test_a_machine_of_no_cloud_has_none() -> None:
    assert detect_cloud() is None


def test_a_service_that_the_environment_turns_off_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with metadata({"PUT /latest/api/token": "a token"}, AMAZON_TOKEN) as address:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", address)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        assert detect_cloud() is None


def test_a_service_that_fails_has_not_said_no(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(503) as address:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", address)
        with pytest.raises(urllib.error.HTTPError):
            read_spot_notice("aws", now=NOON)
