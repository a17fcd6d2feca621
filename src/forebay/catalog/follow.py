"""Follows the catalog topic, and holds what it says now."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from forebay.catalog.entry import CatalogEntry
from forebay.catalog.ledger import Ledger
from forebay.errors import AuthorizationFailed, BrokerError, BrokerUnavailable, InvalidSchema, TopicUnknown
from forebay.kafka import Link, PinnedConsumer
from forebay.settings import Settings
from forebay_schemas import topics as topic_names

log = logging.getLogger(__name__)

CATCH_UP_BOUND = 30.0
"""Seconds that reading the whole catalog may take at start."""
WATCH_INTERVAL = 2.0
"""Seconds between two looks at whether the topic is still the one that was read."""
KEPT_AFTER_LOSS = 30.0
"""Seconds for which operations are served on after their topic was lost, until their processors announce them again."""
_POLL = 0.5
_WATCH_BOUND = 3.0
_RECONNECT = 1.0

OnChange = Callable[[str, CatalogEntry | None], None]


class Catalog:
    """Follows the catalog topic; holds what it says now.

    Args:
        settings: where the cluster is.
        client: name of this client, for the broker's logs.
        on_change: called with each entry that is new or different, and with a name and None for one that is gone. If it
            raises an `InvalidSchema` the entry is ignored, and the one before it stays.
        link: to share; default: one of its own.

    Attributes:
        ledger: what the topic itself says; `entries` may differ for a while after the topic was lost.
        lost: whether the topic is missing.
    """

    def __init__(
        self, settings: Settings, client: str, on_change: OnChange | None = None, link: Link | None = None
    ) -> None:
        self._settings = settings
        self._link = link
        self._client = client
        self._on_change = on_change
        self._topic = topic_names.catalog(settings.namespace)
        self._consumer: PinnedConsumer | None = None
        self.ledger = Ledger()
        self.lost = False
        self._entries: dict[str, CatalogEntry] = {}
        self._stale: set[str] = set()
        self._stale_since = 0.0
        self._next_offset = 0
        self._moved = asyncio.Condition()

    @property
    def entries(self) -> Mapping[str, CatalogEntry]:
        """The operations that exist, by name."""
        return self._entries

    @property
    def trouble(self) -> str | None:
        """Why records of the catalog cannot be read, in a sentence; None while they can. An outage is none."""
        return None if self._consumer is None else self._consumer.trouble

    async def start(self) -> None:
        """Read the whole catalog as it is now.

        Raises:
            BrokerUnavailable: it could not be read within `CATCH_UP_BOUND`.
        """
        consumer = self._consumer = PinnedConsumer(self._settings, self._client, self._topic, link=self._link)
        await consumer.start()
        end = (await consumer.ends(CATCH_UP_BOUND))[0]
        try:
            async with asyncio.timeout(CATCH_UP_BOUND):
                while self._next_offset < end:
                    await self._take(consumer)
        except TimeoutError:
            raise BrokerUnavailable(f"{self._topic} could not be read within {CATCH_UP_BOUND:g} s") from None

    async def follow(self) -> None:
        """Keep up with the catalog until cancelled, across outages of the broker; run it as a task."""
        watched, troubled = time.monotonic(), False
        while True:
            try:
                if self._consumer is None:
                    self._consumer = PinnedConsumer(self._settings, self._client, self._topic, link=self._link)
                    await self._consumer.start({0: self._next_offset})
                    self.lost = False
                await self._take(self._consumer)
                if troubled and self._consumer.trouble is None:
                    troubled = False
                    log.info("catalog: %s is read again", self._topic)
                if time.monotonic() - watched > WATCH_INTERVAL:
                    watched = time.monotonic()
                    await self._watch(self._consumer)
            except BrokerError as error:
                if not troubled:
                    log.warning("catalog: %s", error)
                troubled = True
                if isinstance(error, TopicUnknown):
                    await self._lose()
                if not isinstance(error, AuthorizationFailed):  # which the same consumer is told once it may read
                    await self._disconnect()
                await asyncio.sleep(_RECONNECT)

    async def end(self, bound: float) -> int:
        """Ask for the offset at which the topic ends.

        Raises:
            BrokerUnavailable: there was no answer within ``bound`` seconds.
        """
        consumer = self._consumer
        if consumer is None:
            raise BrokerUnavailable(f"{self._topic} is not being read")
        return (await consumer.ends(bound))[0]

    async def until(self, offset: int) -> None:
        """Wait until all records before this offset have been taken in."""
        async with self._moved:
            await self._moved.wait_for(lambda: self._next_offset >= offset)

    async def changed(self, bound: float) -> None:
        """Wait until something was taken in, or for ``bound`` seconds."""
        try:
            async with asyncio.timeout(bound), self._moved:
                await self._moved.wait()
        except TimeoutError:
            return

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

    async def _disconnect(self) -> None:
        if self._consumer is not None:
            consumer, self._consumer = self._consumer, None
            await consumer.stop()

    async def _lose(self) -> None:
        """Take note that there is no such topic: whatever gets its name is another one."""
        if self._next_offset:
            self._begin_again()
        self.lost = True
        async with self._moved:
            self._moved.notify_all()

    async def _watch(self, consumer: PinnedConsumer) -> None:
        """See whether the topic was deleted, or deleted and created again, which reading alone does not tell."""
        end = (await consumer.ends(_WATCH_BOUND))[0]
        self.lost = False
        if end < self._next_offset:
            self._begin_again()
            await self._disconnect()
        if self._stale and time.monotonic() - self._stale_since > KEPT_AFTER_LOSS:
            for name in self._stale:
                self._show(name, None)
            self._stale = set()
        async with self._moved:
            self._moved.notify_all()

    def _begin_again(self) -> None:
        """Read a topic that was created again from its beginning; what is known is kept for a while."""
        log.warning(
            "catalog: %s is not what was read: it is read from its beginning", self._topic, extra={"over": True}
        )
        self.ledger = Ledger()
        self._next_offset = 0
        self._stale = set(self._entries)
        self._stale_since = time.monotonic()

    async def _take(self, consumer: PinnedConsumer) -> None:
        """Take in what is there, or comes within a while; what is no record, such as a marker, is stepped over."""
        records = await consumer.fetch(_POLL)
        position = consumer.positions().get(0)
        if position is None:
            return
        if (records[0].offset if records else position) < self._next_offset:
            self._begin_again()
        for record in records:
            if record.unreadable is not None:
                continue
            name = (record.key or b"").decode("utf-8", "replace")
            self._stale.discard(name)
            if self.ledger.take(name, record.value, record.offset):
                self._show(name, self.ledger.entry(name))
        if position != self._next_offset:
            async with self._moved:
                self._next_offset = position
                self._moved.notify_all()

    def _show(self, name: str, entry: CatalogEntry | None) -> None:
        """Change what is served."""
        try:
            if self._on_change is not None:
                self._on_change(name, entry)
        except InvalidSchema as error:
            log.error("catalog: operation '%s' cannot be served and is ignored: %s", name, error)
            return
        if entry is None:
            self._entries.pop(name, None)
        else:
            self._entries[name] = entry
