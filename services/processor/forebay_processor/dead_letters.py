"""Dead letters: records that can never be run, kept as they came, with the reason."""

from __future__ import annotations

import asyncio
import logging

from forebay import headers
from forebay.errors import MessageTooLarge, TopicUnknown
from forebay.kafka import Headers, Record
from forebay.messages import ProblemMessage
from forebay.settings import TIERS
from forebay_processor.metrics import Metrics
from forebay_processor.sending import Sending
from forebay_schemas import topics as topic_names
from forebay_schemas.headers import ERROR_DETAIL, ERROR_TYPE, ORIGIN

log = logging.getLogger(__name__)

TRY_AGAIN = 0.25
"""Seconds after which a dead letter is produced again whose topic is gone."""


class DeadLetters:
    """Keeps dead letters of an app.

    Args:
        namespace: prefix of topics.
        app: whose they are.
        producer: where they go.
        metrics: counts them.

    Attributes:
        topic_is_gone: whether the last dead letter found no topic; it waits until there is one again.
    """

    def __init__(self, namespace: str, app: str, producer: Sending, metrics: Metrics) -> None:
        self._topic = topic_names.dead(namespace, app)
        self._queues = {topic_names.jobs(namespace, app, tier) for tier in TIERS}
        self._producer = producer
        self._metrics = metrics
        self.topic_is_gone = False

    async def keep(self, record: Record, problem: ProblemMessage | None) -> None:
        """Keep the bytes of a record, the reason and where it stood first; returns when that is acknowledged.

        A value that is so large that it does not fit beside the reason is left out, and the reason says so. Where the
        topic is gone, this waits until somebody has created it again.

        Raises:
            BrokerError: it never will be acknowledged.
        """
        detail = (problem["detail"] if problem else None) or ""
        place = f"{record.topic}/{record.partition} at offset {record.offset}"
        log.error("%s goes to %s: %s", place, self._topic, detail)
        reason = {
            ERROR_TYPE: (problem["type"] if problem else "").encode(),
            ERROR_DETAIL: detail.encode("utf-8", "replace"),
            ORIGIN: (headers.origin(record, self._queues) or headers.Origin.of(record)).text,
        }
        kept = headers.replaced(record.headers, reason)
        try:
            await self._produce(record.value, record.key, kept)
        except MessageTooLarge as error:
            reason[ERROR_DETAIL] += f"; its {len(record.value or b'')} bytes are not kept: {error}".encode()
            await self._produce(None, None, list(reason.items()))
        self._metrics.dead.inc()

    async def _produce(self, value: bytes | None, key: bytes | None, headers: Headers) -> None:
        while True:
            try:
                await self._producer.publish_and_wait(self._topic, value, key=key, headers=headers)
            except TopicUnknown:
                self.topic_is_gone = True
                await asyncio.sleep(TRY_AGAIN)
            else:
                self.topic_is_gone = False
                return
