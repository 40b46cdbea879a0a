"""A cloud's metadata service on this machine, with the real paths and headers."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

AMAZON_TOKEN = ("X-aws-ec2-metadata-token", "a token")
GOOGLE_FLAVOR = ("Metadata-Flavor", "Google")


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
