"""Where replies, dead letters and jobs that are passed on go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from forebay.errors import BrokerError
from forebay.kafka import Headers

OnDelivery = Callable[[BrokerError | None], None]


class Sending(Protocol):
    """Produces records."""

    @property
    def backpressured(self) -> bool:
        """Whether so much waits for the broker that a caller who can should use `wait_for_capacity`."""

    async def wait_for_capacity(self) -> None:
        """Wait until there is less of it."""

    def publish(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes,
        headers: Headers = (),
        partition: int | None = None,
        on_delivery: OnDelivery | None = None,
    ) -> None:
        """Hand a record over; ``on_delivery`` is called once, when it is acknowledged or never will be.

        Raises:
            MessageTooLarge: the record is larger than the topics take.
            BrokerUnavailable: nothing can be handed over.
        """


async def capacity(producer: Sending) -> None:
    """Wait while too much waits for the broker; others that waited may have taken what became free."""
    while producer.backpressured:
        await producer.wait_for_capacity()
