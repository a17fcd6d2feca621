"""An OpenTelemetry collector in this process: takes spans by OTLP/HTTP, as the exporter really sends them."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Message

_KINDS = {value: name.removeprefix("SPAN_KIND_") for name, value in Message.SpanKind.items()}


@dataclass(frozen=True)
class Span:
    """A span as it was exported. Ids are in hexadecimal, instants in nanoseconds since the epoch."""

    service: str
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    links: tuple[tuple[str, str], ...]
    start: int
    end: int
    attributes: dict[str, Any]
    failed: bool


class Collector:
    """Holds what was received.

    Attributes:
        endpoint: for ``OTEL_EXPORTER_OTLP_ENDPOINT``.
    """

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self._lock = threading.Lock()
        self._spans: list[Span] = []

    @property
    def variables(self) -> dict[str, str]:
        """Environment of a process that exports here, and does not take its time about it."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "100"}

    def spans(self, trace_id: str | None = None) -> list[Span]:
        """What came so far, of one trace or of all."""
        with self._lock:
            return [span for span in self._spans if trace_id in (None, span.trace_id)]

    def take(self, body: bytes) -> None:
        """Take in one export."""
        request = ExportTraceServiceRequest.FromString(body)
        received = [
            _span(message, {entry.key: entry.value.string_value for entry in resource.resource.attributes})
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for message in scope.spans
        ]
        with self._lock:
            self._spans += received


def _span(message: Message, resource: dict[str, str]) -> Span:
    return Span(
        service=resource["service.name"],
        name=message.name,
        kind=_KINDS[message.kind],
        trace_id=message.trace_id.hex(),
        span_id=message.span_id.hex(),
        parent_id=message.parent_span_id.hex(),
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in message.links),
        start=message.start_time_unix_nano,
        end=message.end_time_unix_nano,
        attributes={
            entry.key: getattr(entry.value, entry.value.WhichOneof("value") or "string_value")
            for entry in message.attributes
        },
        failed=message.status.code == 2,
    )


@contextmanager
def collecting() -> Iterator[Collector]:
    """Collect for the length of the block, on a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            status = 200 if self.path == "/v1/traces" else 404
            if status == 200:
                collector.take(body)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the signature is http.server's
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        collector = Collector(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()
