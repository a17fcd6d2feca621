"""``forebay operations``: the operations that exist, and what they take and give."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import typer

from forebay_cli import options

if TYPE_CHECKING:
    from pathlib import Path

    from forebay.app import Operation
    from forebay.catalog import CatalogEntry
    from forebay.codec import Schema
    from forebay.settings import Settings


@dataclass(frozen=True, slots=True)
class Listed:
    """An operation as it is listed.

    Attributes:
        name: its name, and its place in the URL.
        app: the app that declares it.
        tier: the lane that its jobs take.
        deadline: seconds that a caller waits at the most.
        accepts: media type of the request.
        returns: media type of the result.
        request: Avro schema of the request, parsed from its JSON; None for opaque bytes.
        result: Avro schema of the result, likewise.
        fingerprint: of the request's schema, in hexadecimal; None for opaque bytes.
        description: what it does.
    """

    name: str
    app: str
    tier: str
    deadline: float
    accepts: str
    returns: str
    request: Any
    result: Any
    fingerprint: str | None
    description: str

    @classmethod
    def of_catalog(cls, entry: CatalogEntry) -> Self:
        """List an operation as the catalog has it."""
        message = entry.message
        request = entry.requests.reader if entry.requests else None
        return cls(
            name=message["name"],
            app=message["app"],
            tier=message["tier"],
            deadline=message["deadline_ms"] / 1000,
            accepts=message["accepts"],
            returns=message["returns"],
            request=_json(request),
            result=_json(entry.results.reader if entry.results else None),
            fingerprint=request.fingerprint.hex() if request else None,
            description=message["description"],
        )

    @classmethod
    def of_app(cls, operation: Operation) -> Self:
        """List an operation as an app declares it."""
        request = operation.request.schema
        return cls(
            name=operation.name,
            app=operation.app,
            tier=operation.tier,
            deadline=operation.deadline,
            accepts=operation.request.media_type,
            returns=operation.result.media_type,
            request=_json(request),
            result=_json(operation.result.schema),
            fingerprint=request.fingerprint.hex() if request else None,
            description=operation.description,
        )


def operations(
    app: options.DeclaredBy = None,
    app_dir: options.AppDir = None,
    as_json: options.AsJson = False,
    forget: options.Forget = None,
    bootstrap_servers: options.BootstrapServers = None,
    namespace: options.Namespace = None,
    config: options.Config = None,
) -> None:
    """List the operations of the catalog, those that processors have announced; or forget one.

    An operation stays in the catalog, with the schemas of all its versions, when its last processor ends. One that is
    forgotten is not served any more, and its name is free for other schemas or another app.
    """
    import asyncio
    import sys

    from forebay_cli.forget import forget as withdraw
    from forebay_cli.output import show_table, take_stdout
    from forebay_cli.settings import read_settings

    settings = read_settings(config, bootstrap_servers=bootstrap_servers, namespace=namespace)
    if forget is not None:
        if app is not None:
            raise typer.BadParameter(
                "an operation of the catalog is forgotten, not one of --app", param_hint="--forget"
            )
        owner = asyncio.run(withdraw(settings, forget))
        typer.echo(f"Operation '{forget}' of app '{owner}' is forgotten, with its schemas.")
        return
    out = sys.stdout if app is None else take_stdout()
    listed = asyncio.run(read_catalog(settings)) if app is None else declared(app, app_dir)
    if as_json:
        typer.echo(json.dumps([asdict(operation) for operation in listed], indent=2), file=out)
    elif listed:
        show_table(_HEADER, map(_row, listed), out)
    else:
        typer.echo("No processor has announced an operation yet.", err=True)


def declared(app: str, app_dir: Path | None) -> list[Listed]:
    """Import an app and list what it declares.

    Raises:
        AppError: it cannot be loaded.
    """
    from forebay.app import load_app

    return [Listed.of_app(operation) for _, operation in sorted(load_app(app, app_dir).operations.items())]


async def read_catalog(settings: Settings) -> list[Listed]:
    """Read the catalog as it is now; empty where there is none yet.

    Raises:
        BrokerUnavailable: the cluster does not answer.
    """
    from forebay.catalog import Catalog
    from forebay.kafka import Admin
    from forebay_schemas import topics as topic_names

    async with Admin.connect(settings) as admin:
        if topic_names.catalog(settings.namespace) not in await admin.names():
            return []
    catalog = Catalog(settings, "operations")
    try:
        await catalog.start()
        return [Listed.of_catalog(entry) for _, entry in sorted(catalog.entries.items())]
    finally:
        await catalog.stop()


def _json(schema: Schema | None) -> Any:
    return None if schema is None else json.loads(schema.text)


_HEADER = ("operation", "app", "tier", "deadline", "request", "result", "request schema", "description")


def _row(operation: Listed) -> tuple[str, ...]:
    """Return the cells of an operation below `_HEADER`."""
    return (
        operation.name,
        operation.app,
        operation.tier,
        f"{operation.deadline:g} s",
        operation.request["name"] if operation.request else operation.accepts,
        operation.result["name"] if operation.result else operation.returns,
        operation.fingerprint or "-",
        operation.description,
    )
