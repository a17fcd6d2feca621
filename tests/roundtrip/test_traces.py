"""One trace covers the whole trip: what a collector receives by OTLP/HTTP from both processes."""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import struct
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import closing

import httpx
import pytest
import pytest_asyncio

from forebay_schemas import topics as topic_names
from tests.roundtrip.conftest import Pair
from tests.support.brokers import Kafka
from tests.support.collector import Collector, Span, collecting
from tests.support.services import Gateway, Site
from tests.support.waiting import until
from tests.support.wire import read_all

SPANS_OF_A_TRIP = 7


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def traced(kafka: Kafka, collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A pair that exports every trace."""
    folder = tmp_path_factory.mktemp("traced")
    namespace = f"t{uuid.uuid4().hex[:8]}."
    with closing(Site(kafka.bootstrap_servers, namespace, folder, **collector.variables)) as site:
        yield Pair(site, *site.pair())


@pytest_asyncio.fixture
async def client(traced: Pair) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=traced.gateway.url, timeout=60) as client:
        yield client


class Parent:
    """A caller's span, as it comes in ``traceparent``."""

    def __init__(self, *, sampled: bool = True) -> None:
        self.trace_id = secrets.token_hex(16)
        self.span_id = secrets.token_hex(8)
        self.headers = {"traceparent": f"00-{self.trace_id}-{self.span_id}-{'01' if sampled else '00'}"}


async def trip(collector: Collector, trace_id: str, count: int = SPANS_OF_A_TRIP) -> dict[str, Span]:
    """The spans of one trace by name, once all have come."""
    await until(lambda: len(collector.spans(trace_id)) >= count, 15, f"{count} spans of the trace are exported")
    spans = {span.name: span for span in collector.spans(trace_id)}
    assert len(spans) == len(collector.spans(trace_id)) == count, sorted(spans)
    return spans


async def test_one_trace_covers_both_processes(client: httpx.AsyncClient, traced: Pair, collector: Collector) -> None:
    parent = Parent()
    response = await client.post("/v1/on_loop", json={"tag": "traced", "seconds": 0.1}, headers=parent.headers)
    assert response.status_code == 200
    jobs = f"{traced.site.namespace}jobs.roundtrip.interactive"
    replies = f"{traced.site.namespace}replies.{{instance}}"
    spans = await trip(collector, parent.trace_id)

    assert {name: (span.service, span.kind) for name, span in spans.items()} == {
        "POST /v1/on_loop": ("forebay-gateway", "SERVER"),
        f"send {jobs}": ("forebay-gateway", "PRODUCER"),
        f"queue {jobs}": ("forebay-processor", "INTERNAL"),
        f"process {jobs}": ("forebay-processor", "CONSUMER"),
        "on_loop": ("forebay-processor", "INTERNAL"),
        f"send {replies}": ("forebay-processor", "PRODUCER"),
        f"process {replies}": ("forebay-gateway", "CONSUMER"),
    }
    server, send, queue = spans["POST /v1/on_loop"], spans[f"send {jobs}"], spans[f"queue {jobs}"]
    process, handler = spans[f"process {jobs}"], spans["on_loop"]
    answer, received = spans[f"send {replies}"], spans[f"process {replies}"]
    assert server.parent_id == parent.span_id, "the caller's trace is continued"
    assert send.parent_id == server.span_id
    assert queue.parent_id == send.span_id
    assert process.parent_id == send.span_id
    assert process.links == ((parent.trace_id, send.span_id),), "child of the send and linked to it"
    assert handler.parent_id == process.span_id
    assert answer.parent_id == process.span_id
    assert received.parent_id == answer.span_id

    slack = 2_000_000  # Kafka's timestamps are in whole milliseconds
    assert all(span.start <= span.end for span in spans.values())
    assert server.start <= send.start <= queue.start + slack
    assert queue.end <= handler.start
    assert handler.end - handler.start >= 95_000_000, "the handler's span is as long as the handler ran"
    assert handler.end <= answer.start <= answer.end <= process.end
    assert received.end <= server.end
    assert server.end >= answer.start

    request_id = response.headers["forebay-request-id"]
    assert server.attributes["http.request.method"] == "POST"
    assert server.attributes["http.route"] == "/v1/on_loop"
    assert server.attributes["http.response.status_code"] == 200
    assert server.attributes["forebay.request.id"] == request_id
    assert process.attributes["forebay.request.id"] == request_id
    assert process.attributes["messaging.system"] == "kafka"
    assert process.attributes["messaging.destination.name"] == jobs
    assert process.attributes["messaging.consumer.group.name"] == f"{traced.site.namespace}roundtrip.interactive"
    assert answer.attributes["messaging.destination.template"] == replies
    assert not any(span.failed for span in spans.values())


async def test_a_trace_begins_here_where_the_caller_brings_none(
    client: httpx.AsyncClient, collector: Collector
) -> None:
    seen = {span.trace_id for span in collector.spans()}
    response = await client.post("/v1/in_thread", json={"tag": "own trace"})
    request_id = response.headers["forebay-request-id"]

    def server_span() -> Span | None:
        return next((s for s in collector.spans() if s.attributes.get("forebay.request.id") == request_id), None)

    begun = await until(server_span, 15, "the request is exported")
    assert begun.trace_id not in seen
    spans = await trip(collector, begun.trace_id)
    assert spans["POST /v1/in_thread"].parent_id == ""


@pytest.mark.parametrize("operation", ["traced_on_loop", "traced_in_thread"])
async def test_the_handlers_own_spans_join(client: httpx.AsyncClient, collector: Collector, operation: str) -> None:
    parent = Parent()
    await client.post(f"/v1/{operation}", json={"tag": "x"}, headers=parent.headers)
    spans = await trip(collector, parent.trace_id, SPANS_OF_A_TRIP + 1)
    assert spans["own step"].parent_id == spans[operation].span_id
    assert spans["own step"].service == "forebay-processor"


async def test_failures_show(client: httpx.AsyncClient, collector: Collector) -> None:
    parent = Parent()
    await client.post("/v1/fail_in_thread", json={"tag": "x"}, headers=parent.headers)
    spans = await trip(collector, parent.trace_id)
    failed = {name for name, span in spans.items() if span.failed}
    assert {"POST /v1/fail_in_thread", "fail_in_thread"} <= failed
    assert spans["fail_in_thread"].attributes["error.type"] == "handler-failed"
    assert not any("swordfish" in str(span.attributes) for span in spans.values())


async def test_a_request_that_is_refused_is_a_span_by_itself(client: httpx.AsyncClient, collector: Collector) -> None:
    parent = Parent()
    await client.post("/v1/on_loop", json={"tag": 1}, headers=parent.headers)
    spans = await trip(collector, parent.trace_id, 1)
    server = spans["POST /v1/on_loop"]
    assert server.attributes["http.response.status_code"] == 422
    assert server.attributes["error.type"] == "invalid"
    assert not server.failed, "a caller's mistake is no error of the server"


async def test_a_deadline_that_passes_leaves_a_whole_trace(
    client: httpx.AsyncClient, traced: Pair, collector: Collector
) -> None:
    for number in range(20):  # the deadline may pass before the handler runs, where the machine stands still
        parent, tag = Parent(), f"slow-{number}"
        response = await client.post("/v1/brief_on_loop", json={"tag": tag, "seconds": 30}, headers=parent.headers)
        assert response.status_code == 504
        if traced.site.times_run("brief_on_loop")[tag]:
            break

    def is_whole() -> bool:
        spans = collector.spans(parent.trace_id)
        ids = {span.span_id for span in spans} | {parent.span_id}
        has_both_ends = {"POST /v1/brief_on_loop", "brief_on_loop"} <= {span.name for span in spans}
        return has_both_ends and all(span.parent_id in ids for span in spans)

    await until(is_whole, 15, "both processes have exported, and every span has its parent")
    [handler] = [span for span in collector.spans(parent.trace_id) if span.name == "brief_on_loop"]
    assert handler.failed


async def _asked_for_its_body(gateway: Gateway, parent: Parent) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection on which a request has begun that the gateway waits for."""
    head = (
        "POST /v1/on_loop HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 26\r\n"
        "Expect: 100-continue\r\n"
    )
    fields = "".join(f"{name}: {value}\r\n" for name, value in parent.headers.items())
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(f"{head}{fields}\r\n".encode())
    async with asyncio.timeout(10):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    return reader, writer


def _reset(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _server_span(collector: Collector, parent: Parent) -> Span:
    def found() -> list[Span]:
        return [span for span in collector.spans(parent.trace_id) if span.name == "POST /v1/on_loop"]

    [server] = await until(found, 15, "the gateway has exported")
    assert isinstance(server, Span)
    assert server.parent_id == parent.span_id
    return server


async def test_a_client_that_stops_sending_in_mid_request_leaves_a_whole_trace(
    traced: Pair, collector: Collector
) -> None:
    parent = Parent()
    reader, writer = await _asked_for_its_body(traced.gateway, parent)
    writer.write(b'{"tag":')
    writer.write_eof()
    assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")
    writer.close()
    server = await _server_span(collector, parent)
    assert (server.attributes["error.type"], server.attributes["http.response.status_code"]) == ("incomplete", 400)


@pytest.mark.parametrize("held", [False, True], ids=["in mid request", "while held"])
async def test_a_client_that_is_gone_leaves_a_whole_trace_and_is_counted(
    traced: Pair, collector: Collector, held: bool
) -> None:
    parent = Parent()

    def gone() -> float:
        return traced.gateway.metric("forebay_requests_total", operation="on_loop", outcome="client-gone")

    before = gone()
    _, writer = await _asked_for_its_body(traced.gateway, parent)
    if held:
        tag = parent.span_id[:4]
        writer.write(json.dumps({"tag": tag, "seconds": 9}, separators=(",", ":")).encode())
        await until(lambda: traced.site.times_run("on_loop")[tag], 15, "the handler runs")
    _reset(writer)
    server = await _server_span(collector, parent)
    assert server.attributes["error.type"] == "client-gone"
    assert "http.response.status_code" not in server.attributes
    await until(lambda: gone() == before + 1, 20, "it is counted")


async def test_a_caller_that_does_not_sample_is_followed(client: httpx.AsyncClient, collector: Collector) -> None:
    silent, heard = Parent(sampled=False), Parent()
    for parent in (silent, heard):
        await client.post("/v1/traced_on_loop", json={"tag": "x"}, headers=parent.headers)
    await trip(collector, heard.trace_id, SPANS_OF_A_TRIP + 1)
    assert not collector.spans(silent.trace_id), "whatever was begun before has been exported by now"


@pytest.mark.parametrize("header", ["", "nonsense", "00-" + "0" * 32 + "-" + "1" * 16 + "-01", "ff-1-2-01"])
async def test_a_traceparent_that_is_none_begins_a_new_trace(
    client: httpx.AsyncClient, collector: Collector, header: str
) -> None:
    response = await client.post("/v1/on_loop", json={"tag": "x"}, headers={"traceparent": header})
    assert response.status_code == 200
    request_id = response.headers["forebay-request-id"]
    await until(
        lambda: [s for s in collector.spans() if s.attributes.get("forebay.request.id") == request_id],
        15,
        "the request is exported",
    )


async def test_the_tracestate_goes_along(client: httpx.AsyncClient, traced: Pair) -> None:
    parent = Parent()
    response = await client.post(
        "/v1/on_loop", json={"tag": "x"}, headers=parent.headers | {"tracestate": "vendor=value"}
    )
    [headers] = await _headers_of_replies(traced, response.headers["forebay-request-id"])
    assert headers["tracestate"] == b"vendor=value"
    assert headers["traceparent"].decode().startswith(f"00-{parent.trace_id}-")


async def _headers_of_replies(traced: Pair, request_id: str) -> list[dict[str, bytes]]:
    topic = topic_names.replies(traced.site.namespace, traced.gateway.instance)
    records = await read_all(traced.site.settings, topic)
    return [
        {name: value or b"" for name, value in record.headers}
        for record in records
        if record.key == request_id.encode()
    ]


async def test_a_ratio_of_nothing_records_nothing_of_its_own(collector: Collector, site: Site, namespace: str) -> None:
    gateway, _ = site.pair(FOREBAY_TRACE_RATIO="0", **collector.variables)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
        responses = [await client.post("/v1/on_loop", json={"tag": "x"}) for _ in range(20)]
        parent = Parent()
        await client.post("/v1/on_loop", json={"tag": "x"}, headers=parent.headers)
    await trip(collector, parent.trace_id)  # a caller that samples is followed all the same
    ids = {response.headers["forebay-request-id"] for response in responses}
    assert not [span for span in collector.spans() if span.attributes.get("forebay.request.id") in ids]
    assert not [span for span in collector.spans() if namespace in span.name and span.trace_id != parent.trace_id]


async def test_without_a_collector_traces_are_passed_on(site: Site) -> None:
    gateway, processor = site.pair()
    parent = Parent()
    async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
        response = await client.post("/v1/on_loop", json={"tag": "x"}, headers=parent.headers)
    [headers] = await _headers_of_replies(Pair(site, gateway, processor), response.headers["forebay-request-id"])
    assert headers["traceparent"].decode().startswith(f"00-{parent.trace_id}-")


async def test_a_collector_that_is_away_costs_nobody_anything(site: Site) -> None:
    gateway, processor = site.pair(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9", OTEL_BSP_SCHEDULE_DELAY="100")
    async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
        for _ in range(10):
            assert (await client.post("/v1/on_loop", json={"tag": "x"})).status_code == 200
    for service in (gateway, processor):
        service.terminate()
        assert service.exit_code() == 0
