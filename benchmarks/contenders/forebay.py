"""Forebay as it is deployed: ``forebay gateway`` and ``forebay processor``, all on, 1 % of the traces exported."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from urllib.request import urlopen

from benchmarks.children import HOST, BenchmarkError, free_port, status
from benchmarks.contenders import Contender, Running, Site

PATH = "/v1/echo"
TRACE_RATIO = 0.01
SLOTS = 256
"""The naive worker runs a whole batch at once, whatever its size; so many slots let this one, too."""


SOURCES = ("schemas", "src", "services/gateway", "services/processor", "infra/broker", ".")
"""Where a checkout has its packages."""


def start(site: Site, name: str = "forebay", modules: Mapping[str, str] | None = None) -> Running:
    """Start gateway, processor and the sink of their traces, and wait until a request comes back.

    Args:
        site: what to start them with.
        name: begins the names of the processes.
        modules: environment that says where the modules are, for another checkout than this one.
    """
    port, admin_port, sink_port = free_port(), free_port(), free_port()
    sink = site.children.start(f"{name} trace sink", "-m", "benchmarks.otlp_sink", str(sink_port))
    sink.wait_for_answer(lambda: status(sink_port, "/spans", post=False, timeout=5.0), "an answer")
    env = {
        "FOREBAY_BOOTSTRAP_SERVERS": site.brokers,
        "FOREBAY_NAMESPACE": site.prefix,
        "FOREBAY_INSTANCE": "bench",
        "FOREBAY_HTTP_PORT": str(port),
        "FOREBAY_ADMIN_PORT": str(admin_port),
        "FOREBAY_TRACE_RATIO": str(TRACE_RATIO),
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{HOST}:{sink_port}",
        **(modules or {}),
    }
    gateway = site.children.start(f"{name} gateway", "-m", "forebay_cli", "gateway", env=env)
    processor = site.children.start(
        f"{name} processor", "-m", "forebay_cli", "processor", "benchmarks.app:app", "--slots", str(SLOTS), env=env
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


def of_checkout(folder: Path) -> Contender:
    """Return the Forebay of another checkout, run by this Python with the packages installed here.

    Raises:
        BenchmarkError: the folder holds no Forebay.
    """
    folder = folder.resolve()
    if not (folder / "src" / "forebay").is_dir():
        raise BenchmarkError(f"{folder} holds no checkout of Forebay")
    name = f"forebay in {folder.name}"
    modules = {"PYTHONPATH": os.pathsep.join(str(folder / source) for source in SOURCES)}

    def start_apart(site: Site) -> Running:
        # what two versions put into one topic or group would be each other's
        prefix = f"{site.prefix}{folder.name.replace('.', '-')}."
        return start(replace(site, prefix=prefix), name, modules)

    return Contender(name, f"the same, of the checkout in {folder}", start_apart)


CONTENDER = Contender("forebay", "gateway and processor, traces at 1 %", start)
