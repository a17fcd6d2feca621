"""What ``forebay up`` does: run the plan under a supervisor, pass signals on to it, and say where to look."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

from forebay.errors import AppError, ForebayError
from forebay.settings import Settings
from forebay_cli.curl import curl
from forebay_cli.lifetime import kill_group
from forebay_cli.output import PrefixedLines
from forebay_cli.plan import Wanted, make_plan, ports, reachable
from forebay_cli.supervisor import NAME, SENTENCE, Say, Supervisor, forebay_command


async def run_local(settings: Settings, wanted: Wanted) -> None:
    """Run everything until SIGINT, SIGTERM or SIGHUP; a second one hurries.

    Raises:
        ConfigurationError: a setting, the app or the ports cannot work.
        ForebayError: one of the programs cannot be kept running.
    """
    plan = make_plan(settings, wanted)
    lines = PrefixedLines([NAME, *plan.names])

    def say(name: str, line: str) -> None:
        try:
            lines.write(name, line)
        except OSError as error:
            # What is left in the buffer would fail once more when the interpreter ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            supervisor.fail(ForebayError(f"the output of 'forebay up' cannot be written: {error.strerror}"))

    supervisor = Supervisor(plan, say)

    def stop(number: int) -> None:
        hurry = supervisor.stop()
        say(NAME, f"{signal.Signals(number).name}: " + ("hurrying" if hurry else "stopping; again to hurry"))

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop, number)

    async with asyncio.TaskGroup() as tasks:
        describing = tasks.create_task(_describe(supervisor, wanted, say))

        async def say_where_to_look() -> None:
            for line in _where_to_look(settings, wanted, await describing):
                say(NAME, line)

        await supervisor.run(say_where_to_look)
        describing.cancel()
    say(NAME, "stopped")


async def _describe(supervisor: Supervisor, wanted: Wanted, say: Say) -> list[dict[str, Any]]:
    """List the app's operations; an app that cannot be loaded ends it all.

    That happens while the broker starts, and in a process of its own, because it runs the app's code.
    """
    where = [] if wanted.app_dir is None else ["--app-dir", str(wanted.app_dir)]
    process = await asyncio.create_subprocess_exec(
        *forebay_command("operations", "--json", "--app", wanted.app, *where),
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
        listed: list[dict[str, Any]] = json.loads(output)
        return listed
    *before, last = errors.decode(errors="replace").splitlines() or [f"exit code {process.returncode}"]
    for line in before:
        say(NAME, line)
    supervisor.fail(
        AppError(last.removeprefix(SENTENCE) if last.startswith(SENTENCE) else f"app '{wanted.app}' fails: {last}")
    )
    return []


def _where_to_look(settings: Settings, wanted: Wanted, operations: list[dict[str, Any]]) -> Iterator[str]:
    pairs = ports(settings, wanted.gateways)
    yield "ready; Ctrl-C stops everything"
    for port, admin_port in pairs:
        admin = f"http://{reachable(settings.admin_host)}:{admin_port}"
        yield f"  API      http://{reachable(settings.http_host)}:{port}/v1/<operation>"
        yield f"  health   {admin}/health/ready"
        yield f"  metrics  {admin}/metrics"
    # One that takes JSON can be tried as it is; opaque bytes need a file.
    tried = min(operations, key=lambda operation: operation["request"] is None)
    yield "  operations: " + ", ".join(operation["name"] for operation in operations)
    yield f"  try: {curl(f'http://{reachable(settings.http_host)}:{pairs[0][0]}', tried)}"
