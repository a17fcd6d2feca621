"""Ports for services that a test is about to start."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager

APART = 4
"""Neighbours that come with each port, for services that take several in a row."""

_BELOW_OUTGOING = range(20_000, 32_000, APART)
"""Systems give the ports above to outgoing connections: one of these could take a port before its service does."""


_given: set[int] = set()
"""Ports that were given out before: whoever asked for one may not listen on it yet."""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, and neither on the three after each; never the same ones twice."""
    ports = []
    for port in random.sample(_BELOW_OUTGOING, len(_BELOW_OUTGOING)):
        if port not in _given and all(_is_free(port + step) for step in range(APART)):
            _given.add(port)
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


@contextmanager
def taken_port() -> Iterator[int]:
    """A port on which nobody listens, and that nobody else gets, for the length of the block."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]
