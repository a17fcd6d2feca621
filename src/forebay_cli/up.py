"""``forebay up``: everything on this machine, in one terminal."""

from __future__ import annotations

from forebay_cli import options


def up(
    apps: options.Apps,
    app_dir: options.AppDir = None,
    gateways: options.Gateways = 1,
    processors: options.Processors = 1,
    slots: options.Slots = None,
    host: options.HttpHost = None,
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
    """Run apps on this machine: a broker, a gateway and a processor for each app, until Ctrl-C.

    Where a cluster is given (--bootstrap-servers, FOREBAY_BOOTSTRAP_SERVERS or forebay.toml), no broker is started.
    """
    import asyncio

    from forebay_cli.local import run_local
    from forebay_cli.plan import Wanted
    from forebay_cli.settings import read_settings

    settings = read_settings(
        config,
        slots=slots,
        http_host=host,
        http_port=port,
        admin_port=admin_port,
        broker_port=broker_port,
        data_dir=data_dir,
        instance=instance,
        bootstrap_servers=bootstrap_servers,
        namespace=namespace,
        trace_ratio=trace_ratio,
    )
    asyncio.run(run_local(settings, Wanted(apps, app_dir, gateways, processors, config)))
