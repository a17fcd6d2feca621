"""Forebay as it is deployed: ``forebay gateway`` and ``forebay processor``, all on, 1 % of the traces exported."""

from __future__ import annotations

from urllib.request import urlopen

from benchmarks.children import HOST, free_port, status
from benchmarks.contenders import Contender, Running, Site

PATH = "/v1/echo"
TRACE_RATIO = 0.01
SLOTS = 256
"""The naive worker runs a whole batch at once, whatever its size; so many slots let this one, too."""


def start(site: Site) -> Running:
    """Start gateway, processor and the sink of their traces, and wait until a request comes back."""
    port, admin_port, sink_port = free_port(), free_port(), free_port()
    sink = site.children.start("trace sink", "-m", "benchmarks.otlp_sink", str(sink_port))
    sink.wait_for_answer(lambda: status(sink_port, "/spans", post=False, timeout=5.0), "an answer")
    env = {
        "FOREBAY_BOOTSTRAP_SERVERS": site.brokers,
        "FOREBAY_NAMESPACE": site.prefix,
        "FOREBAY_HTTP_PORT": str(port),
        "FOREBAY_ADMIN_PORT": str(admin_port),
        "FOREBAY_TRACE_RATIO": str(TRACE_RATIO),
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{HOST}:{sink_port}",
    }
    gateway = site.children.start("forebay gateway", "-m", "forebay_cli", "gateway", env=env)
    processor = site.children.start(
        "forebay processor", "-m", "forebay_cli", "processor", "benchmarks.app:app", "--slots", str(SLOTS), env=env
    )
    gateway.wait_for_answer(lambda: status(admin_port, "/health/ready", post=False, timeout=5.0), "readiness")

    def ask() -> int:
        processor.check()
        return status(port, PATH, post=True, timeout=30.0)

    gateway.wait_for_answer(ask, "an answer")
    return Running(site.load, (gateway, processor, sink), port, PATH, spans=lambda: spans(sink_port))


def spans(sink_port: int) -> int:
    """Return how many spans the sink has taken so far."""
    with urlopen(f"http://{HOST}:{sink_port}/spans", timeout=5.0) as answer:
        return int(answer.read())


CONTENDER = Contender("forebay", "gateway and processor, traces at 1 %", start)
