"""What the producer makes of a leader's answers, which no broker gives when a test would like it to."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from forebay.errors import AuthorizationFailed, BrokerError, BrokerUnavailable, DeliveryExpired, RecordRefused
from forebay.kafka import Producer, outboxes
from forebay.kafka.link import Link
from forebay.kafka.wire import codes
from forebay.kafka.wire.metadata import NO_LEADER, Topic
from forebay.settings import load_settings

BOUND = 10.0


class ScriptedLink:
    """A leader of one partition that answers each produce request with the next code."""

    def __init__(self, *answers: int) -> None:
        self._answers = list(answers)
        self._listeners: list[Callable[[], None]] = []
        self.node = 1
        self.identities = 0

    def listen(self, listener: Callable[[], None]) -> None:
        self._listeners.append(listener)

    def bring_metadata(self) -> None:
        """Tell the producer that a node has told of the topics."""
        for listener in self._listeners:
            listener()

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None  # topics to watch, requests for new metadata, trouble: none

    def leader(self, topic: str, partition: int) -> int:
        assert (topic, partition) == ("things", 0)
        return self.node

    def partitions(self, topic: str) -> int:
        assert topic == "things"
        return 1

    def topic(self, name: str) -> Topic:
        assert name == "things"
        return Topic(None, (self.node,))

    async def start(self) -> ScriptedLink:
        return self

    async def stop(self) -> None:
        """Do nothing."""

    async def send_to_any(self, request: Any) -> Any:
        assert request is not None
        self.identities += 1
        return SimpleNamespace(error_code=0, producer_id=self.identities, producer_epoch=0)

    async def send(self, *request: Any) -> Any:
        assert request
        return SimpleNamespace(topics=[("things", [(0, self._answers.pop(0), -1)])])


async def told(*answers: int, records: int = 1) -> tuple[list[BrokerError | None], int]:
    """What is told of records that are produced one after the other, and how many identities that took."""
    link = ScriptedLink(*answers)
    producer = Producer(load_settings(bootstrap_servers="127.0.0.1:1"), "test", link=cast(Link, link))
    await producer.start()
    found: list[BrokerError | None] = []
    for _ in range(records):
        delivered: asyncio.Future[BrokerError | None] = asyncio.get_running_loop().create_future()
        producer.publish("things", b"v", key=b"k", partition=0, on_delivery=delivered.set_result)
        found.append(await asyncio.wait_for(delivered, BOUND))
    await producer.stop()
    return found, link.identities


async def test_a_repetition_of_what_may_have_been_written_is_its_acknowledgement() -> None:
    assert await told(codes.NOT_LEADER, codes.DUPLICATE_SEQUENCE) == ([None], 1)


@pytest.mark.parametrize("lost", [codes.NOT_LEADER, codes.KAFKA_STORAGE_ERROR, codes.REQUEST_TIMED_OUT])
async def test_numbers_of_what_may_have_been_written_are_not_used_again(lost: int) -> None:
    (first, second), identities = await told(lost, codes.TOPIC_AUTHORIZATION_FAILED, codes.NONE, records=2)
    assert isinstance(first, AuthorizationFailed)
    assert second is None
    assert identities == 2


async def test_a_record_that_was_never_written_is_not_taken_for_a_repetition() -> None:
    assert await told(codes.DUPLICATE_SEQUENCE, codes.NONE) == ([None], 2)


async def test_numbers_of_what_was_certainly_not_written_are_used_again() -> None:
    (first, second), identities = await told(
        codes.NOT_ENOUGH_REPLICAS, codes.TOPIC_AUTHORIZATION_FAILED, codes.NONE, records=2
    )
    assert isinstance(first, AuthorizationFailed)
    assert (second, identities) == (None, 1)


async def test_what_may_have_been_written_under_a_void_identity_is_unknown() -> None:
    (found,), _ = await told(codes.NOT_LEADER, codes.OUT_OF_ORDER_SEQUENCE)
    assert isinstance(found, BrokerUnavailable)


@pytest.mark.parametrize("code", [32, 43, 44, 76, 87])
async def test_what_a_setting_of_its_topic_forbids_is_told_by_name(code: int) -> None:
    (refused, next_one), identities = await told(code, codes.NONE, records=2)
    assert isinstance(refused, RecordRefused)
    assert (refused.topic, refused.reason) == ("things", codes.name_of(code))
    assert (next_one, identities) == (None, 1)


async def test_a_record_that_is_larger_than_its_topic_takes_is_told_with_the_topic() -> None:
    (found,), _ = await told(codes.MESSAGE_TOO_LARGE)
    assert str(found) == "a message of 1 bytes is larger than topic things takes (max.message.bytes)"


class Producing:
    """A producer, and what it has told of its records, by their numbers."""

    def __init__(self, link: ScriptedLink) -> None:
        self.told: dict[int, BrokerError | None] = {}
        self.producer = Producer(load_settings(bootstrap_servers="127.0.0.1:1"), "test", link=cast(Link, link))

    def publish(self, number: int, within: float, value: bytes = b"v") -> None:
        def on_delivery(error: BrokerError | None) -> None:
            assert number not in self.told
            self.told[number] = error

        self.producer.publish("things", value, key=b"k", partition=0, on_delivery=on_delivery, within=within)


async def test_only_what_has_expired_is_given_up_while_its_partition_has_no_leader() -> None:
    link = ScriptedLink(codes.NONE)
    link.node = NO_LEADER
    producing = Producing(link)
    await producing.producer.start()
    for number, within in enumerate([0.0, 1000.0, 0.0, math.inf]):
        producing.publish(number, within)
    await asyncio.sleep(0)
    link.bring_metadata()
    assert list(producing.told) == [0, 2]
    assert all(isinstance(error, DeliveryExpired) for error in producing.told.values())
    link.node = 1
    link.bring_metadata()
    await producing.producer.flush(BOUND)
    assert (producing.told[1], producing.told[3]) == (None, None)
    await producing.producer.stop()


async def test_what_would_expire_makes_way_once_its_partition_has_had_no_leader_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    link = ScriptedLink(codes.NONE)
    producing = Producing(link)
    await producing.producer.start()
    for number, within in enumerate([1000.0, math.inf]):
        producing.publish(number, within)
    producing.producer.make_way("things", 0)
    assert producing.told == {}
    link.node = NO_LEADER
    producing.producer.make_way("things", 0)
    assert producing.told == {}, "it may have one again in a moment"
    monkeypatch.setattr(outboxes, "MAKE_WAY_AFTER", 0.0)
    producing.producer.make_way("things", 0)
    assert list(producing.told) == [0]
    assert isinstance(producing.told[0], DeliveryExpired)
    link.node = 1
    link.bring_metadata()
    await producing.producer.flush(BOUND)
    assert producing.told[1] is None
    await producing.producer.stop()


@pytest.mark.parametrize("code", [codes.NONE, codes.NOT_ENOUGH_REPLICAS])
async def test_what_waits_for_a_partition_that_takes_nothing_does_not_keep_others_out(
    code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outboxes, "MAKE_WAY_AFTER", 0.0)
    link = ScriptedLink(*[code] * 100)
    if code == codes.NONE:
        link.node = NO_LEADER
    producing = Producing(link)
    await producing.producer.start()
    count = 5
    for number in range(count):
        producing.publish(number, 1000.0, bytes(7 * 1024 * 1024))
    assert producing.producer.backpressured
    waiting = asyncio.create_task(producing.producer.wait_for_capacity(1024))
    async with asyncio.timeout(BOUND):
        while not waiting.done():
            await asyncio.sleep(0)
            link.bring_metadata()
    assert producing.told
    assert all(isinstance(error, DeliveryExpired) for error in producing.told.values())
    await producing.producer.stop(0)


async def test_what_has_expired_is_sent_all_the_same_to_a_leader_that_takes_it() -> None:
    link = ScriptedLink(codes.NONE)
    producing = Producing(link)
    await producing.producer.start()
    producing.publish(0, 0.0)
    link.bring_metadata()
    await producing.producer.flush(BOUND)
    assert producing.told == {0: None}
    await producing.producer.stop()


@pytest.mark.parametrize("code", [codes.NOT_ENOUGH_REPLICAS, codes.NOT_ENOUGH_REPLICAS_AFTER_APPEND])
async def test_a_batch_that_has_expired_is_given_up_while_too_few_replicas_are_in_sync(code: int) -> None:
    link = ScriptedLink(*[code] * 100)
    producing = Producing(link)
    await producing.producer.start()
    producing.publish(0, 0.0)
    async with asyncio.timeout(BOUND):
        while not producing.told:
            await asyncio.sleep(0)
            link.bring_metadata()
    assert isinstance(producing.told[0], DeliveryExpired)
    await producing.producer.stop()
