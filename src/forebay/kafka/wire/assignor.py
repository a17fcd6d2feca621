"""The sharing of a topic's partitions, as aiokafka's coordinator asks for it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import msgspec
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

from forebay.kafka.sharing import Claim, read_claim, share

_VERSION = 0


class FairShare(AbstractPartitionAssignor):  # type: ignore[misc] # aiokafka has no types
    """An object for each member, since it remembers what the member has.

    Args:
        busy: says in which partitions this member has work in hand.
        operations: those that it runs.

    Attributes:
        leaving: whether this member wants nothing but those.
    """

    name = "forebay-fair-share"

    def __init__(self, busy: Callable[[], Collection[int]], operations: Iterable[str] = ()) -> None:
        self._busy = busy
        self._operations = sorted(operations)
        self.leaving = False
        self._owned: list[int] = []

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        """Say what this member would like to keep."""
        claim = Claim(sorted(self._busy()), self._owned, self.leaving, self._operations)
        return ConsumerProtocolMemberMetadata(_VERSION, list(topics), msgspec.json.encode(claim))

    def on_assignment(self, assignment: ConsumerProtocolMemberAssignment) -> None:
        """Remember what this member has."""
        self._owned = sorted(partition for _, partition in assignment.partitions())

    def assign(
        self, cluster: Any, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        """Share each topic among those who read it; the group's leader is asked."""
        granted: dict[str, list[tuple[str, list[int]]]] = {member: [] for member in members}
        for topic in sorted({topic for metadata in members.values() for topic in metadata.subscription}):
            claims = {
                member: read_claim(metadata.user_data) or Claim([], [])
                for member, metadata in members.items()
                if topic in metadata.subscription
            }
            for member, partitions in share(cluster.partitions_for_topic(topic) or (), claims).items():
                granted[member].append((topic, partitions))
        return {member: ConsumerProtocolMemberAssignment(_VERSION, topics, b"") for member, topics in granted.items()}
