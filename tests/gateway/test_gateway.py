"""Whatever goes wrong inside: the client gets a problem, the outcome is counted and the span ended."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any, cast

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

from forebay.errors import BrokerError
from forebay.kafka import Record
from forebay_gateway import problems
from forebay_gateway.dispatch import Dispatcher, RoundTrip
from forebay_gateway.gateway import Gateway
from forebay_gateway.http import Request
from forebay_gateway.metrics import Metrics
from forebay_gateway.route import Route, Router
from forebay_gateway.spans import Spans
from tests.gateway.requests import NoChannel, a_request
from tests.support.records import a_record

ROUTE = Route("convert", "/v1/convert", "bulk", "jobs", 1.0, "*/*", None, {})
REQUEST_ID = "gw-01a2146a-6b86-7073-909a-13152fecb5d1"
SAMPLED = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class OneRoute:
    """Serves one operation."""

    def find(self, method: str, path: str) -> Route:
        assert method == "POST"
        if path != ROUTE.path:
            raise problems.unknown_operation(path)
        return ROUTE


class Trips:
    """Round trips that end as a test wants."""

    def __init__(self, end: BaseException | Record | None) -> None:
        self._end = end
        self.published = False

    def new_round_trip(self) -> RoundTrip:
        return RoundTrip(REQUEST_ID)

    async def make_round_trip(self, trip: RoundTrip, *_: Any) -> Record:
        trip.published = 1 if self.published else 0
        if self._end is None:
            await asyncio.get_running_loop().create_future()
        if isinstance(self._end, BaseException):
            raise self._end
        return cast(Record, self._end)


class Scene:
    """A gateway of which parts can be broken, and what it did."""

    def __init__(self, end: BaseException | Record | None = None) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False, id_generator=RandomIdGenerator())
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.metrics = Metrics()
        self.channel = NoChannel()
        self.spans = Spans(self.provider, "t.")
        self.gateway = Gateway(cast(Router, OneRoute()), cast(Dispatcher, Trips(end)), self.spans, self.metrics)

    def request(self, **more: Any) -> Request:
        return a_request(b"x", path=ROUTE.path, channel=self.channel, traceparent=SAMPLED, **more)

    def counted(self, outcome: str) -> float:
        labels = {"operation": "convert", "outcome": outcome}
        return self.metrics.registry.get_sample_value("forebay_requests_total", labels) or 0.0

    @property
    def server_span(self) -> ReadableSpan:
        [span] = [span for span in self.exporter.get_finished_spans() if span.name == "POST /v1/convert"]
        return span

    def told(self) -> dict[str, Any]:
        [response] = self.channel.responses
        assert response.content_type == b"application/problem+json"
        told = json.loads(response.body)
        assert told["status"] == response.status
        return cast(dict[str, Any], told)


@pytest.mark.parametrize(
    "error", [ValueError("secret"), KeyError("k"), RecursionError(), BrokerError("no"), OSError(5)]
)
async def test_a_mistake_is_a_500_that_is_counted_and_traced(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene(error)
    await scene.gateway(scene.request())
    told = scene.told()
    assert (told["status"], told["type"]) == (500, "urn:forebay:problem:internal-error")
    assert "secret" not in json.dumps(told)
    assert (b"forebay-request-id", REQUEST_ID.encode()) in list(scene.channel.responses[0].headers)
    assert scene.counted("internal-error") == 1
    assert scene.server_span.attributes is not None
    assert scene.server_span.attributes["error.type"] == "internal-error"
    [line] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert REQUEST_ID in line.getMessage()


async def test_a_client_that_is_gone_is_counted_and_traced_without_a_status() -> None:
    scene = Scene()
    serving = asyncio.create_task(scene.gateway(scene.request()))
    await asyncio.sleep(0)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert scene.channel.responses == []
    assert scene.counted("client-gone") == 1
    assert scene.server_span.attributes is not None
    assert "http.response.status_code" not in scene.server_span.attributes


async def test_metrics_that_fail_take_nothing_from_the_client(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene(problems.deadline_passed(1.0))

    def fail(*_: Any) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(scene.metrics, "answered", fail)
    await scene.gateway(scene.request())
    assert scene.told()["status"] == 504
    assert scene.server_span.end_time is not None
    assert REQUEST_ID in caplog.text


async def test_spans_that_fail_at_the_end_take_nothing_from_the_client(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene(problems.deadline_passed(1.0))
    begun = scene.spans.start_request(ROUTE, {})
    monkeypatch.setattr(type(begun), "answered", lambda *_: 1 / 0)
    await scene.gateway(scene.request())
    assert scene.told()["status"] == 504
    assert scene.counted("deadline-passed") == 1
    assert REQUEST_ID in caplog.text


async def test_spans_that_fail_at_the_beginning_end_in_a_500(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(a_record(b""))
    monkeypatch.setattr(scene.spans, "start_request", lambda *_: 1 / 0)
    await scene.gateway(scene.request())
    assert scene.told()["status"] == 500
    assert scene.counted("internal-error") == 1


async def test_what_is_refused_before_a_route_is_counted_by_its_reason() -> None:
    scene = Scene()
    request = a_request(path="/v1/unknown", channel=scene.channel)
    await scene.gateway(request)
    request = Request(scene.channel, "", "", "1.1", {}, 0, problems.malformed("no"))
    await scene.gateway(request)
    assert [response.status for response in scene.channel.responses] == [404, 400]
    sample = scene.metrics.registry.get_sample_value
    assert sample("forebay_rejected_total", {"reason": "unknown-operation"}) == 1
    assert sample("forebay_rejected_total", {"reason": "malformed"}) == 1


async def test_a_request_is_answered_once() -> None:
    request = a_request(path=ROUTE.path)
    request.respond(problems.malformed("one").response())
    with pytest.raises(RuntimeError, match="answered already"):
        request.respond(problems.malformed("two").response())
