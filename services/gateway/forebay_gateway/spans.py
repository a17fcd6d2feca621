"""The gateway's spans, after OpenTelemetry's semantic conventions for HTTP and messaging.

Only a sampled request has spans to write: for the others the pipeline carries one context along and skips the rest.
"""

from __future__ import annotations

import time
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context

from forebay import span_attributes, tracing
from forebay.errors import BrokerError
from forebay.kafka import Headers, Record
from forebay_gateway.route import Route

_TRACE_FIELDS = ((b"traceparent", "traceparent"), (b"tracestate", "tracestate"))


class Spans:
    """Begins the spans of requests.

    Args:
        provider: of this process.
        namespace: prefix of the topics, for the name of the reply's span.
    """

    def __init__(self, provider: TracerProvider, namespace: str) -> None:
        self._tracer = provider.get_tracer("forebay.gateway")
        self._roots = tracing.Roots(provider)
        self._replies = f"{namespace}replies.{{instance}}"

    def start_request(self, route: Route, headers: dict[bytes, bytes]) -> RequestSpans:
        """Begin the SERVER span of a request, as part of the caller's trace where it names one."""
        parent = Context()
        if b"traceparent" not in headers:
            unsampled = self._roots.draw()
            if unsampled is not None:
                return RequestSpans(self._tracer, self._replies, route, None, unsampled)
        else:
            carrier = {name: headers[raw].decode("latin-1") for raw, name in _TRACE_FIELDS if raw in headers}
            caller = tracing.from_text(carrier)
            if caller.is_valid:
                parent = tracing.as_parent(caller)
        server = self._tracer.start_span(f"POST {route.path}", parent, SpanKind.SERVER)
        if not server.is_recording():
            return RequestSpans(self._tracer, self._replies, route, None, tracing.to_headers(server.get_span_context()))
        return RequestSpans(self._tracer, self._replies, route, server)


class RequestSpans:
    """The spans of one request: SERVER, under it PRODUCER; the CONSUMER of the reply hangs under the span that sent it.

    One that is not sampled has no SERVER span, and the headers to carry on are known from the start.
    """

    __slots__ = ("_headers", "_producer", "_replies", "_route", "_server", "_tracer")

    def __init__(self, tracer: Tracer, replies: str, route: Route, server: Span | None, headers: Headers = ()) -> None:
        self._tracer = tracer
        self._replies = replies
        self._route = route
        self._server = server
        self._headers = headers
        self._producer: Span | None = None

    @property
    def recording(self) -> bool:
        """Whether the request is sampled."""
        return self._server is not None

    def publish(self) -> Headers:
        """Begin the PRODUCER span; return the headers that carry it on."""
        if self._server is None:
            return self._headers
        self._producer = self._tracer.start_span(
            f"send {self._route.topic}",
            set_span_in_context(self._server, Context()),
            SpanKind.PRODUCER,
            span_attributes.sent_to(self._route.topic),
        )
        return tracing.to_headers(self._producer.get_span_context())

    def delivered(self, error: BrokerError | None) -> None:
        """End the PRODUCER span: the broker has acknowledged the job, or never will."""
        if self._producer is not None:
            if error is not None:
                self._producer.set_attribute(span_attributes.ERROR_TYPE, type(error).__name__)
                self._producer.set_status(Status(StatusCode.ERROR, str(error)))
            self._producer.end()

    def returned(self, reply: Record, seen: int) -> None:
        """Write the CONSUMER span of a reply that came at ``seen``, in nanoseconds since the epoch, and is answered."""
        sender = tracing.from_headers(reply.headers)
        if not sender.is_valid:
            return
        span = self._tracer.start_span(
            f"process {self._replies}",
            tracing.as_parent(sender),
            SpanKind.CONSUMER,
            {**span_attributes.processed(reply), span_attributes.DESTINATION_TEMPLATE: self._replies},
            start_time=seen,
        )
        span.end()

    def answered(self, status: int | None, request_id: str, problem: str | None) -> None:
        """End the SERVER span with what the client was told; ``status`` is None where it left before that."""
        if self._server is None:
            return
        attributes: dict[str, Any] = {
            "http.request.method": "POST",
            "http.route": self._route.path,
            "url.path": self._route.path,
            "url.scheme": "http",
            span_attributes.OPERATION: self._route.operation,
            span_attributes.TIER: self._route.tier,
            span_attributes.REQUEST_ID: request_id,
        }
        if problem is not None:
            attributes[span_attributes.ERROR_TYPE] = problem
        if status is not None:
            attributes["http.response.status_code"] = status
        self._server.set_attributes(attributes)
        if status is not None and status >= 500:
            self._server.set_status(Status(StatusCode.ERROR, problem))
        self._server.end(time.time_ns())
