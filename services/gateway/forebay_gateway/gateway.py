"""The gateway as an ASGI application: each request goes through route → validate → dispatch → answer.

It speaks ASGI itself, without a framework's request and response objects, because this is the hot path.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from forebay_gateway import problems
from forebay_gateway.answer import Answer, answer, read, stages
from forebay_gateway.dispatch import Dispatcher
from forebay_gateway.metrics import STAGES, Metrics
from forebay_gateway.problems import HttpProblem, RawHeaders
from forebay_gateway.route import Route, Router
from forebay_gateway.spans import Spans
from forebay_gateway.validate import ClientGone, validate

log = logging.getLogger(__name__)

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

_SERVER_TIMING = b", ".join(stage.encode() + b";dur=%.3f" for stage in STAGES)


class Gateway:
    """Answers HTTP requests by round trips through the queue.

    Args:
        router: finds the operation.
        dispatcher: makes the trip.
        spans: traces it.
        metrics: counts it.
        max_body: largest body of a request, in bytes.
    """

    def __init__(self, router: Router, dispatcher: Dispatcher, spans: Spans, metrics: Metrics, max_body: int) -> None:
        self._router = router
        self._dispatcher = dispatcher
        self._spans = spans
        self._metrics = metrics
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request; anything else that a server may offer is refused."""
        if scope["type"] != "http":
            raise RuntimeError(f"the gateway serves HTTP, not {scope['type']}")
        received = time.time_ns() // 1000
        try:
            route = self._router.find(scope)
        except HttpProblem as problem:
            self._metrics.rejected(problem.kind).inc()
            await _respond(send, Answer(problem.status, problems.MEDIA_TYPE, problem.body()), list(problem.headers))
            return
        await self._serve(route, dict(scope["headers"]), receive, send, received)

    async def _serve(
        self, route: Route, headers: dict[bytes, bytes], receive: Receive, send: Send, received: int
    ) -> None:
        spans = self._spans.begin(route, headers)
        trip = self._dispatcher.begin()
        extra: RawHeaders = [(b"forebay-request-id", trip.key)]
        outcome = "completed"
        durations: list[int] | None = None
        try:
            request = await validate(route, headers, receive, self._max_body)
            on_delivery = spans.delivered if spans.recording else None
            record = await self._dispatcher.call(trip, route, request, spans.publish(), on_delivery)
            seen = time.time_ns()
            reply = read(record)
            try:
                response = answer(route, reply, record)
            finally:
                durations = stages(received, trip, reply, time.time_ns() // 1000)
                extra.append((b"server-timing", _server_timing(durations)))
                if spans.recording:
                    spans.returned(record, seen)
        except ClientGone:
            log.debug("a client left before its request to %s was complete", route.path)
            spans.abandoned()
            return
        except HttpProblem as problem:
            outcome = problem.outcome
            response = Answer(problem.status, problems.MEDIA_TYPE, problem.body())
            extra.extend(problem.headers)
            if not trip.published:
                self._metrics.rejected(outcome).inc()
        await _respond(send, response, extra)
        self._metrics.answered(route.operation, outcome).inc()
        if durations is not None:
            self._metrics.stages.observe(route.tier, durations)
        if spans.recording:
            error = None if outcome == "completed" else outcome
            spans.answered(response.status, trip.request_id, error)


async def _respond(send: Send, response: Answer, extra: RawHeaders) -> None:
    headers = [
        (b"content-type", response.content_type),
        (b"content-length", b"%d" % len(response.body)),
        *extra,
    ]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})


def _server_timing(durations: list[int]) -> bytes:
    """Return the durations of the stages, in microseconds, as a ``Server-Timing`` field, which has milliseconds."""
    return _SERVER_TIMING % tuple([duration / 1000 for duration in durations])
