"""What apps declare, found out in processes of their own, because that runs the apps' code."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forebay.errors import AppError
from forebay_cli.child import SENTENCE, forebay_command
from forebay_cli.lifetime import kill_group


@dataclass(frozen=True, slots=True)
class Declared:
    """An app and its operations.

    Attributes:
        reference: of the app, ``module:attribute``.
        name: of the app.
        operations: as ``forebay operations --json`` lists them; at least one.
    """

    reference: str
    name: str
    operations: Sequence[dict[str, Any]]


async def declared_by(references: Sequence[str], app_dir: Path | None, say: Callable[[str], None]) -> list[Declared]:
    """List what apps declare that are to run side by side.

    Args:
        references: of the apps.
        app_dir: the folder to import them from; None: the current one.
        say: gets what an app that cannot be loaded writes beside the reason.

    Raises:
        AppError: one cannot be loaded, or two cannot run side by side.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            asking = [tasks.create_task(_declared(reference, app_dir, say)) for reference in references]
    except ExceptionGroup as group:
        raise group.exceptions[0] from None
    apps = [task.result() for task in asking]
    names = Counter(app.name for app in apps)
    for app in apps:
        if names[app.name] > 1:
            same = " and ".join(f"'{other.reference}'" for other in apps if other.name == app.name)
            raise AppError(
                f"apps {same} are both named '{app.name}': an app has queues of its own, so give one another name"
            )
    owners: dict[str, str] = {}
    for app in apps:
        for operation in app.operations:
            name = operation["name"]
            if name in owners:
                raise AppError(f"operation '{name}' is declared by app '{owners[name]}' and by app '{app.name}'")
            owners[name] = app.name
    return apps


async def _declared(reference: str, app_dir: Path | None, say: Callable[[str], None]) -> Declared:
    where = [] if app_dir is None else ["--app-dir", str(app_dir)]
    process = await asyncio.create_subprocess_exec(
        *forebay_command("operations", "--json", "--app", reference, *where),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        output, errors = await process.communicate()
    finally:
        kill_group(process.pid)
    if process.returncode == 0:
        operations = json.loads(output)
        return Declared(reference, operations[0]["app"], operations)
    *before, last = errors.decode(errors="replace").splitlines() or [f"exit code {process.returncode}"]
    for line in before:
        say(line)
    raise AppError(last.removeprefix(SENTENCE) if last.startswith(SENTENCE) else f"app '{reference}' fails: {last}")
