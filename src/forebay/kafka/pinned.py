"""A consumer that is pinned to its partitions, outside any group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from forebay.errors import BrokerUnavailable
from forebay.kafka.link import Link
from forebay.kafka.offsets import beginnings, ends
from forebay.kafka.positions import POSITION_BOUND
from forebay.kafka.reader import Reader
from forebay.kafka.records import Record
from forebay.kafka.shared_link import SharedLink
from forebay.settings import Settings


class PinnedConsumer:
    """Reads given partitions of one topic outside any group, so that no rebalance can move it.

    Args:
        settings: where the cluster is.
        client: name of this client, for the broker's logs.
        topic: what to read.
        partitions: which of its partitions.
        link: to share; default: one of its own.
    """

    def __init__(
        self, settings: Settings, client: str, topic: str, partitions: Iterable[int] = (0,), *, link: Link | None = None
    ) -> None:
        self.topic = topic
        self._settings = settings
        self._partitions = list(partitions)
        self._shared = SharedLink(settings, client, link)
        self._reader: Reader | None = None

    async def start(self, offsets: Mapping[int, int] | None = None, *, at_end: bool = False) -> None:
        """Connect and take up the position: the given offsets, else the end or the beginning of each partition.

        The position is pinned when this returns: every record produced afterwards will be fetched.

        Raises:
            BrokerUnavailable: the cluster does not answer.
            BrokerError: the topic cannot be read; `TopicUnknown` where there is none.
        """
        link = await self._shared.start()
        self._reader = Reader(link, [self.topic], partition_bytes=self._settings.max_message_bytes)
        await self._reader.start()
        if offsets is None:
            find = ends if at_end else beginnings
            offsets = await find(link, self.topic, self._partitions, POSITION_BOUND)
        self._reader.assign({(self.topic, partition): offsets[partition] for partition in self._partitions})

    async def stop(self) -> None:
        """Disconnect, within a bound."""
        if self._reader is not None:
            await self._reader.stop()
        await self._shared.stop()

    async def read(self, limit: int | None = None) -> list[Record]:
        """Return up to ``limit`` records, in order within each partition; waits without a bound for one.

        Raises:
            TopicUnknown: the topic is gone; once it is there again it is read from its beginning.
            BrokerError: as `Reader.next`.
        """
        reader = self._started
        while not (records := await reader.next(limit)):
            pass
        return records

    async def fetch(self, timeout: float, limit: int | None = None) -> list[Record]:
        """Return up to ``limit`` records; waits up to ``timeout`` seconds for one. Raises as `read`."""
        return await self._started.fetch(timeout, limit)

    def positions(self) -> Mapping[int, int]:
        """Return the offset that each partition is read from next; without those whose place is being looked for."""
        return {partition: offset for (_, partition), offset in self._started.positions.items()}

    @property
    def trouble(self) -> str | None:
        """Why records cannot be read, in a sentence; None while they can. An outage of the broker is none."""
        return None if self._reader is None else self._reader.trouble

    async def ends(self, timeout: float) -> dict[int, int]:
        """Ask the broker where each partition ends.

        Raises:
            BrokerUnavailable: no answer came within ``timeout`` seconds.
            BrokerError: the topic cannot be used; `TopicUnknown` where there is none.
        """
        return await ends(self._shared.link, self.topic, self._partitions, timeout)

    @property
    def _started(self) -> Reader:
        if self._reader is None:
            raise BrokerUnavailable(f"reading {self.topic}: the consumer is not started")
        return self._reader
