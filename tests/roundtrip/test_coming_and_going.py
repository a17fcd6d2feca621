"""Gateways and processors come and go, each without the other: start, refusal to start, and an orderly end."""

from __future__ import annotations

import asyncio
import re
import socket
import time

import httpx
import pytest

from tests.support.ports import taken_port
from tests.support.services import Gateway, Service, Site
from tests.support.waiting import until


def said_by(service: Service) -> list[str]:
    """The lines with which a command that did not work ends."""
    return [line for line in service.output.splitlines() if line.startswith("forebay: ")]


async def test_a_gateway_serves_an_operation_as_soon_as_a_processor_brings_it(site: Site) -> None:
    gateway = site.gateway()
    async with httpx.AsyncClient(base_url=gateway.url, timeout=30) as client:
        response = await client.post("/v1/shout", json={"text": "hello"})
        assert response.status_code == 404
        assert response.json()["type"] == "urn:forebay:problem:unknown-operation"

        processor = site.start_processor("latecomer")
        await asyncio.to_thread(processor.wait_for, "runs shout in 16 slots")
        begun = time.monotonic()
        response = await until(lambda: _once_served(client), 20, "the operation is served")
        assert response.status_code == 200, response.text
        assert response.json() == {"text": "HELLO"}
        assert time.monotonic() - begun < 1, "within a second of the processor's start"


async def _once_served(client: httpx.AsyncClient) -> httpx.Response | None:
    response = await client.post("/v1/shout", json={"text": "hello"})
    return None if response.status_code == 404 else response


async def test_an_incompatible_app_is_refused_and_the_running_one_goes_on(site: Site) -> None:
    gateway, running = site.pair()
    refused = site.start_processor("roundtrip_changed")
    assert await asyncio.to_thread(refused.exit_code) == 2
    [sentence] = said_by(refused)
    assert "operation 'echo' does not fit the catalog at field 'request.integer'" in sentence
    assert "Traceback" not in refused.output
    async with httpx.AsyncClient(base_url=gateway.url, timeout=30) as client:
        response = await client.post("/v1/on_loop", json={"tag": "on"})
        assert response.json() == {"tag": "on", "pid": running.pid}
        assert (await client.post("/v1/newcomer", json={})).status_code == 404, "none of the app was announced"
        problem = (await client.post("/v1/echo", json={"integer": "1"})).json()
        assert "expected an integer" in problem["detail"], "the catalog is as it was"


async def test_a_second_gateway_answers_for_the_same_processors(site: Site) -> None:
    first, processor = site.pair()
    second = site.gateway()
    for gateway in (first, second):
        response = await asyncio.to_thread(httpx.post, f"{gateway.url}/v1/on_loop", json={"tag": "x"}, timeout=30)
        assert response.json() == {"tag": "x", "pid": processor.pid}
        assert response.headers["forebay-request-id"].startswith(f"{gateway.instance}-")


async def test_a_gateway_finishes_what_it_holds_before_it_leaves(site: Site) -> None:
    gateway, _ = site.pair()
    async with httpx.AsyncClient(base_url=gateway.url, timeout=30) as client:
        # a connection for each, open beforehand: new ones are not taken any more
        held = [asyncio.create_task(_call(client, "held", 100, "long_on_loop")) for _ in range(5)]
        await until(lambda: site.times_run("long_on_loop")["held"] == 5, 20, "the handlers are running")
        gateway.terminate()
        await until(lambda: _unready(gateway), 20, "the gateway says that it is not ready")
        assert not any(task.done() for task in held), "and still holds its requests"
        site.let_end("held")
        assert [response.status_code for response in await asyncio.gather(*held)] == [200] * 5
        assert await asyncio.to_thread(gateway.exit_code) == 0
        with pytest.raises(httpx.ConnectError):
            await client.get("/v1/on_loop")


async def _call(client: httpx.AsyncClient, tag: str, seconds: float, operation: str = "on_loop") -> httpx.Response:
    return await client.post(f"/v1/{operation}", json={"tag": tag, "seconds": seconds})


async def _unready(gateway: Gateway) -> bool:
    async with httpx.AsyncClient(timeout=20) as client:
        response = await client.get(f"{gateway.admin_url}/health/ready")
    return response.status_code == 503 and "stopping" in response.json()["reason"]


async def test_a_gateway_that_cannot_hold_longer_says_so_to_whoever_waits(site: Site) -> None:
    gateway, _ = site.pair(FOREBAY_SHUTDOWN_GRACE="0.5")
    async with httpx.AsyncClient(base_url=gateway.url, timeout=30) as client:
        held = asyncio.create_task(_call(client, "held", 20))
        await until(lambda: site.times_run("on_loop")["held"], 15, "the handler is running")
        gateway.terminate()
        response = await held
        assert response.status_code == 503
        assert response.json()["type"] == "urn:forebay:problem:stopping"
        assert int(response.headers["retry-after"]) >= 1
        assert await asyncio.to_thread(gateway.exit_code) == 0


async def test_a_client_that_never_finishes_its_request_does_not_keep_a_gateway(site: Site) -> None:
    gateway = await asyncio.to_thread(site.gateway, FOREBAY_SHUTDOWN_GRACE="1")
    await asyncio.to_thread(site.processor)
    idle, dribbling = [await asyncio.open_connection("127.0.0.1", gateway.port) for _ in range(2)]
    head = b"POST /v1/on_loop HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 28\r\n\r\n{"
    dribbling[1].write(head)
    await dribbling[1].drain()
    # the second request on a connection of its own shows that what came before it has been read
    await asyncio.to_thread(httpx.get, f"{gateway.url}/v1/on_loop", timeout=20)
    gateway.terminate()
    assert await asyncio.to_thread(gateway.exit_code, 20) == 0
    for _, writer in (idle, dribbling):
        writer.close()


@pytest.mark.parametrize(("name", "flag"), [("HTTP", "--port"), ("ADMIN", "--admin-port")])
def test_a_taken_port_is_one_sentence(site: Site, name: str, flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        gateway = site.start_gateway(**{f"FOREBAY_{name}_PORT": str(port)})
        assert gateway.exit_code() == 2
        [sentence] = gateway.output.splitlines()
        problem, _, advice = sentence.partition("; ")
        assert problem == f"forebay: cannot listen on 127.0.0.1:{port}: Address already in use"
        assert advice == f"choose another with {flag} or FOREBAY_{name}_PORT"


def test_an_app_that_is_not_there_is_one_sentence(site: Site) -> None:
    processor = site.start_processor("nowhere:app")
    assert processor.exit_code() == 2
    [line] = processor.output.splitlines()
    assert re.match(r"forebay: app 'nowhere:app': there is no module 'nowhere' in ", line)


def test_a_cluster_that_is_not_there_is_one_sentence(site: Site) -> None:
    with taken_port() as port:
        nobody = f"127.0.0.1:{port}"
        started = [
            site.start_gateway(FOREBAY_BOOTSTRAP_SERVERS=nobody),
            site.start_processor("latecomer", FOREBAY_BOOTSTRAP_SERVERS=nobody),
        ]
        for service in started:
            assert service.exit_code() == 75
            assert [line for line in service.output.splitlines() if "Traceback" in line] == []
            [sentence] = said_by(service)
            assert nobody in sentence
