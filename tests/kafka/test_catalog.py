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
from forebay.catalog import Catalog, CatalogEntry
from forebay.codec import Schema
from forebay.errors import BrokerError, CodecError, IncompatibleSchema, InvalidSchema, OperationTaken
from forebay.kafka import Admin, PinnedConsumer, Producer, Record
from forebay.messages import encode_operation
from forebay.settings import Settings
from forebay_processor.announce import Announcer
from forebay_schemas import topics as topic_names
from tests.support.waiting import until

BOUND = 30.0
V1: list[Any] = [("name", str)]
V2: list[Any] = [("name", str), ("size", int, dataclasses.field(default=3))]
TAGGED: list[Any] = [("name", str), ("tag", str, dataclasses.field(default=""))]
BAD: list[Any] = [("name", int)]


def app(app_name: str = "shop", /, **versions: list[Any] | None) -> Forebay:
    """An app whose operations have a request of these fields, or of opaque bytes."""
    made = Forebay(app_name)
    for name, fields in versions.items():

        def handler(request: Any) -> Any:
            return request

        handler.__annotations__ = {"request": make_dataclass("Request", fields) if fields else bytes, "return": bytes}
        made.operation(name=name)(handler)
    return made


async def announce(settings: Settings, producer: Producer, catalog: Catalog, app: Forebay, processor: str) -> None:
    await Announcer(settings, producer, catalog, app, processor).announce()


def schema(app: Forebay, name: str = "greet") -> Schema:
    request = app.operations[name].request
    assert request.schema is not None
    return request.schema


@pytest.fixture(autouse=True)
async def _topics(settings: Settings) -> None:
    await topics.ensure(settings, [topics.catalog(settings)])


Keep = Callable[..., Awaitable[Catalog]]
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


async def last_record(settings: Settings, name: str = "greet") -> Record:
    """The last record of an operation, which is all that compaction leaves of it."""
    consumer = PinnedConsumer(settings, "test", topic_names.catalog(settings.namespace))
    await consumer.start()
    try:
        end, found = (await consumer.ends(BOUND))[0], []
        while consumer.positions()[0] < end:
            found += [record for record in await consumer.fetch(BOUND) if record.key == name.encode()]
        return found[-1]
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
    assert found.message["request_schemas"] == [schema(each).text for each in (second, first)]
    assert found.requests is not None
    written = schema(first).encode({"name": "Ada"})
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
    assert requests.reader.fingerprint == schema(app(greet=V2)).fingerprint


async def test_an_operation_whose_record_is_gone_is_gone(
    settings: Settings, producer: Producer, follow: Follow
) -> None:
    told: list[tuple[str, bool]] = []
    gateway = await follow(lambda name, entry: told.append((name, entry is not None)))
    await announce(settings, producer, await follow(), app(greet=V1, sell=V1), "p")
    await put(settings, producer, "greet", None)
    await until(lambda: set(gateway.entries) == {"sell"}, BOUND, "one operation is gone")
    assert told == [("greet", True), ("sell", True), ("greet", False)]


async def test_what_cannot_be_read_is_ignored(
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
    assert "the record of 'greet' at offset 2 is ignored" in caplog.text


async def test_what_cannot_be_served_is_ignored(
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
    fingerprint = schema(operations).fingerprint
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


async def test_those_that_announce_at_once_all_keep_their_schemas(
    settings: Settings, producer: Producer, follow: Follow
) -> None:
    apps = [app(greet=fields) for fields in (V1, V2, TAGGED)]
    processors = [await follow() for _ in apps]
    await asyncio.gather(*(announce(settings, producer, processors[n], mine, f"p{n}") for n, mine in enumerate(apps)))
    found = (await follow()).entries["greet"]
    assert set(found.message["request_schemas"]) == {schema(each).text for each in apps}
    last = CatalogEntry.parse("greet", (await last_record(settings)).value or b"", 2**40)
    assert set(last.message["request_schemas"]) == {schema(each).text for each in apps}, "compaction would lose one"


async def test_of_those_that_contradict_each_other_exactly_one_is_refused(
    settings: Settings, producer: Producer, follow: Follow
) -> None:
    apps = [app(greet=V1, ours=V1), app("museum", greet=V1, theirs=V1), app(greet=BAD, ours=V1)]
    processors = [await follow() for _ in apps]
    results = await asyncio.gather(
        *(announce(settings, producer, processors[n], mine, f"p{n}") for n, mine in enumerate(apps)),
        return_exceptions=True,
    )
    (winner,) = [n for n, result in enumerate(results) if result is None]
    for n, result in enumerate(results):
        if n != winner:
            assert isinstance(result, OperationTaken | IncompatibleSchema)
            assert result.operation == "greet"
    found = (await follow()).entries
    assert set(found) - {"ours"} == ({"greet", "theirs"} if winner == 1 else {"greet"}), "the refused left nothing"
    assert found["greet"].message["app"] == apps[winner].name
    assert found["greet"].message["request_schemas"] == [schema(apps[winner]).text]
    last = CatalogEntry.parse("greet", (await last_record(settings, "greet")).value or b"", 2**40)
    assert last.message["app"] == apps[winner].name, "compaction would leave the wrong one"


async def test_another_apps_operation_is_refused_and_nothing_is_announced(
    settings: Settings, producer: Producer, follow: Follow
) -> None:
    await announce(settings, producer, await follow(), app("museum", greet=V1), "p1")
    before = await records(settings)
    with pytest.raises(OperationTaken, match="belongs to app 'museum'"):
        await announce(settings, producer, await follow(), app(new=V1, greet=V1), "p2")
    assert await records(settings) == before


@pytest.fixture
def keep(settings: Settings, producer: Producer, follow: Follow, at_end: AsyncExitStack) -> Keep:
    """Starts a processor, as far as the catalog is concerned: one that announces, and goes on looking."""

    async def keep(app: Forebay, processor: str = "keeper") -> Catalog:
        catalog = await follow()
        announcer = Announcer(settings, producer, catalog, app, processor)
        await announcer.announce()
        task = asyncio.create_task(announcer.keep())

        async def end() -> None:
            assert not task.done(), f"nobody keeps the catalog any more: {task}"
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        at_end.push_async_callback(end)
        return catalog

    return keep


async def test_whatever_the_catalog_loses_its_processors_announce_again(
    settings: Settings, producer: Producer, follow: Follow, keep: Keep
) -> None:
    await announce(settings, producer, await follow(), app(greet=V1), "earlier")
    processor = await keep(app(greet=V2))
    texts = processor.entries["greet"].message["request_schemas"]
    assert len(texts) == 2
    good = processor.entries["greet"].message
    foreign = encode_operation({**good, "app": "museum"})
    for harm in (b"nothing of the kind", foreign, encode_operation({**good, "request_schemas": texts[1:]}), b""):
        await put(settings, producer, "greet", harm)
        await until(lambda: said_last(settings, texts), BOUND, f"it is announced again after {harm[:12]!r}")
        found = (await follow()).entries["greet"].message
        assert (found["app"], set(found["request_schemas"])) == ("shop", set(texts))


async def said_last(settings: Settings, texts: list[str]) -> bool:
    """Whether the last record alone says the operation with these schemas, which is all that compaction leaves."""
    try:
        last = CatalogEntry.parse("greet", (await last_record(settings)).value or b"", 2**40)
    except (CodecError, InvalidSchema):
        return False
    return last.message["app"] == "shop" and set(last.message["request_schemas"]) == set(texts)


async def test_an_operation_that_was_forgotten_while_it_has_a_processor_comes_back(
    settings: Settings, producer: Producer, follow: Follow, keep: Keep
) -> None:
    gateway = await follow()
    processor = await keep(app(greet=V1))
    offset = await put(settings, producer, "greet", None)
    await asyncio.wait_for(processor.until(offset + 1), BOUND)
    await until(lambda: "greet" in gateway.entries and "greet" in processor.entries, BOUND, "it is announced again")
    with pytest.raises(OperationTaken):
        await announce(settings, producer, await follow(), app("museum", greet=V1), "p2")


async def test_an_operation_that_was_forgotten_may_be_taken_by_another_app_or_version(
    settings: Settings, producer: Producer, follow: Follow
) -> None:
    await announce(settings, producer, await follow(), app(greet=V1, sell=V1), "p1")
    for name in ("greet", "sell"):
        await put(settings, producer, name, None)
    await announce(settings, producer, await follow(), app("museum", greet=BAD), "p2")
    await announce(settings, producer, await follow(), app(sell=BAD), "p3")
    found = (await follow()).entries
    assert {name: entry.message["app"] for name, entry in found.items()} == {"greet": "museum", "sell": "shop"}
    assert found["sell"].message["request_schemas"] == [schema(app(sell=BAD), "sell").text]


async def test_a_catalog_that_is_deleted_is_made_again_and_says_the_same(
    settings: Settings, producer: Producer, follow: Follow, keep: Keep
) -> None:
    gateway = await follow()
    mine = app(greet=V1, convert=None)
    await keep(mine)
    await until(lambda: set(gateway.entries) == {"greet", "convert"}, BOUND, "both are known")
    async with Admin.connect(settings) as admin:
        await admin.delete(topic_names.catalog(settings.namespace))
    await until(lambda: is_announced(settings, {"greet", "convert"}), BOUND, "both are announced again")
    assert set(gateway.entries) == {"greet", "convert"}, "they were served all the time"
    await announce(settings, producer, await follow(), app("museum", late=V1), "p2")
    await until(lambda: "late" in gateway.entries, BOUND, "the new topic is followed")


async def is_announced(settings: Settings, names: set[str]) -> bool:
    try:
        catalog = Catalog(settings, "test")
        await catalog.start()
    except BrokerError:
        return False
    finally:
        await catalog.stop()
    return set(catalog.entries) == names
