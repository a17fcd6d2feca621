"""What an administrator does: list, describe, create and delete topics, and see whether the cluster works at all."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

from forebay.errors import AuthorizationFailed, BrokerError, BrokerUnavailable
from forebay.kafka.link import Link
from forebay.kafka.producer import Producer
from forebay.kafka.wire import codes
from forebay.kafka.wire.connections import Unreachable
from forebay.kafka.wire.requests import (
    configs_of,
    configs_request,
    create_topic_request,
    delete_topic_request,
    topic_errors,
)
from forebay.settings import Settings

ADMIN_TIMEOUT = 15.0
"""Seconds that an administrative request may take in all."""
_BACK_OFF = 0.1
_PASSES = (codes.NOT_CONTROLLER, codes.REQUEST_TIMED_OUT, codes.LEADER_NOT_AVAILABLE, codes.COORDINATOR_LOADING)


@dataclass(frozen=True, slots=True)
class TopicDescription:
    """A topic as it exists.

    Attributes:
        name: of the topic.
        partitions: how many it has.
        config: its configuration, defaults of the cluster included.
    """

    name: str
    partitions: int
    config: Mapping[str, str]


class Admin:
    """What an administrator does: list, describe, create and delete topics.

    Args:
        link: to the cluster; started by the caller.
    """

    def __init__(self, link: Link) -> None:
        self._link = link

    @classmethod
    def connect(cls, settings: Settings) -> AbstractAsyncContextManager[Self]:
        """Connect for the length of a ``with`` block.

        Raises:
            BrokerUnavailable: no broker answers.
            AccessRefused: a broker does not accept the credentials.
        """
        return cls._connect(settings)

    @classmethod
    @asynccontextmanager
    async def _connect(cls, settings: Settings) -> AsyncIterator[Any]:
        link = Link(settings, "admin")
        try:
            yield cls(await link.start())
        finally:
            await link.stop()

    async def names(self) -> frozenset[str]:
        """Return the names of all topics that this client may see."""
        return frozenset((await self._link.look_up(None)).topics)

    async def describe(self, names: Iterable[str]) -> dict[str, TopicDescription]:
        """Describe those of the topics that exist; one that is being created may not be known everywhere yet.

        Raises:
            AuthorizationFailed: the cluster does not allow to look at one of them.
            BrokerUnavailable: no answer came in time.
        """
        wanted = sorted(set(names))
        if not wanted:
            return {}
        metadata = await self._link.look_up(wanted)
        for name, code in metadata.errors.items():
            if code == codes.TOPIC_AUTHORIZATION_FAILED:
                raise AuthorizationFailed("topic", name, "Describe")
        partitions = {name: len(topic.leaders) for name, topic in metadata.topics.items() if topic.leaders}
        if not partitions:
            return {}
        answer = await self._ask("describing topics", lambda: self._link.send_to_any(configs_request(partitions)))
        found: dict[str, TopicDescription] = {}
        for name, code, message, config in configs_of(answer):
            if code == codes.UNKNOWN_TOPIC:
                continue  # it was created a moment ago, and the node that was asked has not heard of it
            if code:
                raise _error("describing", name, code, message, "DescribeConfigs")
            found[name] = TopicDescription(name, partitions[name], config)
        return found

    async def create(self, name: str, partitions: int, replication: int, config: Mapping[str, str]) -> bool:
        """Create a topic.

        Returns:
            False when it exists already: somebody else was quicker.

        Raises:
            AuthorizationFailed: the cluster does not allow it.
            BrokerError: the broker refuses; the message says why.
        """
        request = create_topic_request(name, partitions, replication, config, ADMIN_TIMEOUT)
        code, message = await self._change("creating", name, request)
        if code and code != codes.TOPIC_ALREADY_EXISTS:
            raise _error("creating", name, code, message, "Create")
        return not code

    async def delete(self, name: str) -> None:
        """Delete a topic; one that is gone already is as good. Raises as `create`."""
        code, message = await self._change("deleting", name, delete_topic_request(name, ADMIN_TIMEOUT))
        if code and code != codes.UNKNOWN_TOPIC:
            raise _error("deleting", name, code, message, "Delete")

    async def _change(self, doing: str, name: str, request: Any) -> tuple[int, str | None]:
        what = f"{doing} topic {name}"
        try:
            async with asyncio.timeout(ADMIN_TIMEOUT):
                while True:
                    answer = await self._ask(what, lambda: self._link.send_to_controller(request))
                    [(code, message)] = topic_errors(answer)
                    if code not in _PASSES:
                        return code, message
                    await self._link.refresh()
        except TimeoutError:
            raise BrokerUnavailable(f"{what}: the broker did not do it within {ADMIN_TIMEOUT:g} s") from None

    async def _ask(self, what: str, ask: Any) -> Any:
        """Ask, and ask once more where a connection turns out to be closed."""
        for last in (False, True):
            try:
                async with asyncio.timeout(ADMIN_TIMEOUT):
                    return await ask()
            except TimeoutError:
                raise BrokerUnavailable(f"{what}: the broker did not answer within {ADMIN_TIMEOUT:g} s") from None
            except Unreachable as error:
                if last:
                    raise BrokerUnavailable(f"{what}: {error}") from error
                await self._link.refresh()
        return None


def _error(doing: str, name: str, code: int, message: str | None, operation: str) -> BrokerError:
    if code in (codes.TOPIC_AUTHORIZATION_FAILED, codes.CLUSTER_AUTHORIZATION_FAILED):
        return AuthorizationFailed("topic", name, operation)
    return BrokerError(f"{doing} topic {name}: {message or codes.name_of(code)}")


async def probe(settings: Settings, timeout: float) -> float:
    """Wait until the cluster acknowledges a produce, to a topic made for the purpose and removed again.

    Returns:
        Seconds from the call to the acknowledgement.

    Raises:
        BrokerUnavailable: it did not within ``timeout`` seconds; the message carries what was last seen.
    """
    begun = time.monotonic()
    name = f"{settings.namespace}probe.{uuid.uuid4().hex[:12]}"
    last: BrokerError | None = None
    while (left := timeout - (time.monotonic() - begun)) > 0:
        try:
            async with asyncio.timeout(left):
                link = Link(settings, "probe")
                producer = Producer(settings, "probe", link=link)
                try:
                    admin = Admin(await link.start())
                    await admin.create(name, 1, settings.replication_factor, {})
                    await producer.start()
                    await producer.send_and_wait(name, b"probe", key=b"probe", timeout=left)
                    taken = time.monotonic() - begun
                    await admin.delete(name)
                finally:
                    await producer.stop()
                    await link.stop()
                return taken
        except BrokerError as error:
            last = error
            await asyncio.sleep(0.05)
        except TimeoutError:
            break
    raise BrokerUnavailable(f"{settings.brokers} acknowledged nothing within {timeout:g} s (last seen: {last})")
