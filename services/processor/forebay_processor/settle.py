"""settle: say what came of a job, and only then count its offset as done.

The reply is acknowledged before the offset may be committed, so a crash in between repeats an answer and never loses
one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from forebay import failures
from forebay.errors import BrokerError, CodecError, MessageTooLarge, TopicUnknown
from forebay.kafka import Headers, Producer, Record
from forebay.messages import JobMessage, ProblemMessage, ReplyMessage, encode_reply
from forebay.settings import Settings
from forebay_processor.run import unreadable
from forebay_processor.spans import JobSpans
from forebay_processor.work import Result, Work
from forebay_schemas import request_ids
from forebay_schemas import topics as topic_names
from forebay_schemas.headers import ERROR_DETAIL, ERROR_TYPE, NOT_BEFORE, ORIGIN

log = logging.getLogger(__name__)


class Settler:
    """Produces replies and dead letters.

    Args:
        settings: the namespace.
        app: whose dead letters they are.
        producer: where they go.
        processor: id of this processor, for the replies.
        on_lost: called with an error after which the producer will never deliver anything again.
    """

    def __init__(
        self,
        settings: Settings,
        app: str,
        producer: Producer,
        processor: str,
        on_lost: Callable[[BrokerError], None],
    ) -> None:
        self._namespace = settings.namespace
        self._dead = topic_names.dead(settings.namespace, app)
        self._producer = producer
        self._processor = processor
        self._on_lost = on_lost

    async def settle(self, work: Work, result: Result, spans: JobSpans, done: Callable[[], None]) -> None:
        """Reply to whoever asked, after keeping the job among the dead letters if it can never run.

        It waits for the dead letter, and while too much waits for the broker; not for the reply.

        Args:
            work: the job.
            result: what came of it.
            spans: its spans; the last of them end when the reply is acknowledged.
            done: called when all of it is acknowledged.
        """
        if result.dead:
            await self._bury(work.record, result)
        if self._producer.backpressured:
            await self._producer.wait_for_capacity()
        headers = list(spans.reply())
        if result.not_before is not None:
            headers.append((NOT_BEFORE, str(result.not_before).encode()))

        def delivered(error: BrokerError | None) -> None:
            spans.end(error)
            self._conclude(error, done)

        key = work.job["request_id"].encode()
        try:
            self._send(_reply_place(work.job), key, self._reply(work, result), headers, delivered)
        except MessageTooLarge as error:
            problem = ProblemMessage(
                type=failures.UNUSABLE_RESULT, title="The handler returned something unusable", detail=str(error)
            )
            smaller = Result("FAILED", result.started, result.finished, problem=problem)
            self._send(_reply_place(work.job), key, self._reply(work, smaller), headers, delivered)

    async def _bury(self, record: Record, result: Result) -> None:
        """Keep the original bytes of a job that can never run, with the reason and the origin."""
        problem = result.problem or ProblemMessage(type="", title="", detail=None)
        origin = f"{record.topic}/{record.partition}/{record.offset}"
        headers = [
            *((name, value) for name, value in record.headers if name not in (ERROR_TYPE, ERROR_DETAIL, ORIGIN)),
            (ERROR_TYPE, problem["type"].encode()),
            (ERROR_DETAIL, (problem["detail"] or "").encode()),
            (ORIGIN, origin.encode()),
        ]
        log.error("%s goes to %s: %s", origin, self._dead, problem["detail"])
        try:
            await self._producer.publish_and_wait(self._dead, record.value, key=record.key or b"", headers=headers)
        except BrokerError as error:
            self._on_lost(error)
            raise

    async def settle_undecodable(self, record: Record, error: CodecError, done: Callable[[], None]) -> None:
        """Keep a record that is no job among the dead letters, and tell whoever its key says is waiting."""
        result = unreadable(str(error))
        await self._bury(record, result)
        key = record.key or b""
        request_id = key.decode("utf-8", "replace")
        instance = request_ids.instance_of(request_id)
        if instance is None:
            done()
            return
        reply = ReplyMessage(
            request_id=request_id,
            tenant="",
            outcome=result.outcome,
            content_type="",
            payload=b"",
            payload_schema=None,
            problem=result.problem,
            attempt=0,
            processor=self._processor,
            enqueued=record.timestamp * 1000,
            fetched=result.started,
            started=result.started,
            finished=result.finished,
        )
        place = (topic_names.replies(self._namespace, instance), topic_names.HELD_PARTITION)
        self._send(place, key, reply, [], lambda error: self._conclude(error, done))

    def _send(
        self,
        place: tuple[str, int],
        key: bytes,
        reply: ReplyMessage,
        headers: Headers,
        delivered: Callable[[BrokerError | None], None],
    ) -> None:
        topic, partition = place
        self._producer.publish(
            topic, encode_reply(reply), key=key, headers=headers, partition=partition, on_delivery=delivered
        )

    def _conclude(self, error: BrokerError | None, done: Callable[[], None]) -> None:
        """Count a job as done with once its reply is safe, or once it is certain that nobody is there to read it."""
        if isinstance(error, TopicUnknown):
            log.warning("a reply cannot be delivered, its gateway is gone: %s", error)
        elif error is not None:
            self._on_lost(error)
            return
        done()

    def _reply(self, work: Work, result: Result) -> ReplyMessage:
        job = work.job
        return ReplyMessage(
            request_id=job["request_id"],
            tenant=job["tenant"],
            outcome=result.outcome,
            content_type=result.content_type,
            payload=result.payload,
            payload_schema=result.payload_schema,
            problem=result.problem,
            attempt=work.attempt,
            processor=self._processor,
            enqueued=work.enqueued,
            fetched=work.fetched,
            started=result.started,
            finished=result.finished,
        )


def _reply_place(job: JobMessage) -> tuple[str, int]:
    """Return the topic and partition that a job's reply goes to; held requests are answered where it names no other."""
    partition = job["reply_partition"]
    known = 0 <= partition < topic_names.REPLY_PARTITIONS
    return job["reply_topic"], partition if known else topic_names.HELD_PARTITION
