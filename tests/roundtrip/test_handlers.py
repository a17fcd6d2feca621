"""Handlers of every kind, from HTTP to HTTP: what they answer, and what becomes of them at the deadline."""

from __future__ import annotations

import os

import httpx
import psutil
import pytest

from tests.roundtrip.conftest import Pair
from tests.support.processes import is_alive
from tests.support.waiting import until


async def expired_in_mid_run(client: httpx.AsyncClient, pair: Pair, operation: str) -> str:
    """Have the deadline of a job pass while it runs; returns its tag.

    On a machine that stands still for a second it may pass before, so it is tried again.
    """
    for number in range(20):
        tag = f"slow-{number}"
        response = await client.post(f"/v1/{operation}", json={"tag": tag, "seconds": 60})
        assert response.status_code == 504
        if pair.site.times_run(operation)[tag]:
            return tag
    raise AssertionError(f"no {operation} was begun before its deadline")


@pytest.mark.parametrize("operation", ["on_loop", "in_thread"])
async def test_a_handler_on_the_loop_or_in_a_thread_answers(
    client: httpx.AsyncClient, pair: Pair, operation: str
) -> None:
    response = await client.post(f"/v1/{operation}", json={"tag": "one"})
    assert response.status_code == 200, response.text
    assert response.json() == {"tag": "one", "pid": pair.processor.pid}


async def test_a_cpu_handler_answers_from_a_process_of_its_own(client: httpx.AsyncClient, pair: Pair) -> None:
    response = await client.post("/v1/in_process", json={"tag": "one"})
    assert response.status_code == 200, response.text
    assert response.json()["tag"] == "one"
    assert psutil.Process(response.json()["pid"]).ppid() == pair.processor.pid


async def test_a_handler_on_the_loop_is_cancelled_at_the_deadline(client: httpx.AsyncClient, pair: Pair) -> None:
    tag = await expired_in_mid_run(client, pair, "brief_on_loop")
    assert pair.site.times_run("brief_on_loop")[tag] == 1
    assert not pair.site.runs("brief_on_loop", "end")


async def test_a_handler_in_a_thread_is_told_at_the_deadline(client: httpx.AsyncClient, pair: Pair) -> None:
    tag = await expired_in_mid_run(client, pair, "brief_in_thread")

    def is_cancelled() -> bool:
        return tag in {run.tag for run in pair.site.runs("brief_in_thread", "cancelled")}

    await until(is_cancelled, 20, "the handler sees job.cancelled")


async def test_a_cpu_handler_is_killed_at_the_deadline(client: httpx.AsyncClient, pair: Pair) -> None:
    tag = await expired_in_mid_run(client, pair, "brief_in_process")
    [run] = [run for run in pair.site.runs("brief_in_process") if run.tag == tag]
    assert run.pid not in (os.getpid(), pair.processor.pid)
    await until(lambda: not is_alive(run.pid), 20, "the handler's process is gone")
    response = await client.post("/v1/in_process", json={"tag": "next"})
    assert response.status_code == 200, "another process takes its place"
