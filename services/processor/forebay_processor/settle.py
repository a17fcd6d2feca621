"""settle: say what came of a job, and only then count its offset as done.

The reply is acknowledged before the offset may be committed, so a crash in between repeats an answer and never loses
one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import forebay_schemas.topics as names
from forebay import failures
from forebay.errors import BrokerError, CodecError, MessageTooLarge
from forebay.kafka import Headers, Producer, Record
from forebay.messages import ProblemMessage, ReplyMessage, encode_reply
from forebay.settings import Settings
from forebay_processor.call import now
from forebay_processor.run import unreadable
from forebay_processor.spans import JobSpans
from forebay_processor.work import Result, Work
from forebay_schemas.headers import ERROR_DETAIL, ERROR_TYPE, NOT_BEFORE, ORIGIN

log = logging.getLogger(__name__)

HELD_PARTITION = 0
"""Partition of a reply topic that answers held requests."""

UNDELIVERABLE_AFTER = 10.0
"""Seconds after which a reply to a topic that nobody can find is given up: its gateway is gone."""

_UUID_LENGTH = 36


class Settler:
    """Produces replies and dead letters.

    Args:
        settings: the namespace.
        producer: where they go.
        processor: id of this processor, for the replies.
        on_lost: called with an error after which the producer will never deliver anything again.
    """

    def __init__(
        self, settings: Settings, producer: Producer, processor: str, on_lost: Callable[[BrokerError], None]
    ) -> None:
        self._namespace = settings.namespace
        self._dead = names.dead(settings.namespace)
        self._producer = producer
        self._processor = processor
        self._on_lost = on_lost

    async def settle(self, work: Work, result: Result, spans: JobSpans, done: Callable[[], None]) -> None:
        """Reply to whoever asked, after keeping the job among the dead letters if it can never run.

        Args:
            work: the job.
            result: what came of it.
            spans: its spans; the last of them end when the reply is acknowledged.
            done: called when all of it is acknowledged.
        """
        if result.dead and not await self._bury(work.record, result):
            spans.end(BrokerError("the dead letter was not acknowledged"))
            return
        headers = [*spans.reply()]
        if result.not_before is not None:
            headers.append((NOT_BEFORE, str(result.not_before).encode()))

        def delivered(error: BrokerError | None) -> None:
            spans.end(error)
            if error is None:
                done()
            else:
                self._on_lost(error)

        topic, key = work.job["reply_topic"], work.job["request_id"].encode()
        reply = self._reply(work, result)
        try:
            await self._send(topic, key, reply, headers, delivered)
        except MessageTooLarge as error:
            problem = ProblemMessage(
                type=failures.UNUSABLE_RESULT, title="The handler returned something unusable", detail=str(error)
            )
            smaller = Result("FAILED", result.started, result.finished, problem=problem)
            await self._send(topic, key, self._reply(work, smaller), headers, delivered)

    async def settle_undecodable(self, record: Record, error: CodecError, done: Callable[[], None]) -> None:
        """Keep a record that is no job among the dead letters, and tell whoever its key says is waiting."""
        result = unreadable(str(error))
        if not await self._bury(record, result):
            return
        key = record.key or b""
        request_id = key.decode("utf-8", "replace")
        instance = request_id[: -_UUID_LENGTH - 1]
        topic = names.replies(self._namespace, instance)
        if not instance or not self._producer.knows(topic):
            done()
            return
        enqueued = record.timestamp * 1000
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
            enqueued=enqueued,
            fetched=now(),
            started=result.started,
            finished=result.finished,
        )
        await self._send(topic, key, reply, [], lambda error: self._on_lost(error) if error else done())

    async def _bury(self, record: Record, result: Result) -> bool:
        """Produce the original bytes to the dead letters; False when that is not acknowledged."""
        problem = result.problem or ProblemMessage(type="", title="", detail=None)
        headers = [
            *((name, value) for name, value in record.headers if name not in (ERROR_TYPE, ERROR_DETAIL, ORIGIN)),
            (ERROR_TYPE, problem["type"].encode()),
            (ERROR_DETAIL, (problem["detail"] or "").encode()),
            (ORIGIN, f"{record.topic}/{record.partition}/{record.offset}".encode()),
        ]
        log.error(
            "%s/%d/%d goes to %s: %s", record.topic, record.partition, record.offset, self._dead, problem["detail"]
        )
        try:
            sent = await self._producer.send(self._dead, record.value, key=record.key or b"", headers=headers)
            await sent
        except Exception as error:  # the sent future fails with aiokafka's own errors
            self._on_lost(BrokerError(f"producing to {self._dead}: {error}"))
            return False
        return True

    async def _send(
        self,
        topic: str,
        key: bytes,
        reply: ReplyMessage,
        headers: Headers,
        delivered: Callable[[BrokerError | None], None],
    ) -> None:
        value = encode_reply(reply)
        if self._producer.knows(topic):
            await self._producer.send(
                topic, value, key=key, headers=headers, partition=HELD_PARTITION, on_delivery=delivered
            )
            return
        try:
            async with asyncio.timeout(UNDELIVERABLE_AFTER):
                await self._producer.send(
                    topic, value, key=key, headers=headers, partition=HELD_PARTITION, on_delivery=delivered
                )
        except (TimeoutError, BrokerError) as error:
            if isinstance(error, MessageTooLarge):
                raise
            log.warning("the reply to %s cannot be delivered: there is no topic %s", key.decode(), topic)
            delivered(None)

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
