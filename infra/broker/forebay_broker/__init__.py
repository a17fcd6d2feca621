"""The embedded broker: Apache Kafka itself, one node or several in KRaft mode, as child processes on this machine.

It needs no Docker and no Maven: the jars come by locked coordinates and SHA-256, Java from PATH or from a package.
"""

from __future__ import annotations

from forebay_broker.cluster import EmbeddedCluster
from forebay_broker.server import EmbeddedBroker

__all__ = ["EmbeddedBroker", "EmbeddedCluster"]
