"""What is said about a job, and what becomes of its lease when the broker has it, refuses it or never will have it."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from forebay.errors import (
    AuthorizationFailed,
    BrokerError,
    BrokerUnavailable,
    CodecError,
    DeliveryExpired,
    MessageTooLarge,
    RecordRefused,
    TopicUnknown,
)
from forebay.kafka import Record, header
from forebay.messages import ReplyMessage, decode_reply
from forebay_processor.dead_letters import DeadLetters
from forebay_processor.fatal import Fatal
from forebay_processor.lease import Ending
from forebay_processor.metrics import Metrics
from forebay_processor.outcome import expired, unreadable
from forebay_processor.settle import Settler
from forebay_processor.spans import Spans
from forebay_processor.work import JobOutcome
from forebay_schemas import topics as topic_names
from tests.support.chain import APP, NAMESPACE, HeldProducer, Sent
from tests.support.jobs import Ended, a_message, a_work
from tests.support.records import a_record
from tests.support.waiting import until

NOW = 1_000_000.0
REPLIES = topic_names.replies(NAMESPACE, "gw")
DEAD = topic_names.dead(NAMESPACE, APP)
RETRIES = topic_names.retries(NAMESPACE, APP, "200ms")
DONE = JobOutcome("COMPLETED", 1, 2, payload=b"result")


class Settling:
    """A settler, and what it has handed to the producer."""

    def __init__(self) -> None:
        self.producer, self.fatal = HeldProducer(), Fatal(asyncio.Event())
        metrics = Metrics(APP)
        self.dead = DeadLetters(NAMESPACE, APP, self.producer, metrics)
        self.known: set[tuple[str, str]] = set()
        self.settler = Settler(
            NAMESPACE,
            APP,
            self.producer,
            self.dead,
            "me",
            self.fatal,
            metrics,
            lambda: NOW,
            lambda *of: of in self.known,
        )
        self.spans = Spans(TracerProvider(), NAMESPACE, APP)
        self.lease = Ended().lease()

    async def settle(self, outcome: JobOutcome, **changes: Any) -> Sent:
        work = a_work(**changes)
        self.lease = work.lease
        await self.settler.settle(work, outcome, self.spans.begin(work))
        [sent] = self.producer.sent
        return sent

    def answer(self, error: BrokerError | None) -> None:
        """Say what became of what was produced first."""
        self.producer.sent.pop(0).on_delivery(error)


def read(sent: Sent) -> ReplyMessage:
    return decode_reply(sent.value or b"")


async def test_a_lease_ends_when_the_reply_is_acknowledged_and_not_before() -> None:
    settling = Settling()
    sent = await settling.settle(DONE)
    assert (sent.topic, read(sent)["outcome"], read(sent)["payload"]) == (REPLIES, "COMPLETED", b"result")
    assert settling.lease.is_open
    assert settling.lease.promised
    settling.answer(None)
    assert settling.lease.ending is Ending.DONE


async def test_a_reply_whose_gateway_is_gone_settles_its_job(caplog: pytest.LogCaptureFixture) -> None:
    settling = Settling()
    for _ in range(3):
        await settling.settle(DONE)
        settling.answer(TopicUnknown("there is no such topic"))
        assert settling.lease.ending is Ending.DONE
    assert settling.fatal.error is None
    assert [record.message for record in caplog.records if REPLIES in record.message] != []
    assert sum(REPLIES in record.message for record in caplog.records) == 1, "one line for all of them"


@pytest.mark.parametrize("error", [RecordRefused(REPLIES, "InvalidTimestamp"), DeliveryExpired(REPLIES, 0)])
async def test_a_reply_that_its_topic_does_not_take_settles_its_job(
    error: BrokerError, caplog: pytest.LogCaptureFixture
) -> None:
    settling = Settling()
    await settling.settle(DONE)
    settling.answer(error)
    assert settling.lease.ending is Ending.DONE
    assert settling.fatal.error is None
    assert [record.message for record in caplog.records if str(error) in record.message] != []


async def test_a_reply_that_is_under_way_can_be_asked_to_make_way() -> None:
    settling = Settling()
    settling.settler.make_way(settling.lease)
    assert settling.producer.made_way == [], "its job has no reply yet"
    await settling.settle(DONE)
    settling.settler.make_way(settling.lease)
    assert settling.producer.made_way == [(REPLIES, 0)]


@pytest.mark.parametrize(("left", "within"), [(60.0, 65.0), (0.0, 5.0), (-60.0, 5.0)])
async def test_a_reply_waits_little_longer_than_its_caller(left: float, within: float) -> None:
    sent = await Settling().settle(DONE, deadline=int((NOW + left) * 1000))
    assert sent.within == within


@pytest.mark.parametrize(
    "error",
    [
        BrokerUnavailable("it is lost"),
        BrokerError("an error of no known kind"),
        AuthorizationFailed("topic", REPLIES, "Write"),
    ],
)
async def test_a_reply_that_never_can_be_sent_ends_the_process(error: BrokerError) -> None:
    settling = Settling()
    await settling.settle(DONE)
    settling.answer(error)
    assert settling.lease.is_open
    assert settling.fatal.error is error


async def test_a_result_that_its_topic_does_not_take_is_told_as_such() -> None:
    settling = Settling()
    await settling.settle(DONE)
    settling.answer(MessageTooLarge(9, 8))
    [instead] = settling.producer.sent
    reply = read(instead)
    assert reply["outcome"] == "FAILED"
    assert reply["problem"] is not None
    assert reply["problem"]["type"] == "unusable-result"
    assert settling.lease.is_open
    settling.answer(MessageTooLarge(9, 8))
    assert settling.lease.ending is Ending.DONE, "there is nothing smaller to say"
    assert settling.fatal.error is None


async def test_a_reply_waits_while_too_much_waits_for_the_broker() -> None:
    settling = Settling()
    settling.producer.capacity.clear()
    task = asyncio.create_task(settling.settle(DONE))
    await asyncio.sleep(0)
    assert not settling.producer.sent
    settling.producer.capacity.set()
    await task
    assert len(settling.producer.sent) == 1


@pytest.mark.parametrize(("named", "used"), [(0, 0), (1, 1), (2, 0), (-1, 0), (2**31 - 1, 0)])
async def test_a_reply_goes_to_a_partition_that_its_topic_has(named: int, used: int) -> None:
    settling = Settling()
    partitions: list[int | None] = []
    publish = settling.producer.publish

    def noted(topic: str, value: bytes | None, *, partition: int | None = None, **rest: Any) -> None:
        partitions.append(partition)
        publish(topic, value, **rest)

    settling.producer.publish = noted  # type: ignore[method-assign]
    await settling.settle(expired(), reply_partition=named)
    assert partitions == [used]


async def test_a_dead_letter_is_acknowledged_before_its_caller_is_told() -> None:
    settling = Settling()
    task = asyncio.create_task(settling.settle(unreadable("it is damaged")))
    await asyncio.sleep(0)
    [letter] = settling.producer.sent
    assert letter.topic == DEAD
    assert dict(letter.headers)["fb-error-detail"] == b"it is damaged; it is kept among the dead letters"
    settling.answer(None)
    sent = await task
    assert read(sent)["outcome"] == "FAILED"
    assert settling.lease.is_open


async def test_a_dead_letter_that_is_too_large_is_kept_without_its_value() -> None:
    settling = Settling()
    record = a_record(b"x" * 100, headers=[("mine", b"kept")])
    lease = settling.lease
    task = asyncio.create_task(settling.settler.settle_unreadable(record, lease, CodecError("it is damaged")))
    await asyncio.sleep(0)
    settling.answer(MessageTooLarge(100, 99))
    await asyncio.sleep(0)
    [letter] = settling.producer.sent
    assert letter.value is None
    assert b"its 100 bytes are not kept" in (dict(letter.headers)["fb-error-detail"] or b"")
    assert dict(letter.headers)["fb-origin"] == b"topic/0/0"
    settling.answer(None)
    await task
    assert lease.ending is Ending.DONE


@pytest.mark.parametrize("key", [None, b"", b"\xff", b"nobody", b"gw-1", b"../../x-" + str(uuid.uuid4()).encode()])
async def test_an_unreadable_record_whose_key_names_nobody_is_done_with(key: bytes | None) -> None:
    settling = Settling()
    record = a_record(b"x")._replace(key=key)
    task = asyncio.create_task(settling.settler.settle_unreadable(record, settling.lease, CodecError("it is damaged")))
    await asyncio.sleep(0)
    settling.answer(None)
    await task
    assert settling.lease.ending is Ending.DONE
    assert not settling.producer.sent


def a_fetched(job_deadline_in_ms: int, **headers: bytes) -> tuple[Record, Any]:
    job = a_message(operation="unheard-of", deadline=int(NOW * 1000) + job_deadline_in_ms)
    names = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return a_record(b"the bytes", topic=topic_names.jobs(NAMESPACE, APP, "bulk"), offset=7, headers=names), job


async def test_a_job_is_handed_on_with_its_history() -> None:
    settling = Settling()
    record, job = a_fetched(10_000, fb_handed_on=b"4", fb_attempt=b"2", fb_origin=b"elsewhere/0/0", mine=b"kept")
    await settling.settler.hand_on(record, settling.lease, job)
    [sent] = settling.producer.sent
    assert (sent.topic, sent.value) == (RETRIES, b"the bytes")
    passed_on = a_record(headers=sent.headers)
    assert len(dict(sent.headers)) == len(sent.headers)
    assert header(passed_on, "fb-handed-on") == "5"
    assert header(passed_on, "fb-attempt") == "2"
    assert header(passed_on, "fb-not-before") == str(int(NOW * 1000) + 200)
    assert header(passed_on, "fb-origin") == f"{record.topic}/0/7"
    assert header(passed_on, "mine") == "kept"
    assert settling.lease.is_open
    settling.answer(None)
    assert settling.lease.ending is Ending.HANDED_ON


@pytest.mark.parametrize(
    ("count", "left", "delay"),
    [(9, 10_000, "200ms"), (10, 10_000, "1s"), (10, 1_000, "200ms"), (39, 10_000, "5s"), (399, 400_000, "5m")],
)
async def test_a_job_that_has_long_looked_for_a_processor_looks_less_often(count: int, left: int, delay: str) -> None:
    settling = Settling()
    record, job = a_fetched(left, fb_handed_on=b"%d" % count)
    await settling.settler.hand_on(record, settling.lease, job)
    [sent] = settling.producer.sent
    assert sent.topic == topic_names.retries(NAMESPACE, APP, delay)
    due = int(NOW * 1000) + topic_names.RETRY_DELAYS_MS[delay]
    assert header(a_record(headers=sent.headers), "fb-not-before") == str(due)


@pytest.mark.parametrize(
    ("count", "queue", "left", "wait"),
    [(0, "bulk", 10_000, 0), (0, "bulk", 150, 0), (1, "bulk", 10_000, 200), (0, "standard", 10_000, 200)],
)
async def test_a_job_is_due_at_once_where_another_processor_is_known_to_run_it(
    count: int, queue: str, left: int, wait: int
) -> None:
    """And if that was wrong, it waits the next time."""
    settling = Settling()
    settling.known.add((topic_names.jobs(NAMESPACE, APP, queue), "unheard-of"))
    record, job = a_fetched(left, **({"fb_handed_on": b"%d" % count} if count else {}))
    await settling.settler.hand_on(record, settling.lease, job)
    [sent] = settling.producer.sent
    assert sent.topic == RETRIES
    assert header(a_record(headers=sent.headers), "fb-not-before") == str(int(NOW * 1000) + wait)
    assert header(a_record(headers=sent.headers), "fb-handed-on") == str(count + 1)


@pytest.mark.parametrize("count", [400, 2**31 - 1])
async def test_a_job_is_not_handed_on_for_ever(count: int) -> None:
    """Its deadline may be thousands of years away."""
    settling = Settling()
    record, job = a_fetched(10**12, fb_handed_on=b"%d" % count)
    await settling.settler.hand_on(record, settling.lease, job)
    [sent] = settling.producer.sent
    assert (sent.topic, read(sent)["outcome"]) == (REPLIES, "FAILED")


async def test_a_retry_topic_that_is_gone_is_waited_for() -> None:
    settling = Settling()
    record, job = a_fetched(10_000)
    await settling.settler.hand_on(record, settling.lease, job)
    settling.answer(TopicUnknown("it is gone"))
    await until(lambda: settling.producer.sent, 5, "it is handed on again")
    assert settling.producer.sent[0].topic == RETRIES
    settling.answer(None)
    assert settling.lease.ending is Ending.HANDED_ON
    assert settling.fatal.error is None


async def test_a_dead_letter_waits_for_a_topic_that_is_gone() -> None:
    settling = Settling()
    task = asyncio.create_task(settling.dead.keep(a_record(b"x"), unreadable("it is damaged").problem))
    await until(lambda: settling.producer.sent, 5, "the dead letter is produced")
    settling.answer(TopicUnknown("it is gone"))
    await until(lambda: settling.dead.topic_is_gone, 5, "whoever creates topics can know")
    await until(lambda: settling.producer.sent, 5, "it is produced again")
    assert not task.done()
    settling.answer(None)
    await task
    assert not settling.dead.topic_is_gone


@pytest.mark.parametrize("left", [-1000, 0, 200, 299])
async def test_a_job_that_would_come_back_too_late_fails_while_somebody_waits(left: int) -> None:
    settling = Settling()
    record, job = a_fetched(left)
    await settling.settler.hand_on(record, settling.lease, job)
    [sent] = settling.producer.sent
    reply = read(sent)
    assert (sent.topic, reply["outcome"]) == (REPLIES, "FAILED")
    assert reply["problem"] is not None
    assert reply["problem"]["type"] == "no-processor"
    settling.answer(None)
    assert settling.lease.ending is Ending.DONE


async def test_a_job_that_cannot_be_handed_on_for_its_size_fails() -> None:
    settling = Settling()
    record, job = a_fetched(10_000)
    await settling.settler.hand_on(record, settling.lease, job)
    settling.answer(MessageTooLarge(9, 8))
    [sent] = settling.producer.sent
    assert read(sent)["outcome"] == "FAILED"
    settling.answer(None)
    assert settling.lease.ending is Ending.DONE
