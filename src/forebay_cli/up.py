"""``forebay up``: everything on this machine, in one terminal."""

from __future__ import annotations

from typing import Annotated

import typer

from forebay_cli import options


def up(
    app: options.App,
    app_dir: options.AppDir = None,
    gateways: Annotated[int, typer.Option(min=1, help="How many gateways, each with ports of its own.")] = 1,
    processors: Annotated[int, typer.Option(min=1, help="How many processors.")] = 1,
    slots: options.Slots = None,
    port: options.HttpPort = None,
    admin_port: options.AdminPort = None,
    broker_port: options.BrokerPort = None,
    data_dir: options.DataDir = None,
    instance: options.Instance = None,
    bootstrap_servers: options.BootstrapServers = None,
    namespace: options.Namespace = None,
    trace_ratio: options.TraceRatio = None,
    config: options.Config = None,
) -> None:
    """Run an app on this machine: a broker, a gateway and a processor, until Ctrl-C.

    Where a cluster is given (--bootstrap-servers, FOREBAY_BOOTSTRAP_SERVERS or forebay.toml), no broker is started.
    """
    import asyncio

    from forebay.settings import load_settings
    from forebay_cli.local import run_local
    from forebay_cli.plan import Wanted

    settings = load_settings(
        config,
        slots=slots,
        http_port=port,
        admin_port=admin_port,
        broker_port=broker_port,
        data_dir=data_dir,
        instance=instance,
        bootstrap_servers=bootstrap_servers,
        namespace=namespace,
        trace_ratio=trace_ratio,
    )
    asyncio.run(run_local(settings, Wanted(app, app_dir, gateways, processors, config)))
