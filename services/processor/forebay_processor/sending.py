"""Where replies, dead letters and jobs that are passed on go."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from forebay.errors import BrokerError
from forebay.kafka import Headers

OnDelivery = Callable[[BrokerError | None], None]


class Sending(Protocol):
    """Produces records, as `forebay.kafka.Producer` does."""

    @property
    def backpressured(self) -> bool:
        """Whether so much waits for the broker that a caller who can should use `wait_for_capacity`."""

    async def wait_for_capacity(self, size: int = 0) -> None:
        """Wait until a record of ``size`` bytes will be taken; it is to be handed over at once then."""

    def size_of(self, value: bytes | None, *, key: bytes | None, headers: Headers = ()) -> int:
        """Return how many bytes a record counts for."""

    def publish(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None,
        headers: Headers = (),
        partition: int | None = None,
        on_delivery: OnDelivery | None = None,
        within: float = math.inf,
    ) -> None:
        """Hand a record over; ``on_delivery`` is called once, when it is acknowledged or never will be.

        It is given up, with `DeliveryExpired`, if its partition takes nothing after ``within`` seconds, or before where
        others wait for the memory that it takes.

        Raises:
            MessageTooLarge: the record is larger than the topics take.
            BrokerUnavailable: nothing can be handed over.
        """

    def make_way(self, topic: str, partition: int) -> None:
        """Give up now what waits for a partition that takes nothing, where it was to be given up some time."""

    async def publish_and_wait(
        self, topic: str, value: bytes | None, *, key: bytes | None, headers: Headers = ()
    ) -> int:
        """Produce one record and wait, without a bound, for its acknowledgement; returns its offset.

        Raises:
            MessageTooLarge: the record is larger than the topics take.
            BrokerError: it never will be acknowledged.
        """
