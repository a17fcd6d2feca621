"""How every client of ours connects, and how it waits."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Coroutine
from typing import Any

from aiokafka.errors import KafkaError
from aiokafka.helpers import create_ssl_context

from forebay.errors import BrokerError, BrokerUnavailable, ConfigurationError
from forebay.settings import Settings

ADMIN_TIMEOUT = 15.0
"""Seconds that an administrative request may take in all."""

DISCONNECT_BOUND = 3.0
"""Seconds that a goodbye may take; with a broker that is away it would take many times that."""

log = logging.getLogger(__name__)


def connection(settings: Settings, client: str) -> dict[str, Any]:
    """Return what every aiokafka client takes: where the cluster is and how to be let in.

    Raises:
        ConfigurationError: a certificate or key is not what it should be.
    """
    password = settings.sasl_password
    context: ssl.SSLContext | None = None
    if settings.security_protocol in ("SSL", "SASL_SSL"):
        files = {name: _text(getattr(settings, f"ssl_{name}")) for name in ("cafile", "certfile", "keyfile")}
        try:
            context = create_ssl_context(**files)
        except OSError as error:  # ssl's own errors are some of these
            given = ", ".join(f"ssl_{name} = {file!r}" for name, file in files.items() if file is not None)
            raise ConfigurationError(f"settings {given}: they cannot be used for TLS: {error}") from error
    return {
        "bootstrap_servers": settings.brokers,
        "client_id": f"forebay-{client}",
        "security_protocol": settings.security_protocol,
        "ssl_context": context,
        "sasl_mechanism": settings.sasl_mechanism,
        "sasl_plain_username": settings.sasl_username,
        "sasl_plain_password": password.get_secret_value() if password else None,
    }


def _text(path: object | None) -> str | None:
    return None if path is None else str(path)


async def within(seconds: float, what: str, awaitable: Awaitable[Any]) -> Any:
    """Await under a bound; whatever Kafka says comes out as one of Forebay's errors."""
    try:
        async with asyncio.timeout(seconds):
            return await awaitable
    except TimeoutError:
        raise BrokerUnavailable(f"{what}: the broker did not answer within {seconds:g} s") from None
    except KafkaError as error:
        kind = BrokerUnavailable if getattr(error, "retriable", False) else BrokerError
        raise kind(f"{what}: {error or type(error).__name__}") from error


async def disconnect(what: str, stopping: Coroutine[Any, Any, None]) -> None:
    """Stop a client within a bound, and whatever comes of it: it is not needed any more.

    aiokafka waits for a broker that is away, and lets the cancelling of its own tasks out.
    """
    task = asyncio.ensure_future(stopping)
    try:
        _, unfinished = await asyncio.wait([task], timeout=DISCONNECT_BOUND)
    finally:
        task.cancel()
    if unfinished:
        log.warning("%s did not disconnect within %g s and is dropped", what, DISCONNECT_BOUND)
    elif not task.cancelled() and (error := task.exception()) is not None:
        log.warning("%s did not disconnect in order: %s", what, error or type(error).__name__)
