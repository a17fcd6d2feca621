"""The catalog on a real Kafka: what processors announce, and whoever follows it sees."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import make_dataclass
from typing import Any

import pytest

from forebay import Forebay, topics
from forebay.app import Operation
from forebay.catalog import Catalog, CatalogEntry, announce
from forebay.codec import Schema
from forebay.errors import IncompatibleSchema, InvalidSchema
from forebay.kafka import PinnedConsumer, Producer
from forebay.messages import encode_operation
from forebay.settings import Settings
from forebay_schemas import topics as topic_names
from tests.support.waiting import until

BOUND = 30.0
V1: list[Any] = [("name", str)]
V2: list[Any] = [("name", str), ("size", int, dataclasses.field(default=3))]
BAD: list[Any] = [("name", int)]


def app(**versions: list[Any] | None) -> dict[str, Operation]:
    """Operations by name, each with a request of these fields, or of opaque bytes."""
    made = Forebay("shop")
    for name, fields in versions.items():

        def handler(request: Any) -> Any:
            return request

        handler.__annotations__ = {"request": make_dataclass("Request", fields) if fields else bytes, "return": bytes}
        made.operation(name=name)(handler)
    return made.operations


def schema(operation: Operation) -> Schema:
    assert operation.request.schema is not None
    return operation.request.schema


@pytest.fixture(autouse=True)
async def _topics(settings: Settings) -> None:
    await topics.ensure(settings, [topics.catalog(settings)])


@pytest.fixture
async def producer(settings: Settings, at_end: AsyncExitStack) -> Producer:
    producer = Producer(settings, "test")
    at_end.push_async_callback(producer.stop)
    await producer.start()
    return producer


OnChange = Callable[[str, CatalogEntry | None], None]
Follow = Callable[..., Awaitable[Catalog]]


@pytest.fixture
def follow(settings: Settings, at_end: AsyncExitStack) -> Follow:
    """Starts somebody who follows the catalog."""

    async def follow(on_change: OnChange | None = None) -> Catalog:
        catalog = Catalog(settings, "test", on_change)
        at_end.push_async_callback(catalog.stop)
        await catalog.start()
        task = asyncio.create_task(catalog.follow())

        async def end() -> None:
            assert not task.done(), f"nobody follows any more: {task}"
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        at_end.push_async_callback(end)
        return catalog

    return follow


async def records(settings: Settings) -> int:
    """How many were ever produced to the catalog."""
    consumer = PinnedConsumer(settings, "test", topic_names.catalog(settings.namespace))
    await consumer.start()
    try:
        return (await consumer.ends(BOUND))[0]
    finally:
        await consumer.stop()


async def put(settings: Settings, producer: Producer, name: str, value: bytes | None) -> int:
    return await producer.send_and_wait(
        topic_names.catalog(settings.namespace), value, key=name.encode(), timeout=BOUND
    )


async def test_a_follower_sees_what_is_announced(settings: Settings, producer: Producer, follow: Follow) -> None:
    seen: list[str] = []
    gateway = await follow(lambda name, _: seen.append(name))
    processor = await follow()
    assert gateway.entries == {}
    await announce(settings, producer, processor, app(greet=V1, convert=None), "p1")
    assert set(processor.entries) == {"greet", "convert"}
    await until(lambda: set(gateway.entries) == {"greet", "convert"}, BOUND, "the gateway knows both")
    assert seen == ["greet", "convert"]
    assert gateway.entries["greet"].message["announced_by"] == "p1"
    assert gateway.entries["convert"].requests is None


async def test_what_is_known_already_is_not_announced_again(
    settings: Settings, producer: Producer, follow: Follow
) -> None:
    await announce(settings, producer, await follow(), app(greet=V1), "p1")
    await announce(settings, producer, await follow(), app(greet=V1), "p2")
    assert await records(settings) == 1


async def test_a_follower_that_starts_later_finds_every_version(
    settings: Settings, producer: Producer, follow: Follow
) -> None:
    first, second = app(greet=V1), app(greet=V2)
    await announce(settings, producer, await follow(), first, "p1")
    await announce(settings, producer, await follow(), second, "p2")
    found = (await follow()).entries["greet"]
    assert found.message["request_schemas"] == [schema(each["greet"]).text for each in (second, first)]
    assert found.requests is not None
    written = schema(first["greet"]).encode({"name": "Ada"})
    assert found.requests.decode(written) == {"name": "Ada", "size": 3}


async def test_all_operations_are_announced_or_none(settings: Settings, producer: Producer, follow: Follow) -> None:
    running = await follow()
    await announce(settings, producer, running, app(greet=V1, sell=V1), "p1")
    before = await records(settings)
    with pytest.raises(IncompatibleSchema) as caught:
        await announce(settings, producer, running, app(new=V1, greet=V2, sell=BAD), "p2")
    assert (caught.value.operation, caught.value.field) == ("sell", "request.name")
    assert await records(settings) == before
    assert set(running.entries) == {"greet", "sell"}


async def test_an_older_processor_that_starts_again_changes_nothing(
    settings: Settings, producer: Producer, follow: Follow
) -> None:
    gateway = await follow()
    for version in (V1, V2, V1):
        await announce(settings, producer, await follow(), app(greet=version), "p")
    assert await records(settings) == 2
    await until(
        lambda: (entry := gateway.entries.get("greet")) and len(entry.message["request_schemas"]) == 2,
        BOUND,
        "both versions are known",
    )
    requests = gateway.entries["greet"].requests
    assert requests is not None
    assert requests.reader.fingerprint == schema(app(greet=V2)["greet"]).fingerprint


async def test_an_operation_whose_record_is_gone_is_gone(
    settings: Settings, producer: Producer, follow: Follow
) -> None:
    told: list[tuple[str, bool]] = []
    gateway = await follow(lambda name, entry: told.append((name, entry is not None)))
    await announce(settings, producer, await follow(), app(greet=V1, sell=V1), "p")
    await put(settings, producer, "greet", None)
    await until(lambda: set(gateway.entries) == {"sell"}, BOUND, "one operation is gone")
    assert told == [("greet", True), ("sell", True), ("greet", False)]


async def test_what_cannot_be_read_is_passed_over(
    settings: Settings, producer: Producer, follow: Follow, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await follow()
    await announce(settings, producer, await follow(), app(greet=V1), "p")
    good = (await follow()).entries["greet"].message
    for broken in (
        b"",
        b"nothing of the kind",
        encode_operation(good)[:-1],
        encode_operation({**good, "request_schemas": ['{"type": "no such"}']}),
        encode_operation({**good, "result_schemas": ['{"type": "record", "fields": []}']}),
        encode_operation({**good, "result_schemas": ["{"]}),
    ):
        await put(settings, producer, "greet", broken)
    await announce(settings, producer, await follow(), app(greet=V2, after=V1), "p")
    await until(lambda: "after" in gateway.entries, BOUND, "what came afterwards is known")
    assert gateway.entries["greet"].message["announced_by"] == "p"
    assert "the record of 'greet' at offset 2 is passed over" in caplog.text


async def test_what_cannot_be_served_is_passed_over(
    settings: Settings, producer: Producer, follow: Follow, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(name: str, _: CatalogEntry | None) -> None:
        if name == "odd":
            raise InvalidSchema("of a kind that nobody serves")

    gateway = await follow(refuse)
    await announce(settings, producer, await follow(), app(odd=V1, even=V1), "p")
    await until(lambda: "even" in gateway.entries, BOUND, "what came afterwards is known")
    assert set(gateway.entries) == {"even"}
    assert "of a kind that nobody serves" in caplog.text
    assert set((await follow(refuse)).entries) == {"even"}


async def test_a_schema_is_waited_for_however_much_else_changes(
    settings: Settings, producer: Producer, follow: Follow
) -> None:
    processor, operations = await follow(), app(greet=V1)
    fingerprint = schema(operations["greet"]).fingerprint
    waiting = asyncio.create_task(processor.wait_for_request_schema("greet", fingerprint, BOUND))
    for number in range(3):
        await announce(settings, producer, processor, app(**{f"other{number}": V1}), "p")
        assert not waiting.done()
    await announce(settings, producer, processor, operations, "p")
    await asyncio.wait_for(waiting, BOUND)
    assert processor.has_request_schema("greet", fingerprint)


async def test_a_schema_that_never_comes_is_waited_for_so_long_and_no_longer(follow: Follow) -> None:
    processor = await follow()
    await processor.wait_for_request_schema("greet", b"12345678", bound=0.05)
    assert not processor.has_request_schema("greet", b"12345678")


async def test_two_that_announce_the_same_at_once_agree(settings: Settings, producer: Producer, follow: Follow) -> None:
    processors = [await follow() for _ in range(3)]
    await asyncio.gather(
        *(announce(settings, producer, each, app(greet=V1, sell=V2), f"p{n}") for n, each in enumerate(processors))
    )
    found = (await follow()).entries
    assert {name: len(entry.message["request_schemas"]) for name, entry in found.items()} == {"greet": 1, "sell": 1}
