"""What ``forebay up`` does: run the plan under a supervisor, pass signals on to it, and say where to look."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from http import HTTPMethod, HTTPStatus
from http.client import HTTPConnection, HTTPException

from forebay.errors import BrokerUnavailable, ForebayError
from forebay.lifecycle import notify
from forebay.settings import Settings
from forebay_cli.child import REMIND_AFTER, REMIND_EVERY, SUPERVISOR, Say
from forebay_cli.curl import curl
from forebay_cli.declared import Declared, declared_by
from forebay_cli.output import PrefixedLines
from forebay_cli.plan import Wanted, make_plan, ports, reachable, url
from forebay_cli.supervisor import Pace, Supervisor

_CATALOG_BOUND = 10.0
"""Seconds that a gateway may take to serve what processors have announced."""

_LOOK_AGAIN = 1.0
"""Seconds between two attempts to reach a cluster that is not there yet."""


async def run_local(settings: Settings, wanted: Wanted) -> None:
    """Run everything until SIGINT, SIGTERM or SIGHUP; a second one hurries, a third one kills.

    Raises:
        ConfigurationError: a setting, an app or the ports cannot work.
        ForebayError: one of the programs cannot be kept running.
    """
    plan = make_plan(settings, wanted)
    lines = PrefixedLines([SUPERVISOR, *plan.names])

    def say(name: str, line: str) -> None:
        try:
            lines.write(name, line)
        except BrokenPipeError as error:
            # What is left in the buffer would fail once more when the interpreter ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            supervisor.fail(ForebayError(f"the output cannot be written: {error.strerror}"))
        except ForebayError as error:
            supervisor.fail(error)

    supervisor = Supervisor(plan, say)
    _pass_on_signals(supervisor, say)

    declared: list[Declared] = []

    async def before() -> None:
        declared.extend(await _load_apps(wanted, say))
        if settings.bootstrap_servers:
            await _until_the_cluster_answers(settings, say)

    async def when_ready() -> None:
        await _until_served(settings, wanted, declared, say)
        for line in _where_to_look(settings, wanted, declared):
            say(SUPERVISOR, line)
        notify(READY="1")

    await supervisor.run(before, when_ready)
    say(SUPERVISOR, "stopped")


def _pass_on_signals(supervisor: Supervisor, say: Say) -> None:
    def stop(number: int) -> None:
        pace = supervisor.stop()
        if pace is Pace.IN_ORDER:
            notify(STOPPING="1")
        say(SUPERVISOR, f"{signal.Signals(number).name}: {pace.value}")

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # nohup has SIGHUP ignored, so that its command outlives the terminal
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, stop, number)


async def _load_apps(wanted: Wanted, say: Say) -> Sequence[Declared]:
    """Find out what the apps declare, before anything is started; say so if it takes long.

    Raises:
        AppError: an app cannot be loaded, or two cannot run side by side.
    """
    loading = asyncio.ensure_future(declared_by(wanted.apps, wanted.app_dir, lambda line: say(SUPERVISOR, line)))
    began, patience = time.monotonic(), REMIND_AFTER
    try:
        while not (await asyncio.wait({loading}, timeout=patience))[0]:
            so_far = f"{time.monotonic() - began:.0f} s so far"
            say(SUPERVISOR, f"waiting for {', '.join(wanted.apps)} to be imported; {so_far}")
            patience = REMIND_EVERY
        return await loading
    finally:
        loading.cancel()


async def _until_the_cluster_answers(settings: Settings, say: Say) -> None:
    """Wait for a cluster that was given, and say now and then why it is not there.

    Raises:
        AccessRefused: it does not let us in.
    """
    from forebay.kafka import Admin

    said, silent_until = "", 0.0
    while True:
        try:
            async with Admin.connect(settings):
                return
        except BrokerUnavailable as error:
            if str(error) != said or time.monotonic() >= silent_until:
                said, silent_until = str(error), time.monotonic() + REMIND_EVERY
                say(SUPERVISOR, f"waiting for the cluster: {error}")
            await asyncio.sleep(_LOOK_AGAIN)


async def _until_served(settings: Settings, wanted: Wanted, declared: Sequence[Declared], say: Say) -> None:
    """Wait until each gateway has every operation from the catalog, which takes a moment; say so if it takes long."""
    names = [operation["name"] for app in declared for operation in app.operations]
    for index, (port, _) in enumerate(ports(settings, wanted.gateways)):
        late = await asyncio.to_thread(_first_not_served, reachable(settings.http_host), port, names)
        if late is not None:
            say(
                SUPERVISOR,
                f"gateway-{index + 1} does not serve '{late}' within {_CATALOG_BOUND:g} s; see its log above",
            )


def _first_not_served(host: str, port: int, names: Sequence[str]) -> str | None:
    """Return the first operation that a gateway does not know within the bound; None where it knows all."""
    until = time.monotonic() + _CATALOG_BOUND
    for name in names:
        while not _is_served(host, port, name):
            if time.monotonic() >= until:
                return name
            time.sleep(0.05)
    return None


def _is_served(host: str, port: int, name: str) -> bool:
    """Ask for an operation by a method that runs nothing: where it is known, that method is what is wrong."""
    connection = HTTPConnection(host, port, timeout=_LOOK_AGAIN)
    try:
        connection.request(HTTPMethod.GET, f"/v1/{name}")
        return connection.getresponse().status == HTTPStatus.METHOD_NOT_ALLOWED
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _where_to_look(settings: Settings, wanted: Wanted, declared: Sequence[Declared]) -> Iterator[str]:
    pairs = ports(settings, wanted.gateways)
    yield "ready; Ctrl-C stops everything"
    for port, admin_port in pairs:
        admin = url(settings.admin_host, admin_port)
        yield f"  API      {url(settings.http_host, port)}/v1/<operation>"
        yield f"  health   {admin}/health/ready"
        yield f"  metrics  {admin}/metrics"
    for app in declared:
        yield f"  operations of {app.name}: " + ", ".join(operation["name"] for operation in app.operations)
    for app in declared:
        # One that takes JSON can be tried as it is; opaque bytes need a file.
        tried = min(app.operations, key=lambda operation: operation["request"] is None)
        yield f"  try: {curl(url(settings.http_host, pairs[0][0]), tried)}"
