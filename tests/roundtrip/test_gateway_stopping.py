"""How a gateway stops: not ready first, then no new connections, then everybody who is held gets an answer."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import httpx

from tests.support.raw_http import connected
from tests.support.services import Gateway, Site
from tests.support.waiting import until, wait_until

HEAD = b"POST /v1/turn_round HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
LONG_GRACE = {"FOREBAY_SHUTDOWN_GRACE": "60"}
WELL_WITHIN_GRACE = 20.0


async def exit_code(gateway: Gateway, within: float) -> int:
    return await asyncio.to_thread(gateway.exit_code, within)


async def test_connections_are_taken_for_the_notice_and_then_no_more(site: Site) -> None:
    gateway = await asyncio.to_thread(lambda: site.gateway(FOREBAY_SHUTDOWN_NOTICE="8"))
    begun = time.monotonic()
    gateway.terminate()
    await asyncio.to_thread(wait_until, lambda: not gateway.is_ready(), 6, "it is not ready first")
    async with httpx.AsyncClient() as client:
        assert (await client.post(f"{gateway.url}/v1/unknown")).status_code == 404
    assert await exit_code(gateway, 30) == 0
    assert time.monotonic() - begun >= 8


async def test_clients_that_send_or_read_nothing_do_not_use_up_the_grace(site: Site) -> None:
    gateway, _ = await asyncio.to_thread(lambda: site.pair(**LONG_GRACE))
    async with (
        connected(gateway.port),
        connected(gateway.port) as idle,
        connected(gateway.port) as half_a_head,
        connected(gateway.port) as half_a_body,
        connected(gateway.port) as reader,
        connected(gateway.admin_port) as admin,
    ):
        await idle.send(HEAD + b"Content-Length: 3\r\n\r\nabc")
        assert (await idle.response()).body == b"cba"
        await half_a_head.send(HEAD)
        await half_a_body.send(HEAD + b"Content-Length: 3\r\n\r\na")
        await admin.send(b"GET /metrics HTTP/1.1\r\nHo")
        reader.writer.transport.pause_reading()  # type: ignore[attr-defined]
        big = HEAD + b"Content-Length: 800000\r\n\r\n" + bytes(800_000)
        sending = [asyncio.create_task(reader.send(big * 10))]
        await until(
            lambda: gateway.metric("forebay_requests_total", operation="turn_round", outcome="completed") >= 2,
            20,
            "it does not read",
        )
        gateway.terminate()
        assert await exit_code(gateway, WELL_WITHIN_GRACE) == 0
        for connection in (half_a_head, half_a_body):
            response = await connection.response()
            assert (response.status, response.problem) == (503, "stopping")
            assert "nothing was produced" in response.json["detail"]
        sending[0].cancel()
        await asyncio.gather(*sending, return_exceptions=True)
    assert "Traceback" not in gateway.output


async def test_whoever_is_held_gets_an_answer_at_the_second_signal(site: Site) -> None:
    gateway, _ = await asyncio.to_thread(lambda: site.pair(**LONG_GRACE))
    async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
        held = [asyncio.create_task(client.post("/v1/on_loop", json={"tag": "held", "seconds": 25})) for _ in range(5)]
        await until(lambda: site.times_run("on_loop")["held"] == 5, 20, "the handlers run")
        gateway.terminate()
        await asyncio.to_thread(wait_until, lambda: "requests held: 5" in gateway.output, 20, "it says what it holds")
        os.kill(gateway.pid, signal.SIGINT)
        for response in await asyncio.gather(*held):
            assert response.status_code == 503
            assert response.json()["type"] == "urn:forebay:problem:stopping"
            assert response.headers["connection"] == "close"
        assert await exit_code(gateway, WELL_WITHIN_GRACE) == 0
    assert "Traceback" not in gateway.output


async def test_a_call_that_is_held_when_the_gateway_stops_is_answered_with_its_result(site: Site) -> None:
    gateway, _ = await asyncio.to_thread(lambda: site.pair(**LONG_GRACE))
    async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
        held = asyncio.create_task(client.post("/v1/long_on_loop", json={"tag": "held", "seconds": 100}))
        await until(lambda: site.times_run("long_on_loop")["held"], 20, "the handler runs")
        gateway.terminate()
        await asyncio.to_thread(wait_until, lambda: "requests held: 1" in gateway.output, 20, "it says what it holds")
        site.let_end("held")
        response = await held
        assert (response.status_code, response.headers["connection"]) == (200, "close")
    assert await exit_code(gateway, WELL_WITHIN_GRACE) == 0
