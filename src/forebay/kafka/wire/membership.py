"""Being a member of a consumer group: aiokafka's coordinator, on connections of ours.

It joins, sends heartbeats and shares the partitions out; where they are read, and from where on, is not its business.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any, Protocol

import aiokafka.errors as kafka_errors
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest, SyncGroupRequest
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from forebay.errors import AuthorizationFailed, BrokerError, BrokerUnavailable, GroupRefused
from forebay.kafka.records import Partition
from forebay.kafka.wire import codes
from forebay.kafka.wire.assignor import FairShare
from forebay.kafka.wire.connections import Unreachable

log = logging.getLogger(__name__)

HEARTBEAT_INTERVAL = 0.15
"""Seconds at most between two heartbeats: by the answer to one a member learns that others came or went, and until the
last of them has learned it, nobody reads."""

JOIN_SLACK = 10.0
"""Seconds that joining may take beyond what the group waits for its members."""
LEAVE_BOUND = 3.0
"""Seconds that leaving the group may take."""
_OF_A_GROUP = 0
"""The kind of coordinator that is looked up."""
RETRY = 0.1
"""Seconds before a commit is tried again."""

OnRebalance = Callable[[frozenset[Partition]], Awaitable[None]]


class Client(Protocol):
    """What a member needs of the link to the cluster."""

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


class Membership:
    """One membership of a group; it begins when it is made, and another one is to be made if it breaks.

    Args:
        client: the link to the cluster.
        group: the group's id.
        topics: what this member reads; the link watches them.
        share: how their partitions are shared.
        session_timeout: seconds without a heartbeat after which the group takes a member for dead.
        poll_limit: seconds without `poll` after which this member leaves by itself.
        on_revoked: awaited with the partitions that are about to be taken away.
        on_assigned: awaited with the partitions that are this member's from now on; no heartbeat is sent meanwhile.
    """

    def __init__(
        self,
        client: Client,
        group: str,
        topics: Collection[str],
        share: FairShare,
        *,
        session_timeout: float,
        poll_limit: float,
        on_revoked: OnRebalance,
        on_assigned: OnRebalance,
    ) -> None:
        self._topics = frozenset(topics)
        self._group = group
        self._session_timeout = session_timeout
        self._view = _ClientView(client, group, session_timeout)
        self._listener = _Listener(on_revoked, on_assigned)
        self._subscription = SubscriptionState()
        self._subscription.register_fetch_waiters(set())
        self.rejoin()
        self._coordinator = GroupCoordinator(
            self._view,
            self._subscription,
            group_id=group,
            assignors=(share,),
            enable_auto_commit=False,
            session_timeout_ms=int(session_timeout * 1000),
            heartbeat_interval_ms=int(min(session_timeout / 4, HEARTBEAT_INTERVAL) * 1000),
            rebalance_timeout_ms=int(session_timeout * 1000),
            max_poll_interval_ms=int(poll_limit * 1000),
        )

    def rejoin(self) -> None:
        """Join the group, or join it anew, so that the partitions are shared again."""
        self._subscription.subscribe(set(self._topics), self._listener)

    @property
    def broken(self) -> bool:
        """Whether this membership has ended for good without being asked to."""
        return bool(self._coordinator._coordination_task.done())

    @property
    def confirmed_at(self) -> float:
        """When, by `time.monotonic`, the last heartbeat was sent to which the group answered that this is a member."""
        return self._view.confirmed_at

    @property
    def settled(self) -> bool:
        """Whether the partitions are shared, and not about to be."""
        return not self._subscription.reassignment_in_progress

    def poll(self) -> None:
        """Count as alive, for the poll limit.

        Raises:
            AuthorizationFailed: the cluster does not allow this client to be a member.
            GroupRefused: the group does not take this member.
            BrokerUnavailable: something else is wrong; it is tried again, if the membership is not `broken`.
        """
        with self._subscription.fetch_context():
            pass
        if self.broken:
            raise BrokerUnavailable(f"group {self._group}: its membership has broken")
        try:
            self._coordinator.check_errors()
        except kafka_errors.KafkaError as error:
            raise self._translate(error) from error

    async def commit(self, offsets: Mapping[Partition, tuple[int, str]]) -> bool:
        """Commit offsets, each with a note; tries again until it is cancelled.

        Returns:
            False when the group has moved on without this member.

        Raises:
            BrokerError: they will not be committed.
        """
        places = {TopicPartition(*partition): OffsetAndMetadata(*of) for partition, of in offsets.items()}
        while True:
            subscription = self._subscription.subscription
            assignment = None if subscription is None else subscription.assignment
            if assignment is None or not assignment.active or not places.keys() <= assignment.tps:
                return False
            try:
                await self._coordinator.ensure_coordinator_known()
                await self._coordinator._do_commit_offsets(assignment, places)
            except _MOVED_ON:
                return False
            except kafka_errors.KafkaError as error:
                if not error.retriable or isinstance(error, kafka_errors.UnknownTopicOrPartitionError):
                    raise self._translate(error) from error
                await asyncio.sleep(RETRY)
            else:
                return True

    async def committed(self, partitions: Collection[Partition]) -> dict[Partition, tuple[int, str]]:
        """Return the offset, with its note, that the group has committed in each partition; asks in one request.

        Raises:
            BrokerError: the coordinator does not tell.
        """
        places = [TopicPartition(*partition) for partition in partitions]
        try:
            found = await self._coordinator.fetch_committed_offsets(places)
        except kafka_errors.KafkaError as error:
            raise self._translate(error) from error
        return {(place.topic, place.partition): (known.offset, known.metadata or "") for place, known in found.items()}

    async def close(self) -> None:
        """Leave the group, within a bound."""
        try:
            async with asyncio.timeout(LEAVE_BOUND):
                await self._coordinator.close()
        except (TimeoutError, kafka_errors.KafkaError) as error:
            log.warning("group %s was not left in order: %s", self._group, error or "no answer in time")
        finally:
            self._view.detach()
            running = [
                task
                for name in ("_coordination_task", "_heartbeat_task", "_commit_refresh_task")
                if (task := getattr(self._coordinator, name)) is not None
            ]
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await self._view.close()

    def _translate(self, error: Exception) -> BrokerError:
        if self._view.refusal is not None:
            return self._view.refusal
        if isinstance(error, kafka_errors.GroupAuthorizationFailedError):
            return AuthorizationFailed("group", self._group, "Read")
        if isinstance(error, kafka_errors.TopicAuthorizationFailedError):
            return AuthorizationFailed("topic", ", ".join(sorted(*error.args or (self._topics,))), "Read")
        return BrokerUnavailable(f"group {self._group}: {error or type(error).__name__}")


_MOVED_ON = (
    kafka_errors.CommitFailedError,
    kafka_errors.IllegalGenerationError,
    kafka_errors.RebalanceInProgressError,
    kafka_errors.UnknownMemberIdError,
)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka has no types
    def __init__(self, on_revoked: OnRebalance, on_assigned: OnRebalance) -> None:
        self._on_revoked = on_revoked
        self._on_assigned = on_assigned

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._on_revoked(frozenset((place.topic, place.partition) for place in revoked))

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        await self._on_assigned(frozenset((place.topic, place.partition) for place in assigned))


class _ClusterView:
    """What the coordinator takes for aiokafka's metadata."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.listeners: list[Callable[[Any], None]] = []

    def add_listener(self, listener: Callable[[Any], None]) -> None:
        self.listeners.append(listener)

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return set(range(self._client.partitions(topic))) or None


class _ClientView:
    """What the coordinator takes for aiokafka's client: the link, with a lane for this group.

    Attributes:
        refusal: why the group does not take this member, once it has said so.
        confirmed_at: when the last heartbeat was sent to which the answer was that all is well.
    """

    def __init__(self, client: Client, group: str, session_timeout: float) -> None:
        self.cluster = _ClusterView(client)
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
        self._client.stop_listening(self._on_metadata)

    async def close(self) -> None:
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
        return await self._client.refresh()

    async def ready(self, _node: int, *, group: int = 0) -> bool:  # noqa: ARG002 - the signature is aiokafka's
        return True

    async def send(self, node: int, request: Any, *, group: int = 0) -> Any:  # noqa: ARG002
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
