"""Who is in a consumer group."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from forebay.errors import BrokerError, BrokerUnavailable
from forebay.kafka.link import Link
from forebay.kafka.sharing import read_claims
from forebay.kafka.wire import codes
from forebay.kafka.wire.connections import Unreachable
from forebay.kafka.wire.groups import coordinator_of, coordinator_request, describe_request, group_of
from forebay.kafka.wire.security import CLIENT_ID_PREFIX

_SETTLED = ("Stable", "Empty", "Dead")
_LOOK_AGAIN = 0.2
_PASSES = (codes.COORDINATOR_LOADING, codes.COORDINATOR_NOT_AVAILABLE, codes.NOT_COORDINATOR)


@dataclass(frozen=True, slots=True)
class GroupMember:
    """A member of a group.

    Attributes:
        client: the name of its client, as its log and the settings have it.
        operations: those that it runs; None where it does not say.
    """

    client: str
    operations: frozenset[str] | None


async def group_members(link: Link, group: str, timeout: float) -> list[GroupMember]:
    """Return the members of a group; while its members change, wait until they are settled.

    A member that was killed counts until its session times out.

    Raises:
        BrokerUnavailable: there was no such answer within ``timeout`` seconds.
        BrokerError: the cluster refuses to say.
    """
    last = "no answer"
    try:
        async with asyncio.timeout(timeout):
            while True:
                try:
                    code, node = coordinator_of(await link.send_to_any(coordinator_request(group)))
                    if not code:
                        code, state, members = group_of(await link.send(node, describe_request(group)))
                        if not code and state in _SETTLED:
                            return [_member(*member) for member in members]
                        last = codes.name_of(code) if code else f"it is in state {state}"
                    elif code not in _PASSES:
                        raise BrokerError(f"looking up group {group}: {codes.name_of(code)}")
                except Unreachable as error:
                    last = str(error)
                    await link.refresh()
                await asyncio.sleep(_LOOK_AGAIN)
    except TimeoutError:
        raise BrokerUnavailable(f"the members of group {group} are not known within {timeout:g} s: {last}") from None


def _member(client: str, user_data: bytes) -> GroupMember:
    said = [claim.operations for claim in read_claims(user_data).values() if claim.operations is not None]
    return GroupMember(client.removeprefix(CLIENT_ID_PREFIX), frozenset(said[0]) if said else None)
