"""The processor's spans, after OpenTelemetry's semantic conventions for messaging.

The wait in the queue is a span of its own, written when it is over. Only a sampled job has spans to write.
"""

from __future__ import annotations

from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context

from forebay import span_attributes, tracing
from forebay.errors import BrokerError
from forebay.kafka import Headers
from forebay_processor.work import JobOutcome, Work
from forebay_schemas import topics as topic_names


class Spans:
    """Begins the spans of jobs.

    Args:
        provider: of this process.
        namespace: prefix of topics and groups.
        app: whose jobs they are.
    """

    def __init__(self, provider: TracerProvider, namespace: str, app: str) -> None:
        self._tracer = provider.get_tracer("forebay.processor")
        self._namespace = namespace
        self._app = app
        self._replies = f"{namespace}replies.{{instance}}"

    def begin(self, work: Work) -> JobSpans:
        """Write the span of the wait in the queue, and begin the CONSUMER span under the send, linked to it."""
        if not work.sender.trace_flags.sampled:
            return JobSpans(self._tracer, self._replies, work, None)
        parent = tracing.as_parent(work.sender)
        topic = work.record.topic
        queue = self._tracer.start_span(
            f"queue {topic}",
            parent,
            attributes={
                span_attributes.SYSTEM: "kafka",
                span_attributes.DESTINATION: topic,
                span_attributes.TIER: work.tier,
            },
            start_time=work.enqueued * 1000,
        )
        process = self._tracer.start_span(
            f"process {topic}",
            parent,
            SpanKind.CONSUMER,
            {
                **span_attributes.processed(work.record),
                span_attributes.CONSUMER_GROUP: topic_names.group(self._namespace, self._app, work.tier),
                span_attributes.REQUEST_ID: work.job["request_id"],
                span_attributes.OPERATION: work.job["operation"],
                span_attributes.ATTEMPT: work.attempt,
            },
            [Link(work.sender)],
        )
        queue.end()
        return JobSpans(self._tracer, self._replies, work, process)


class JobSpans:
    """The spans of one job: CONSUMER, under it the handler's INTERNAL and the reply's PRODUCER.

    Attributes:
        handler: to be the current span while the handler runs; for a job that is not sampled it records nothing, but
            the handler's own spans still belong to the caller's trace.
    """

    __slots__ = ("_process", "_replies", "_send", "_tracer", "_work", "handler")

    def __init__(self, tracer: Tracer, replies: str, work: Work, process: Span | None) -> None:
        self._tracer = tracer
        self._replies = replies
        self._work = work
        self._process = process
        self._send: Span | None = None
        self.handler: Span = NonRecordingSpan(work.sender)
        if process is not None:
            self.handler = tracer.start_span(work.job["operation"], set_span_in_context(process, Context()))

    def ran(self, outcome: JobOutcome) -> None:
        """End the handler's span with what came of it."""
        if self._process is None:
            return
        problem = outcome.problem
        if problem is not None:
            for span in (self.handler, self._process):
                span.set_attribute(span_attributes.ERROR_TYPE, problem["type"])
                span.set_status(Status(StatusCode.ERROR, problem["title"]))
        self._process.set_attribute(span_attributes.OUTCOME, outcome.outcome)
        self.handler.end()

    def reply(self) -> Headers:
        """Begin the PRODUCER span of the reply; return the headers that carry it on."""
        if self._process is None:
            return tracing.carry_on(self._work.record.headers)
        self._send = self._tracer.start_span(
            f"send {self._replies}",
            set_span_in_context(self._process, Context()),
            SpanKind.PRODUCER,
            {
                **span_attributes.sent_to(self._work.job["reply_topic"]),
                span_attributes.DESTINATION_TEMPLATE: self._replies,
            },
        )
        return tracing.to_headers(self._send.get_span_context())

    def end(self, error: BrokerError | None) -> None:
        """End what is open: the broker has acknowledged the reply, or never will."""
        for span in (self._send, self._process):
            if span is not None:
                if error is not None:
                    span.set_attribute(span_attributes.ERROR_TYPE, type(error).__name__)
                    span.set_status(Status(StatusCode.ERROR, str(error)))
                span.end()
