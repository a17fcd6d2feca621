"""Several nodes of Kafka on this machine, as one cluster: to see what a failing or restarted node does to clients."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from forebay.errors import BrokerError, BrokerStartError
from forebay_broker.config import Membership
from forebay_broker.jars import default_cache_dir
from forebay_broker.ports import ReservedPort
from forebay_broker.server import STOP_TIMEOUT, EmbeddedBroker, await_start, prepare
from forebay_broker.startable import Startable
from forebay_broker.storage import cluster_id_in, new_cluster_id, refuse_other_cluster

_LOOK_EVERY = 0.1
"""Seconds between two looks at whether the nodes run."""


class EmbeddedCluster(Startable):
    """A cluster of Kafka nodes on loopback, each of them broker and controller; a context manager, as `EmbeddedBroker`.

    Topics have a copy on each node unless they say otherwise, and a record is acknowledged once a majority has it. So
    of three nodes one can be stopped, killed or paused, and started again.

    Args:
        nodes: how many, an odd number from 3.
        port: where the first node listens, the others at the ports after it; 0 picks free ports, once for all starts.
        data_dir: each node has a directory in it, ``node-1`` and so on, with what `EmbeddedBroker` keeps in its own.
        heap: the most memory that Java gives to the objects of each node.
        cache_dir: where jars are kept between runs; default: ``~/.cache/forebay``.
        settings: Kafka's own settings, in place of those that each node would get.

    Attributes:
        nodes: once it was started, the nodes in the order of their ids, which count from 1.
    """

    def __init__(
        self,
        nodes: int = 3,
        port: int = 9092,
        data_dir: Path = Path(".forebay/broker"),
        *,
        heap: str = "512m",
        cache_dir: Path | None = None,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        self.nodes: list[EmbeddedBroker] = []
        self.started_in: float | None = None
        """Seconds from `start` to the first acknowledged produce, downloads and recordings apart."""
        self._ids = range(1, nodes + 1)
        self._ports = {node: port and port + node - 1 for node in self._ids}
        self._data_dir = data_dir.absolute()
        self._heap = heap
        self._cache_dir = cache_dir or default_cache_dir()
        self._settings = settings
        # Ports stay ours while a node is away: something else could take them before it is back.
        self._reserved = ExitStack()

    @property
    def bootstrap_servers(self) -> str:
        """``host:port,…``, as clients take it."""
        return ",".join(node.bootstrap_servers for node in self.nodes)

    def start(self) -> None:
        """Start all nodes; returns once each is there and they have acknowledged a produce.

        Raises:
            BrokerStartError: they did not start; the message is one sentence that says why and what to do.
        """
        if any(node.running for node in self.nodes):
            raise BrokerStartError("the cluster was started already")
        refuse_other_cluster(self._data_dir, len(self._ids))
        installation = prepare(self._cache_dir, self._heap)
        began = time.monotonic()
        try:
            self.nodes = self._members()
            for node in self.nodes:
                node.launch(installation, installation.archive.use())
            await_start(self.nodes, replication=-1)
        except BaseException:
            self.kill()
            raise
        self.started_in = time.monotonic() - began

    def _members(self) -> list[EmbeddedBroker]:
        """Reserve the ports and give each node what it has to know of the others."""
        folders = {node: self._data_dir / f"node-{node}" for node in self._ids}
        known = {cluster_id_in(folder / "data") for folder in folders.values()} - {None}
        cluster_id = known.pop() if known else new_cluster_id()
        self._ports = {node: self._reserve(port) for node, port in self._ports.items()}
        controllers = {node: self._reserve() for node in self._ids}
        return [
            EmbeddedBroker(
                self._ports[node],
                folder,
                heap=self._heap,
                cache_dir=self._cache_dir,
                settings=self._settings,
                membership=Membership(node, controllers, cluster_id),
            )
            for node, folder in folders.items()
        ]

    def _reserve(self, port: int = 0) -> int:
        return self._reserved.enter_context(ReservedPort(port)).number

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """Shut all nodes down in order; those that take longer than ``timeout`` seconds are killed."""
        self._end(lambda node: node.stop(timeout))

    def kill(self) -> None:
        """End all nodes with SIGKILL; what they acknowledged is kept."""
        self._end(EmbeddedBroker.kill)

    def _end(self, end: Callable[[EmbeddedBroker], None]) -> None:
        # At the same time: Kafka hands over what a node leads before it stops, which the last ones cannot.
        with ThreadPoolExecutor(len(self._ids)) as pool:
            list(pool.map(end, self.nodes))
        self._reserved.close()

    def wait(self, tell: Callable[[str], None]) -> None:
        """Start every node again that ends by itself, for as long as a majority runs.

        Args:
            tell: is given a sentence whenever something happens to a node.

        Raises:
            BrokerError: less than a majority is left.
        """
        away: set[int] = set()
        while len(self.nodes) - len(away) > len(self.nodes) // 2:
            for node_id, node in enumerate(self.nodes, 1):
                if node_id in away or node.running:
                    continue
                name = f"node {node_id} at {node.bootstrap_servers}"
                tell(f"{name} ended by itself and is started again: {node.why_it_ended()}")
                node.kill()
                try:
                    node.start()
                except BrokerStartError as error:
                    tell(f"{name} is left out from now on: {error}")
                    away.add(node_id)
                else:
                    tell(f"{name} is back after {node.started_in:.1f} s")
            time.sleep(_LOOK_EVERY)
        raise BrokerError(f"of {len(self.nodes)} nodes {len(away)} ended and did not start again: no majority is left")
