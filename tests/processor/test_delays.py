"""The retry topics: jobs come back to their queue when due, never before, in order, whatever their headers say."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.errors import BrokerUnavailable, MessageTooLarge, TopicUnknown
from forebay.kafka import Headers, Record
from forebay.messages import decode_reply, encode_job
from forebay_processor.dead_letters import DeadLetters
from forebay_processor.delays import READING, TRY_AGAIN_MS, Delays, Partitions
from forebay_processor.fatal import Fatal
from forebay_processor.intake import JobReader
from forebay_processor.lease import Ending, Lease
from forebay_processor.metrics import Metrics
from forebay_processor.settle import Settler
from forebay_schemas import topics as topic_names
from tests.support.chain import APP, NAMESPACE, PAUSE_LIMIT, Chain, HeldProducer, Sent
from tests.support.jobs import NEVER, Ended, a_message
from tests.support.waiting import until

NOW = 1_000_000_000
"""Milliseconds since the epoch at which each of these tests begins."""
DEAD = topic_names.dead(NAMESPACE, APP)
QUEUE = topic_names.jobs(NAMESPACE, APP, "interactive")
RETRIES = {topic_names.retries(NAMESPACE, APP, name): delay for name, delay in topic_names.RETRY_DELAYS_MS.items()}


class Mover:
    """The real thing, with a clock that the test sets and a producer that it watches."""

    def __init__(self, partitions: Partitions | None = None) -> None:
        self.now = NOW
        self.chain = chain = Chain({}, self.clock)
        self.producer, self.fatal = HeldProducer(), Fatal(asyncio.Event())
        metrics = Metrics(APP)
        dead = DeadLetters(NAMESPACE, APP, self.producer, metrics)
        settler = Settler(NAMESPACE, APP, self.producer, dead, "processor", self.fatal, metrics, self.clock)
        reader = JobReader(NAMESPACE)
        self.delays = Delays(
            NAMESPACE,
            APP,
            reader,
            self.producer,
            settler,
            chain.processor,
            self.fatal,
            metrics,
            chain.pauses,
            partitions,
            self.clock,
        )
        self.ended = Ended()
        self.leases: list[Lease] = []

    def clock(self) -> float:
        return self.now / 1000

    def take(self, topic: str, headers: Headers, *, timestamp: int = NOW, deadline: int = NEVER) -> bytes:
        """Let it fetch a job; returns the record's key."""
        key = f"gw-{uuid.uuid4()}"
        value = encode_job(a_message(request_id=key, deadline=deadline))
        record = Record(topic, 0, len(self.leases), timestamp, key.encode(), value, headers)
        self.leases.append(self.ended.lease((topic, 0), record.offset))
        self.delays.take([(record, self.leases[-1])])
        return key.encode()

    def move(self, now: int) -> list[tuple[str, bytes]]:
        """Let time come to an instant; returns what was moved since, and where to."""
        self.now = now
        before = len(self.producer.sent)
        self.delays.move()
        return [(sent.topic, sent.key) for sent in self.producer.sent[before:]]

    def take_sent(self) -> list[Sent]:
        """What was handed to the producer and not taken here yet."""
        sent, self.producer.sent = self.producer.sent, []
        return sent

    async def next_sent(self) -> Sent:
        """What is handed to the producer next."""
        await until(lambda: self.producer.sent, 5, "something is produced")
        return self.producer.sent.pop(0)


class Always:
    """Chooses one partition, whether it exists or not."""

    def __init__(self, partition: int) -> None:
        self._partition = partition

    def choose(self, queue: str, operation: str) -> int | None:  # noqa: ARG002
        return self._partition


@given(
    topic=st.sampled_from(sorted(RETRIES)),
    not_before=st.none() | st.integers(NOW - 10_000, NOW + 400_000) | st.integers(0, 2**62),
    timestamp=st.integers(NOW - 400_000, NOW + 1000) | st.integers(0, 2**47),
    lives=st.none() | st.integers(-1000, 500_000),
)
async def test_a_job_leaves_its_topic_when_it_is_due_or_its_delay_is_over(
    topic: str, not_before: int | None, timestamp: int, lives: int | None
) -> None:
    mover = Mover()
    headers = [] if not_before is None else [("fb-not-before", str(not_before).encode())]
    deadline = NEVER if lives is None else NOW + lives
    key = mover.take(topic, headers, timestamp=timestamp, deadline=deadline)
    said = not_before if not_before is not None and not_before < 253_402_300_800_000 else None
    due = min(said if said is not None else min(timestamp, NOW) + RETRIES[topic], deadline)
    leaves = min(due, NOW + RETRIES[topic])
    if leaves > NOW:
        assert mover.move(leaves - 1) == [], "never early"
    [(moved_to, moved)] = mover.move(max(leaves, NOW))
    assert moved == key
    if due > mover.now:
        assert moved_to in RETRIES, "it waits on, as long as it must"
        assert RETRIES[moved_to] <= max(due - mover.now, 200)
    else:
        assert moved_to == QUEUE


async def test_nothing_is_moved_after_a_pause_until_the_group_says_that_it_is_still_ours() -> None:
    mover = Mover()
    confirmed = 0.0
    mover.chain.pauses.watch(READING, lambda: confirmed)
    key = mover.take(topic_names.retries(NAMESPACE, APP, "200ms"), [])
    mover.chain.awake += PAUSE_LIMIT + 1
    assert mover.move(NOW + 200) == []
    confirmed = mover.chain.awake
    assert mover.move(NOW + 201) == [(QUEUE, key)]


async def test_records_of_a_partition_keep_their_order() -> None:
    mover, topic = Mover(), topic_names.retries(NAMESPACE, APP, "1s")
    keys = [mover.take(topic, [("fb-not-before", str(NOW + due).encode())]) for due in (500, 100, 300)]
    assert mover.move(NOW + 400) == [], "the first is not due"
    assert [key for _, key in mover.move(NOW + 500)] == keys


async def test_topics_do_not_wait_for_each_other() -> None:
    mover = Mover()
    mover.take(topic_names.retries(NAMESPACE, APP, "5m"), [("fb-not-before", str(NOW + 300_000).encode())])
    soon = mover.take(topic_names.retries(NAMESPACE, APP, "200ms"), [("fb-not-before", str(NOW + 200).encode())])
    assert mover.move(NOW + 200) == [(QUEUE, soon)]


async def test_a_lease_ends_when_the_queue_has_the_job() -> None:
    mover = Mover()
    mover.take(topic_names.retries(NAMESPACE, APP, "200ms"), [])
    mover.move(NOW + 200)
    assert mover.leases[0].is_open
    mover.producer.sent[0].on_delivery(None)
    assert mover.leases[0].ending is Ending.HANDED_ON


async def test_a_move_that_never_will_be_acknowledged_ends_the_process() -> None:
    mover = Mover()
    mover.take(topic_names.retries(NAMESPACE, APP, "200ms"), [])
    mover.move(NOW + 200)
    mover.producer.sent[0].on_delivery(BrokerUnavailable("it is lost"))
    assert mover.leases[0].is_open
    assert str(mover.fatal.error) == "it is lost"


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_job_that_its_queue_does_not_take_is_a_dead_letter_and_its_caller_is_told(
    at_once: bool,
) -> None:
    """Kilobytes in a retry topic may decompress to more than any topic takes; a topic's own limit may be lower."""
    mover = Mover()
    key = mover.take(topic_names.retries(NAMESPACE, APP, "200ms"), [])
    mover.producer.most_bytes = 0 if at_once else None
    mover.move(NOW + 200)
    if not at_once:
        mover.producer.sent.pop(0).on_delivery(MessageTooLarge(9, None))
    mover.producer.most_bytes = None
    letter = await mover.next_sent()
    assert (letter.topic, letter.key) == (DEAD, key)
    reason = dict(letter.headers)["fb-error-detail"] or b""
    assert QUEUE.encode() in reason
    assert b"larger than" in reason
    letter.on_delivery(None)
    reply = await mover.next_sent()
    assert (reply.topic, reply.key) == ("forebay.replies.gw", key)
    assert decode_reply(reply.value or b"")["outcome"] == "FAILED"
    assert mover.leases[0].is_open
    reply.on_delivery(None)
    assert mover.leases[0].ending is Ending.DONE
    assert mover.fatal.error is None


async def test_a_queue_that_is_gone_is_waited_for() -> None:
    mover = Mover()
    keys = [mover.take(topic_names.retries(NAMESPACE, APP, "200ms"), []) for _ in range(3)]
    mover.move(NOW + 200)
    for sent in mover.take_sent():
        sent.on_delivery(TopicUnknown("it is gone"))
    assert mover.move(NOW + 200 + TRY_AGAIN_MS - 1) == [], "not again and again without a rest"
    assert mover.move(NOW + 200 + TRY_AGAIN_MS) == [(QUEUE, key) for key in keys], "in their order"
    for sent in mover.take_sent():
        sent.on_delivery(None)
    assert {lease.ending for lease in mover.leases} == {Ending.HANDED_ON}
    assert mover.fatal.error is None


async def test_a_job_whose_queue_is_gone_is_handed_back_where_its_partition_was_taken_away() -> None:
    mover, topic = Mover(), topic_names.retries(NAMESPACE, APP, "200ms")
    mover.take(topic, [])
    mover.move(NOW + 200)
    mover.delays.withdraw({(topic, 0)})
    assert mover.leases[0].is_open, "it may be moved yet"
    mover.take_sent()[0].on_delivery(TopicUnknown("it is gone"))
    assert mover.leases[0].ending is Ending.HANDED_BACK
    assert mover.move(NOW + 10_000) == []


async def test_a_partition_that_is_not_there_falls_back_to_any() -> None:
    """The queue was made anew with fewer partitions than the members of its group have heard of."""
    mover = Mover(Always(9))
    mover.take(topic_names.retries(NAMESPACE, APP, "200ms"), [])
    mover.move(NOW + 200)
    [chosen] = mover.take_sent()
    assert (chosen.topic, chosen.partition) == (QUEUE, 9)
    chosen.on_delivery(TopicUnknown("it has 3 partitions, and no partition 9"))
    [fallen_back] = mover.take_sent()
    assert (fallen_back.topic, fallen_back.partition) == (QUEUE, None)
    fallen_back.on_delivery(None)
    assert mover.leases[0].ending is Ending.HANDED_ON


async def test_a_job_that_does_not_fit_beside_what_waits_for_the_broker_is_moved_later() -> None:
    mover = Mover()
    key = mover.take(topic_names.retries(NAMESPACE, APP, "200ms"), [])
    mover.producer.refuses = True
    assert mover.move(NOW + 200) == []
    mover.producer.refuses = False
    assert mover.move(NOW + 200 + TRY_AGAIN_MS) == [(QUEUE, key)]
    assert mover.fatal.error is None


async def test_what_is_not_due_is_handed_back_with_its_partition() -> None:
    mover = Mover()
    lost, kept = topic_names.retries(NAMESPACE, APP, "1s"), topic_names.retries(NAMESPACE, APP, "5s")
    mover.take(lost, [])
    key = mover.take(kept, [])
    mover.delays.withdraw({(lost, 0)})
    assert mover.leases[0].ending is Ending.HANDED_BACK
    assert mover.move(NOW + 10_000) == [(QUEUE, key)]


async def test_nothing_moves_while_too_much_waits_for_the_broker() -> None:
    mover = Mover()
    key = mover.take(topic_names.retries(NAMESPACE, APP, "200ms"), [])
    mover.producer.capacity.clear()
    assert mover.move(NOW + 1000) == []
    mover.producer.capacity.set()
    assert mover.move(NOW + 1000) == [(QUEUE, key)]


async def test_a_job_goes_back_to_the_queue_it_came_from() -> None:
    """Its tier may have been changed on the way; but nothing sends it to a topic that is no queue of the app."""
    mover, topic = Mover(), topic_names.retries(NAMESPACE, APP, "200ms")
    bulk = topic_names.jobs(NAMESPACE, APP, "bulk")
    origins = {f"{bulk}/3/17": bulk, "elsewhere/0/1": QUEUE, f"{bulk}/x/y": QUEUE, f"{topic}/0/1": QUEUE}
    keys = {mover.take(topic, [("fb-origin", origin.encode())]): queue for origin, queue in origins.items()}
    assert {key: moved_to for moved_to, key in mover.move(NOW + 200)} == keys
