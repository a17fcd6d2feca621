"""Handlers that run for longer than any limit of Kafka's: each runs once, and others go on meanwhile."""

from __future__ import annotations

import asyncio
import time

import httpx

from tests.support.services import Processor, Site
from tests.support.waiting import until

KINDS = ("long_on_loop", "long_in_thread", "long_in_process")


async def ask(client: httpx.AsyncClient, operation: str, tag: str, seconds: float = 0.0) -> httpx.Response:
    return await client.post(f"/v1/{operation}", json={"tag": tag, "seconds": seconds})


async def test_a_handler_that_outlasts_the_poll_limit_runs_once(site: Site) -> None:
    """30 s against a poll limit of 10 s, for a handler of each kind, all in one partition."""
    limits = {"FOREBAY_PARTITIONS": "1", "FOREBAY_POLL_LIMIT": "10", "FOREBAY_SLOTS": "16"}
    gateway, processor = site.pair(**limits)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=120) as client:
        held = {kind: asyncio.create_task(ask(client, kind, "long", 30)) for kind in KINDS}
        await until(lambda: len(site.runs()) == 3, 20, "the handlers are running")
        asked = 0
        while not any(task.done() for task in held.values()):
            begun = time.monotonic()
            response = await ask(client, "quick_in_bulk", f"meanwhile-{asked}")
            assert response.status_code == 200
            assert time.monotonic() - begun < 15, "nobody waits behind them"
            asked += 1
            await asyncio.wait(held.values(), timeout=1)
        responses = await asyncio.gather(*held.values())
        assert [response.status_code for response in responses] == [200] * 3
        assert asked > 5
    for kind in KINDS:
        assert site.times_run(kind) == {"long": 1}
        assert len(site.runs(kind, "end")) == 1
    assert set(site.times_run("quick_in_bulk").values()) == {1}
    assert processor.output.count("bulk: reads ") == 1, "the group never thought it was gone"


async def test_a_processor_that_is_full_keeps_its_partitions(site: Site) -> None:
    limits = {"FOREBAY_SLOTS": "3", "FOREBAY_POLL_LIMIT": "3", "FOREBAY_SESSION_TIMEOUT": "6"}
    gateway, processor = site.pair(**limits)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
        # the one slot of the tier, and more jobs than may wait in memory, so that its partitions are paused
        held = [asyncio.create_task(ask(client, "long_on_loop", "long", 50))]
        await until(lambda: site.runs("long_on_loop"), 20, "the long job is running")
        begun = time.monotonic()
        held += [asyncio.create_task(ask(client, "quick_in_bulk", f"behind-{number}")) for number in range(100)]
        response = await ask(client, "on_loop", "another tier")
        assert response.status_code == 200
        await until(lambda: time.monotonic() > begun + 6, 10, "twice the poll limit is over")
        site.let_end("long")
        responses = await asyncio.gather(*held)
        assert {response.status_code for response in responses} == {200}
    assert site.times_run("long_on_loop") == {"long": 1}
    assert set(site.times_run("quick_in_bulk").values()) == {1}
    assert processor.output.count("bulk: reads ") == 1


async def test_a_handler_that_outlasts_a_rebalance_runs_once(site: Site) -> None:
    gateway, first = site.pair(FOREBAY_POLL_LIMIT="4")
    async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
        # in no more partitions than are left to it when another joins
        held = {
            f"{kind}-{number}": asyncio.create_task(ask(client, kind, f"{kind}-{number}", 200))
            for kind in KINDS[:2]
            for number in range(3)
        }
        await until(lambda: len(site.runs()) == 6, 20, "the handlers are running")
        begun = time.monotonic()
        second = await asyncio.to_thread(site.processor, FOREBAY_POLL_LIMIT="4")
        await until(lambda: _has_joined(first), 20, "the group has been shared out anew")
        # the newcomer has a share of the work, too
        await until(lambda: _answered_by(client, second), 20, "the second processor answers")
        await until(lambda: time.monotonic() > begun + 8, 20, "twice the poll limit is over")
        assert not any(task.done() for task in held.values()), "the handlers still run"
        for tag in held:
            site.let_end(tag)
        responses = await asyncio.gather(*held.values())
        assert {response.status_code for response in responses} == {200}
    for kind in KINDS[:2]:
        assert set(site.times_run(kind).values()) == {1}


def _has_joined(processor: Processor) -> bool:
    return processor.output.count("bulk: reads ") >= 2


async def _answered_by(client: httpx.AsyncClient, processor: Processor) -> bool:
    response = await ask(client, "quick_in_bulk", "share")
    return bool(response.json()["pid"] == processor.pid)
