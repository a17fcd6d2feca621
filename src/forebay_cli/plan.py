"""What ``forebay up`` runs: the programs, their flags and ports, and how to see that each is ready."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from itertools import count
from pathlib import Path

from forebay.errors import ConfigurationError
from forebay.settings import Settings
from forebay_cli.restart import RestartPolicy
from forebay_cli.supervisor import Plan, Probe, Program, forebay_command

_MARGIN = 5.0
"""Seconds beyond the time that a service says it needs to end, before it is killed."""

_BROKER_STOP = 20.0
"""Seconds that the broker may take to close its logs, before it is killed."""

_BROKER_READY = re.compile(r"^broker ready at ")
_PROCESSOR_READY = re.compile(r" runs .+ in \d+ slots$")
"""A processor has no port to ask: it says that it is a member of its groups."""

_LAST_PORT = 65535

_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - to connect to, not to listen on


@dataclass(frozen=True, slots=True)
class Wanted:
    """What ``forebay up`` was asked for beside the settings.

    Attributes:
        app: reference of the app, ``module:attribute``.
        app_dir: the folder to import it from; None: the current one.
        gateways: how many of them, at least 1.
        processors: how many of them, at least 1.
        config: the settings file that was given, for the programs to read too.
    """

    app: str
    app_dir: Path | None = None
    gateways: int = 1
    processors: int = 1
    config: Path | None = None


def make_plan(settings: Settings, wanted: Wanted) -> Plan:
    """Say what runs: a broker unless a cluster is given, and as many of the others as wanted.

    Raises:
        ConfigurationError: there are not enough ports.
    """
    pairs = ports(settings, wanted.gateways)
    shared = ["--exit-with-parent"]
    if wanted.config is not None:
        shared += ["--config", str(wanted.config)]
    client = [
        *shared,
        *("--bootstrap-servers", settings.brokers),
        *("--namespace", settings.namespace),
        *("--trace-ratio", str(settings.trace_ratio)),
    ]

    def gateway(index: int) -> Program:
        port, admin_port = pairs[index]
        instance = settings.instance if wanted.gateways == 1 else f"{settings.instance}-{index + 1}"
        return Program(
            f"gateway-{index + 1}",
            forebay_command(
                "gateway",
                *client,
                *("--instance", instance),
                *("--port", str(port)),
                *("--admin-port", str(admin_port)),
            ),
            stop_within=settings.shutdown_grace + _MARGIN,
            ready=healthy(settings.admin_host, admin_port),
        )

    def processor(index: int) -> Program:
        where = [] if wanted.app_dir is None else ["--app-dir", str(wanted.app_dir)]
        return Program(
            f"processor-{index + 1}",
            forebay_command("processor", wanted.app, *where, *client, "--slots", str(settings.slots)),
            stop_within=settings.drain + _MARGIN,
            ready_line=_PROCESSOR_READY,
        )

    broker = Program(
        "broker",
        forebay_command("broker", *shared, "--port", str(settings.broker_port), "--data-dir", str(settings.data_dir)),
        stop_within=_BROKER_STOP,
        ready_line=_BROKER_READY,
        policy=RestartPolicy(limit=1),
    )
    return Plan(
        None if settings.bootstrap_servers else broker,
        processors=[processor(index) for index in range(wanted.processors)],
        gateways=[gateway(index) for index in range(wanted.gateways)],
    )


def ports(settings: Settings, gateways: int) -> list[tuple[int, int]]:
    """Give each gateway a port for the API and one for health and metrics, in steps that keep the two rows apart.

    Raises:
        ConfigurationError: the two rows start at the same port, or the last port is beyond 65535.
    """
    first, apart = settings.http_port, settings.admin_port - settings.http_port
    if apart == 0:
        raise ConfigurationError(f"settings http_port and admin_port are both {first}; they must differ")
    step = next(step for step in count(1) if apart % step or abs(apart) >= step * gateways)
    pairs = [(first + step * index, first + apart + step * index) for index in range(gateways)]
    if max(pairs[-1]) > _LAST_PORT:
        raise ConfigurationError(f"{gateways} gateways from port {first} on would need port {max(pairs[-1])}")
    return pairs


def reachable(host: str) -> str:
    """Return where to reach a service of this machine that listens on ``host``, which may mean every address."""
    return _LOOPBACK.get(host, host)


def healthy(host: str, port: int) -> Probe:
    """Return a probe that asks a service's admin port for ``/health/ready``."""

    def look() -> bool:
        connection = HTTPConnection(reachable(host), port, timeout=1.0)
        try:
            connection.request("GET", "/health/ready")
            return connection.getresponse().status == HTTPStatus.OK
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    async def probe() -> bool:
        return await asyncio.to_thread(look)

    return probe
