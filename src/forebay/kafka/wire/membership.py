"""Being a member of a consumer group: aiokafka's coordinator, on connections of ours.

It joins, sends heartbeats and shares the partitions out; it reads none of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any

import aiokafka.errors as kafka_errors
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from forebay.errors import AuthorizationFailed, BrokerError, BrokerUnavailable
from forebay.kafka.records import Partition
from forebay.kafka.wire.assignor import FairShare
from forebay.kafka.wire.coordination import Client, ClientView
from forebay.kafka.wire.heartbeats import HeartbeatTurns

log = logging.getLogger(__name__)

LEAVE_BOUND = 3.0
"""Seconds that leaving the group may take."""
RETRY = 0.1
"""Seconds before a commit is tried again."""

OnRebalance = Callable[[frozenset[Partition]], Awaitable[None]]


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
        self._view = ClientView(client, group, session_timeout)
        self._listener = _Listener(on_revoked, on_assigned)
        self._subscription = SubscriptionState()
        self._subscription.register_fetch_waiters(set())
        self.rejoin()
        self._coordinator = _Coordinator(
            client.heartbeats,
            self._view,
            self._subscription,
            group_id=group,
            assignors=(share,),
            enable_auto_commit=False,
            session_timeout_ms=int(session_timeout * 1000),
            heartbeat_interval_ms=0,  # the turns say when
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
            self._coordinator.end_turns()
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


class _Coordinator(GroupCoordinator):  # type: ignore[misc] # aiokafka has no types
    """A coordinator that sends heartbeats in turn with those of the process's other groups."""

    def __init__(self, turns: HeartbeatTurns, *arguments: Any, **options: Any) -> None:
        self._turns = turns
        turns.add(self)
        turns.change()
        super().__init__(*arguments, **options)

    def end_turns(self) -> None:
        self._turns.remove(self)

    def request_rejoin(self) -> None:
        if not self._rejoin_needed_fut.done():
            self._turns.change()
        super().request_rejoin()

    async def _do_heartbeat(self) -> bool:
        await self._turns.next(self)
        sent: bool = await super()._do_heartbeat()
        return sent


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka has no types
    def __init__(self, on_revoked: OnRebalance, on_assigned: OnRebalance) -> None:
        self._on_revoked = on_revoked
        self._on_assigned = on_assigned

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._on_revoked(frozenset((place.topic, place.partition) for place in revoked))

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        await self._on_assigned(frozenset((place.topic, place.partition) for place in assigned))
