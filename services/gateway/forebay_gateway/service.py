"""Puts a gateway together and runs it: topics, catalog, producer, replies, HTTP; and takes it down in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from importlib.metadata import version

from forebay import topics, tracing
from forebay.catalog import Catalog
from forebay.kafka import Link, Producer
from forebay.lifecycle import notify, running, stop_on_signals
from forebay.settings import Settings
from forebay_gateway import problems
from forebay_gateway.admin import admin_app
from forebay_gateway.dispatch import Dispatcher
from forebay_gateway.gateway import Gateway
from forebay_gateway.http import Limits, Server, listen, serving
from forebay_gateway.metrics import Metrics
from forebay_gateway.replies import Replies
from forebay_gateway.route import Router
from forebay_gateway.spans import Spans
from forebay_gateway.waiters import Waiters

log = logging.getLogger(__name__)

_STILL_HELD = "the gateway stopped before the answer came; the job may still be run"


async def serve(settings: Settings, stop: asyncio.Event | None = None) -> None:
    """Run a gateway until SIGTERM or SIGINT, or until ``stop`` is set.

    It is ready once the reply consumer is pinned and the catalog is read. At the end it is not ready first, goes on
    taking connections for ``shutdown_notice`` seconds, then closes its port and finishes what it holds within
    ``shutdown_grace`` seconds, or until a second signal, and tells whoever still waits that it is leaving.

    Raises:
        ConfigurationError: a port is taken.
        InstanceTaken: another gateway has the name of this one, or took it while this one was away; then it stops in
            order first.
        BrokerUnavailable: the cluster does not answer.
        TopicMismatch: a topic exists in another shape.
    """
    stop = stop or asyncio.Event()
    hurry = asyncio.Event()
    stop_on_signals(stop, hurry)

    public = listen("http", settings.http_host, settings.http_port)
    with public, listen("admin", settings.admin_host, settings.admin_port) as admin:
        await topics.ensure(settings, topics.of_gateway(settings))
        metrics = Metrics()
        waiters = Waiters()
        router = Router(settings.namespace)
        link = Link(settings, settings.instance)
        catalog = Catalog(settings, settings.instance, router.update, link)
        provider = tracing.configure("gateway", settings.instance, version("forebay"), settings.trace_ratio)

        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(asyncio.to_thread, provider.shutdown)
            producer = Producer(settings, settings.instance, link=link)
            replies = Replies(settings, producer, waiters, metrics, on_lost=stop.set, link=link)
            for part in (link, producer, replies, catalog):
                stack.push_async_callback(part.stop)
                await part.start()
            dispatcher = Dispatcher(settings, producer, waiters, replies)
            spans = Spans(provider, settings.namespace)
            gateway = Gateway(router, dispatcher, spans, metrics)
            limits = Limits(settings.max_body_bytes, settings.head_timeout, settings.body_timeout)
            background = (catalog.follow(), replies.read(), replies.watch(), waiters.keep_deadlines())

            def not_ready() -> str | None:
                if stop.is_set():
                    return "the gateway is stopping"
                unproducible = None if producer.usable else "no job can be produced: see the log"
                return replies.trouble or unproducible or catalog.trouble

            async with running(*background), serving(admin_app(metrics.registry, not_ready), admin, limits):
                await replies.claim.make()
                async with serving(gateway, public, limits) as server:
                    ready = f"{settings.instance} serves http://{settings.http_host}:{settings.http_port}"
                    log.info(ready)
                    notify(READY="1", STATUS=ready)
                    await stop.wait()
                    notify(STOPPING="1")
                    log.info("%s is stopping; requests held: %d", settings.instance, len(waiters))
                    await _within(settings.shutdown_notice, hurry)
                    await _finish(server, waiters, settings.shutdown_grace, hurry)
        replies.claim.check()


async def _finish(server: Server, waiters: Waiters, grace: float, hurry: asyncio.Event) -> None:
    """Take no new connections, let the held requests end, and let nobody hang."""
    if not await server.finish(grace, hurry):
        if waiters:
            log.warning("requests still held: %d; they get their answer now", len(waiters))
        else:
            log.warning("some clients have not sent or read everything yet; they are cut off")
        waiters.fail_all(lambda: problems.stopping(_STILL_HELD))


async def _within(seconds: float, event: asyncio.Event) -> None:
    """Wait for an event, or for so many seconds."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
