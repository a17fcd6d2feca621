"""dispatch: register the waiter, publish the job, wait for its reply, forget."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import uuid_utils

from forebay.errors import BrokerError, MessageTooLarge
from forebay.kafka import Headers, Producer, Record
from forebay.messages import JobMessage, encode_job
from forebay.settings import Settings
from forebay_gateway import problems
from forebay_gateway.replies import Replies
from forebay_gateway.route import Route
from forebay_gateway.validate import ValidRequest
from forebay_gateway.waiters import DeadlinePassed, Waiters
from forebay_schemas import request_ids
from forebay_schemas import topics as topic_names

log = logging.getLogger(__name__)

DEFAULT_TENANT = "default"


class RoundTrip:
    """A job on its way to a processor and back. Instants are in microseconds since the epoch.

    Attributes:
        request_id: names the job, and the instance that waits for it.
        key: the request id as bytes.
        published: when the job was handed to the producer.
        acknowledged: when the broker had it; 0 until then.
    """

    __slots__ = ("acknowledged", "key", "published", "request_id")

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        self.key = request_id.encode()
        self.published = 0
        self.acknowledged = 0


class Dispatcher:
    """Sends jobs and brings back what is said about them.

    Args:
        settings: the namespace, and the name of this instance.
        producer: where the jobs go.
        waiters: where the replies come in.
        replies: brings them home; nothing is sent while it cannot.
    """

    def __init__(self, settings: Settings, producer: Producer, waiters: Waiters, replies: Replies) -> None:
        self._instance = settings.instance
        self._reply_topic = topic_names.replies(settings.namespace, settings.instance)
        self._producer = producer
        self._waiters = waiters
        self._replies = replies
        self._loop = asyncio.get_running_loop()

    def new_round_trip(self) -> RoundTrip:
        """Name a new round trip."""
        return RoundTrip(request_ids.make(self._instance, uuid_utils.uuid7()))

    async def make_round_trip(
        self,
        trip: RoundTrip,
        route: Route,
        request: ValidRequest,
        headers: Headers,
        on_delivery: Callable[[BrokerError | None], None] | None,
    ) -> Record:
        """Make the round trip and return the record of the reply.

        Args:
            trip: filled in on the way.
            route: the operation.
            request: what it is asked.
            headers: Kafka headers of the job.
            on_delivery: called once the broker has the job, or with the error for which it never will.

        Raises:
            HttpProblem: 413, 503 or 504.
        """
        if (trouble := self._replies.trouble) is not None:
            raise problems.broker_away(f"{trouble}; nothing was produced")
        now = time.time_ns()
        value = encode_job(self._job(trip, route, request, now // 1_000_000))
        trip.published = now // 1000

        def delivered(error: BrokerError | None) -> None:
            if error is None:
                trip.acknowledged = time.time_ns() // 1000
                self._replies.expect()
            else:
                self._waiters.fail(trip.key, error)
            if on_delivery is not None:
                try:
                    on_delivery(error)
                except Exception:  # the producer has other records to tell of
                    log.exception("the span of request %s could not be ended", trip.request_id)

        deadline = self._loop.time() + route.deadline
        waiter = self._waiters.register(trip.key, deadline)
        try:
            self._producer.publish(route.topic, value, key=trip.key, headers=headers, on_delivery=delivered)
            return await waiter.reply
        except MessageTooLarge as error:
            raise problems.too_large_as_job(request.body_size, error.size, error.max_size) from error
        except BrokerError as error:
            raise problems.broker_away(f"{error}; the job may still be run") from error
        except DeadlinePassed:
            if trip.acknowledged:
                raise problems.deadline_passed(route.deadline) from None
            raise problems.broker_away(
                f"the broker did not acknowledge the job within {route.deadline:g} s; it may still be run"
            ) from None
        finally:
            self._waiters.forget(trip.key)

    def _job(self, trip: RoundTrip, route: Route, request: ValidRequest, now_ms: int) -> JobMessage:
        return JobMessage(
            request_id=trip.request_id,
            operation=route.operation,
            tenant=DEFAULT_TENANT,
            tier=route.tier,
            content_type=request.content_type,
            payload=request.payload,
            payload_schema=request.payload_schema,
            reply_topic=self._reply_topic,
            reply_partition=topic_names.HELD_PARTITION,
            created_at=now_ms,
            deadline=now_ms + int(route.deadline * 1000),
            ordering_key=None,
            idempotency_key=None,
        )
