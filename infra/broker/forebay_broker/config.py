"""What the broker is told: ``server.properties`` and its log's layout."""

from __future__ import annotations

from collections.abc import Mapping


def server_settings(data: str, port: int, controller_port: int) -> dict[str, object]:
    """Configure one node, broker and controller at once, on loopback only.

    The controller's address is given here and not kept in the data, so that it may be another one at each start.
    """
    return {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "listeners": f"BROKER://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"BROKER://127.0.0.1:{port}",
        "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "BROKER",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": data,
        "auto.create.topics.enable": "false",
        # One node: every copy that there can be.
        "default.replication.factor": 1,
        "min.insync.replicas": 1,
        "offsets.topic.replication.factor": 1,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        # A few partitions of the internal topics, in place of fifty each: they are created while somebody waits.
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.num.partitions": 2,
        "share.coordinator.state.topic.num.partitions": 2,
        # A group's first member need not wait 3 s for others: nobody else may be coming.
        "group.initial.rebalance.delay.ms": 0,
        # After a crash the controller holds the dead broker's session open so long before the new one may register.
        "broker.session.timeout.ms": 3000,
        "broker.heartbeat.interval.ms": 500,
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
