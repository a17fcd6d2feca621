"""The flags that several commands share; each is the setting of the same name (`forebay.settings`)."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from forebay_cli.lifetime import PARENT_VARIABLE

_FLAGS = {
    "http_host": "--host",
    "http_port": "--port",
    "admin_port": "--admin-port",
    "broker_port": "--broker-port",
    "data_dir": "--data-dir",
    "instance": "--instance",
}
_BROKER_FLAGS = _FLAGS | {"broker_port": "--port"}
"""The same in ``forebay broker``, where there is no other port."""


def advice(setting: str) -> str:
    """Return by which flag, of the command that a person has given, and by which variable a setting is chosen."""
    own = sys.argv[1:2] == ["broker"] and PARENT_VARIABLE not in os.environ  # else the person said `forebay up`
    flag = (_BROKER_FLAGS if own else _FLAGS).get(setting)
    variable = f"FOREBAY_{setting.upper()}"
    return variable if flag is None else f"{flag} or {variable}"


def _flag(name: str, meaning: str, **details: Any) -> Any:
    # The defaults are the settings', which know more sources than the command line; None means that it was not given.
    return typer.Option(name, help=meaning, show_default=False, **details)


App = Annotated[
    str,
    typer.Argument(metavar="MODULE:ATTR", help="The app: a module and the name of the Forebay object in it."),
]
Apps = Annotated[
    list[str],
    typer.Argument(metavar="MODULE:ATTR", help="The apps: of each a module, and the Forebay object's name in it."),
]
AppDir = Annotated[Path | None, _flag("--app-dir", "The folder to import the app from; by default the current one.")]
Config = Annotated[Path | None, _flag("--config", "The settings file; by default forebay.toml here, if there is one.")]
BootstrapServers = Annotated[
    str | None,
    _flag(
        "--bootstrap-servers",
        "The Kafka cluster to use; by default the broker on this machine.",
        metavar="HOST:PORT[,…]",
    ),
]
Namespace = Annotated[str | None, _flag("--namespace", "The prefix of every topic and group; by default 'forebay.'.")]
TraceRatio = Annotated[float | None, _flag("--trace-ratio", "The share of traces that are recorded, from 0 to 1.")]
Instance = Annotated[
    str | None, _flag("--instance", "The name of the gateway, different for each; by default the host's and the port.")
]
HttpHost = Annotated[str | None, _flag("--host", "The address of the API; by default loopback only.")]
HttpPort = Annotated[int | None, _flag("--port", "The port of the API; by default 8080.")]
AdminPort = Annotated[int | None, _flag("--admin-port", "The port of health and metrics; by default 8081.")]
ProcessorAdminPort = Annotated[
    int | None,
    _flag("--admin-port", "The port of health and metrics; by default the processor has none.", min=1, max=65535),
]
Slots = Annotated[int | None, _flag("--slots", "How many jobs a processor runs at once; by default 16.")]
BrokerPort = Annotated[int | None, _flag("--broker-port", "The port of the broker; by default 9092.")]
DataDir = Annotated[Path | None, _flag("--data-dir", "The folder for the broker's data; by default .forebay.")]
Gateways = Annotated[int, typer.Option("--gateways", min=1, help="How many gateways, each with ports of its own.")]
Processors = Annotated[int, typer.Option("--processors", min=1, help="How many processors each app gets.")]
OwnPort = Annotated[
    int | None,
    _flag("--port", "The port that clients connect to, by default 9092; several nodes take the ports after it, too."),
]
"""The port of the broker, as ``forebay broker`` itself calls it."""
BrokerDataDir = Annotated[
    Path | None, _flag("--data-dir", "The broker keeps its data in 'broker' in this folder; by default .forebay.")
]
Heap = Annotated[
    str, typer.Option("--heap", help="The most memory for Java's objects, in each node; the process takes more.")
]
Nodes = Annotated[
    int,
    typer.Option(
        "--nodes",
        help="How many nodes the cluster has: 1, or 3 or 5 to try out what clients do when one fails.",
        min=1,
        max=5,
    ),
]
Apply = Annotated[bool, typer.Option("--apply", help="Create the topics that are missing.")]
DeclaredBy = Annotated[
    str | None,
    typer.Option("--app", metavar="MODULE:ATTR", help="List what this app declares; needs no cluster."),
]
TopicsOf = Annotated[
    list[str] | None,
    typer.Option("--app", metavar="MODULE:ATTR", help="Look at this app's topics too; several times for several."),
]
Forget = Annotated[
    str | None,
    typer.Option("--forget", metavar="NAME", help="Withdraw this operation, which no processor may have any more."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON, with the Avro schemas.")]
ExitWithParent = Annotated[
    bool, typer.Option("--exit-with-parent", help="End when the process that started this one ends.", hidden=True)
]
