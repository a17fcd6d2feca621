"""Handlers of every kind, from HTTP to HTTP: what they answer, and what becomes of them at the deadline."""

from __future__ import annotations

import os

import httpx
import psutil
import pytest

from tests.roundtrip.conftest import Pair
from tests.support.waiting import until


def is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


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
    response = await client.post("/v1/brief_on_loop", json={"tag": "slow", "seconds": 60})
    assert response.status_code == 504
    assert pair.site.times_run("brief_on_loop")["slow"] == 1
    assert not pair.site.runs("brief_on_loop", "end")


async def test_a_handler_in_a_thread_is_told_at_the_deadline(client: httpx.AsyncClient, pair: Pair) -> None:
    response = await client.post("/v1/brief_in_thread", json={"tag": "slow", "seconds": 60})
    assert response.status_code == 504
    await until(lambda: pair.site.runs("brief_in_thread", "cancelled"), 5, "the handler sees job.cancelled")


async def test_a_cpu_handler_is_killed_at_the_deadline(client: httpx.AsyncClient, pair: Pair) -> None:
    response = await client.post("/v1/brief_in_process", json={"tag": "deaf", "seconds": 60})
    assert response.status_code == 504
    runs = await until(lambda: pair.site.runs("brief_in_process"), 5, "the handler was begun")
    assert [run.tag for run in runs] == ["deaf"]
    assert runs[0].pid != os.getpid()
    await until(lambda: not is_alive(runs[0].pid), 5, "the handler's process is gone")
    response = await client.post("/v1/in_process", json={"tag": "next"})
    assert response.status_code == 200, "another process takes its place"
