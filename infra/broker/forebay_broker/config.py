"""What a node is told: ``server.properties`` and its log's layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Membership:
    """What a node knows of its cluster; every node is both broker and controller.

    The controllers' addresses are given at each start and not kept in the data, so that they may be others then.

    Attributes:
        node: the id of this node, from 1.
        controllers: the controller port of each node, this one included, by its id.
        cluster_id: written into the data when it is made; None makes one up.
    """

    node: int
    controllers: Mapping[int, int]
    cluster_id: str | None = None


def server_settings(data: str, port: int, membership: Membership) -> dict[str, object]:
    """Configure one node, on loopback only: each topic has a copy on every node, a majority has to have each record."""
    controllers = membership.controllers
    copies = len(controllers)
    majority = copies // 2 + 1
    return {
        "process.roles": "broker,controller",
        "node.id": membership.node,
        "controller.quorum.voters": ",".join(f"{node}@127.0.0.1:{at}" for node, at in controllers.items()),
        "listeners": f"BROKER://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controllers[membership.node]}",
        "advertised.listeners": f"BROKER://127.0.0.1:{port}",
        "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "BROKER",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": data,
        "auto.create.topics.enable": "false",
        "default.replication.factor": copies,
        "min.insync.replicas": majority,
        "offsets.topic.replication.factor": copies,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": majority,
        "share.coordinator.state.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": majority,
        # A few partitions of the internal topics, in place of fifty each: they are created while somebody waits.
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.num.partitions": 2,
        "share.coordinator.state.topic.num.partitions": 2,
        # A group's first member need not wait 3 s for others: nobody else may be coming.
        "group.initial.rebalance.delay.ms": 0,
        # After a crash the controller holds the dead broker's session open so long: before the new one may register,
        # and before another node becomes the leader of its partitions.
        "broker.session.timeout.ms": 3000,
        "broker.heartbeat.interval.ms": 500,
        # Others wait so long for a controller that hangs, in place of 30 s, before they turn to the one elected since.
        "controller.socket.timeout.ms": 3000,
        "num.network.threads": 2,
        "num.io.threads": 4,
        "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
    }


def server_properties(settings: Mapping[str, object]) -> str:
    """Write settings the way that Kafka reads them."""
    return "".join(f"{name}={value}\n" for name, value in settings.items())


LOG4J = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %p %c{1}: %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
"""
"""Warnings and worse, to standard output, which goes to the log file together with what Java itself says."""
