"""Takes the traces of a run by OTLP/HTTP and counts their spans, so that exporting them is really paid.

``POST /v1/traces`` as an OpenTelemetry collector takes it; ``GET /spans`` answers with the number of spans so far.
"""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from benchmarks.children import HOST


class Sink(BaseHTTPRequestHandler):
    """Handles one exporter's connection."""

    protocol_version = "HTTP/1.1"
    spans = 0
    lock = Lock()

    def do_POST(self) -> None:
        """Count the spans of an export."""
        request = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        number = sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)
        with Sink.lock:
            Sink.spans += number
        self._answer(ExportTraceServiceResponse().SerializeToString(), "application/x-protobuf")

    def do_GET(self) -> None:
        """Say how many there were."""
        self._answer(str(Sink.spans).encode(), "text/plain")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the signature is http.server's
        """Say nothing: a line per export would only be noise."""

    def _answer(self, body: bytes, media_type: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer((HOST, int(sys.argv[1])), Sink).serve_forever()
