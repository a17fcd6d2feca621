"""The sharing of a topic's partitions, as aiokafka's coordinator asks for it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

from forebay.kafka.records import Partition
from forebay.kafka.sharing import Claim, known_somewhere, read_claims, share

_VERSION = 0


class FairShare(AbstractPartitionAssignor):  # type: ignore[misc] # aiokafka has no types
    """An object for each member, since it remembers what the member has.

    Args:
        busy: says in which partitions this member has work in hand, those first that had better stay most of all.
        operations: that this member knows.

    Attributes:
        leaving: whether this member wants nothing but the busy ones.
        known_somewhere: by topic, operations that not every member knows, each with the partitions of those who do.
    """

    name = "forebay-fair-share"

    def __init__(self, busy: Callable[[], Collection[Partition]], operations: Iterable[str] = ()) -> None:
        self._busy = busy
        self._operations = sorted(operations)
        self.leaving = False
        self.known_somewhere: Mapping[str, Mapping[str, Sequence[int]]] = {}
        self._owned: list[Partition] = []

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        """Say what this member would like to keep."""
        busy = list(self._busy())
        claims = {
            topic: Claim(_numbers(topic, busy), _numbers(topic, self._owned), self.leaving, self._operations)
            for topic in sorted(topics)
        }
        return ConsumerProtocolMemberMetadata(_VERSION, list(claims), msgspec.json.encode(claims))

    def on_assignment(self, assignment: ConsumerProtocolMemberAssignment) -> None:
        """Remember what this member has, and who knows what."""
        self._owned = sorted((topic, number) for topic, number in assignment.partitions())
        self.known_somewhere = _known(assignment.user_data)

    def assign(
        self, cluster: Any, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        """Share each topic among those who read it; the group's leader is asked."""
        granted: dict[str, list[tuple[str, list[int]]]] = {member: [] for member in members}
        known: dict[str, dict[str, dict[str, list[int]]]] = {member: {} for member in members}
        claimed = {member: read_claims(metadata.user_data) for member, metadata in members.items()}
        for topic in sorted({topic for metadata in members.values() for topic in metadata.subscription}):
            claims = {
                member: claimed[member].get(topic, Claim([], []))
                for member, metadata in members.items()
                if topic in metadata.subscription
            }
            shares = share(cluster.partitions_for_topic(topic) or (), claims)
            somewhere = known_somewhere(claims, shares)
            for member, partitions in shares.items():
                granted[member].append((topic, partitions))
                known[member][topic] = somewhere
        return {
            member: ConsumerProtocolMemberAssignment(_VERSION, topics, msgspec.json.encode(known[member]))
            for member, topics in granted.items()
        }


def _numbers(topic: str, partitions: Iterable[Partition]) -> list[int]:
    return [number for name, number in partitions if name == topic]


def _known(user_data: bytes | None) -> dict[str, dict[str, list[int]]]:
    """Read what the leader says of who knows what; one of another version may say nothing of it."""
    try:
        return msgspec.json.decode(user_data or b"", type=dict[str, dict[str, list[int]]])
    except msgspec.MsgspecError:
        return {}
