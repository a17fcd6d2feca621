"""Two apps in one namespace: each has queues, groups and trouble of its own; a name may change hands."""

from __future__ import annotations

import asyncio
from functools import partial

import httpx
from aiokafka.admin import AIOKafkaAdminClient

from forebay.settings import TIERS
from forebay_schemas import topics as topic_names
from tests.support.services import APP, Site
from tests.support.waiting import until
from tests.support.wire import committed, ends, read_all

OTHER = "latecomer"
CALLS = 300
"""Calls of each app."""
AT_ONCE = 32


async def test_two_apps_side_by_side_under_load(site: Site) -> None:
    gateway = await asyncio.to_thread(site.gateway)
    await asyncio.to_thread(site.processor)
    other = await asyncio.to_thread(site.processor, OTHER)
    limit = asyncio.Semaphore(AT_ONCE)

    async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:

        async def call(number: int, app: str) -> httpx.Response:
            async with limit:
                if app == APP:
                    return await client.post("/v1/on_loop", json={"tag": f"call {number}"})
                return await client.post("/v1/shout", json={"text": f"call {number}"})

        await until(lambda: gateway.serves("shout") and gateway.serves("on_loop"), 30, "both apps are served")
        responses = await asyncio.gather(*(call(number, app) for number in range(CALLS) for app in (APP, OTHER)))
        assert {response.status_code for response in responses} == {200}
        assert {response.json()["text"] for response in responses[1::2]} == {f"CALL {n}" for n in range(CALLS)}
        for app in (APP, OTHER):
            assert await read_all(site.settings, topic_names.dead(site.namespace, app)) == []
            await until(partial(lag, site, app, 0), 30, f"everything of {app} is committed")
        assert await names(site) == {
            f"{site.namespace}{app}.{kind}" for app in (APP, OTHER) for kind in (*TIERS, "retries")
        }

        await asyncio.to_thread(other.kill)
        waiting = [asyncio.create_task(call(number, OTHER)) for number in range(5)]
        await until(partial(lag, site, OTHER, 5), 20, "the jobs of the app without a processor wait")
        assert (await call(0, APP)).status_code == 200
        await until(partial(lag, site, APP, 0), 30, "the other app has no backlog")
        await asyncio.to_thread(site.processor, OTHER)
        assert {response.status_code for response in await asyncio.gather(*waiting)} == {200}


async def lag(site: Site, app: str, wanted: int) -> bool:
    """Whether so many interactive jobs of an app are not committed."""
    found = await ends(site.settings, topic_names.jobs(site.namespace, app, "interactive"), site.settings.partitions)
    done = await committed(site.settings, app, "interactive")
    return sum(end - done.get(partition, 0) for partition, end in found.items()) == wanted


async def names(site: Site) -> set[str]:
    """The consumer groups of the site, as Kafka lists them."""
    client = AIOKafkaAdminClient(bootstrap_servers=site.settings.brokers)
    await client.start()
    try:
        return {group[0] for group in await client.list_consumer_groups() if group[0].startswith(site.namespace)}
    finally:
        await client.close()


async def test_an_operation_of_another_app_is_refused_naming_it(site: Site) -> None:
    await asyncio.to_thread(site.processor, OTHER)
    refused = site.start_processor("latecomers_rival")
    assert await asyncio.to_thread(refused.exit_code) == 2
    [sentence] = [line for line in refused.output.splitlines() if line.startswith("forebay: ")]
    assert "operation 'shout' of app 'rival' belongs to app 'latecomer'" in sentence
    assert "Traceback" not in refused.output


async def test_a_forgotten_operation_is_not_served_and_its_name_is_free(site: Site) -> None:
    gateway = await asyncio.to_thread(site.gateway)
    first = await asyncio.to_thread(site.processor, OTHER)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
        await until(lambda: gateway.serves("shout"), 30, "it is served")
        refused = await asyncio.to_thread(site.command, "operations", "--forget", "shout")
        assert (refused.returncode, refused.stdout) == (2, "")
        [sentence] = refused.stderr.splitlines()
        assert "forebay: operation 'shout' of app 'latecomer' is not forgotten, it has processors: " in sentence
        processor = sentence.partition("processors: ")[2].partition(";")[0]
        assert f" {processor} runs shout" in first.output, "it has the name that its log says"
        assert (await client.post("/v1/shout", json={"text": "on"})).json() == {"text": "ON"}

        first.terminate()
        await asyncio.to_thread(first.exit_code)
        forgotten = await asyncio.to_thread(site.command, "operations", "--forget", "shout")
        said = "Operation 'shout' of app 'latecomer' is forgotten, with its schemas.\n"
        assert (forgotten.returncode, forgotten.stdout, forgotten.stderr) == (0, said, "")
        await until(lambda: not gateway.serves("shout"), 1, "it is not served any more")
        assert (await client.post("/v1/shout", json={"text": "gone"})).status_code == 404

        await asyncio.to_thread(site.processor, "latecomers_rival")
        await until(lambda: gateway.serves("shout"), 30, "it is served again")
        answer = await client.post("/v1/shout", content=b"mine", headers={"content-type": "application/octet-stream"})
        assert (answer.status_code, answer.content) == (200, b"MINE")


async def test_an_operation_that_is_not_there_cannot_be_forgotten(site: Site) -> None:
    result = await asyncio.to_thread(site.command, "operations", "--forget", "shout")
    said = "forebay: there is no operation 'shout' in the catalog to forget: it is empty\n"
    assert (result.returncode, result.stdout, result.stderr) == (2, "", said)
