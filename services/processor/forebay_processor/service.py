"""Puts a processor together and runs it: app, topics, catalog, one fetcher a tier; and takes it down in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
import uuid
from functools import partial
from importlib.metadata import version
from pathlib import Path

from opentelemetry import trace

from forebay import topics, tracing
from forebay.app import load_app
from forebay.catalog import Catalog
from forebay.kafka import Link, Producer
from forebay.lifecycle import notify, running, stop_on_signals
from forebay.settings import TIERS, Settings
from forebay_processor.admin import serving_admin
from forebay_processor.announce import Announcer
from forebay_processor.dead_letters import DeadLetters
from forebay_processor.delays import READING, Delays
from forebay_processor.fatal import Fatal
from forebay_processor.fetch import Fetcher
from forebay_processor.intake import JobReader, TierIntake
from forebay_processor.member import KnownPartitions, queue_members, retries_member
from forebay_processor.metrics import Metrics
from forebay_processor.pauses import Pauses
from forebay_processor.processor import Processor
from forebay_processor.restore import AppTopics
from forebay_processor.run.handlers import Handlers
from forebay_processor.run.resolve import Resolver
from forebay_processor.schedule import Scheduler, reserves
from forebay_processor.settle import Settler
from forebay_processor.spans import Spans

log = logging.getLogger(__name__)

BACKLOG_PER_SLOT = 8
"""Jobs of a tier that wait in memory for each slot: enough to never run dry, few enough to hand back."""
BACKLOG_BYTES = 64 * 1024 * 1024
"""Bytes of payload that wait in memory, of all tiers together."""
PAUSE_SHARE = 0.5
"""Share of the session timeout for which the process may stand still before it asks whether its jobs are still its."""
FLUSH_AT_LEAST = 1.0
"""Seconds that the last replies have to be acknowledged, also where the handlers took the whole of the drain."""


async def serve(
    settings: Settings,
    reference: str,
    app_dir: Path | None = None,
    admin_port: int | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Run a processor until SIGTERM or SIGINT, or until ``stop`` is set.

    At the end it starts nothing more, gives what runs ``drain`` seconds, commits, and leaves each group as soon as no
    job of it is in hand. A second signal makes it hand back at once what runs.

    Args:
        settings: where the cluster is, and the limits.
        reference: the app, as ``module:attribute``.
        app_dir: where to look for it first.
        admin_port: where to serve health and metrics, at ``admin_host``; None: nowhere.
        stop: ends it when set.

    Raises:
        AppError: the app cannot be loaded.
        ConfigurationError: the port is taken.
        OperationTaken: an operation is another app's; nothing was announced.
        IncompatibleSchema: an operation does not fit the catalog; nothing was announced.
        BrokerUnavailable: the cluster does not answer.
        TopicMismatch: a topic exists in another shape.
        BrokerError: something can never be said about a job; the processor has ended in order before.
    """
    stop, hurry = stop or asyncio.Event(), asyncio.Event()
    stop_on_signals(stop, hurry)

    app = load_app(reference, app_dir)
    processor_id = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    await topics.ensure(settings, topics.of_processor(settings, app.name))
    provider = tracing.configure("processor", processor_id, version("forebay"), settings.trace_ratio)
    trace.set_tracer_provider(provider)  # so that a handler's own spans join the trace
    fatal = Fatal(stop)

    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(asyncio.to_thread, provider.shutdown)
        link = Link(settings, processor_id)
        producer = Producer(settings, processor_id, link=link)
        catalog = Catalog(settings, processor_id, link=link)
        stack.push_async_callback(link.stop)
        await link.start()
        stack.push_async_callback(producer.stop, FLUSH_AT_LEAST)
        await producer.start()
        stack.push_async_callback(catalog.stop)
        await catalog.start()
        await stack.enter_async_context(running(catalog.follow()))
        announcer = Announcer(settings, producer, catalog, app, processor_id)
        await announcer.check()

        handlers = Handlers.of(app, reference, app_dir, settings.slots)
        stack.callback(handlers.stop)
        scheduler = Scheduler(
            settings.slots,
            reserves(settings.slots, TIERS),
            backlog=settings.slots * BACKLOG_PER_SLOT,
            backlog_bytes=BACKLOG_BYTES,
        )
        metrics = Metrics(app.name)
        dead_letters = DeadLetters(settings.namespace, app.name, producer, metrics)
        members = queue_members(settings, app, processor_id, link)
        known = KnownPartitions(members.values())
        settler = Settler(
            settings.namespace, app.name, producer, dead_letters, processor_id, fatal, metrics, is_known=known.exist
        )
        spans = Spans(provider, settings.namespace, app.name)
        pauses = Pauses(settings.session_timeout * PAUSE_SHARE)
        processor = Processor(scheduler, handlers, settler, spans, fatal, metrics, pauses)
        reader, resolver = JobReader(settings.namespace), Resolver(app.operations, catalog)
        intakes = {tier: TierIntake(tier, reader, resolver, processor, settler) for tier in TIERS}
        mover = Delays(
            settings.namespace,
            app.name,
            reader,
            producer,
            settler,
            processor,
            fatal,
            metrics,
            pauses,
            known,
        )
        retries = retries_member(settings, app, processor_id, link, mover.topics)
        fetchers = [
            *(members[tier].fetcher(tier, intake, fatal) for tier, intake in intakes.items()),
            retries.fetcher(READING, mover, fatal),
        ]
        for name, member in {**members, READING: retries}.items():
            pauses.watch(name, member.confirmed)
        stack.push_async_callback(_stop, fetchers)
        await asyncio.gather(*(fetcher.start() for fetcher in fetchers))
        app_topics = AppTopics(settings, app.name, fetchers, dead_letters)
        if admin_port is not None:
            not_ready = partial(_not_ready, stop, catalog, processor, app_topics, fetchers)
            stack.enter_context(serving_admin(settings.admin_host, admin_port, metrics.registry, not_ready))
        ready = f"{processor_id} runs {', '.join(app.operations)} in {settings.slots} slots"
        background = [
            *(fetcher.run() for fetcher in fetchers),
            *(fetcher.keep_committing() for fetcher in fetchers),
            processor.keep_deadlines(),
            mover.run(),
            _announce(announcer, fetchers, ready),
            app_topics.keep(),
        ]
        async with running(*background):
            await stop.wait()
            notify(STOPPING="1")
            log.info("%s is stopping", processor_id)
            processor.stop_accepting()
            for fetcher in fetchers:
                fetcher.stop_accepting()
            bound = time.monotonic() + settings.drain
            async with running(*(fetcher.leave() for fetcher in fetchers)):
                await processor.drain(settings.drain, hurry)
                await producer.flush(max(FLUSH_AT_LEAST, bound - time.monotonic()))
    if fatal.error is not None:
        raise fatal.error


def _not_ready(
    stop: asyncio.Event, catalog: Catalog, processor: Processor, app_topics: AppTopics, fetchers: list[Fetcher]
) -> str | None:
    """Say what keeps the processor from reading or running what it should; None while nothing does."""
    if stop.is_set():
        return "the processor is stopping"
    troubles = [f"{fetcher.name}: {fetcher.trouble}" for fetcher in fetchers if fetcher.trouble]
    if catalog.trouble is not None:
        troubles.append(f"catalog: {catalog.trouble}")
    troubles += [part.trouble for part in (processor, app_topics) if part.trouble is not None]
    return "; ".join(troubles) or None


async def _announce(announcer: Announcer, fetchers: list[Fetcher], sentence: str) -> None:
    """Announce the operations once everything is read, say that the processor is ready, and keep the catalog so.

    So gateways hear of an operation when somebody reads its queue who knows it, and not before.
    """
    notify(STATUS="joining the groups of its tiers")
    for fetcher in fetchers:
        await fetcher.until_joined()
    await announcer.announce()
    log.info(sentence)
    notify(READY="1", STATUS=sentence)
    await announcer.keep()


async def _stop(fetchers: list[Fetcher]) -> None:
    await asyncio.gather(*(fetcher.stop() for fetcher in fetchers))
