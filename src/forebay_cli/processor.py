"""``forebay processor``: runs the handlers of an app."""

from __future__ import annotations

from forebay_cli import options
from forebay_cli.lifetime import end_with_parent
from forebay_cli.service import needs_extra, run


def processor(
    app: options.App,
    app_dir: options.AppDir = None,
    slots: options.Slots = None,
    admin_port: options.ProcessorAdminPort = None,
    bootstrap_servers: options.BootstrapServers = None,
    namespace: options.Namespace = None,
    trace_ratio: options.TraceRatio = None,
    config: options.Config = None,
    exit_with_parent: options.ExitWithParent = False,
) -> None:
    """Run the jobs of an app: announce its operations, fetch, run the handlers, reply.

    Start as many as there is work for, on any machine that reaches the cluster.
    """
    if exit_with_parent:
        end_with_parent()
    from forebay_cli.settings import read_settings

    settings = read_settings(
        config,
        slots=slots,
        bootstrap_servers=bootstrap_servers,
        namespace=namespace,
        trace_ratio=trace_ratio,
    )
    with needs_extra("processor", "processor"):
        from forebay_processor.service import serve
    run(serve(settings, app, app_dir, admin_port))
