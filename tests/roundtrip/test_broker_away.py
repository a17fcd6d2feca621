"""The broker goes away, frozen or killed: nobody hangs, and when it is back everything works again by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial

import httpx
import pytest

from forebay_cli import exit_codes
from tests.support.brokers import Broker
from tests.support.services import Site
from tests.support.waiting import until

ANSWERED_WITHIN = 2.0
"""Seconds beyond an operation's deadline after which an answer would count as a hang, on a busy machine."""


async def ask(client: httpx.AsyncClient, operation: str, tag: str, seconds: float = 0.0) -> httpx.Response:
    return await client.post(f"/v1/{operation}", json={"tag": tag, "seconds": seconds})


def is_broker_away(response: httpx.Response) -> bool:
    assert response.status_code == 503, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["type"] == "urn:forebay:problem:broker-away"
    assert int(response.headers["retry-after"]) >= 1
    return True


@pytest.mark.parametrize(("go_away", "come_back"), [("pause", "resume"), ("kill", "start"), ("stop", "start")])
async def test_nobody_hangs_and_everything_works_again_afterwards(
    own_broker: Callable[[], Broker], make_site: Callable[..., Site], go_away: str, come_back: str
) -> None:
    broker = await asyncio.to_thread(own_broker)
    site = make_site(broker)
    gateway, processor = await asyncio.to_thread(site.pair)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=120) as client:
        assert (await ask(client, "on_loop", "before")).status_code == 200

        # held while it goes away: the handler is done before the reply can be sent
        held = asyncio.create_task(ask(client, "long_on_loop", "held", 100))
        await until(lambda: site.times_run("long_on_loop")["held"], 20, "the handler is running")
        await asyncio.to_thread(getattr(broker, go_away))
        site.let_end("held")

        # at once, while nobody has noticed; 1 s is the operation's deadline
        for _ in range(2):
            begun = time.monotonic()
            assert is_broker_away(await ask(client, "brief_on_loop", "away"))
            assert time.monotonic() - begun < 1 + ANSWERED_WITHIN
        await until(lambda: not gateway.is_ready(), 30, "the gateway says that it is not ready")
        begun = time.monotonic()
        assert is_broker_away(await ask(client, "on_loop", "noticed"))
        assert time.monotonic() - begun < 1, "refused at once, and nothing produced"

        await asyncio.to_thread(getattr(broker, come_back))
        await until(gateway.is_ready, 60, "the gateway is ready again")
        assert (await held).status_code == 200, "its reply arrived when it could"
        for operation in ("on_loop", "in_thread", "in_process", "quick_in_bulk"):
            response = await until(partial(_once_answered, client, operation), 60, f"{operation} is answered")
            assert response.json()["tag"] == "after"
    assert gateway.process.poll() is None
    assert processor.process.poll() is None
    assert "noticed" not in site.times_run("on_loop")
    assert "Traceback" not in gateway.output
    for service in (gateway, processor):
        assert len(service.output.splitlines()) < 100, "the log can be read"


async def _once_answered(client: httpx.AsyncClient, operation: str) -> httpx.Response | None:
    response = await ask(client, operation, "after")
    return response if response.status_code == 200 else None


@pytest.mark.parametrize("go_away", ["pause", "kill"])
async def test_both_leave_in_bounded_time_while_the_broker_is_away(
    own_broker: Callable[[], Broker], make_site: Callable[..., Site], go_away: str
) -> None:
    broker = await asyncio.to_thread(own_broker)
    site = make_site(broker, FOREBAY_SHUTDOWN_GRACE="3", FOREBAY_DRAIN="3")
    gateway, processor = await asyncio.to_thread(site.pair)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
        held = asyncio.create_task(ask(client, "long_on_loop", "held", 100))
        await until(lambda: site.times_run("long_on_loop")["held"], 20, "the handler is running")
        await asyncio.to_thread(getattr(broker, go_away))
        site.let_end("held")
        await until(lambda: site.runs("long_on_loop", "end"), 20, "the handler is done, and cannot reply")
        gateway.terminate()
        processor.terminate()
        response = await held
        assert response.status_code == 503
        assert response.json()["type"] == "urn:forebay:problem:stopping"
        assert await asyncio.to_thread(gateway.exit_code, 25) == 0
        assert await asyncio.to_thread(processor.exit_code, 25) == exit_codes.UNAVAILABLE
        assert f"forebay: producing to {site.namespace}replies." in processor.output, "it says what it leaves behind"
