"""How every client of ours connects, and how it waits."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable
from typing import Any

from aiokafka.errors import KafkaError
from aiokafka.helpers import create_ssl_context

from forebay.errors import BrokerError, BrokerUnavailable
from forebay.settings import Settings

ADMIN_TIMEOUT = 15.0
"""Seconds that an administrative request may take in all."""


def connection(settings: Settings, client: str) -> dict[str, Any]:
    """Return what every aiokafka client takes: where the cluster is and how to be let in."""
    password = settings.sasl_password
    context: ssl.SSLContext | None = None
    if settings.security_protocol in ("SSL", "SASL_SSL"):
        context = create_ssl_context(
            cafile=_text(settings.ssl_cafile),
            certfile=_text(settings.ssl_certfile),
            keyfile=_text(settings.ssl_keyfile),
        )
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
