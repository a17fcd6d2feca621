"""The embedded broker: Apache Kafka itself, one node in KRaft mode, as a child process on this machine.

It needs no Docker and no Maven: the jars come by locked coordinates and SHA-256, Java from PATH or from a package.
"""

from __future__ import annotations

from forebay_broker.server import EmbeddedBroker

__all__ = ["EmbeddedBroker"]
