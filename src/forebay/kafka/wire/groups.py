"""Asking who the members of a consumer group are, and what each says of itself."""

from __future__ import annotations

from typing import Any, NamedTuple

from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata
from aiokafka.protocol.admin import DescribeGroupsRequest
from aiokafka.protocol.coordination import FindCoordinatorRequest

_GROUP = 0


class GroupDescription(NamedTuple):
    """A group as its coordinator describes it.

    Attributes:
        code: error code; 0 where there is none.
        state: as Kafka names it; members say something of themselves in ``Stable`` only.
        members: of each the client's name and what it says.
    """

    code: int
    state: str
    members: list[tuple[str, bytes]]


def coordinator_request(group: str) -> Any:
    """Ask for the node that looks after a group."""
    return FindCoordinatorRequest(group, _GROUP)


def coordinator_of(response: Any) -> tuple[int, int]:
    """Return error code and node."""
    return int(response.error_code), int(response.coordinator_id)


def describe_request(group: str) -> Any:
    """Ask a group's coordinator to describe it."""
    return DescribeGroupsRequest([group])


def group_of(response: Any) -> GroupDescription:
    """Return the group that was asked for."""
    [(code, _, state, _, _, members, *_)] = response.groups
    return GroupDescription(code, state, [(client, _user_data(metadata)) for _, client, _, metadata, _ in members])


def _user_data(metadata: bytes) -> bytes:
    try:
        return bytes(ConsumerProtocolMemberMetadata.decode(metadata).user_data or b"")
    except Exception:  # whoever is in the group may say anything, and decoding that raises anything
        return b""
