"""Gateways and processors as real processes, on a Kafka and under a namespace of their own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from forebay.settings import TIERS, Settings, load_settings
from tests.support.ports import free_ports
from tests.support.waiting import wait_until

APPS = Path(__file__).parent / "apps"
APP = "roundtrip"
"""The name of the app that a site's processors run unless told otherwise, and of its module."""

ANSWER_BOUND = 20.0
"""Seconds that a process which is up may take to answer on its admin port."""
START_BOUND = 60.0
"""Seconds that a process may take to be ready, on a machine that is busy with other things."""
STOP_BOUND = 40.0
"""Seconds that a process may take to end."""


def plain_environment() -> dict[str, str]:
    """The variables of this process without those that set up Forebay or its traces."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("FOREBAY_", "OTEL_"))}


class Service:
    """One process of the ``forebay`` command, with what it says in a file."""

    def __init__(self, name: str, arguments: list[str], environment: dict[str, str], folder: Path) -> None:
        self.name = name
        self._log = folder / f"{name}.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "forebay_cli", *arguments],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def output(self) -> str:
        return self._log.read_text("utf-8", errors="replace")

    def terminate(self) -> None:
        """Send SIGTERM and return at once."""
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL and return when it is gone."""
        self.process.kill()
        self.process.wait()

    def exit_code(self, within: float = STOP_BOUND) -> int:
        """Wait for the end."""
        return self.process.wait(within)

    def wait_for(self, pattern: str, within: float = START_BOUND) -> re.Match[str]:
        """Wait until it has said something; fails if it ends before that."""

        def said() -> re.Match[str] | None:
            has_ended = self.process.poll() is not None  # asked first: what it says at its end counts
            found = re.search(pattern, self.output)
            assert found or not has_ended, f"{self.name} ended early:\n{self.output}"
            return found

        match = wait_until(said, within, f"{self.name} says {pattern!r}")
        assert isinstance(match, re.Match)
        return match


class Gateway(Service):
    """A gateway and the addresses that it serves."""

    def __init__(self, instance: str, environment: dict[str, str], folder: Path) -> None:
        port, admin_port = free_ports(2)
        self.instance = instance
        self.port, self.admin_port = port, admin_port
        self.url, self.admin_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin_port}"
        ports = {"FOREBAY_HTTP_PORT": str(port), "FOREBAY_ADMIN_PORT": str(admin_port), "FOREBAY_INSTANCE": instance}
        super().__init__(instance, ["gateway", "--exit-with-parent"], ports | environment, folder)

    def is_ready(self) -> bool:
        """Whether ``/health/ready`` says so."""
        assert self.process.poll() is None, f"{self.name} ended:\n{self.output}"
        try:
            return httpx.get(f"{self.admin_url}/health/ready", timeout=ANSWER_BOUND).status_code == 200
        except httpx.TransportError:
            return False

    def wait_until_ready(self) -> None:
        wait_until(self.is_ready, START_BOUND, f"{self.name} is ready")

    def serves(self, operation: str) -> bool:
        """Whether it knows an operation; asked in a way that runs nothing."""
        try:
            return httpx.get(f"{self.url}/v1/{operation}", timeout=5).status_code == 405
        except httpx.TimeoutException:  # whoever waits for it asks again
            return False

    def metric(self, name: str, **labels: str) -> float:
        """A number of ``/metrics``; 0 where it is not there yet."""
        text = httpx.get(f"{self.admin_url}/metrics", timeout=ANSWER_BOUND).text
        wanted = {f'{label}="{value}"' for label, value in labels.items()}
        for line in text.splitlines():
            found = re.fullmatch(rf"{name}(?:\{{(.*)\}})? (\S+)", line)
            if found and set(filter(None, (found[1] or "").split(","))) == wanted:
                return float(found[2])
        return 0.0


class Processor(Service):
    """A processor of one of the apps beside this module."""

    def __init__(self, name: str, app: str, flags: Sequence[str], environment: dict[str, str], folder: Path) -> None:
        arguments = ["processor", app, "--app-dir", str(APPS), "--exit-with-parent", *flags]
        super().__init__(name, arguments, environment, folder)

    def wait_until_reading(self) -> None:
        """Wait until it has partitions of every tier."""
        for tier in TIERS:
            self.wait_for(rf"{tier}: reads \d+ partitions")


@dataclass(frozen=True)
class Run:
    """What a handler noted down about one run of itself."""

    event: str
    operation: str
    tag: str
    job: str
    attempt: int
    pid: int


class Site:
    """One Forebay: its processes share a Kafka, a namespace and the file in which handlers note their runs.

    Args:
        bootstrap_servers: of the Kafka.
        namespace: prefix of every topic and group.
        folder: for logs and notes.
        variables: further environment of every process.
    """

    def __init__(self, bootstrap_servers: str, namespace: str, folder: Path, **variables: str) -> None:
        self.namespace = namespace
        self.settings: Settings = load_settings(bootstrap_servers=bootstrap_servers, namespace=namespace)
        self._folder = folder
        self._notes = folder / "runs.txt"
        self._services: list[Service] = []
        self._environment = plain_environment() | {
            "FOREBAY_BOOTSTRAP_SERVERS": bootstrap_servers,
            "FOREBAY_NAMESPACE": namespace,
            "ROUNDTRIP_RUNS": str(self._notes),
            **variables,
        }

    def start_gateway(self, **variables: str) -> Gateway:
        """Start a gateway and return at once."""
        gateway = Gateway(f"gateway-{len(self._services)}", self._environment | variables, self._folder)
        self._services.append(gateway)
        return gateway

    def start_processor(self, app: str = APP, *flags: str, **variables: str) -> Processor:
        """Start a processor and return at once."""
        name = f"processor-{len(self._services)}"
        processor = Processor(name, app, flags, self._environment | variables, self._folder)
        self._services.append(processor)
        return processor

    def gateway(self, **variables: str) -> Gateway:
        """Start a gateway; returns when it is ready."""
        gateway = self.start_gateway(**variables)
        gateway.wait_until_ready()
        return gateway

    def processor(self, app: str = APP, *flags: str, **variables: str) -> Processor:
        """Start a processor; returns when it has partitions of every tier."""
        processor = self.start_processor(app, *flags, **variables)
        processor.wait_until_reading()
        return processor

    def pair(self, **variables: str) -> tuple[Gateway, Processor]:
        """Start a gateway and a processor; returns when the one serves what the other runs."""
        gateway, processor = self.start_gateway(**variables), self.start_processor(**variables)
        gateway.wait_until_ready()
        processor.wait_until_reading()
        wait_until(lambda: gateway.serves("echo"), START_BOUND, "the gateway serves the app")
        return gateway, processor

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of ``forebay`` on the site to its end."""
        command = [sys.executable, "-m", "forebay_cli", *arguments]
        return subprocess.run(
            command,
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=START_BOUND,
            check=False,
        )

    def runs(self, operation: str | None = None, event: str = "begin") -> list[Run]:
        """What the handlers have noted down so far."""
        if not self._notes.exists():
            return []
        runs = []
        for line in self._notes.read_text().splitlines():
            what, name, tag, job, attempt, pid = line.split("\t")
            if what == event and operation in (None, name):
                runs.append(Run(what, name, tag, job, int(attempt), int(pid)))
        return runs

    def let_end(self, tag: str) -> None:
        """Let the long job of a tag, or one in a thread or process, end before its time."""
        self._notes.with_name(f"{self._notes.name}.{tag}").touch()

    def times_run(self, operation: str) -> Counter[str]:
        """How often an operation was begun, by the tag of the request."""
        return Counter(run.tag for run in self.runs(operation))

    def logs(self) -> Iterator[tuple[str, str]]:
        """What each process has said."""
        for service in self._services:
            yield service.name, service.output

    def close(self) -> None:
        """End every process that still runs, at once: how they end in order is for tests to show."""
        for service in self._services:
            service.kill()
