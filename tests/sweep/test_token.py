"""A cluster that asks for Ray's token gets this user's, or a message says which is missing; others get none."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from gapctl.errors import InputError
from gapctl.sweep.ray_session import CLUSTER_ID_METHOD, check_address

TOKEN = "0123456789abcdef" * 4


class Head(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Stands in for Ray's head, as far as a token goes: it refuses who has another than its own."""

    def __init__(self, token: str | None) -> None:
        self.token = token
        self.shown: list[str | None] = []

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        shown = dict(details.invocation_metadata).get("authorization")
        self.shown.append(shown)
        admitted = self.token is None or shown == f"Bearer {self.token}"

        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            if not admitted:
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken")
            return b""

        return grpc.unary_unary_rpc_method_handler(answer) if details.method == CLUSTER_ID_METHOD else None


@contextmanager
def serving(head: Head) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(2), handlers=[head])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_USE_TLS"):
        monkeypatch.setenv(name, "")  # so that what a test sets is undone
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ray").mkdir()
    return tmp_path / ".ray" / "auth_token"


def mode() -> str | None:
    import os

    return os.environ.get("RAY_AUTH_MODE")


def test_the_token_that_a_demo_left_is_presented_to_a_head_that_asks_for_it(place: Path) -> None:
    place.write_text(TOKEN + "\n")

    with serving(Head(TOKEN)) as address:
        check_address(address)

    assert mode() == "token"


def test_a_token_of_the_environment_comes_first(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place.write_text("another")
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)

    with serving(Head(TOKEN)) as address:
        check_address(address)

    assert mode() == "token"


def test_a_head_that_asks_for_none_is_shown_none(place: Path) -> None:
    place.write_text(TOKEN)
    head = Head(None)

    with serving(head) as address:
        check_address(address)

    assert head.shown == [None]
    assert mode() is None


@pytest.mark.parametrize(
    ("token", "setting", "problem"),
    [
        (None, None, "there is none in .*auth_token"),
        ("another", None, "that in .*auth_token is another"),
        (TOKEN, "disabled", "RAY_AUTH_MODE=disabled keeps this process from presenting one"),
    ],
)
def test_what_keeps_the_token_away_is_named_with_what_to_set(
    place: Path, monkeypatch: pytest.MonkeyPatch, token: str | None, setting: str | None, problem: str
) -> None:
    if token is not None:
        place.write_text(token)
    if setting is not None:
        monkeypatch.setenv("RAY_AUTH_MODE", setting)

    with (
        serving(Head(TOKEN)) as address,
        pytest.raises(
            InputError, match=f"--address {address}: the cluster asks for Ray's token, and {problem}"
        ) as told,
    ):
        check_address(address)

    assert "Set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN to what `ray get-auth-token` prints there" in str(told.value)
    assert TOKEN not in str(told.value)
