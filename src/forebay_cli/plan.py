"""What ``forebay up`` runs: the programs with their flags and ports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from forebay.errors import ConfigurationError
from forebay.settings import LAST_PORT, Settings
from forebay_cli.child import Program, forebay_command
from forebay_cli.restart import RestartPolicy
from forebay_cli.supervisor import Plan

_BROKER_STOP = 25.0
"""Seconds that the broker may take to end before it is killed: it kills a Kafka that takes 20 itself."""

_HURRIED = 8.0
"""Seconds that a program may take to end once it has to hurry: a gateway tells everybody whom it holds that it is
stopping, a processor hands back its jobs, and both may wait for a broker that is gone when they disconnect."""

_BROKER_HURRIED = 3.0
"""The same for the broker, which loses nothing that it has acknowledged when it is killed."""

_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - to connect to, not to listen on


@dataclass(frozen=True, slots=True)
class Wanted:
    """What ``forebay up`` was asked for beside the settings.

    Attributes:
        apps: references of the apps, ``module:attribute``, at least one.
        app_dir: the folder to import them from; None: the current one.
        gateways: how many of them, at least 1.
        processors: how many for each app, at least 1.
        config: the settings file that was given, for the programs to read too.
    """

    apps: Sequence[str]
    app_dir: Path | None = None
    gateways: int = 1
    processors: int = 1
    config: Path | None = None


def make_plan(settings: Settings, wanted: Wanted) -> Plan:
    """Say what runs: a broker unless a cluster is given, and as many of the others as wanted.

    Raises:
        ConfigurationError: there are not enough ports, or an app is named twice.
    """
    pairs = ports(settings, wanted.gateways)
    labels = _labels(wanted.apps)
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
            stop_within=settings.gateway_stop_bound,
            hurry_within=_HURRIED,
        )

    def processor(app: str, index: int) -> Program:
        where = [] if wanted.app_dir is None else ["--app-dir", str(wanted.app_dir)]
        return Program(
            f"processor-{labels[app]}{index + 1}",
            forebay_command("processor", app, *where, *client, "--slots", str(settings.slots)),
            stop_within=settings.processor_stop_bound,
            hurry_within=_HURRIED,
        )

    broker = Program(
        "broker",
        forebay_command("broker", *shared, "--port", str(settings.broker_port), "--data-dir", str(settings.data_dir)),
        stop_within=_BROKER_STOP,
        hurry_within=_BROKER_HURRIED,
        policy=RestartPolicy(limit=1),
    )
    return Plan(
        None if settings.bootstrap_servers else broker,
        processors=[processor(app, index) for app in wanted.apps for index in range(wanted.processors)],
        gateways=[gateway(index) for index in range(wanted.gateways)],
    )


def _labels(apps: Sequence[str]) -> dict[str, str]:
    """Return what stands in the names of each app's processors: nothing, where there is but one app."""
    if len(apps) == 1:
        return {apps[0]: ""}
    labels = {app: app.removesuffix(":app") + "-" for app in apps}
    if len(set(labels.values())) < len(apps):
        twice = next(app for app in apps if [labels[other] for other in apps].count(labels[app]) > 1)
        raise ConfigurationError(f"app '{twice}' is named twice; --processors says how many processors each app gets")
    return labels


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
    if max(pairs[-1]) > LAST_PORT:
        raise ConfigurationError(f"{gateways} gateways from port {first} on would need port {max(pairs[-1])}")
    return pairs


def reachable(host: str) -> str:
    """Return where to reach a service of this machine that listens on ``host``, which may mean every address."""
    return _LOOPBACK.get(host, host)


def url(host: str, port: int) -> str:
    """Return the address of a service of this machine that listens on ``host``."""
    there = reachable(host)
    return f"http://[{there}]:{port}" if ":" in there else f"http://{there}:{port}"
