"""Any client: bytes as curl, JDKs, proxies, attackers and bad networks send them, to a gateway in its own process."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from email.utils import parsedate_to_datetime

import httpx
import pytest

from tests.roundtrip.conftest import Pair
from tests.support.brokers import Kafka
from tests.support.raw_http import ask, connected
from tests.support.services import Site
from tests.support.waiting import until

HEAD_TIMEOUT, BODY_TIMEOUT = 2.0, 3.0
LATE = 7.5
"""Seconds by which it may be late: the gateway looks once a second, and the machine may be busy."""

JSON = b"Content-Type: application/json\r\n"
ON_LOOP = b"POST /v1/on_loop HTTP/1.1\r\nHost: x\r\n" + JSON
TURN_ROUND = b"POST /v1/turn_round HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
TASK = b'{"tag":"edge"}'
SIZED = b"Content-Length: %d\r\n\r\n" % len(TASK)
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def pair(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """As the shared pair, with bounds that a test can wait for."""
    folder = tmp_path_factory.mktemp("edge")
    bounds = {"FOREBAY_HEAD_TIMEOUT": str(HEAD_TIMEOUT), "FOREBAY_BODY_TIMEOUT": str(BODY_TIMEOUT)}
    with closing(Site(kafka.bootstrap_servers, f"t{uuid.uuid4().hex[:8]}.", folder, **bounds)) as site:
        yield Pair(site, *site.pair())


@pytest.fixture
def port(pair: Pair) -> int:
    return pair.gateway.port


OFFERS = {
    "curl": b"User-Agent: curl/7.88.1\r\nAccept: */*\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n",
    "jdk": b"Connection: Upgrade, HTTP2-Settings\r\n"
    b"HTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAAAAYABgAA\r\nUpgrade: h2c\r\n"
    b"User-Agent: Java-http-client/17.0.15\r\n",
    "websocket": b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    "tls": b"Upgrade: TLS/1.2\r\nConnection: upgrade\r\n",
    "several": b"Upgrade: foo/2, h2c\r\nConnection: keep-alive\r\nConnection: Upgrade\r\n",
    "without connection": b"Upgrade: h2c\r\n",
}


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
@pytest.mark.parametrize("framed", ["sized", "chunked", "asked for"])
async def test_an_offer_to_upgrade_is_ignored_and_the_body_read(port: int, offer: bytes, framed: str) -> None:
    async with connected(port) as connection:
        if framed == "sized":
            await connection.send(TURN_ROUND + offer + b"Content-Length: 5\r\n\r\nabc", b"de")
        elif framed == "chunked":
            await connection.send(TURN_ROUND + offer + CHUNKED, b"3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n")
        else:
            await connection.send(TURN_ROUND + offer + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
            assert (await connection.response()).status == 100
            await connection.send(b"abcde")
        assert (await connection.response()).body == b"edcba"
        await connection.send(TURN_ROUND + offer + b"Content-Length: 2\r\n\r\nxy" + TURN_ROUND + SIZED + TASK)
        assert (await connection.response()).body == b"yx", "the connection goes on"
        assert (await connection.response()).body == TASK[::-1], "and what is behind an offer is a request of its own"


async def test_an_upgrade_that_also_closes_closes(port: int) -> None:
    response = await ask(
        port, TURN_ROUND + b"Upgrade: h2c\r\nConnection: Upgrade, close\r\nContent-Length: 3\r\n\r\nabc"
    )
    assert (response.body, response.fields["connection"]) == (b"cba", "close")


async def test_a_client_that_waits_to_be_asked_is_asked_once(port: int) -> None:
    async with connected(port) as connection:
        await connection.send(ON_LOOP + b"Expect: 100-Continue\r\n" + SIZED)
        assert (await connection.response()).status == 100
        await connection.send(TASK[:3], TASK[3:])
        assert (await connection.response()).status == 200
        await connection.send(ON_LOOP + SIZED + TASK)
        assert (await connection.response()).status == 200, "one answer to each"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST /v1/unknown HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n" + SIZED, 404),
        (b"POST /v1/on_loop HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n" + SIZED, 415),
        (ON_LOOP + b"Expect: 100-continue\r\nContent-Length: 1000000\r\n\r\n", 413),
        (ON_LOOP + b"Expect: 100-continue\r\nContent-Encoding: gzip\r\n" + SIZED, 415),
        (ON_LOOP + b"Expect: a-miracle\r\n" + SIZED, 417),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "",
)
async def test_a_request_that_is_refused_early_is_not_asked_for(port: int, request_: bytes, status: int) -> None:
    response = await ask(port, request_)
    assert (response.status, response.fields["connection"]) == (status, "close")
    assert response.problem


async def test_no_client_of_http_1_0_is_asked_for_its_body(port: int) -> None:
    head = (
        b"POST /v1/turn_round HTTP/1.0\r\nContent-Type: image/png\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    )
    async with connected(port) as connection:
        await connection.send(head)
        await connection.send(b"abc")
        assert (await connection.response()).body == b"cba"


LONG = b"x" * 70_000
WIDE = b"".join(b"X-%05d: %s\r\n" % (number, b"y" * 100) for number in range(700))


@pytest.mark.parametrize(
    "head",
    [
        [b"POST /v1/on_loop HTTP/1.1\r\nHost: x\r\nX: ", LONG, b"\r\n\r\n"],
        [b"POST /v1/on_loop?", LONG, b" HTTP/1.1\r\nHost: x\r\n\r\n"],
        [b"POST /v1/on_loop HTTP/1.1\r\nHost: x\r\n", WIDE, b"\r\n"],
        [ON_LOOP + b"X: " + LONG + b"\r\n" + SIZED + TASK],
        [ON_LOOP + OFFERS["curl"] + b"X: " + LONG + b"\r\n" + SIZED + TASK],
        [ON_LOOP + b"X: ", *[b"y" * 20_000] * 25],
    ],
    ids=["field", "target", "many fields", "in one piece", "with an upgrade", "without an end"],
)
async def test_a_head_beyond_64_kib_is_431(port: int, head: list[bytes]) -> None:
    response = await ask(port, *head)
    assert (response.status, response.problem) == (431, "head-too-large")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST /v1/%b HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (ON_LOOP + b"Content-Encoding: %b\r\n\r\n", 415),
        (ON_LOOP.removesuffix(JSON) + b"Content-Type: %b\r\n\r\n", 415),
        (ON_LOOP + b"Expect: %b\r\n\r\n", 417),
        (ON_LOOP + b"Transfer-Encoding: %b\r\n\r\n", 501),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "",
)
async def test_a_refusal_repeats_little_of_the_request(port: int, request_: bytes, status: int) -> None:
    response = await ask(port, request_ % (b"x" * 60_000))
    assert response.status == status
    assert len(response.body) < 1000


async def test_a_head_of_nearly_64_kib_is_served(port: int) -> None:
    response = await ask(port, ON_LOOP + b"X: " + b"y" * 60_000 + b"\r\n" + SIZED + TASK)
    assert response.status == 200


@pytest.mark.parametrize(
    "tail",
    [
        [b"0\r\nX: ", *[b"y" * 20_000] * 10],
        [b"0\r\n" + b"X: y\r\n" * 15_000 + b"\r\n"],
        [b"1;x=", *[b"y" * 20_000] * 10],
        [b"1;x=" + b"y" * 150_000 + b"\r\n {}\r\n0\r\n\r\n"],
        [b"1;x=%b\r\n \r\n" % (b"y" * 1000) * 150 + b"0\r\n\r\n"],
        [b"1;x=%b\r\n \r\n" % (b"y" * 10_000)] * 15,
        [b"0" * 150_000 + b"1\r\n \r\n0\r\n\r\n"],
    ],
    ids=["a trailer", "trailers", "chunk extension", "in one piece", "of many chunks", "one by one", "zeros"],
)
@pytest.mark.parametrize("offer", [b"", OFFERS["curl"]], ids=["", "with an upgrade"])
async def test_what_surrounds_a_body_is_bounded_too(port: int, tail: list[bytes], offer: bytes) -> None:
    response = await ask(port, ON_LOOP + offer + CHUNKED, *tail)
    assert (response.status, response.problem) == (431, "head-too-large")


async def test_small_chunks_are_no_excess(port: int) -> None:
    body = b"".join(b"1;a=b\r\n%c\r\n" % byte for byte in b" " * 30_000 + TASK) + b"0\r\n\r\n"
    assert (await ask(port, ON_LOOP + CHUNKED, body)).json["tag"] == "edge"


async def test_trailers_change_nothing(port: int) -> None:
    trailers = (
        b"0\r\nContent-Type: text/plain\r\nHost: y\r\nExpect: z\r\nContent-Encoding: gzip\r\nUpgrade: h2c\r\n\r\n"
    )
    async with connected(port) as connection:
        for _ in range(2):
            await connection.send(ON_LOOP + CHUNKED + b"e\r\n" + TASK + b"\r\n" + trailers)
            assert (await connection.response()).json["tag"] == "edge"


@pytest.mark.parametrize("trailer", [b"Content-Length: 3", b"Transfer-Encoding: chunked", b"Connection: close"])
async def test_a_trailer_that_would_frame_the_body_anew_is_refused(port: int, trailer: bytes) -> None:
    async with connected(port) as connection:
        await connection.send(
            ON_LOOP + CHUNKED + b"e\r\n" + TASK + b"\r\n0\r\n" + trailer + b"\r\n\r\n" + ON_LOOP + SIZED + TASK
        )
        response = await connection.response()
        assert (response.status, response.problem) == (400, "malformed")
        assert await connection.is_closed()


@pytest.mark.parametrize(
    ("pieces", "bound"),
    [
        ([b"POST /v1/on_loop HTTP/1.1\r\nHost:"], HEAD_TIMEOUT),
        ([ON_LOOP + b"Content-Length: 14\r\n\r\n"], BODY_TIMEOUT),
        ([ON_LOOP + b"Content-Length: 14\r\n\r\n{", b'"tag":'], BODY_TIMEOUT),
        ([ON_LOOP + OFFERS["jdk"] + b"Content-Length: 14\r\n\r\n{"], BODY_TIMEOUT),
        ([ON_LOOP + CHUNKED + b"5\r\n{"], BODY_TIMEOUT),
        ([ON_LOOP + CHUNKED + b"0\r\n"], BODY_TIMEOUT),
        ([ON_LOOP + SIZED + TASK + b"POST /v1/on_"], HEAD_TIMEOUT),
    ],
    ids=["head", "body", "half a body", "upgrade", "half a chunk", "trailers", "second request"],
)
async def test_what_does_not_come_in_time_is_408(port: int, pieces: list[bytes], bound: float) -> None:
    async with connected(port) as connection:
        begun = time.monotonic()
        await connection.send(*pieces)
        response = await connection.response()
        if response.status == 200:
            response = await connection.response()
        assert (response.status, response.problem) == (408, "too-slow")
        assert response.fields["connection"] == "close"
        assert bound <= time.monotonic() - begun < bound + LATE
        assert await connection.is_closed()


@pytest.mark.parametrize("part", ["head", "body"])
async def test_a_drop_a_moment_does_not_hold_a_connection(port: int, part: str) -> None:
    begin = b"" if part == "head" else ON_LOOP + b"Content-Length: 100000\r\n\r\n"
    drop = b"X: y\r\n" if part == "head" else b" "
    async with connected(port) as connection:
        begun = time.monotonic()
        await connection.send(begin or b"POST /v1/on_loop HTTP/1.1\r\nHost: x\r\n")
        response = asyncio.create_task(connection.response())
        while not response.done() and time.monotonic() < begun + BODY_TIMEOUT + LATE:
            await connection.send(drop)
            await asyncio.wait([response], timeout=0.1)
        assert (await response).status == 408


async def test_a_body_whose_refusal_was_sent_is_not_awaited_for_ever(port: int) -> None:
    async with connected(port) as connection:
        await connection.send(b"POST /v1/unknown HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n ")
        assert (await connection.response()).status == 404
        assert await connection.is_closed(BODY_TIMEOUT + LATE)


async def test_a_client_that_has_nothing_more_to_say_gets_its_answer(port: int) -> None:
    async with connected(port) as connection:
        await connection.send(
            ON_LOOP + b'Content-Length: 28\r\n\r\n{"tag":"half","seconds":0.5}' + TURN_ROUND + SIZED + TASK
        )
        connection.writer.write_eof()
        assert (await connection.response()).json["tag"] == "half"
        assert (await connection.response()).body == TASK[::-1]
        assert await connection.is_closed()


@pytest.mark.parametrize("sent", [ON_LOOP, ON_LOOP + SIZED + TASK[:5], ON_LOOP + CHUNKED + b"5\r\n{"])
async def test_a_client_that_stops_half_way_is_told_so(port: int, sent: bytes) -> None:
    async with connected(port) as connection:
        await connection.send(sent)
        connection.writer.write_eof()
        response = await connection.response()
        assert (response.status, response.problem) == (400, "incomplete")
        assert await connection.is_closed()


REPEATED = [b"Content-Type: application/json", b"Host: x", b"host: y", b"Content-Length: 14", b"Content-Length: 15"]


@pytest.mark.parametrize("field", REPEATED)
async def test_a_field_that_has_one_value_comes_once(port: int, field: bytes) -> None:
    response = await ask(port, ON_LOOP + field + b"\r\n" + SIZED + TASK)
    assert (response.status, response.problem) == (400, "malformed")


@pytest.mark.parametrize(
    "field",
    [b"Authorization: b", b"Idempotency-Key: b", b"Forebay-Ordering-Key: b"],
    ids=lambda field: field.split(b":")[0].decode(),
)
async def test_a_field_that_decides_something_comes_once(port: int, field: bytes) -> None:
    assert (await ask(port, ON_LOOP + field + b"\r\n" + SIZED + TASK)).status == 200
    assert (await ask(port, ON_LOOP + field + b"\r\n" + field + b"\r\n" + SIZED + TASK)).status == 400


async def test_fields_that_are_lists_are_joined(port: int) -> None:
    twice = b"Content-Encoding: identity\r\nContent-Encoding: Identity ,\r\n"
    assert (await ask(port, ON_LOOP + twice + SIZED + TASK)).status == 200
    twice = b"Expect: 100-continue\r\nExpect: 100-Continue\r\n"
    assert (await ask(port, ON_LOOP + twice + SIZED + TASK)).status == 200
    codings = b"Content-Encoding: identity\r\nContent-Encoding: br\r\n"
    response = await ask(port, ON_LOOP + codings + SIZED + TASK)
    assert response.status == 415
    assert "identity, br" in response.json["detail"]
    assert (await ask(port, ON_LOOP + b"Accept: a/b\r\nAccept: c/d\r\n" + SIZED + TASK)).status == 200


SMUGGLED = {
    "length and chunked": (ON_LOOP + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "chunked and length": (ON_LOOP + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n", 400),
    "with an upgrade": (
        ON_LOOP + OFFERS["curl"] + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "signed length": (ON_LOOP + b"Content-Length: +14\r\n\r\n" + TASK, 400),
    "list of lengths": (ON_LOOP + b"Content-Length: 14, 14\r\n\r\n" + TASK, 400),
    "empty length": (ON_LOOP + b"Content-Length: \r\n\r\n", 400),
    "gzip": (ON_LOOP + b"Transfer-Encoding: gzip\r\n\r\n", 501),
    "gzip, chunked": (ON_LOOP + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    "xchunked": (ON_LOOP + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
    "chunked twice": (ON_LOOP + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "in 1.0": (b"POST /v1/on_loop HTTP/1.0\r\n" + JSON + CHUNKED + b"0\r\n\r\n", 400),
    "space before the colon": (b"POST /v1/on_loop HTTP/1.1\r\nHost : x\r\n\r\n", 400),
    "folded field": (ON_LOOP + b"X: y\r\n z\r\n\r\n", 400),
    "bare line feeds": (b"POST /v1/on_loop HTTP/1.1\nHost: x\n\n", 400),
    "null in a field": (ON_LOOP + b"X: a\x00b\r\n\r\n", 400),
    "bad chunk size": (ON_LOOP + CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n", 400),
    "chunk too long": (ON_LOOP + CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n", 400),
}


@pytest.mark.parametrize(("sent", "status"), SMUGGLED.values(), ids=SMUGGLED)
async def test_a_body_that_two_readers_could_read_differently_is_refused(port: int, sent: bytes, status: int) -> None:
    async with connected(port) as connection:
        await connection.send(sent + TURN_ROUND + SIZED + TASK)
        response = await connection.response()
        assert (response.status, response.fields["connection"]) == (status, "close")
        assert response.problem in ("malformed", "unsupported-transfer-coding")
        assert await connection.is_closed(), "and nothing behind it is served"


TUNNELS = [b"x:80", b"http://x", b"http://x/v1/on_loop", b"https://x:443/v1/on_loop?y", b"/v1/on_loop", b"*", b"x"]


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"nonsense\r\n\r\n",
        b" POST /v1/on_loop HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST\t/v1/on_loop HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST\r\n",
        b"POST on_loop HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /v1/on loop HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST http:///v1/on_loop HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /v1/on_loop#x HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST ftp://x/v1/on_loop HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /v1/\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /v1/on_loop HTTP/1.1\r\n\r\n",
        b"POST /v1/on_loop HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"POST /v1/on_loop HTTP/1.1\r\nHost: x/y\r\n\r\n",
        ON_LOOP + b": no name\r\n\r\n",
        ON_LOOP + b"Content-Length: many\r\n\r\n",
        ON_LOOP + b"Content-Length: -1\r\n\r\n",
        ON_LOOP + b"Content-Length: 99999999999999999999999\r\n\r\n",
    ],
    ids=lambda sent: repr(sent[:40]),
)
async def test_what_is_malformed_is_400_as_a_problem(port: int, sent: bytes) -> None:
    response = await ask(port, sent)
    assert (response.status, response.problem, response.fields["connection"]) == (400, "malformed", "close")


@pytest.mark.parametrize(
    "sent",
    [
        b"BREW /v1/on_loop HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\r\nBREW /v1/on_loop HTTP/1.1\r\nHost: x\r\n\r\n",
        b"post /v1/on_loop HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POSTAL /v1/on_loop HTTP/1.1\r\nHost: x\r\n\r\n",
        b"P!ST /v1/on_loop HTTP/1.1\r\nHost: x\r\n\r\n",
        b"SETUP /v1/on_loop HTTP/1.1\r\nHost: x\r\n\r\n",
        b"X" * 100_000 + b" /v1/on_loop HTTP/1.1\r\nHost: x\r\n\r\n",
        *(b"CONNECT %b HTTP/1.1\r\nHost: x\r\n\r\n" % target for target in TUNNELS),
    ],
    ids=lambda sent: repr(sent[:40]),
)
async def test_a_method_that_is_not_known_is_501(port: int, sent: bytes) -> None:
    response = await ask(port, sent)
    assert (response.status, response.problem, response.fields["connection"]) == (501, "unknown-method", "close")


@pytest.mark.parametrize(
    ("pieces", "reads_between"),
    [
        ([b"", b"BREW /v1/on_loop HTTP/1.1\r\nHost: x\r\n\r\n"], False),
        ([b"B", b"REW /v1/on_loop HTTP/1.1\r\nHost: x\r\n\r\n"], True),
        ([b"", b"B", b"REW"], True),
        ([b"\r\nPOST", b"AL /v1/on_loop HTTP/1.1\r\n"], True),
    ],
    ids=["at once", "its first letter at once", "later", "after a line break"],
)
async def test_a_method_that_is_not_known_is_501_behind_a_request_too(
    port: int, pieces: list[bytes], reads_between: bool
) -> None:
    first, *rest = pieces
    async with connected(port) as connection:
        await connection.send(ON_LOOP + SIZED + TASK + first + b"".join([] if reads_between else rest))
        assert (await connection.response()).status == 200
        if reads_between:
            await connection.send(*rest)
        assert (await connection.response()).problem == "unknown-method"
        assert await connection.is_closed()


@pytest.mark.parametrize(
    "sent",
    [
        *(
            b"POST /v1/on_loop HTTP/%b\r\nHost: x\r\n\r\n" % version
            for version in (b"2.0", b"0.9", b"1.2", b"3.0", b"3")
        ),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x12\x04",
        b"PRI * HTTP/2.0\r\n\r\n",
        b"POST /v1/on_loop\r\n\r\n",
        b"GET /\r\n",
    ],
    ids=lambda sent: repr(sent[:40]),
)
async def test_other_versions_are_505(port: int, sent: bytes) -> None:
    response = await ask(port, sent)
    assert (response.status, response.problem, response.fields["connection"]) == (505, "unsupported-version", "close")


async def test_a_mistake_behind_a_request_is_answered_behind_it(port: int) -> None:
    async with connected(port) as connection:
        await connection.send(ON_LOOP + b'Content-Length: 29\r\n\r\n{"tag":"first","seconds":0.3}' + b"\x16\x03\x01")
        assert (await connection.response()).json["tag"] == "first"
        assert (await connection.response()).problem == "malformed"
        assert await connection.is_closed()


async def test_requests_that_come_together_are_answered_in_order(port: int) -> None:
    tasks = [b'{"tag":"%d","seconds":%.1f}' % (number, 0.3 if number % 7 == 0 else 0) for number in range(20)]
    async with connected(port) as connection:
        await connection.send(b"".join(ON_LOOP + b"Content-Length: %d\r\n\r\n" % len(task) + task for task in tasks))
        assert [(await connection.response()).json["tag"] for _ in tasks] == [str(number) for number in range(20)]


async def test_nothing_behind_a_request_that_closes_is_served(port: int) -> None:
    async with connected(port) as connection:
        await connection.send(TURN_ROUND + b"Connection: close\r\n" + SIZED + TASK + TURN_ROUND + SIZED + TASK)
        assert (await connection.response()).body == TASK[::-1]
        assert await connection.is_closed()


async def test_http_1_0_is_kept_alive_where_it_asks_for_it(port: int) -> None:
    head = b"POST /v1/turn_round HTTP/1.0\r\nContent-Type: image/png\r\n"
    async with connected(port) as connection:
        await connection.send(head + b"Connection: keep-alive\r\n" + SIZED + TASK)
        response = await connection.response()
        assert (response.body, response.fields["connection"]) == (TASK[::-1], "keep-alive")
        await connection.send(head + SIZED + TASK)
        assert (await connection.response()).fields["connection"] == "close"
        assert await connection.is_closed()


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"/v1/turn_round?a=/v1/unknown", 200),
        (b"http://somewhere.else/v1/turn_round?x", 200),
        (b"HTTPS://somewhere.else:80/v1/turn_round", 200),
        (b"/v1%2Fturn_round", 404),
        (b"/v1/turn%5Fround", 404),
        (b"/v1/%zz", 404),
        (b"/v1/./turn_round", 404),
        (b"//v1/turn_round", 404),
        (b"http://somewhere.else", 404),
        (b"*", 404),
    ],
)
async def test_a_path_is_compared_as_it_was_sent(port: int, target: bytes, status: int) -> None:
    head = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n" % target
    response = await ask(port, head + SIZED + TASK)
    assert response.status == status
    assert status == 200 or response.problem == "unknown-operation"


@pytest.mark.parametrize("method", [b"HEAD", b"OPTIONS", b"GET", b"TRACE", b"PROPFIND"])
async def test_another_method_is_405(port: int, method: bytes) -> None:
    async with connected(port) as connection:
        await connection.send(method + b" /v1/on_loop HTTP/1.1\r\nHost: x\r\n\r\n")
        response = await connection.response(has_body=method != b"HEAD")
        assert (response.status, response.fields["allow"]) == (405, "POST")
        assert response.fields["content-type"] == "application/problem+json"
        await connection.send(TURN_ROUND + SIZED + TASK)
        assert (await connection.response()).body == TASK[::-1], "the response to HEAD has no body"


async def test_every_response_has_a_date(port: int) -> None:
    for sent in (TURN_ROUND + SIZED + TASK, b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n", b"nonsense\r\n\r\n"):
        response = await ask(port, sent)
        assert abs(parsedate_to_datetime(response.fields["date"]).timestamp() - time.time()) < 5


async def test_a_length_may_have_zeros_before_it(port: int) -> None:
    async with connected(port) as connection:
        head = TURN_ROUND + b"Expect: 100-continue\r\nContent-Length: " + b"0" * 9000
        await connection.send(head + b"14\r\n\r\n")
        assert (await connection.response()).status == 100
        await connection.send(TASK + head + b"\r\n\r\n")
        assert (await connection.response()).body == TASK[::-1]
        assert (await connection.response()).body == b""


async def test_a_large_body_is_refused_by_its_own_size_and_the_connection_goes_on(port: int) -> None:
    async with connected(port) as connection:
        body = bytes(1_000_000)
        await connection.send(ON_LOOP + b"Content-Length: %d\r\n\r\n" % len(body), body, TURN_ROUND + SIZED + TASK)
        response = await connection.response()
        assert (response.status, response.json["max_size"]) == (413, 900_000)
        assert response.json["detail"] == "the body is 1000000 bytes, more than the 900000 bytes allowed"
        assert (await connection.response()).body == TASK[::-1]


async def test_a_slow_reader_of_many_responses_harms_nobody(port: int) -> None:
    big = bytes(800_000)
    async with connected(port) as connection:
        connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
        requests = (TURN_ROUND + b"Content-Length: %d\r\n\r\n" % len(big) + big) * 12
        sending = asyncio.create_task(connection.send(requests))
        assert (await ask(port, TURN_ROUND + SIZED + TASK)).body == TASK[::-1]
        connection.writer.transport.resume_reading()  # type: ignore[attr-defined]
        for _ in range(12):
            assert (await connection.response()).body == big
        await sending


async def test_refusals_before_a_route_are_counted(port: int, pair: Pair) -> None:
    def counted() -> list[float]:
        kinds = ("malformed", "unsupported-transfer-coding", "unsupported-version", "unknown-operation")
        return [pair.gateway.metric("forebay_rejected_total", reason=kind) for kind in kinds]

    before = await asyncio.to_thread(counted)
    await ask(port, b"nonsense\r\n\r\n")
    await ask(port, ON_LOOP + b"Transfer-Encoding: gzip\r\n\r\n")
    await ask(port, b"GET / HTTP/2.0\r\nHost: x\r\n\r\n")
    await ask(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")

    async def counted_all() -> bool:
        return [now - then for now, then in zip(await asyncio.to_thread(counted), before, strict=True)] == [1, 1, 1, 1]

    await until(counted_all, 5, "each refusal is counted")


async def test_the_gateway_is_well_after_all_this(pair: Pair) -> None:
    async with httpx.AsyncClient(base_url=pair.gateway.url, timeout=60) as client:
        assert (await client.post("/v1/on_loop", json={"tag": "last"})).status_code == 200
    assert pair.gateway.is_ready()
    assert "Traceback" not in pair.gateway.output
