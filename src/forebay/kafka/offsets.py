"""Asking where partitions begin and end."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from forebay.errors import AuthorizationFailed, BrokerUnavailable
from forebay.kafka.link import Link
from forebay.kafka.wire import codes
from forebay.kafka.wire.connections import Unreachable
from forebay.kafka.wire.requests import EARLIEST, LATEST, offsets_of, offsets_request

BACK_OFF = 0.1
"""Seconds before a leader is asked again that could not answer."""


async def beginnings(link: Link, topic: str, partitions: Collection[int], timeout: float) -> dict[int, int]:
    """Return the offset of the first record of each partition, or the one that its first record will have.

    Raises:
        BrokerUnavailable: not all were answered within ``timeout`` seconds.
        BrokerError: the topic cannot be used; `TopicUnknown` where there is none.
    """
    return await _find(link, topic, partitions, EARLIEST, timeout)


async def ends(link: Link, topic: str, partitions: Collection[int], timeout: float) -> dict[int, int]:
    """Return the offset after the last record of each partition that may be read; raises as `beginnings`."""
    return await _find(link, topic, partitions, LATEST, timeout)


async def _find(link: Link, topic: str, partitions: Collection[int], instant: int, timeout: float) -> dict[int, int]:
    found: dict[int, int] = {}
    last = "no answer"
    try:
        async with asyncio.timeout(timeout):
            while missing := set(partitions) - found.keys():
                by_leader: dict[int, list[int]] = {}
                await link.find(topic)
                for partition in missing:
                    by_leader.setdefault(link.leader(topic, partition), []).append(partition)
                asked = (_ask(link, leader, topic, some, instant) for leader, some in by_leader.items())
                for answered, problem in await asyncio.gather(*asked):
                    found.update(answered)
                    last = problem or last
                if len(found) < len(partitions):
                    link.request_refresh()
                    await asyncio.sleep(BACK_OFF)
    except TimeoutError:
        raise BrokerUnavailable(
            f"offsets of {topic}: not all partitions answered within {timeout:g} s (last seen: {last})"
        ) from None
    return found


async def _ask(
    link: Link, leader: int, topic: str, partitions: Collection[int], instant: int
) -> tuple[dict[int, int], str | None]:
    """Ask one node; return what it knows, and what is wrong with the rest."""
    try:
        answers = offsets_of(await link.send(leader, offsets_request(topic, partitions, instant)))
    except Unreachable as error:
        return {}, str(error)
    found: dict[int, int] = {}
    problem: str | None = None
    for partition, code, offset in answers:
        if code == codes.NONE:
            found[partition] = offset
        elif code == codes.TOPIC_AUTHORIZATION_FAILED:
            raise AuthorizationFailed("topic", topic, "Describe and Read")
        else:
            problem = f"{topic}/{partition}: {codes.name_of(code)}"
    return found, problem
