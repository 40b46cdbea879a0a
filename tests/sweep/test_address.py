"""`--address` where no Ray cluster answers is said to be wrong in seconds; Ray alone would wait for minutes."""

from pathlib import Path

import pytest

from command_line import gapctl
from gapctl.errors import InputError
from gapctl.sweep.ray_session import check_address
from pair_shards import write_pairs
from sweep_texts import TINY
from unhelpful_servers import answering, silent, unused_address


@pytest.fixture
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gapctl.sweep.ray_session.ANSWER_SECONDS", 0.2)


def port_of(address: str) -> str:
    return address.removeprefix("http://")


def test_a_closed_port_is_refused_at_once_with_what_to_do() -> None:
    address = port_of(unused_address())

    with pytest.raises(InputError, match=r"no Ray cluster answers there: .*refused.*`ray status`.*`ray up") as refused:
        check_address(address)

    assert f"--address {address}: " in str(refused.value)
    assert "6379" in str(refused.value)
    assert "ray://" not in str(refused.value)


def test_a_port_that_accepts_and_is_silent_is_given_up(short_patience: None) -> None:
    with silent() as address, pytest.raises(InputError, match="open, but silent for"):
        check_address(port_of(address))


def test_a_port_of_something_else_is_told_from_ray() -> None:
    with answering(200) as address, pytest.raises(InputError, match="what listens there is not Ray"):
        check_address(port_of(address))


@pytest.mark.parametrize("address", ["head", "head:", ":6379", "head:6379x", "head:70000"])
def test_an_address_without_host_and_port_is_refused(address: str) -> None:
    with pytest.raises(InputError, match=r"names no host and port; expected auto or HOST:6379"):
        check_address(address)


def test_a_host_that_nobody_knows_is_refused() -> None:
    with pytest.raises(InputError, match=r"no machine of the name no\.such\.host\.invalid is known"):
        check_address("no.such.host.invalid:6379")


def test_auto_asks_where_ray_start_said_the_cluster_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = port_of(unused_address())
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text(gone)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    with pytest.raises(InputError, match=rf"--address auto \(that is {gone}\): no Ray cluster answers"):
        check_address("auto")


def test_auto_goes_by_the_environment_first(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = port_of(unused_address())
    monkeypatch.setenv("RAY_ADDRESS", gone)

    with pytest.raises(InputError, match=rf"--address auto \(that is {gone}\)"):
        check_address("auto")


def test_an_address_of_rays_client_is_refused_with_what_to_do_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    instead = r"`gapctl cluster submit` from here, or `--address auto` on the head"

    with pytest.raises(InputError, match=rf"--address ray://head:10001: .*{instead}"):
        check_address("ray://head:10001")
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    with pytest.raises(InputError, match=rf"--address auto \(that is ray://head:10001\): .*{instead}"):
        check_address("auto")


def test_a_sweep_and_an_index_end_with_exit_code_2(tmp_path: Path) -> None:
    file, gone = tmp_path / "tiny.yaml", port_of(unused_address())
    file.write_text(TINY)
    settings = ["--set", f"tracking.uri=sqlite:///{tmp_path / 'mlflow.db'}", "--runs", str(tmp_path / "runs")]

    sweep = gapctl("sweep", str(file), *settings, "--address", gone)
    write_pairs(tmp_path / "00000.tar", range(2))
    index = gapctl("data", "index", str(tmp_path / "00000.tar"), "--address", gone)

    for answer in (sweep, index):
        assert answer.exit_code == 2
        assert f"--address {gone}: no Ray cluster answers there" in answer.err
        assert "Traceback" not in answer.err
