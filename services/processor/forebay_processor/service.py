"""Puts a processor together and runs it: app, topics, catalog, one fetcher a tier; and takes it down in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import uuid
from importlib.metadata import version
from pathlib import Path

from opentelemetry import trace

from forebay import topics, tracing
from forebay.app import load_app
from forebay.catalog import Catalog, announce
from forebay.errors import BrokerError
from forebay.kafka import Producer
from forebay.lifecycle import notify, running, stop_on_signals
from forebay.settings import TIERS, Settings
from forebay_processor.fetch import TierFetcher
from forebay_processor.processor import Processor
from forebay_processor.run import Runner
from forebay_processor.schedule import Scheduler, reserves
from forebay_processor.settle import Settler
from forebay_processor.spans import Spans

log = logging.getLogger(__name__)

BACKLOG_PER_SLOT = 8
"""Jobs of a tier that wait in memory for each slot: enough to never run dry, few enough to hand back."""
BACKLOG_BYTES = 64 * 1024 * 1024
"""Bytes of payload that wait in memory, of all tiers together."""
COMMIT_INTERVAL = 0.5
"""Seconds between two commits."""


async def serve(
    settings: Settings, reference: str, app_dir: Path | None = None, stop: asyncio.Event | None = None
) -> None:
    """Run a processor until SIGTERM or SIGINT, or until ``stop`` is set.

    At the end it starts nothing more, gives what runs ``drain`` seconds, commits, and leaves each group as soon as no
    job of it is in hand.

    Args:
        settings: where the cluster is, and the limits.
        reference: the app, as ``module:attribute``.
        app_dir: where to look for it first.
        stop: ends it when set.

    Raises:
        AppError: the app cannot be loaded.
        IncompatibleSchema: an operation does not fit the catalog; nothing was announced.
        BrokerUnavailable: the cluster does not answer.
        TopicMismatch: a topic exists in another shape.
    """
    stop = stop or asyncio.Event()
    stop_on_signals(stop)

    app = load_app(reference, app_dir)
    scheduler = Scheduler(
        settings.slots,
        reserves(settings.slots, TIERS),
        backlog=settings.slots * BACKLOG_PER_SLOT,
        backlog_bytes=BACKLOG_BYTES,
    )
    processor_id = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    await topics.ensure(settings, topics.of_processor(settings, app.name))
    provider = tracing.configure("processor", processor_id, version("forebay"), settings.trace_ratio)
    trace.set_tracer_provider(provider)  # so that a handler's own spans join the trace
    lost: list[BrokerError] = []

    def on_lost(error: BrokerError) -> None:
        lost.append(error)
        stop.set()

    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(asyncio.to_thread, provider.shutdown)
        producer = Producer(settings, processor_id)
        catalog = Catalog(settings, processor_id)
        for part in (producer, catalog):
            stack.push_async_callback(part.stop)
            await part.start()
        await stack.enter_async_context(running(catalog.follow()))
        await announce(settings, producer, catalog, app.operations, processor_id)

        runner = Runner(app, reference, app_dir, catalog, settings.slots)
        stack.callback(runner.stop)
        settler = Settler(settings, app.name, producer, processor_id, on_lost)
        processor = Processor(scheduler, runner, settler, Spans(provider, settings.namespace, app.name))
        fetchers = [
            TierFetcher(
                settings,
                app.name,
                tier,
                processor_id,
                scheduler,
                on_work=processor.pump,
                on_undecodable=processor.undecodable,
            )
            for tier in TIERS
        ]
        stack.push_async_callback(_stop, fetchers)
        for fetcher in fetchers:
            processor.serve(fetcher)
            await fetcher.start()
        ready = f"{processor_id} runs {', '.join(app.operations)} in {settings.slots} slots"
        background = (*(fetcher.run() for fetcher in fetchers), processor.keep_deadlines(), _commit(fetchers))
        async with running(*background, _say_ready(fetchers, ready)):
            await stop.wait()
            notify(STOPPING="1")
            log.info("%s is stopping", processor_id)
            processor.stop_accepting()
            async with running(*(fetcher.leave() for fetcher in fetchers)):
                await processor.drain(settings.drain)
                await producer.flush(settings.drain)
    if lost:
        raise lost[0]


async def _say_ready(fetchers: list[TierFetcher], sentence: str) -> None:
    """Say that the processor is ready once every tier is read."""
    notify(STATUS="joining the groups of its tiers")
    for fetcher in fetchers:
        await fetcher.until_joined()
    log.info(sentence)
    notify(READY="1", STATUS=sentence)


async def _stop(fetchers: list[TierFetcher]) -> None:
    await asyncio.gather(*(fetcher.stop() for fetcher in fetchers))


async def _commit(fetchers: list[TierFetcher]) -> None:
    while True:
        await asyncio.sleep(COMMIT_INTERVAL)
        for fetcher in fetchers:
            await fetcher.commit()
