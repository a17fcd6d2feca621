"""What apps declare, found out in processes of their own, because that runs the apps' code."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forebay.errors import AppError
from forebay_cli.child import LAST_LINES, SENTENCE, forebay_command
from forebay_cli.lifetime import PARENT_VARIABLE, kill_group

_CHUNK = 64 * 1024


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
    code, output, errors = await _run(forebay_command("operations", "--json", "--app", reference, *where))
    if code == 0 and output:
        operations = json.loads(output)
        return Declared(reference, operations[0]["app"], operations)
    lines = errors.splitlines()
    sentences = [line for line in lines if line.startswith(SENTENCE)]
    for line in lines:
        if line not in sentences:
            say(line)
    if sentences:
        raise AppError(sentences[-1].removeprefix(SENTENCE))
    raise AppError(f"app '{reference}' fails: it ends the process with exit code {code} while it is imported")


async def _run(command: Sequence[str]) -> tuple[int, str, str]:
    """Run a command and return its exit code and what it wrote to standard output and to standard error.

    Whatever it has started, and has not ended, ends with it.
    """
    async with AsyncExitStack() as stack:
        pipes = [await stack.enter_async_context(_collecting()) for _ in range(2)]
        (stdout, output), (stderr, errors) = pipes
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            env=os.environ | {PARENT_VARIABLE: str(os.getpid())},
        )
        try:
            code = await process.wait()
        finally:
            kill_group(process.pid)
            await process.wait()
    return code, output.decode(errors="replace"), errors.decode(errors="replace")


@asynccontextmanager
async def _collecting() -> AsyncIterator[tuple[int, bytearray]]:
    """Yield the end of a pipe for a program to write to, and what it has written; that is complete after the block."""
    ours, theirs = os.pipe()
    written = bytearray()
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(ours, "rb", buffering=0)
    )

    async def collect() -> None:
        while chunk := await reader.read(_CHUNK):
            written.extend(chunk)

    collecting = asyncio.create_task(collect())
    try:
        try:
            yield theirs, written
        finally:
            os.close(theirs)
        # Somebody else may hold the other end, such as a daemon that the program has left behind.
        await asyncio.wait([collecting], timeout=LAST_LINES)
    finally:
        collecting.cancel()
        transport.close()
