"""The claim of a gateway to its instance name, settled by records in the reply topic, which the holder reads anyway.

Two gateways with one name would read one reply topic, and take each other's replies for late ones. So a gateway puts a
claim into the topic, and is not ready before the others had time to object: whoever claimed before it and is alive
objects. A gateway that was killed objects to nothing, so its name is free again after `OBJECTION_SECONDS`. One that
was frozen for a while finds, when it goes on, that another one has taken the name; then it ends. The order of the
records in the topic decides, so of several that start at the same instant exactly one stays.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from enum import Enum
from typing import Protocol

import msgspec

from forebay.errors import BrokerError, BrokerUnavailable, InstanceTaken
from forebay.kafka import Record

log = logging.getLogger(__name__)

CLAIM_KEY = b"instance-claim"
"""Key of the records that are about claims; no request id is like it."""

OBJECTION_SECONDS = 2.0
"""Seconds that a holder has to object to a claim."""

CLAIM_BOUND = 15.0
"""Seconds that the reply topic may take to show a claim to the one who made it."""


class Kind(Enum):
    """What a record about claims says."""

    CLAIM = "claim"
    """Its gateway wants the name."""
    OBJECTION = "objection"
    """Its gateway claimed the name earlier, and is alive."""
    HOLD = "hold"
    """Nobody objected to the claim of its gateway."""


class ClaimMessage(msgspec.Struct, frozen=True):
    """The value of a record about claims, as JSON.

    Attributes:
        kind: what it says.
        gateway: which process says so: a random id.
        who: the same for a person: host and process id.
        to: the gateway to whose claim it objects; empty otherwise.
        claimed_at: offset of the gateway's claim; -1 in the claim itself.
    """

    kind: Kind
    gateway: str
    who: str
    to: str = ""
    claimed_at: int = -1


_DECODER = msgspec.json.Decoder(ClaimMessage)


class Publish(Protocol):
    """Hands a record over to the reply topic."""

    def __call__(self, value: bytes, on_delivery: Callable[[BrokerError | None], None] | None = None) -> None:
        """Produce ``value`` with the key `CLAIM_KEY`."""


class Claim:
    """One gateway's claim to its name.

    Args:
        instance: the name.
        publish: where the records go.
        on_lost: called once if another gateway has taken a name that was held.
        gateway: id of this process, different for each; default: a random one.
    """

    def __init__(
        self, instance: str, publish: Publish, on_lost: Callable[[], None], gateway: str | None = None
    ) -> None:
        self._instance = instance
        self._publish = publish
        self._on_lost = on_lost
        self._gateway = gateway or os.urandom(8).hex()
        self._who = f"process {os.getpid()} on {socket.gethostname()}"
        self._claimed_at: int | None = None
        self._changed = asyncio.Event()
        self._taken_by: str | None = None
        self.held = False

    @property
    def made(self) -> bool:
        """Whether the claim is in the topic, as far as has been read."""
        return self._claimed_at is not None

    @property
    def lost(self) -> bool:
        """Whether another gateway has the name."""
        return self._taken_by is not None

    def check(self) -> None:
        """Raise `InstanceTaken` if another gateway has the name."""
        if self._taken_by is not None:
            raise InstanceTaken(self._instance, self._taken_by)

    async def make(self) -> None:
        """Claim the name, anew if the topic was lost, and wait until it is held; the topic is read meanwhile.

        Raises:
            InstanceTaken: another gateway has it.
            BrokerUnavailable: the claim did not come back within `CLAIM_BOUND`.
        """
        failure: list[BrokerError] = []

        def on_delivery(error: BrokerError | None) -> None:
            if error is not None:
                failure.append(error)
                self._changed.set()

        self.begin(on_delivery)
        await self._wait(CLAIM_BOUND)
        if failure:
            raise failure[0]
        if self._claimed_at is None and not self.lost:
            raise BrokerUnavailable(
                f"the claim to the name '{self._instance}' did not come back within {CLAIM_BOUND:g} s"
            )
        if self._claimed_at != 0:  # before the very first record there is nobody
            self._changed.clear()
            await self._wait(OBJECTION_SECONDS)
        self.confirm()

    def begin(self, on_delivery: Callable[[BrokerError | None], None] | None = None) -> None:
        """Put the claim into the topic."""
        self.held, self._claimed_at = False, None
        self._changed.clear()
        self._publish(self._message(Kind.CLAIM), on_delivery)

    def confirm(self) -> None:
        """Hold the name, after the others had time to object; raises `InstanceTaken` if one did."""
        self.check()
        self.held = True
        self._publish(self._message(Kind.HOLD))

    def on_record(self, record: Record) -> None:
        """Take in a record about claims; one that cannot be read says nothing."""
        try:
            message = _DECODER.decode(record.value or b"")
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return
        if message.gateway == self._gateway:
            if message.kind is Kind.CLAIM:
                self._claimed_at = record.offset
                self._changed.set()
        elif self.lost or (self._claimed_at is None and message.kind is not Kind.OBJECTION):
            return  # it was earlier: if its gateway is alive, it objects to ours
        elif message.kind is Kind.CLAIM:
            log.warning("another gateway (%s) claims the name '%s' too", message.who[:200], self._instance)
            self._publish(self._message(Kind.OBJECTION, to=message.gateway))
        elif message.kind is Kind.OBJECTION:
            if message.to == self._gateway and not self.held:
                self._lose_name(message)
        elif self._claimed_at is not None and message.claimed_at > self._claimed_at:
            self._lose_name(message)

    def _lose_name(self, message: ClaimMessage) -> None:
        self._taken_by = message.who[:200]
        self._changed.set()
        if self.held:
            self.held = False
            self._on_lost()

    def _message(self, kind: Kind, to: str = "") -> bytes:
        claimed_at = -1 if self._claimed_at is None else self._claimed_at
        return msgspec.json.encode(ClaimMessage(kind, self._gateway, self._who, to, claimed_at))

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return
