"""How every client of ours connects, and how it waits."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Coroutine
from typing import Any

from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.helpers import create_ssl_context

from forebay.errors import AccessRefused, BrokerError, BrokerUnavailable, ConfigurationError
from forebay.settings import Settings

ADMIN_TIMEOUT = 15.0
"""Seconds that an administrative request may take in all."""

DISCONNECT_BOUND = 3.0
"""Seconds that a goodbye may take; with a broker that is away it would take many times that."""

_DIAGNOSIS_BOUND = 3.0

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


async def connect(settings: Settings, starting: Awaitable[Any]) -> None:
    """Await the start of a client under a bound, and say why where nobody lets us in: aiokafka itself only logs that.

    Raises:
        BrokerUnavailable: no broker answers.
        AccessRefused: a broker does not accept the credentials.
    """
    try:
        async with asyncio.timeout(ADMIN_TIMEOUT):
            await starting
    except TimeoutError:
        raise BrokerUnavailable(
            f"connecting to {settings.brokers}: the broker did not answer within {ADMIN_TIMEOUT:g} s"
        ) from None
    except KafkaError as error:
        raise BrokerUnavailable(f"connecting to {settings.brokers}: {await _why_not(settings)}") from error


async def _why_not(settings: Settings) -> str:
    """Find out what the first of the brokers does to those who connect; raises as `connect`."""
    arguments = connection(settings, "diagnosis")
    host, port, _ = collect_hosts(arguments.pop("bootstrap_servers"), randomize=False)[0]
    try:
        async with asyncio.timeout(_DIAGNOSIS_BOUND):
            connected = await create_conn(host, port, **arguments)
    except TimeoutError:
        return f"{host}:{port} does not answer"
    except ConnectionRefusedError:
        return f"nobody listens at {host}:{port}"
    except UnsupportedSaslMechanismError as error:
        reason = f"{host}:{port} does not offer it"
        raise AccessRefused(f"setting sasl_mechanism = '{settings.sasl_mechanism}': {reason}") from error
    except (AuthenticationFailedError, SaslAuthenticationFailed) as error:
        reason = f"{host}:{port} refuses them: {error}"
        raise AccessRefused(f"settings sasl_username and sasl_password: {reason}") from error
    except socket.gaierror as error:
        return f"{host}: {error.strerror}"
    except (OSError, KafkaError) as error:
        reason = str(error) or type(error).__name__
    else:
        connected.close()
        reason = "it closed the connection"
    return f"{reason}; perhaps it wants another security_protocol than {settings.security_protocol}"


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
