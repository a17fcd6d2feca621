"""Health and metrics of a processor, on a port of their own.

A thread serves them: the image of a processor has no HTTP framework, and a handler that blocks the event loop must not
hide what is wrong.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from forebay.errors import ConfigurationError

log = logging.getLogger(__name__)

_LOOK_FOR_THE_END = 0.1


@contextmanager
def serving_admin(
    host: str, port: int, registry: CollectorRegistry, not_ready: Callable[[], str | None]
) -> Iterator[None]:
    """Serve ``/health/live``, ``/health/ready`` and ``/metrics`` for the length of the block.

    Args:
        host: address to listen on.
        port: likewise.
        registry: what ``/metrics`` shows.
        not_ready: says what keeps the processor from reading a tier; None while nothing does. A thread calls it.

    Raises:
        ConfigurationError: the port is taken.
    """

    class Requests(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/health/live":
                self._answer(200, {"status": "live"})
            elif path == "/health/ready":
                reason = not_ready()
                if reason is None:
                    self._answer(200, {"status": "ready"})
                else:
                    self._answer(503, {"status": "not ready", "reason": reason})
            elif path == "/metrics":
                encode, content_type = choose_encoder(self.headers.get("accept", ""))
                self._send(200, content_type, encode(registry))
            else:
                self._answer(404, {"status": "there is nothing here"})

        def _answer(self, status: int, body: dict[str, str]) -> None:
            self._send(status, "application/json", json.dumps(body).encode())

        def _send(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the signature is http.server's
            """Say nothing of each request."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Say nothing of a client that went away."""

    try:
        server = Server((host, port), Requests)
    except (OSError, OverflowError) as error:
        raise ConfigurationError(
            f"--admin-port {port}: the processor cannot listen on {host}:{port}: {error}"
        ) from error
    thread = threading.Thread(target=server.serve_forever, args=(_LOOK_FOR_THE_END,), name="admin", daemon=True)
    thread.start()
    log.info("health and metrics are at http://%s:%d", host, port)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
