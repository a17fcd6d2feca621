"""The Kafka that tests run on: in Docker where a daemon answers, embedded otherwise, both behind one interface."""

from __future__ import annotations

import asyncio
import functools
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from forebay.kafka import probe
from forebay.settings import load_settings
from forebay_broker import EmbeddedBroker, EmbeddedCluster
from forebay_broker.config import Membership, server_settings
from forebay_broker.ports import ReservedPort

IMAGE = "apache/kafka:4.3.1"


class Kafka(Protocol):
    """A Kafka that tests share: they make topics under their own `namespace` and leave the rest alone."""

    @property
    def bootstrap_servers(self) -> str: ...


class Broker(Kafka, Protocol):
    """A Kafka that a test has to itself."""

    def start(self) -> None:
        """Start it, also again after `stop` or `kill`: same address, same data; returns when it answers."""

    def stop(self) -> None:
        """Shut it down in order."""

    def kill(self) -> None:
        """End it as a crash would."""

    def pause(self) -> None:
        """Freeze it: connections stay open, nobody is answered."""

    def resume(self) -> None:
        """Let it go on."""


class DockerBroker:
    """Apache Kafka's own image, with the embedded broker's settings and a host port that restarts do not change."""

    def __init__(self, further: Mapping[str, object]) -> None:
        from testcontainers.core.container import DockerContainer

        with ReservedPort() as port, ReservedPort() as controller_port:
            membership = Membership(1, {1: controller_port.number})
            settings = server_settings("/var/lib/kafka/data", port.number, membership) | dict(further)
        # Docker forwards to the container's own address, which is not its loopback.
        settings["listeners"] = f"BROKER://0.0.0.0:{port.number},CONTROLLER://127.0.0.1:{controller_port.number}"
        self.bootstrap_servers = f"127.0.0.1:{port.number}"
        self._image = DockerContainer(IMAGE).with_bind_ports(port.number, port.number)
        for name, value in settings.items():
            self._image.with_env(f"KAFKA_{name.upper().replace('.', '_')}", str(value))
        self._begun = False

    def start(self) -> None:
        if self._begun:
            self._container.start()
        else:
            self._image.start()
            self._begun = True
        wait_until_it_answers(self.bootstrap_servers)

    def stop(self) -> None:
        self._container.stop(timeout=20)

    def kill(self) -> None:
        self._container.kill()

    def pause(self) -> None:
        self._container.pause()

    def resume(self) -> None:
        self._container.unpause()

    def remove(self) -> None:
        if self._begun:
            self._image.stop()

    @property
    def _container(self) -> Any:  # docker-py has no types
        return self._image.get_wrapped_container()


@dataclass(frozen=True)
class GivenKafka:
    """A cluster that ran before the tests and goes on after them."""

    bootstrap_servers: str


@functools.cache
def docker_answers() -> bool:
    """Whether a Docker daemon answers here."""
    docker = shutil.which("docker")
    return docker is not None and subprocess.run([docker, "version"], capture_output=True, check=False).returncode == 0


def wait_until_it_answers(bootstrap_servers: str) -> None:
    settings = load_settings(bootstrap_servers=bootstrap_servers, replication_factor=1)
    # In a thread of its own: a test's event loop may be running in this one.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, probe(settings, timeout=60)).result()


@contextmanager
def a_broker(data_dir: Path, **settings: object) -> Iterator[Broker]:
    """A broker that is not started yet; removed afterwards, whatever state it is in.

    Args:
        data_dir: for its data, where it does not run in Docker.
        settings: Kafka's own, with ``_`` for each ``.``, in place of those that it would get.
    """
    further = {name.replace("_", "."): value for name, value in settings.items()}
    if docker_answers():
        docker = DockerBroker(further)
        try:
            yield docker
        finally:
            docker.remove()
    else:
        embedded = EmbeddedBroker(port=0, data_dir=data_dir, settings=further)
        try:
            yield embedded
        finally:
            embedded.kill()


@contextmanager
def a_cluster(data_dir: Path) -> Iterator[EmbeddedCluster]:
    """A cluster of three that is started already; embedded also where there is Docker, since each node has its port."""
    cluster = EmbeddedCluster(3, 0, data_dir)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.kill()
