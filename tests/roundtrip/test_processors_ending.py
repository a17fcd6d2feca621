"""A processor ends, in order or by force: what was accepted is answered, and nothing is committed before it is done."""

from __future__ import annotations

import asyncio
import itertools
import signal
import time
from collections.abc import Callable

import httpx
import psutil

from forebay_schemas import topics as topic_names
from tests.support.brokers import Broker
from tests.support.processes import has_ended
from tests.support.services import APP, Processor, Site
from tests.support.waiting import until
from tests.support.wire import committed, read_all

NO_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=None)


async def ask(client: httpx.AsyncClient, operation: str, tag: str, seconds: float = 0.0) -> httpx.Response:
    return await client.post(f"/v1/{operation}", json={"tag": tag, "seconds": seconds})


class Load:
    """Requests at a steady rate, whether or not there are answers, until the block is left."""

    def __init__(self, client: httpx.AsyncClient, rate: int) -> None:
        self._client, self._rate = client, rate
        self.requests: dict[str, asyncio.Task[httpx.Response]] = {}

    async def __aenter__(self) -> Load:
        self._asking = asyncio.create_task(self._ask())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._asking.cancel()
        await asyncio.wait([self._asking, *self.requests.values()])

    async def _ask(self) -> None:
        begun = time.monotonic()
        for number in itertools.count():
            await asyncio.sleep(max(0.0, begun + number / self._rate - time.monotonic()))
            tag = f"steady-{number}"
            self.requests[tag] = asyncio.create_task(ask(self._client, "on_loop", tag, 0.02))

    async def goes_on(self, requests: int) -> None:
        """Wait until so many more were made."""
        wanted = len(self.requests) + requests
        await until(lambda: len(self.requests) >= wanted, 60, f"{requests} more requests are made")

    async def responses(self) -> dict[str, httpx.Response]:
        """All responses, by their tags."""
        return dict(zip(self.requests, await asyncio.gather(*self.requests.values()), strict=True))


def _share_of(processor: Processor, site: Site) -> int:
    """How many jobs a processor has begun."""
    return sum(run.pid == processor.pid for run in site.runs("on_loop"))


async def test_killing_a_processor_under_load_loses_nothing(site: Site) -> None:
    gateway, _ = site.pair()
    victim = await asyncio.to_thread(site.processor)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=60, limits=NO_LIMITS) as client:
        async with Load(client, 200) as load:
            await until(lambda: _share_of(victim, site) >= 200, 60, "both are at work")
            victim.kill()
            await load.goes_on(1000)
        responses = await load.responses()

    assert {response.status_code for response in responses.values()} == {200}
    assert all(response.json()["tag"] == tag for tag, response in responses.items()), "each gets its own answer"
    times = site.times_run("on_loop")
    assert set(times) == set(responses)
    assert set(times.values()) <= {1, 2}
    twice = sum(count == 2 for count in times.values())
    assert twice < len(times) / 4, "only what was fetched and not yet committed may run again"
    print(f"{twice} of {len(times)} ran twice")  # noqa: T201 - for whoever asks pytest to show it


async def test_a_processor_that_is_asked_to_end_answers_what_it_has_begun(site: Site) -> None:
    gateway, leaving = site.pair()
    async with httpx.AsyncClient(base_url=gateway.url, timeout=60, limits=NO_LIMITS) as client:
        operations = ("long_on_loop", "long_in_thread")
        held = [asyncio.create_task(ask(client, name, f"held-{n}", 100)) for n in range(3) for name in operations]
        await until(lambda: len(site.runs()) == 6, 20, "the handlers are running")
        leaving.terminate()
        await asyncio.to_thread(leaving.wait_for, "is stopping")
        for n in range(3):
            site.let_end(f"held-{n}")
        assert await asyncio.to_thread(leaving.exit_code) == 0
        # it waited for them, and for the acknowledgement of their replies: nobody else could have answered
        assert [response.status_code for response in await asyncio.gather(*held)] == [200] * 6
    assert set(site.times_run("long_on_loop").values()) == {1}


async def test_a_processor_that_is_asked_to_end_under_load_fails_nothing(site: Site) -> None:
    gateway, _ = site.pair()
    leaving = await asyncio.to_thread(site.processor)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=60, limits=NO_LIMITS) as client:
        async with Load(client, 200) as load:
            await until(lambda: _share_of(leaving, site) >= 100, 60, "both are at work")
            leaving.terminate()
            assert await asyncio.to_thread(leaving.exit_code, 30) == 0
            await load.goes_on(200)
        responses = await load.responses()
    assert {response.status_code for response in responses.values()} == {200}
    times = site.times_run("on_loop")
    assert set(times) == set(responses)
    assert set(times.values()) == {1}, "what was begun was finished and committed, the rest handed over"


async def test_a_long_job_at_the_end_keeps_nobody_waiting_but_who_shares_its_partition(site: Site) -> None:
    gateway, leaving = site.pair()
    async with httpx.AsyncClient(base_url=gateway.url, timeout=120) as client:
        held = asyncio.create_task(ask(client, "long_on_loop", "held", 100))
        await until(lambda: site.times_run("long_on_loop")["held"], 20, "the long job is running")
        other = await asyncio.to_thread(site.processor)
        leaving.terminate()
        await asyncio.to_thread(leaving.wait_for, "is stopping")
        urgent, same_tier = [], []
        for number in range(24):  # one after the other, so that each goes to the next of the 12 partitions
            urgent.append(asyncio.create_task(ask(client, "on_loop", f"urgent-{number}")))
            same_tier.append(asyncio.create_task(ask(client, "quick_in_bulk", f"bulk-{number}")))
            await asyncio.sleep(0.02)
        responses = await asyncio.gather(*urgent)
        await until(lambda: sum(task.done() for task in same_tier) >= 22, 30, "all but its own partition goes on")
        assert not held.done()
        site.let_end("held")
        assert (await held).json() == {"tag": "held", "pid": leaving.pid}
        responses += await asyncio.gather(*same_tier)
        assert await asyncio.to_thread(leaving.exit_code) == 0
    assert {response.status_code for response in responses} == {200}
    assert {response.json()["pid"] for response in responses} == {other.pid}
    for operation in ("long_on_loop", "on_loop", "quick_in_bulk"):
        assert set(site.times_run(operation).values()) == {1}


async def test_a_processor_that_was_frozen_begins_nothing_that_others_have_run(site: Site) -> None:
    gateway, frozen = site.pair(FOREBAY_SLOTS="4")
    async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
        held = [asyncio.create_task(ask(client, "on_loop", f"job-{number}", 0.5)) for number in range(16)]
        await until(lambda: site.runs("on_loop"), 20, "some are running, and the others wait in memory")
        frozen.process.send_signal(signal.SIGSTOP)
        await asyncio.to_thread(site.processor, FOREBAY_SLOTS="4")
        responses = await asyncio.gather(*held)
        assert {response.status_code for response in responses} == {200}
        before = len(site.runs("on_loop"))
        frozen.process.send_signal(signal.SIGCONT)
        await until(lambda: frozen.output.count("interactive: reads ") >= 2, 30, "it has joined its group anew")
        await until(lambda: _answered_by(client, frozen), 30, "it takes part again")
    assert not [run for run in site.runs("on_loop")[before:] if run.tag.startswith("job-")]


async def test_what_does_not_end_within_the_drain_is_handed_to_another(site: Site) -> None:
    gateway, leaving = site.pair(FOREBAY_DRAIN="0.5")
    async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
        operations = ("long_on_loop", "long_in_thread", "long_in_process")
        held = [asyncio.create_task(ask(client, name, "long", 100)) for name in operations]
        await until(lambda: len(site.runs()) == 3, 20, "the handlers are running")
        leaving.terminate()
        other = await asyncio.to_thread(site.processor)
        assert await asyncio.to_thread(leaving.exit_code) == 0
        await until(lambda: len(site.runs()) == 6, 20, "they are running again")
        site.let_end("long")
        responses = await asyncio.gather(*held)
    assert [response.status_code for response in responses] == [200] * 3
    for name in operations:
        assert site.times_run(name)["long"] == 2
    assert {response.json()["pid"] for response in responses[:2]} == {other.pid}
    assert psutil.Process(responses[2].json()["pid"]).ppid() == other.pid


async def test_nothing_is_committed_past_a_job_that_is_not_done(site: Site) -> None:
    gateway, victim = site.pair(FOREBAY_PARTITIONS="1")
    jobs = topic_names.jobs(site.namespace, APP, "bulk")
    async with httpx.AsyncClient(base_url=gateway.url, timeout=60, limits=NO_LIMITS) as client:
        before = await ask(client, "quick_in_bulk", "before")
        assert before.status_code == 200
        await until(lambda: _committed_to(site, 1), 20, "what is done is committed")
        held = asyncio.create_task(ask(client, "long_on_loop", "held", 100))
        await until(lambda: site.times_run("long_on_loop")["held"], 20, "the long job is running")
        quick = await asyncio.gather(*(ask(client, "quick_in_bulk", f"after-{n}") for n in range(50)))
        assert {response.status_code for response in quick} == {200}, "others of the partition go on meanwhile"
        assert await committed(site.settings, APP, "bulk") == {0: 1}
        assert not site.runs("long_on_loop", "end")

        victim.kill()
        site.let_end("held")
        heir = await asyncio.to_thread(site.processor, FOREBAY_PARTITIONS="1")
        response = await held
        assert response.json() == {"tag": "held", "pid": heir.pid}, "it was run again"
        ends = {0: len(await read_all(site.settings, jobs))}
        await until(lambda: _committed_to(site, ends[0]), 30, "everything is committed")
    assert site.times_run("long_on_loop") == {"held": 2}
    assert site.times_run("quick_in_bulk")["before"] == 1


async def _committed_to(site: Site, offset: int) -> bool:
    return await committed(site.settings, APP, "bulk") == {0: offset}


async def test_a_killed_processor_takes_its_cpu_handlers_with_it(site: Site) -> None:
    gateway, victim = site.pair()
    async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
        abandoned = asyncio.create_task(ask(client, "in_process", "deaf", 25))
        [run] = await until(lambda: site.runs("in_process"), 15, "the handler is running")
        process = psutil.Process(run.pid)
        victim.kill()
        await until(lambda: has_ended(process), 20, "its process is gone")
        abandoned.cancel()
        await asyncio.gather(abandoned, return_exceptions=True)


async def test_a_processor_ends_soon_also_while_the_broker_does_not_answer(
    own_broker: Callable[[], Broker], make_site: Callable[..., Site]
) -> None:
    broker = await asyncio.to_thread(own_broker)
    site = make_site(broker, FOREBAY_DRAIN="2")
    gateway, processor = await asyncio.to_thread(site.pair)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
        held = [asyncio.create_task(ask(client, "on_loop", f"held-{number}", 1)) for number in range(3)]
        await until(lambda: len(site.runs("on_loop")) == 3, 20, "the handlers are running")
        broker.pause()
        try:
            processor.terminate()
            # the drain, a second for the last replies, and what it takes to give up the broker
            await asyncio.to_thread(processor.exit_code, 2 + 10)
        finally:
            broker.resume()
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)
    assert "Traceback" not in processor.output


async def _answered_by(client: httpx.AsyncClient, processor: Processor) -> bool:
    response = await ask(client, "on_loop", "share")
    return bool(response.json()["pid"] == processor.pid)
