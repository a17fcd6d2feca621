"""When Kafka counts as started: once it has acknowledged a produce."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

START_TIMEOUT = 60.0
"""Seconds that Kafka may take to acknowledge its first produce; a very slow machine needs tens."""


def await_answer(addresses: Sequence[str], replication: int, check: Callable[[], None]) -> None:
    """Return once each address takes connections and a produce through them is acknowledged.

    Args:
        addresses: ``host:port`` of every node that has to be there.
        replication: copies of the topic that is produced to; -1 for the cluster's default.
        check: called again and again meanwhile; ends the wait by raising.

    Raises:
        BrokerUnavailable: nothing was acknowledged within `START_TIMEOUT`.
    """
    # A thread of its own, because the caller's may be running an event loop already.
    pool = ThreadPoolExecutor(1)
    abandoned = threading.Event()
    try:
        pool.submit(asyncio.run, _answered(addresses, replication, check, abandoned)).result()
    finally:
        abandoned.set()
        pool.shutdown()


async def _answered(
    addresses: Sequence[str], replication: int, check: Callable[[], None], abandoned: threading.Event
) -> None:
    probing = asyncio.create_task(_probe(addresses, replication))
    try:
        while not probing.done():
            if abandoned.is_set():
                return
            check()
            await asyncio.wait([probing], timeout=0.05)
        probing.result()
    finally:
        probing.cancel()
        await asyncio.gather(probing, return_exceptions=True)


async def _probe(addresses: Sequence[str], replication: int) -> None:
    # Imported while Java is starting, which takes longer.
    from forebay.kafka import probe
    from forebay.settings import load_settings

    deadline = time.monotonic() + START_TIMEOUT
    for address in addresses:
        host, _, port = address.partition(":")
        while time.monotonic() < deadline:
            try:
                _, writer = await asyncio.open_connection(host, int(port))
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                break
    servers = ",".join(addresses)
    settings = load_settings(bootstrap_servers=servers, security_protocol="PLAINTEXT", replication_factor=replication)
    await probe(settings, max(1.0, deadline - time.monotonic()))
