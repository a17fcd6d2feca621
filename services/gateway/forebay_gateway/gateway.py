"""The gateway as an HTTP application: each request goes through route → validate → dispatch → answer.

Whatever goes wrong on the way, the client gets a response, the outcome is counted and the span ended.
"""

from __future__ import annotations

import asyncio
import logging
import time

from forebay_gateway import problems
from forebay_gateway.answer import answer, read_reply, split_into_stages
from forebay_gateway.dispatch import Dispatcher, RoundTrip
from forebay_gateway.http import Request
from forebay_gateway.metrics import STAGES, Metrics
from forebay_gateway.problems import HttpProblem
from forebay_gateway.response import Response
from forebay_gateway.route import Route, Router
from forebay_gateway.spans import RequestSpans, Spans
from forebay_gateway.validate import validate

log = logging.getLogger(__name__)

CLIENT_GONE = "client-gone"
"""The outcome of a request whose client left before its answer."""

_SERVER_TIMING = b", ".join(stage.encode() + b";dur=%.3f" for stage in STAGES)


class Gateway:
    """Answers HTTP requests by round trips through the queue.

    Args:
        router: finds the operation.
        dispatcher: makes the round trip.
        spans: traces it.
        metrics: counts it.
    """

    def __init__(self, router: Router, dispatcher: Dispatcher, spans: Spans, metrics: Metrics) -> None:
        self._router = router
        self._dispatcher = dispatcher
        self._spans = spans
        self._metrics = metrics

    async def __call__(self, request: Request) -> None:
        """Answer one request."""
        received = time.time_ns() // 1000
        try:
            if request.fault is not None:
                raise request.fault
            route = self._router.find(request.method, request.path)
        except HttpProblem as problem:
            request.respond(problem.response())
            self._metrics.rejected(problem.kind).inc()
            return
        call = _Call(route, request, self._dispatcher.new_round_trip(), received)
        try:
            await self._serve(call)
        except asyncio.CancelledError:
            call.outcome = CLIENT_GONE
            raise
        except Exception:
            log.exception("request %s to %s failed", call.trip.request_id, route.path)
            if not request.answered:
                mistake = problems.internal_error()
                call.outcome = mistake.outcome
                request.respond(mistake.response([(b"forebay-request-id", call.trip.key)]))
        finally:
            self._record(call)

    async def _serve(self, call: _Call) -> None:
        try:
            content_type, body = await self._ask(call)
            response = Response(200, content_type, body, call.headers)
        except HttpProblem as problem:
            call.outcome = problem.outcome
            response = problem.response(call.headers)
        call.request.respond(response)

    async def _ask(self, call: _Call) -> tuple[bytes, bytes]:
        """Take a request through the queue; return the media type of its result and the result."""
        spans = call.spans = self._spans.start_request(call.route, call.request.fields)
        trip, route = call.trip, call.route
        job = await validate(route, call.request)
        on_delivery = spans.delivered if spans.recording else None
        record = await self._dispatcher.make_round_trip(trip, route, job, spans.publish(), on_delivery)
        seen = time.time_ns()
        reply = read_reply(record, trip.request_id)
        try:
            return answer(route, reply, record)
        finally:
            call.durations = split_into_stages(call.received, trip, reply, time.time_ns() // 1000)
            call.headers.append((b"server-timing", _server_timing(call.durations)))
            if spans.recording:
                spans.returned(record, seen)

    def _record(self, call: _Call) -> None:
        """Count a request that is over, and end its span; what goes wrong here is nothing to its client."""
        try:
            operation, outcome = call.route.operation, call.outcome
            self._metrics.answered(operation, outcome).inc()
            if not call.trip.published and outcome != CLIENT_GONE:
                self._metrics.rejected(outcome).inc()
            if call.durations is not None:
                self._metrics.stages.observe(call.route.tier, call.durations)
        except Exception:
            log.exception("request %s could not be counted", call.trip.request_id)
        try:
            if call.spans is not None:
                call.spans.answered(
                    call.request.status, call.trip.request_id, None if outcome == "completed" else outcome
                )
        except Exception:
            log.exception("the span of request %s could not be ended", call.trip.request_id)


class _Call:
    """What is known of a request to an operation while it is served.

    Attributes:
        received: when it came, in microseconds since the epoch.
        headers: those of its response.
        outcome: as the metrics call it.
        durations: of its stages, in microseconds; None unless a reply came.
        spans: None until they are begun.
    """

    __slots__ = ("durations", "headers", "outcome", "received", "request", "route", "spans", "trip")

    def __init__(self, route: Route, request: Request, trip: RoundTrip, received: int) -> None:
        self.route = route
        self.request = request
        self.trip = trip
        self.received = received
        self.headers = [(b"forebay-request-id", trip.key)]
        self.outcome = "completed"
        self.durations: list[int] | None = None
        self.spans: RequestSpans | None = None


def _server_timing(durations: list[int]) -> bytes:
    """Return the durations of the stages, in microseconds, as a ``Server-Timing`` field, which has milliseconds."""
    return _SERVER_TIMING % tuple([duration / 1000 for duration in durations])
