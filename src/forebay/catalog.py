"""The catalog: the operations that exist now, as processors announce them and everybody follows them.

It is a compacted topic with one record for each operation, keyed by its name. A record carries every schema the
operation ever had, the one to write with first, so that whatever was written once can still be read.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from forebay import compatibility
from forebay.app import Operation
from forebay.codec import Schema, SchemaSet
from forebay.errors import BrokerError, BrokerUnavailable, CodecError, IncompatibleSchema, InvalidSchema
from forebay.kafka import PinnedConsumer, Producer
from forebay.messages import OperationMessage, decode_operation, encode_operation
from forebay.settings import Settings
from forebay_schemas import topics as topic_names

log = logging.getLogger(__name__)

CATCH_UP_BOUND = 30.0
"""Seconds that reading the whole catalog may take at start."""
ANNOUNCE_BOUND = 15.0
"""Seconds that an announcement may take."""
_POLL = 0.5
_RECONNECT = 1.0


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """An operation as the catalog has it.

    Attributes:
        message: the record itself.
        requests: the schemas of its requests, the newest to read with; None for opaque bytes.
        results: the schemas of its results, likewise.
    """

    message: OperationMessage
    requests: SchemaSet | None
    results: SchemaSet | None

    @classmethod
    def parse(cls, value: bytes) -> CatalogEntry:
        """Read a record of the catalog topic.

        Raises:
            CodecError: it is not an operation.
            InvalidSchema: one of its schemas is not Avro.
        """
        message = decode_operation(value)
        try:
            return cls(message, _schemas(message["request_schemas"]), _schemas(message["result_schemas"]))
        except Exception as error:  # fastavro raises many types of error for what is not a schema
            raise InvalidSchema(
                f"a schema of '{message['name']}' is not Avro: {type(error).__name__}: {error}"
            ) from error


def _schemas(texts: list[str]) -> SchemaSet | None:
    if not texts:
        return None
    newest, *older = (Schema(text) for text in texts)
    return SchemaSet(newest, older)


class Catalog:
    """Follows the catalog topic; holds what it says now.

    Args:
        settings: where the cluster is.
        client: name of this client, for the broker's logs.
        on_change: called with each entry that is new or different, and with a name and None for one that is gone. An
            `InvalidSchema` that it raises makes that entry passed over.
    """

    def __init__(
        self,
        settings: Settings,
        client: str,
        on_change: Callable[[str, CatalogEntry | None], None] | None = None,
    ) -> None:
        self._settings = settings
        self._client = client
        self._on_change = on_change
        self._topic = topic_names.catalog(settings.namespace)
        self._consumer: PinnedConsumer | None = None
        self._entries: dict[str, CatalogEntry] = {}
        self._next_offset = 0
        self._moved = asyncio.Condition()

    @property
    def entries(self) -> Mapping[str, CatalogEntry]:
        """The operations that exist, by name."""
        return self._entries

    async def start(self) -> None:
        """Read the whole catalog as it is now.

        Raises:
            BrokerUnavailable: it could not be read within `CATCH_UP_BOUND`.
        """
        consumer = self._consumer = PinnedConsumer(self._settings, self._client, self._topic)
        await consumer.start()
        end = (await consumer.ends(CATCH_UP_BOUND))[0]
        try:
            async with asyncio.timeout(CATCH_UP_BOUND):
                while consumer.positions()[0] < end:
                    await self._take(consumer, _POLL)
        except TimeoutError:
            raise BrokerUnavailable(f"{self._topic} could not be read within {CATCH_UP_BOUND:g} s") from None

    async def follow(self) -> None:
        """Keep up with the catalog until cancelled, across outages of the broker; run it as a task."""
        while True:
            if self._consumer is None:
                self._consumer = PinnedConsumer(self._settings, self._client, self._topic)
                try:
                    await self._consumer.start({0: self._next_offset})
                except BrokerError as error:
                    log.warning("catalog: %s", error)
                    await self._disconnect()
                    await asyncio.sleep(_RECONNECT)
                    continue
            try:
                await self._take(self._consumer, _POLL)
            except BrokerError as error:
                log.warning("catalog: %s", error)
                await self._disconnect()

    async def until(self, offset: int) -> None:
        """Wait until the record at ``offset`` has been taken in."""
        async with self._moved:
            await self._moved.wait_for(lambda: self._next_offset > offset)

    async def wait_for_request_schema(self, operation: str, fingerprint: bytes, bound: float) -> None:
        """Wait until a request that was written with this schema can be read, or for ``bound`` seconds."""
        try:
            async with asyncio.timeout(bound), self._moved:
                await self._moved.wait_for(lambda: self.has_request_schema(operation, fingerprint))
        except TimeoutError:
            return

    def has_request_schema(self, operation: str, fingerprint: bytes) -> bool:
        """Whether a request of the operation that was written with this schema can be read."""
        entry = self._entries.get(operation)
        return entry is not None and entry.requests is not None and entry.requests.has_writer(fingerprint)

    async def stop(self) -> None:
        """Disconnect."""
        await self._disconnect()

    def _tell(self, name: str, entry: CatalogEntry | None) -> None:
        if self._on_change is not None:
            self._on_change(name, entry)

    async def _disconnect(self) -> None:
        if self._consumer is not None:
            consumer, self._consumer = self._consumer, None
            await consumer.stop()

    async def _take(self, consumer: PinnedConsumer, timeout: float) -> None:
        records = await consumer.fetch(timeout)
        if not records:
            return
        for record in records:
            name = (record.key or b"").decode("utf-8", "replace")
            if record.value is None:
                self._entries.pop(name, None)
                self._tell(name, None)
                continue
            try:
                entry = CatalogEntry.parse(record.value)
                self._tell(name, entry)
            except (CodecError, InvalidSchema) as error:
                log.error("catalog: the record of '%s' at offset %d is passed over: %s", name, record.offset, error)
                continue
            self._entries[name] = entry
        async with self._moved:
            self._next_offset = records[-1].offset + 1
            self._moved.notify_all()


def merge(operation: Operation, known: OperationMessage | None, processor: str, now_ms: int) -> OperationMessage | None:
    """Work out what a processor announces of an operation; None when the catalog says it already.

    Raises:
        IncompatibleSchema: its schemas cannot live beside the catalog's; the error names the field.
    """
    announced = OperationMessage(
        name=operation.name,
        app=operation.app,
        description=operation.description,
        tier=operation.tier,
        deadline_ms=round(operation.deadline * 1000),
        accepts=operation.request.media_type,
        returns=operation.result.media_type,
        request_schemas=[operation.request.schema.text] if operation.request.schema else [],
        result_schemas=[operation.result.schema.text] if operation.result.schema else [],
        announced_at=now_ms,
        announced_by=processor,
    )
    if known is None:
        return announced
    for side in ("request", "result"):
        schemas = f"{side}_schemas"
        announced[schemas] = _merge_schemas(operation.name, side, announced[schemas], known[schemas])  # type: ignore[literal-required]
    silent = {"announced_at": known["announced_at"], "announced_by": known["announced_by"]}
    return None if {**announced, **silent} == known else announced


def _merge_schemas(operation: str, side: str, announced: list[str], known: list[str]) -> list[str]:
    if bool(announced) != bool(known):
        change = "bytes to a schema" if announced else "a schema to bytes"
        raise IncompatibleSchema(operation, side, f"the {side} changes from {change}")
    if not announced:
        return known
    mine = Schema(announced[0])
    if mine.text in known:
        return known  # an older processor, started again: what newer ones announced stays the one to write with
    for text in known:
        conflict = compatibility.check(text, mine.text)
        if conflict is not None:
            raise IncompatibleSchema(operation, f"{side}.{conflict.field}", conflict.reason)
    return [mine.text, *(text for text in known if Schema(text).fingerprint != mine.fingerprint)]


async def announce(
    settings: Settings, producer: Producer, catalog: Catalog, operations: Mapping[str, Operation], processor: str
) -> None:
    """Announce operations, all of them or none: every one is checked before the first is produced.

    ``catalog`` must have been started and be followed.

    Raises:
        IncompatibleSchema: one cannot live beside the catalog's.
        BrokerUnavailable: an announcement was not acknowledged, or not seen to come back, within `ANNOUNCE_BOUND`.
    """
    now_ms = time.time_ns() // 1_000_000
    changes = []
    for operation in operations.values():
        entry = catalog.entries.get(operation.name)
        change = merge(operation, entry.message if entry else None, processor, now_ms)
        if change is not None:
            changes.append(change)
    for change in changes:
        offset = await producer.send_and_wait(
            topic_names.catalog(settings.namespace),
            encode_operation(change),
            key=change["name"].encode(),
            timeout=ANNOUNCE_BOUND,
        )
        try:
            async with asyncio.timeout(ANNOUNCE_BOUND):
                await catalog.until(offset)
        except TimeoutError:
            raise BrokerUnavailable(
                f"the announcement of '{change['name']}' did not come back within {ANNOUNCE_BOUND:g} s"
            ) from None
