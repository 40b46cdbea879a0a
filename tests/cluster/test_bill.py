"""What machines cost: each says its kind by its cloud's metadata service, here a server of this test."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gapctl.cluster.bill import price_of
from gapctl.cluster.machine_kind import MachineKind, this_machine
from gapctl.cluster.prices import shipped_prices
from unhelpful_servers import answering, unused_address

AMAZON = {
    "PUT /latest/api/token": "a token",
    "GET /latest/meta-data/instance-type": "g6.2xlarge",
    "GET /latest/meta-data/instance-life-cycle": "spot",
}
GOOGLE = {
    "GET /computeMetadata/v1/instance/machine-type": "projects/1/machineTypes/g2-standard-8",
    "GET /computeMetadata/v1/instance/scheduling/preemptible": "FALSE",
}


@contextmanager
def metadata(answers: dict[str, str], header: tuple[str, str]) -> Iterator[str]:
    """A metadata service that answers nobody who comes without the header, but for a token."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = answers.get(f"{self.command} {self.path}")
            allowed = self.command == "PUT" or self.headers.get(header[0]) == header[1]
            self.send_response(200 if found and allowed else 404)
            self.end_headers()
            self.wfile.write((found or "").encode())

        do_PUT = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


def test_a_machine_of_amazon_says_its_kind_and_market() -> None:
    with metadata(AMAZON, ("X-aws-ec2-metadata-token", "a token")) as address:
        assert this_machine(address) == MachineKind("g6.2xlarge", spot=True)


def test_a_machine_of_google_says_its_kind_and_market() -> None:
    with metadata(GOOGLE, ("Metadata-Flavor", "Google")) as address:
        assert this_machine(address) == MachineKind("g2-standard-8", spot=False)


def test_a_machine_of_no_cloud_has_no_kind() -> None:
    assert this_machine(unused_address()) is None
    with answering(404) as address:
        assert this_machine(address) is None


@pytest.mark.parametrize(
    ("kind", "otherwise", "price"),
    [
        (MachineKind("g6.2xlarge", spot=True), None, shipped_prices().instances["g6.2xlarge"].spot),
        (MachineKind("g6.2xlarge", spot=False), 9.0, shipped_prices().instances["g6.2xlarge"].on_demand),
        (MachineKind("x9.unheard", spot=False), 9.0, 9.0),
        (None, 9.0, 9.0),
        (None, None, None),
    ],
)
def test_a_price_is_the_tables_or_else_what_the_user_says(
    kind: MachineKind | None, otherwise: float | None, price: float | None
) -> None:
    assert price_of(kind, shipped_prices(), otherwise) == price
