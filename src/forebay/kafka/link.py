"""The link to a cluster: one client that a process's producer and consumers share, and what it knows of the topics.

It asks for metadata of the topics that somebody watches, every few seconds and whenever something went wrong, and never
makes the cluster create one.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
import time
from collections.abc import Callable, Collection
from typing import Any, Self

from forebay.errors import AuthorizationFailed, BrokerError, BrokerUnavailable, TopicUnknown
from forebay.kafka.known_topics import KnownTopics
from forebay.kafka.wire.connections import SHARED, Address, Connections, Unreachable
from forebay.kafka.wire.heartbeats import INTERVAL, HeartbeatTurns
from forebay.kafka.wire.metadata import NO_LEADER, Metadata, MetadataRequest, Topic, metadata_of
from forebay.kafka.wire.security import addresses_of, connection_arguments, why_not
from forebay.settings import Settings

log = logging.getLogger(__name__)

CONNECT_BOUND = 15.0
"""Seconds that connecting to the cluster may take in all."""
METADATA_INTERVAL = 5.0
"""Seconds after which metadata is asked for again: so soon are partitions that were added in use."""
METADATA_SPACING = 0.1
"""Seconds at least between two requests for metadata."""
METADATA_BOUND = 2.0
"""Seconds that a node may take to answer one, before another node is asked."""
NODE_BOUND = 4.0
"""Seconds that a node may take to answer what others can answer as well, before another one is asked."""
REQUEST_BOUND = 15.0
"""Seconds after which a connection without an answer counts as dead."""

_lanes = itertools.count(1)


class Link:
    """A client of a cluster; to be started before, and stopped after, whatever shares it.

    Args:
        settings: where the cluster is.
        client: name of this client, for the broker's logs.

    Attributes:
        heartbeats: says when the memberships that share this link send theirs.
    """

    def __init__(self, settings: Settings, client: str) -> None:
        self._settings = settings
        self._client = client
        self.heartbeats = HeartbeatTurns(min(settings.session_timeout / 4, INTERVAL))
        self._connections = Connections(connection_arguments(settings, client), self.request_refresh)
        self._brokers: dict[int, Address] = {}
        self._controller = NO_LEADER
        self._answered: int | None = None
        self._topics = KnownTopics()
        self._listeners: set[Callable[[], None]] = set()
        self._away_since: float | None = None
        self._why = "no broker is known"
        self._slow: str | None = None
        self._wanted = asyncio.Event()
        self._waiting: list[asyncio.Future[bool]] = []
        self._following: asyncio.Task[None] | None = None

    async def start(self) -> Self:
        """Connect; a broker that is slow to answer is asked again.

        Raises:
            BrokerUnavailable: no broker answers.
            AccessRefused: a broker does not accept the credentials.
        """
        found, slow = False, None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CONNECT_BOUND):
                while not (found := await self._refresh()):
                    slow = self._slow
                    if slow is None:
                        break
        if not found:
            await self._connections.close()
            raise BrokerUnavailable(f"connecting to {self._settings.brokers}: {await why_not(self._settings, slow)}")
        self._following = asyncio.create_task(self._follow())
        return self

    async def stop(self) -> None:
        """Disconnect; requests under way fail."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(False)
        await self._connections.close()

    # requests

    @staticmethod
    def new_lane(what: str) -> str:
        """Return the name of a lane that nobody else has, for requests that a broker may hold for a while."""
        return f"{what}-{next(_lanes)}"

    async def send(self, node: int, request: Any, lane: str = SHARED, bound: float = REQUEST_BOUND) -> Any:
        """Send a request to a node and return the response; raises `Unreachable`."""
        address = self._brokers.get(node)
        if address is None:
            self.request_refresh()
            raise Unreachable(f"there is no broker {node}")
        return await self._connections.send(address, lane, request, bound)

    async def send_to_any(self, request: Any) -> Any:
        """Send a request that every node can answer, to others where one does not; raises `Unreachable`."""
        return await self._send_around(self.any_node(), request)

    async def send_to_controller(self, request: Any) -> Any:
        """Send a request that changes the cluster, through others where the controller does not answer.

        It may have been carried out before, by a node that did not answer in time.

        Raises:
            Unreachable: none answered.
        """
        return await self._send_around(
            self._controller if self._controller in self._brokers else self.any_node(), request
        )

    async def _send_around(self, node: int, request: Any) -> Any:
        """Send a request to a node, and to others until one answers; once more than there are nodes."""
        for left in range(len(self._brokers), -1, -1):
            try:
                async with asyncio.timeout(NODE_BOUND):
                    return await self.send(node, request)
            except (Unreachable, TimeoutError) as error:
                if not left:
                    raise Unreachable(str(error) or f"broker {node} did not answer within {NODE_BOUND:g} s") from error
            await self.refresh()
            node = self.any_node()
        raise Unreachable("there is no broker")

    def any_node(self) -> int:
        """Return a node that is likely to answer."""
        if self._answered is not None and self._answered in self._brokers:
            return self._answered
        return random.choice(list(self._brokers)) if self._brokers else NO_LEADER

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    def drop(self, node: int, lane: str) -> None:
        """Close a lane's connection to a node; requests under way fail."""
        address = self._brokers.get(node)
        if address is not None:
            self._connections.drop(address, lane)

    async def close_lane(self, lane: str) -> None:
        """Close a lane's connections."""
        await self._connections.close(lane)

    # topics

    def watch(self, topic: str) -> None:
        """Keep metadata of a topic at hand, until `unwatch` has been called as often."""
        if self._topics.watch(topic):
            self.request_refresh()

    def unwatch(self, topic: str) -> None:
        """Let go of a topic."""
        self._topics.unwatch(topic)

    def listen(self, listener: Callable[[], None]) -> None:
        """Have a function called after each answer to a request for metadata."""
        self._listeners.add(listener)

    def stop_listening(self, listener: Callable[[], None]) -> None:
        """Have it called no more."""
        self._listeners.discard(listener)

    def topic(self, name: str) -> Topic | None:
        """Return what is known of a topic that is watched."""
        return self._topics.known.get(name)

    def partitions(self, name: str) -> int:
        """Return how many partitions a topic is known to have."""
        topic = self._topics.known.get(name)
        return 0 if topic is None else len(topic.leaders)

    def missing_partition(self, name: str, partition: int) -> TopicUnknown | None:
        """Return that a topic has no such partition; None where it has, or where nothing is known of the topic."""
        count = self.partitions(name)
        if not 0 < count <= partition:
            return None
        return TopicUnknown(f"{name} has {count} partitions, and no partition {partition}")

    def leader(self, name: str, partition: int) -> int:
        """Return the node that leads a partition, or `NO_LEADER`."""
        topic = self._topics.known.get(name)
        return NO_LEADER if topic is None or partition >= len(topic.leaders) else topic.leaders[partition]

    def trouble_with(self, name: str, after: float = 0.0) -> BrokerError | None:
        """Return why a topic that is watched cannot be used, where waiting will not help; None otherwise.

        What nodes said long ago, or before an instant of the monotonic clock, does not count; they are asked again.
        """
        if self._topics.is_out_of_date(name, after, time.monotonic()):
            self.request_refresh()
            return None
        return self._topics.trouble_with(name)

    def denial(self, name: str) -> AuthorizationFailed | None:
        """Return how nodes refused to tell of a topic that is watched, however long ago; None if they told of it."""
        return self._topics.denial(name)

    async def find(self, name: str) -> Topic:
        """Return a topic that is watched as soon as it is known.

        Raises:
            BrokerError: it cannot be used; `TopicUnknown` where there is none.
        """
        while (topic := self._topics.known.get(name)) is None:
            if (trouble := self.trouble_with(name)) is not None:
                raise trouble
            await self.refresh()
        return topic

    async def look_up(self, names: Collection[str] | None) -> Metadata:
        """Ask for topics once, or for all there are, without watching them; raises `BrokerUnavailable`."""
        try:
            return metadata_of(await self.send_to_any(MetadataRequest(None if names is None else sorted(names))))
        except Unreachable as error:
            raise BrokerUnavailable(f"looking up topics: {error}") from error

    # keeping metadata up to date

    def request_refresh(self) -> None:
        """Ask for metadata soon."""
        self._wanted.set()

    async def refresh(self) -> bool:
        """Ask for metadata and return whether it came."""
        waiting: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        self.request_refresh()
        return await waiting

    async def _follow(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(METADATA_INTERVAL):
                    await self._wanted.wait()
            self._wanted.clear()
            waiting, self._waiting = self._waiting, []
            answered = False
            try:
                answered = await self._refresh()
                self._note(answered)
            except Exception:
                log.exception("what a broker told of the topics could not be taken in")
            finally:
                for one in waiting:
                    if not one.done():
                        one.set_result(answered)
            await asyncio.sleep(METADATA_SPACING)

    def _note(self, answered: bool) -> None:
        """Say when the cluster stops answering, and when it answers again."""
        if answered and self._away_since is not None:
            away = time.monotonic() - self._away_since
            self._away_since = None
            log.info(
                "the cluster at %s answers again, after %.0f s",
                self._settings.brokers,
                away,
                extra={"outage": False},
            )
        elif not answered and self._away_since is None:
            self._away_since = time.monotonic()
            log.warning(
                "the cluster at %s does not answer, and is tried again: %s",
                self._settings.brokers,
                self._why,
                extra={"outage": True},
            )

    async def _refresh(self) -> bool:
        """Ask one node after the other until one answers: the last that did first, and at the end where they began."""
        names = self._topics.watched
        nodes = sorted(self._brokers, key=lambda node: (node != self._answered, random.random()))
        addresses = [(node, self._brokers[node]) for node in nodes]
        known = set(self._brokers.values())
        self._slow = None
        addresses += [(NO_LEADER, place) for place in addresses_of(self._settings) if place not in known]
        for node, address in addresses:
            asked = time.monotonic()
            try:
                async with asyncio.timeout(METADATA_BOUND):
                    request = MetadataRequest(names)
                    response = await self._connections.send(address, SHARED, request, REQUEST_BOUND)
            except (Unreachable, TimeoutError) as error:
                self._why = str(error)
                if isinstance(error, TimeoutError):
                    self._why = self._slow = f"{address.host}:{address.port} did not answer within {METADATA_BOUND:g} s"
                log.debug("no metadata from %s:%d: %s", *address, self._why)
                continue
            metadata = metadata_of(response)
            if not metadata.brokers:
                continue
            self._update(names, metadata, asked)
            self._answered = (
                node
                if node in self._brokers
                else next((other for other, place in self._brokers.items() if place == address), None)
            )
            if address not in self._brokers.values():
                self._connections.drop(address, SHARED)
            for listener in list(self._listeners):
                listener()
            return True
        return False

    def _update(self, names: Collection[str], metadata: Metadata, asked: float) -> None:
        """Keep what an answer to a request for metadata says."""
        self._brokers = {node: Address(host, port) for node, (host, port) in metadata.brokers.items()}
        self._controller = metadata.controller
        if self._topics.update(names, metadata, asked):
            self.request_refresh()
