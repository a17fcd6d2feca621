"""What aiokafka's coordinator takes for its client: the link to the cluster, with a lane for one group."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Collection
from typing import Any, Protocol

import aiokafka.errors as kafka_errors
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest, SyncGroupRequest

from forebay.errors import GroupRefused
from forebay.kafka.wire import codes
from forebay.kafka.wire.connections import Unreachable
from forebay.kafka.wire.heartbeats import HeartbeatTurns

JOIN_SLACK = 10.0
"""Seconds that joining may take beyond what the group waits for its members."""
_OF_A_GROUP = 0
"""The kind of coordinator that is looked up."""


class Client(Protocol):
    """What a member needs of the link to the cluster.

    Attributes:
        heartbeats: says when the memberships that share the link send theirs.
    """

    heartbeats: HeartbeatTurns

    def new_lane(self, what: str) -> str:
        """Return the name of a lane that nobody else has."""

    async def send(self, node: int, request: Any, lane: str = ..., bound: float = ...) -> Any:
        """Send a request to a node and return the response; raises `Unreachable`."""

    async def send_to_any(self, request: Any) -> Any:
        """Send a request that every node can answer; raises `Unreachable`."""

    def drop(self, node: int, lane: str) -> None:
        """Close a lane's connection to a node."""

    async def close_lane(self, lane: str) -> None:
        """Close a lane's connections."""

    def watch(self, topic: str) -> None:
        """Keep metadata of a topic at hand."""

    def unwatch(self, topic: str) -> None:
        """Let go of a topic."""

    async def refresh(self) -> bool:
        """Ask for metadata and return whether it came."""

    def partitions(self, name: str) -> int:
        """Return how many partitions a topic is known to have."""

    def listen(self, listener: Callable[[], None]) -> None:
        """Have a function called after each answer to a request for metadata."""

    def stop_listening(self, listener: Callable[[], None]) -> None:
        """Have it called no more."""


class ClusterView:
    """What the coordinator takes for aiokafka's metadata."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.listeners: list[Callable[[Any], None]] = []

    def add_listener(self, listener: Callable[[Any], None]) -> None:
        """Have a function called with this after each answer to a request for metadata."""
        self.listeners.append(listener)

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        """Return the partitions that a topic is known to have; None where it is not known."""
        return set(range(self._client.partitions(topic))) or None


class ClientView:
    """What the coordinator takes for aiokafka's client: the link, with a lane for this group.

    Attributes:
        refusal: why the group does not take this member, once it has said so.
        confirmed_at: when the last heartbeat was sent to which the answer was that all is well.
    """

    def __init__(self, client: Client, group: str, session_timeout: float) -> None:
        self.cluster = ClusterView(client)
        self.refusal: GroupRefused | None = None
        self.confirmed_at = -math.inf
        self._client = client
        self._watched: set[str] = set()
        self._lane = client.new_lane("group")
        self._group = group
        self._session_timeout = session_timeout
        self._join_bound = 2 * session_timeout + JOIN_SLACK
        client.listen(self._on_metadata)

    def _on_metadata(self) -> None:
        for listener in self.cluster.listeners:
            listener(self.cluster)

    def detach(self) -> None:
        """Tell the coordinator no more of what changes."""
        self._client.stop_listening(self._on_metadata)

    async def close(self) -> None:
        """Close the lane of the group."""
        self.set_topics(())
        await self._client.close_lane(self._lane)

    def set_topics(self, topics: Collection[str]) -> None:
        """Keep all at hand that the group reads; the one who shares them may not read all."""
        for topic in self._watched.symmetric_difference(topics):
            (self._client.unwatch if topic in self._watched else self._client.watch)(topic)
        self._watched = set(topics)

    async def _maybe_wait_metadata(self) -> None:
        await self._client.refresh()

    async def force_metadata_update(self) -> bool:
        """Ask for metadata and return whether it came."""
        return await self._client.refresh()

    async def ready(self, _node: int, *, group: int = 0) -> bool:  # noqa: ARG002 - the signature is aiokafka's
        """Whether a node can be asked, which is seen when it is."""
        return True

    async def send(self, node: int, request: Any, *, group: int = 0) -> Any:  # noqa: ARG002
        """Send a request of the group to its coordinator and return the response."""
        held = isinstance(request, JoinGroupRequest | SyncGroupRequest)
        bound = self._join_bound if held else self._session_timeout / 2
        sent_at = time.monotonic()
        try:
            async with asyncio.timeout(bound):
                response = await self._send_held(node, request) if held else await self._send(node, request)
        except TimeoutError:
            self._client.drop(node, self._lane)
            raise kafka_errors.RequestTimedOutError(f"broker {node} did not answer within {bound:g} s") from None
        except Unreachable as error:
            raise kafka_errors.KafkaConnectionError(str(error)) from error
        if isinstance(request, HeartbeatRequest) and response.error_code == codes.NONE:
            self.confirmed_at = sent_at
        if held and (code := response.error_code) in _REFUSALS:
            setting = f"session_timeout = {self._session_timeout:g} s"
            self.refusal = GroupRefused(f"group {self._group}: {_REFUSALS[code].format(setting=setting)}")
        return response

    async def _send(self, node: int, request: Any) -> Any:
        return await self._client.send(node, request, self._lane, self._join_bound)

    async def _send_held(self, node: int, request: Any) -> Any:
        """Send a request that waits for all members; it is given up once the group has another coordinator."""
        sending = asyncio.ensure_future(self._send(node, request))
        try:
            while not (await asyncio.wait([sending], timeout=self._session_timeout / 2))[0]:
                if await self._has_moved_from(node):
                    self._client.drop(node, self._lane)
            return await sending
        finally:
            sending.cancel()

    async def _has_moved_from(self, node: int) -> bool:
        try:
            return await self.coordinator_lookup(_OF_A_GROUP, self._group) != node
        except kafka_errors.KafkaError:
            return False

    async def coordinator_lookup(self, kind: int, key: str) -> int:
        """Return the node that looks after a group."""
        try:
            response = await self._client.send_to_any(FindCoordinatorRequest(key, kind))
        except Unreachable as error:
            raise kafka_errors.KafkaConnectionError(str(error)) from error
        error_type = kafka_errors.for_code(response.error_code)
        if error_type is not kafka_errors.NoError:
            raise error_type()
        node: int = response.coordinator_id
        return node


_REFUSALS = {
    codes.INCONSISTENT_GROUP_PROTOCOL: "its members share partitions in another way, so something else uses its name",
    codes.INVALID_GROUP_ID: "the broker takes no such name for a group",
    codes.INVALID_SESSION_TIMEOUT: (
        "{setting} is not within what the broker allows "
        "(its settings group.min.session.timeout.ms and group.max.session.timeout.ms)"
    ),
    codes.GROUP_MAX_SIZE_REACHED: "it has as many members as the broker allows (its setting group.max.size)",
    codes.FENCED_INSTANCE_ID: "another member has taken this one's place",
}
