"""``forebay gateway``: HTTP in front of the queue."""

from __future__ import annotations

from forebay_cli import options
from forebay_cli.lifetime import end_with_parent
from forebay_cli.service import needs_extra, run


def gateway(
    host: options.HttpHost = None,
    port: options.HttpPort = None,
    admin_port: options.AdminPort = None,
    instance: options.Instance = None,
    bootstrap_servers: options.BootstrapServers = None,
    namespace: options.Namespace = None,
    trace_ratio: options.TraceRatio = None,
    config: options.Config = None,
    exit_with_parent: options.ExitWithParent = False,
) -> None:
    """Serve the operations of the catalog over HTTP.

    It knows no app: it follows the catalog, and serves an operation as soon as a processor brings it.
    """
    if exit_with_parent:
        end_with_parent()
    from forebay_cli.settings import read_settings

    settings = read_settings(
        config,
        http_host=host,
        http_port=port,
        admin_port=admin_port,
        instance=instance,
        bootstrap_servers=bootstrap_servers,
        namespace=namespace,
        trace_ratio=trace_ratio,
    )
    with needs_extra("gateway", "gateway"):
        from forebay_gateway.service import serve
    run(serve(settings))
