"""How every connection authenticates, and why a broker refused one."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any

from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.helpers import create_ssl_context

from forebay.errors import AccessRefused, ConfigurationError
from forebay.kafka.wire.connections import Address
from forebay.settings import Settings

_DIAGNOSIS_BOUND = 3.0
_MISMATCHES = (62, 64)
"""What OpenSSL calls it when a certificate is for other host names, or other IP addresses."""
CLIENT_ID_PREFIX = "forebay-"
"""What the broker sees before the name of each client."""

_MAX_IDLE_MS = 9 * 60 * 1000  # a minute less than a broker waits before it closes a connection that is not used


def addresses_of(settings: Settings) -> list[Address]:
    """Return where the settings say that brokers are."""
    return [Address(host, port) for host, port, _ in collect_hosts(settings.brokers, randomize=False)]


def connection_arguments(settings: Settings, client: str) -> dict[str, Any]:
    """Return what every connection takes, besides where it leads to.

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
        "client_id": CLIENT_ID_PREFIX + client,
        "security_protocol": settings.security_protocol,
        "ssl_context": context,
        "sasl_mechanism": settings.sasl_mechanism,
        "sasl_plain_username": settings.sasl_username,
        "sasl_plain_password": password.get_secret_value() if password else None,
        "max_idle_ms": _MAX_IDLE_MS,
    }


def _text(path: object | None) -> str | None:
    return None if path is None else str(path)


async def why_not(settings: Settings, slow: str | None = None) -> str:
    """Find out what the first of the brokers does to those who connect.

    Args:
        settings: where the cluster is, and who connects.
        slow: that one took too long to answer, which is why it is where connecting itself works.

    Raises:
        AccessRefused: it does not accept the credentials, or has a certificate that is not accepted here.
    """
    arguments = connection_arguments(settings, "diagnosis")
    host, port = addresses_of(settings)[0]
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
    except ssl.SSLCertVerificationError as error:
        raise _certificate_refused(settings, f"{host}:{port}", error) from error
    except socket.gaierror as error:
        return f"{host}: {error.strerror}"
    except (OSError, KafkaError) as error:
        reason = str(error) or type(error).__name__
    else:
        connected.close()
        if slow is not None:
            return slow
        reason = "it closed the connection"
    return f"{reason}; perhaps it wants another security_protocol than {settings.security_protocol}"


def _certificate_refused(settings: Settings, address: str, error: ssl.SSLCertVerificationError) -> AccessRefused:
    if error.verify_code in _MISMATCHES:
        return AccessRefused(
            f"setting bootstrap_servers: the certificate of {address} does not fit: {error.verify_message}"
        )
    given = f" = '{settings.ssl_cafile}'" if settings.ssl_cafile is not None else ", which is not set"
    return AccessRefused(f"setting ssl_cafile{given}: the certificate of {address} is refused: {error.verify_message}")
