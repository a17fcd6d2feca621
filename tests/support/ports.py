"""Ports for services that a test is about to start."""

from __future__ import annotations

import random
import socket

APART = 4
"""Neighbours that come with each port, for services that take several in a row."""

_BELOW_OUTGOING = range(20_000, 32_000, APART)
"""Systems give the ports above to outgoing connections: one of these could take a port before its service does."""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, and neither on the three after each."""
    ports = []
    for port in random.sample(_BELOW_OUTGOING, len(_BELOW_OUTGOING)):
        if all(_is_free(port + step) for step in range(APART)):
            ports.append(port)
            if len(ports) == count:
                return ports
    raise AssertionError("there are no free ports")


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
