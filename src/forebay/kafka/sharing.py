"""How the members of a group share its partitions: evenly, and moving as little as that takes.

A partition that moves takes along whatever is being worked on in it: the new owner fetches it again. So each member
keeps what it has as far as its fair share goes, and of that rather the partitions with work in hand. Kafka's own round
robin deals everything out anew whenever somebody comes or goes. Whoever is about to leave keeps only what it works on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec


@dataclass(frozen=True, slots=True)
class Claim:
    """What a member would like to keep of a topic.

    Attributes:
        busy: partitions in which it has work in hand.
        owned: partitions that were its own until now.
        leaving: whether it wants none but the busy ones, because it is about to leave the group.
        operations: those that it runs, for whoever asks; None where it does not say.
    """

    busy: list[int]
    owned: list[int]
    leaving: bool = False
    operations: list[str] | None = None


def read_claims(data: bytes | None) -> dict[str, Claim]:
    """Read what a member says of itself, by topic; where that cannot be read, it claims nothing."""
    try:
        return msgspec.json.decode(data or b"", type=dict[str, Claim])
    except msgspec.MsgspecError:
        return {}


def share(partitions: Iterable[int], claims: Mapping[str, Claim]) -> dict[str, list[int]]:
    """Share partitions among members, so that none has two more than another, apart from those who are leaving.

    Args:
        partitions: all there are; those that only members who are leaving could read are left out.
        claims: of each member, by its id; at least one.
    """
    free = set(partitions)
    shares: dict[str, list[int]] = {member: [] for member in claims}

    def grant(member: str, wanted: Iterable[int]) -> None:
        for partition in wanted:
            if len(shares[member]) == quota[member]:
                return
            if partition in free:
                free.remove(partition)
                shares[member].append(partition)

    leaving = sorted(member for member, claim in claims.items() if claim.leaving)
    quota = dict.fromkeys(leaving, len(free))
    for member in leaving:
        grant(member, claims[member].busy)

    staying = sorted(claims.keys() - quota.keys())
    base, extra = divmod(len(free), len(staying) or 1)
    # whoever has most keeps most: those whose share is the larger by one
    by_holdings = sorted(staying, key=lambda member: -len({*claims[member].busy, *claims[member].owned}))
    quota |= {member: base + (place < extra) for place, member in enumerate(by_holdings)}
    for member in staying:
        grant(member, claims[member].busy)
    for member in staying:
        grant(member, claims[member].owned)
    for member in staying:
        grant(member, sorted(free))
    return {member: sorted(granted) for member, granted in shares.items()}


def known_somewhere(claims: Mapping[str, Claim], shares: Mapping[str, list[int]]) -> dict[str, list[int]]:
    """Return the operations that not every member knows, each with the partitions of those who do.

    Only they are of interest to anybody, and there are none but while versions of an app run side by side.
    """
    everywhere = set.intersection(*(set(claim.operations or ()) for claim in claims.values()))
    known: dict[str, list[int]] = {}
    for member in sorted(shares):
        for operation in claims[member].operations or ():
            if operation not in everywhere:
                known.setdefault(operation, []).extend(shares[member])
    return known
