"""OpenTelemetry: the provider, and the trace context in Kafka headers.

Spans are written by hand where the work is done, after the fact and only for traces that are sampled: one that is not
costs a context to carry along and nothing else.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from typing import Any, cast

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from forebay_schemas import headers as header_names
from forebay_schemas.headers import Headers

_PROPAGATOR = TraceContextTextMapPropagator()
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(?![0-9a-f])")

EXPORT_BOUND = 2.0
"""Seconds that an export may take, and so how long a process that ends waits for a collector that is gone."""

EXPORT_SWITCH_INTERVAL = 0.0005
"""Seconds between thread switches while an exporter thread runs: with Python's default of 5 ms it stalls the loop."""


def configure(service: str, instance: str, version: str, ratio: float) -> TracerProvider:
    """Make the provider of this process: parent-based sampling, exporting by OTLP/HTTP if an endpoint is set.

    The endpoint is ``OTEL_EXPORTER_OTLP_ENDPOINT`` or ``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT``, as OpenTelemetry
    specifies. Without one no trace begins here, since nobody would see it; those begun elsewhere go on.

    Args:
        service: becomes ``service.name``, after ``forebay-``.
        instance: becomes ``service.instance.id``.
        version: becomes ``service.version``.
        ratio: share of the traces begun here that are recorded, 0 to 1.
    """
    resource = Resource.create(
        {SERVICE_NAME: f"forebay-{service}", SERVICE_INSTANCE_ID: instance, SERVICE_VERSION: version}
    )
    exported = any(os.environ.get(f"OTEL_EXPORTER_OTLP_{signal}ENDPOINT") for signal in ("TRACES_", ""))
    sampler = ParentBased(TraceIdRatioBased(ratio) if exported else ALWAYS_OFF)
    provider = TracerProvider(sampler=sampler, resource=resource, shutdown_on_exit=False, id_generator=_PresetIds())
    if exported:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=_export_bound())))
        sys.setswitchinterval(EXPORT_SWITCH_INTERVAL)
    return provider


def _export_bound() -> float | None:
    """Return the bound to export under; None leaves it to the variables by which OpenTelemetry lets it be set."""
    variables = ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT")
    return None if any(os.environ.get(variable) for variable in variables) else EXPORT_BOUND


class _PresetIds(RandomIdGenerator):
    """Makes ids at random, but for a trace whose id was drawn before its first span is made."""

    preset: int | None = None

    def generate_trace_id(self) -> int:
        """Return the id that was drawn, once, or a new one."""
        drawn, self.preset = self.preset, None
        return super().generate_trace_id() if drawn is None else drawn


class Roots:
    """Decides of traces that begin here whether they are sampled, before anything is made for them.

    The SDK makes a span to find out that it records nothing. Nearly every request is like that.

    Args:
        provider: one of `configure`.
    """

    def __init__(self, provider: TracerProvider) -> None:
        self._ids = cast(_PresetIds, provider.id_generator)
        root = cast(Any, provider.sampler)._root
        self._bound = root.bound if isinstance(root, TraceIdRatioBased) else 0

    def draw(self) -> Headers | None:
        """Draw the id of a new trace.

        Returns:
            The Kafka headers to carry on where the trace is not sampled; None where it is, and then the next root span
            that is started belongs to it.
        """
        trace_id = self._ids.generate_trace_id()
        if trace_id & TraceIdRatioBased.TRACE_ID_LIMIT < self._bound:
            self._ids.preset = trace_id
            return None
        return [(header_names.TRACEPARENT, b"00-%032x-%016x-00" % (trace_id, self._ids.generate_span_id()))]


def to_headers(context: SpanContext) -> list[tuple[str, bytes]]:
    """Return the Kafka headers that carry a span's context on."""
    flags = int(context.trace_flags)
    headers = [
        (header_names.TRACEPARENT, b"00-%032x-%016x-%02x" % (context.trace_id, context.span_id, flags)),
    ]
    if context.trace_state:
        headers.append((header_names.TRACESTATE, context.trace_state.to_header().encode()))
    return headers


def carry_on(headers: Headers) -> list[tuple[str, bytes | None]]:
    """Return those of a record's headers that carry its trace context."""
    return [header for header in headers if header[0] in (header_names.TRACEPARENT, header_names.TRACESTATE)]


def from_headers(headers: Headers) -> SpanContext:
    """Return the context of the span that sent a record; an invalid one where it names none.

    A context that is not sampled, the common case, is read here; for one that is, OpenTelemetry's own propagator reads
    it together with its ``tracestate``.
    """
    for key, value in headers:
        if key == header_names.TRACEPARENT:
            if value is None or not _TRACEPARENT.match(value):
                break
            flags = int(value[53:55], 16)
            if len(headers) == 1 and not flags & TraceFlags.SAMPLED:
                trace_id, span_id = int(value[3:35], 16), int(value[36:52], 16)
                return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
            return from_text({name: text.decode("ascii", "replace") for name, text in headers if text is not None})
    return trace.INVALID_SPAN_CONTEXT


def from_text(carrier: Mapping[str, str]) -> SpanContext:
    """Return the context that the W3C fields in ``carrier`` name; an invalid one where they name none."""
    return trace.get_current_span(_PROPAGATOR.extract(carrier, Context())).get_span_context()


def as_parent(context: SpanContext) -> Context:
    """Return a context in which a remote span is the parent of what is started next."""
    return trace.set_span_in_context(NonRecordingSpan(context), Context())
