"""``forebay topics``: what topics there are, against what there should be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from forebay_cli import options

if TYPE_CHECKING:
    from collections.abc import Iterable

    from forebay.settings import Settings
    from forebay.topics import TopicStatus


def topics(
    apply: options.Apply = False,
    app: options.TopicsOf = None,
    app_dir: options.AppDir = None,
    bootstrap_servers: options.BootstrapServers = None,
    namespace: options.Namespace = None,
    config: options.Config = None,
) -> None:
    """Show the topics that exist against those that should: the catalog, and those of each app in it.

    An app that was never announced is named with --app. Ends with exit code 1 while a topic is missing or not as it
    must be. Nothing that exists is ever changed.
    """
    import asyncio
    import sys

    from forebay import topics as library
    from forebay.app import load_app
    from forebay_cli.output import show_table, take_stdout
    from forebay_cli.settings import read_settings

    settings = read_settings(config, bootstrap_servers=bootstrap_servers, namespace=namespace)
    out = take_stdout() if app else sys.stdout
    named = [load_app(reference, app_dir).name for reference in app or ()]
    statuses = asyncio.run(_statuses(settings, named, create=apply))
    show_table(_HEADER, map(_row, statuses), out, _COLOURS)
    wrong = [status for status in statuses if status.state is not library.TopicState.OK]
    for status in wrong:
        for problem in status.problems:
            typer.echo(f"{status.spec.name} {problem}", err=True)
    if not wrong:
        return
    if not apply and any(status.found is None for status in wrong):
        typer.echo("'forebay topics --apply' creates what is missing.", err=True)
    raise typer.Exit(1)


async def _statuses(settings: Settings, named: Iterable[str], *, create: bool) -> list[TopicStatus]:
    """Look at the topics that all share and at those of each app, by name, and create what is missing if so told."""
    from forebay import topics as library
    from forebay_cli.operations import read_catalog

    apps = sorted({*named, *(operation.app for operation in await read_catalog(settings))})
    specs = [library.catalog(settings), *(spec for app in apps for spec in library.of_app(settings, app))]
    return await (library.apply if create else library.inspect)(settings, specs)


_HEADER = ("topic", "state", "partitions", "policy", "retention", "largest message")
_COLOURS = {"ok": "green", "missing": "yellow", "mismatch": "red"}


def _row(status: TopicStatus) -> tuple[str, ...]:
    """Return the cells of a topic below `_HEADER`."""
    spec, config = status.spec, status.found.config if status.found else {}
    return (
        spec.name,
        status.state.value,
        _beside(str(status.found.partitions) if status.found else None, str(spec.partitions)),
        _beside(_sorted(config.get("cleanup.policy")), ",".join(sorted(spec.cleanup))),
        _beside(_duration(config.get("retention.ms")), _duration(str(spec.retention_ms))),
        _beside(_size(config.get("max.message.bytes")), _size(str(spec.max_message_bytes))),
    )


def _beside(found: str | None, wanted: str | None) -> str:
    if found == wanted:
        return f"{found}"
    return f"{found or '-'} (should be {wanted})"


def _sorted(policy: str | None) -> str | None:
    return None if policy is None else ",".join(sorted(policy.split(",")))


def _duration(milliseconds: str | None) -> str | None:
    if milliseconds is None:
        return None
    value = int(milliseconds)
    if value < 0:
        return "unlimited"
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000)):
        if value >= size and value % size == 0:
            return f"{value // size} {unit}"
    return f"{value} ms"


def _size(octets: str | None) -> str | None:
    if octets is None:
        return None
    value = int(octets)
    return f"{value // 2**20} MiB" if value % 2**20 == 0 else f"{value} B"
