"""The retry topics: jobs come back to their queue when due, never before, in order, whatever their headers say."""

from __future__ import annotations

import asyncio
import uuid

from hypothesis import given
from hypothesis import strategies as st

from forebay.errors import BrokerUnavailable
from forebay.kafka import Headers, Record
from forebay.messages import encode_job
from forebay_processor.dead_letters import DeadLetters
from forebay_processor.delays import Delays
from forebay_processor.fatal import Fatal
from forebay_processor.intake import JobReader
from forebay_processor.lease import Ending, Lease
from forebay_processor.metrics import Metrics
from forebay_schemas import topics as topic_names
from tests.support.chain import APP, NAMESPACE, Chain, HeldProducer
from tests.support.jobs import NEVER, Ended, a_message

NOW = 1_000_000_000
"""Milliseconds since the epoch at which each of these tests begins."""
QUEUE = topic_names.jobs(NAMESPACE, APP, "interactive")
RETRIES = {topic_names.retries(NAMESPACE, APP, name): delay for name, delay in topic_names.RETRY_DELAYS_MS.items()}


class Mover:
    """The real thing, with a clock that the test sets and a producer that it watches."""

    def __init__(self) -> None:
        self.now = NOW
        chain = Chain({}, self.clock)
        self.producer, self.fatal = HeldProducer(), Fatal(asyncio.Event())
        metrics = Metrics(APP)
        dead = DeadLetters(NAMESPACE, APP, self.producer, metrics)
        reader = JobReader(NAMESPACE)
        self.delays = Delays(
            NAMESPACE, APP, reader, self.producer, dead, chain.processor, self.fatal, metrics, clock=self.clock
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
