"""settle: say what came of a job, and only then end its lease.

Whatever is produced is acknowledged before the lease ends, and so before the offset may be committed: a crash in
between repeats an answer and never loses one. What can never be produced, for a reason that is not the record's own,
stops the process: its partitions go to others.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial

from forebay import headers, tracing
from forebay.errors import BrokerError, CodecError, DeliveryExpired, MessageTooLarge, RecordRefused, TopicUnknown
from forebay.kafka import Headers, Record
from forebay.messages import JobMessage, ReplyMessage, encode_reply
from forebay.settings import TIERS
from forebay_processor.dead_letters import DeadLetters
from forebay_processor.fatal import Fatal
from forebay_processor.lease import Lease
from forebay_processor.metrics import Metrics
from forebay_processor.outcome import no_processor, too_large, unmovable, unreadable
from forebay_processor.sending import Sending
from forebay_processor.spans import JobSpans
from forebay_processor.work import JobOutcome, Work
from forebay_schemas import request_ids
from forebay_schemas import topics as topic_names
from forebay_schemas.headers import HANDED_ON, NOT_BEFORE, ORIGIN

log = logging.getLogger(__name__)

HAND_ON_STEPS = {0: "200ms", 10: "1s", 20: "5s", 40: "30s", 60: "5m"}
"""The retry topics through which jobs are handed on, by how often they were before: who has long looked for a processor
looks less often."""
MOST_HANDED_ON = 400
"""How often a job is handed on; it takes longer than any deadline that can be declared."""
TRY_AGAIN = 0.25
"""Seconds after which a job is handed on again whose retry topic was gone."""

TIME_TO_ANSWER_MS = 100
"""Milliseconds before a deadline at which a job must be on its way, so that its caller hears of it in time."""

SAY_GONE_EVERY = 60.0
"""Seconds between two lines of the log about the same reply topic that is gone."""

REPLY_GRACE = 5.0
"""Seconds after its job's deadline, or from now where that has passed, for which a reply waits for a leader."""

_REMEMBERED_GONE = 1000
_UNDELIVERABLE = (TopicUnknown, MessageTooLarge, RecordRefused, DeliveryExpired)


class Settler:
    """Produces replies and dead letters, and hands jobs on.

    Args:
        namespace: prefix of topics.
        app: whose jobs they are.
        producer: where they go.
        dead_letters: keeps what can never be run.
        processor: id of this processor, for the replies.
        fatal: takes the errors for which a lease cannot end.
        metrics: counts it.
        clock: seconds since the epoch.
        is_known: says whether another processor of the app that reads a queue knows an operation.
    """

    def __init__(
        self,
        namespace: str,
        app: str,
        producer: Sending,
        dead_letters: DeadLetters,
        processor: str,
        fatal: Fatal,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
        is_known: Callable[[str, str], bool] = lambda _queue, _operation: False,
    ) -> None:
        self._namespace = namespace
        self._hand_on_steps = [
            (count, topic_names.retries(namespace, app, name), topic_names.RETRY_DELAYS_MS[name])
            for count, name in HAND_ON_STEPS.items()
        ]
        self._queues = {topic_names.jobs(namespace, app, tier) for tier in TIERS}
        self._dead_letters = dead_letters
        self._producer = producer
        self._processor = processor
        self._fatal = fatal
        self._metrics = metrics
        self._clock = clock
        self._is_known = is_known
        self._gone: dict[str, float] = {}

    async def settle(self, work: Work, outcome: JobOutcome, spans: JobSpans) -> None:
        """Reply to whoever asked, after keeping the job among the dead letters if it can never run.

        It waits for the dead letter, and while too much waits for the broker; not for the reply. The lease and the
        spans end when the reply is acknowledged.
        """
        if outcome.dead:
            await self._dead_letters.keep(work.record, outcome.problem)
        carried = list(spans.reply())
        if outcome.not_before is not None:
            carried.append((NOT_BEFORE, str(outcome.not_before).encode()))
        value = encode_reply(self._reply(work, outcome))
        if self._producer.backpressured:
            await self._capacity(value)
        self._answer(work, outcome, value, carried, spans)

    async def settle_unreadable(self, record: Record, lease: Lease, error: CodecError) -> None:
        """Keep a record that is no job among the dead letters, and tell whoever its key says is waiting."""
        outcome = unreadable(str(error), kept=record.unreadable is None)
        await self._dead_letters.keep(record, outcome.problem)
        request_id = (record.key or b"").decode("utf-8", "replace")
        instance = request_ids.instance_of(request_id)
        if instance is None:
            lease.done()
            return
        reply = self._message(request_id, "", 0, record.timestamp * 1000, outcome.started, outcome)
        place = (topic_names.replies(self._namespace, instance), topic_names.HELD_PARTITION)
        value = encode_reply(reply)
        await self._capacity(value)
        self._send(place, request_id.encode(), value, (), lease, REPLY_GRACE)

    async def settle_unmovable(self, record: Record, lease: Lease, job: JobMessage, reason: str) -> None:
        """Keep a job that its queue does not take back among the dead letters, and tell its caller."""
        outcome = unmovable(reason)
        await self._dead_letters.keep(record, outcome.problem)
        await self._capacity(None)
        self._tell(record, lease, job, outcome)

    async def hand_on(self, record: Record, lease: Lease, job: JobMessage) -> None:
        """Pass a job to another processor of the app, or, if its deadline comes before, tell that there is none.

        The same bytes go to a retry topic; the lease ends when they are there. Where that is gone, it is tried again.
        A job that comes there for the first time is due at once where another processor is known to run its operation.
        """
        await self._capacity(record.value)

        def refuse() -> None:
            log.warning("operation %r: no processor for job %s", job["operation"], job["request_id"])
            self._tell(record, lease, job, no_processor(job["operation"]))

        def delivered(error: BrokerError | None) -> None:
            if error is None:
                self._metrics.handed_on.inc()
                lease.hand_on()
            elif isinstance(error, MessageTooLarge):
                self._or_end(refuse)
            elif isinstance(error, TopicUnknown):
                loop.call_later(TRY_AGAIN, again)
            else:
                self._fatal.report(error)

        def again() -> None:
            if self._producer.backpressured:
                loop.call_later(TRY_AGAIN, again)
            else:
                self._or_end(send)

        def send() -> None:
            at_once = count == 0 and self._is_known(origin.topic, job["operation"])
            step = self._next_step(count, job["deadline"], at_once) if count < MOST_HANDED_ON else None
            if step is None:
                refuse()
                return
            topic, due = step
            changed = {
                HANDED_ON: str(count + 1).encode(),
                NOT_BEFORE: str(due).encode(),
                ORIGIN: origin.text,
            }
            carried = headers.replaced(record.headers, changed)
            try:
                self._producer.publish(topic, record.value, key=record.key, headers=carried, on_delivery=delivered)
                lease.promised = True
            except MessageTooLarge:  # what the headers weigh, on top of a job that is as large as may be
                refuse()

        loop, count = asyncio.get_running_loop(), headers.handed_on(record)
        origin = headers.origin(record, self._queues) or headers.Origin.of(record)
        send()

    def _next_step(self, count: int, deadline: int, at_once: bool) -> tuple[str, int] | None:
        """Return the retry topic for a job that was handed on so often and when it is due; None if too late.

        Nothing is gained by waiting where it is known who can run it; if that was wrong, it waits the next time.
        """
        now = int(self._clock() * 1000)
        if at_once and now + TIME_TO_ANSWER_MS <= deadline:
            return self._hand_on_steps[0][1], now
        for least, topic, delay in reversed(self._hand_on_steps):
            if count >= least and now + delay + TIME_TO_ANSWER_MS <= deadline:
                return topic, now + delay
        return None

    def _tell(self, record: Record, lease: Lease, job: JobMessage, outcome: JobOutcome) -> None:
        """Send what is to be said about a job that was not run."""
        enqueued, instant = record.timestamp * 1000, outcome.started
        reply = self._message(job["request_id"], job["tenant"], 0, enqueued, instant, outcome)
        key, carried = job["request_id"].encode(), tracing.carry_on(record.headers)
        self._send(_reply_place(job), key, encode_reply(reply), carried, lease, self._bound(job))

    async def _capacity(self, value: bytes | None) -> None:
        """Wait, while too much waits for the broker, until a record with this value is taken."""
        if self._producer.backpressured:
            await self._producer.wait_for_capacity(self._producer.size_of(value, key=None))

    def _answer(self, work: Work, outcome: JobOutcome, value: bytes, carried: Headers, spans: JobSpans) -> None:
        """Send what came of a job, or, where that is too large for its topic, that it is."""
        job = work.job

        def instead(error: MessageTooLarge) -> None:
            if outcome.outcome == "COMPLETED":
                smaller = too_large(outcome, str(error))
                self._answer(work, smaller, encode_reply(self._reply(work, smaller)), carried, spans)
            else:
                spans.end(error)
                self._give_up(work.lease, job["reply_topic"], error)

        try:
            key, bound = job["request_id"].encode(), self._bound(job)
            self._send(_reply_place(job), key, value, carried, work.lease, bound, spans, instead)
        except MessageTooLarge as error:
            instead(error)

    def _reply(self, work: Work, outcome: JobOutcome) -> ReplyMessage:
        job = work.job
        return self._message(job["request_id"], job["tenant"], work.attempt, work.enqueued, work.fetched, outcome)

    def _send(
        self,
        place: tuple[str, int],
        key: bytes,
        value: bytes,
        carried: Headers,
        lease: Lease,
        within: float,
        spans: JobSpans | None = None,
        instead: Callable[[MessageTooLarge], None] | None = None,
    ) -> None:
        """Produce a reply; the lease ends when it is acknowledged, or when it is certain that nobody can read it.

        Args:
            place: topic and partition.
            key: request id.
            value: the message.
            carried: its headers.
            lease: of the job.
            within: seconds for which it waits for a partition that takes nothing.
            spans: of the job, if it has any.
            instead: called, where the topic takes no reply of this size, to send another.
        """
        topic, partition = place

        def delivered(error: BrokerError | None) -> None:
            if isinstance(error, MessageTooLarge) and instead is not None:
                self._or_end(partial(instead, error))
                return
            if spans is not None:
                spans.end(error)
            if error is None:
                lease.done()
            elif isinstance(error, _UNDELIVERABLE):
                self._give_up(lease, topic, error)
            else:
                self._fatal.report(error)

        self._producer.publish(
            topic, value, key=key, headers=carried, partition=partition, on_delivery=delivered, within=within
        )
        lease.promised = True
        lease.reply_to = place

    def make_way(self, lease: Lease) -> None:
        """Give up the reply that a lease waits for, if it cannot be delivered at present: others wait for the lease."""
        if lease.reply_to is not None:
            self._producer.make_way(*lease.reply_to)

    def _bound(self, job: JobMessage) -> float:
        """Return for how many seconds somebody may wait for the reply to a job, with some to spare."""
        return max(job["deadline"] / 1000 - self._clock(), 0.0) + REPLY_GRACE

    def _or_end(self, send: Callable[[], None]) -> None:
        """Send something after the producer told what became of another record; what prevents it ends the process."""
        try:
            send()
        except Exception as error:  # the producer that called is not to suffer from it
            self._fatal.report(error)

    def _give_up(self, lease: Lease, topic: str, error: BrokerError) -> None:
        """End the lease of a job whose reply nobody can get; the log says so once in a while for each topic."""
        now = self._clock()
        if now - self._gone.get(topic, 0.0) >= SAY_GONE_EVERY:
            if len(self._gone) >= _REMEMBERED_GONE:
                self._gone.clear()
            self._gone[topic] = now
            log.warning("replies to %s cannot be delivered, and their jobs are done with: %s", topic, error)
        self._metrics.undeliverable.inc()
        lease.done()

    def _message(
        self, request_id: str, tenant: str, attempt: int, enqueued: int, fetched: int, outcome: JobOutcome
    ) -> ReplyMessage:
        return ReplyMessage(
            request_id=request_id,
            tenant=tenant,
            outcome=outcome.outcome,
            content_type=outcome.content_type,
            payload=outcome.payload,
            payload_schema=outcome.payload_schema,
            problem=outcome.problem,
            attempt=attempt,
            processor=self._processor,
            enqueued=enqueued,
            fetched=fetched,
            started=outcome.started,
            finished=outcome.finished,
        )


def _reply_place(job: JobMessage) -> tuple[str, int]:
    """Return the topic and partition that a job's reply goes to; held requests are answered where it names no other."""
    partition = job["reply_partition"]
    known = 0 <= partition < topic_names.REPLY_PARTITIONS
    return job["reply_topic"], partition if known else topic_names.HELD_PARTITION
