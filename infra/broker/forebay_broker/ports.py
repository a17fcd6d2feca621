"""Ports of this machine, reserved from when they are chosen until Kafka listens on them."""

from __future__ import annotations

import errno
import socket
import sys
from types import TracebackType
from typing import Self

from forebay.errors import BrokerStartError

HOST = "127.0.0.1"


class ReservedPort:
    """A port that nobody listens on; 0 picks a free one.

    On Linux a bound socket that does not listen keeps the port from everybody but another that sets ``SO_REUSEADDR``,
    as Java does, so Kafka gets the very port that was found free. Elsewhere Java could not bind it either, so there it
    is only looked at.

    Raises:
        BrokerStartError: it is taken, or not for us to use.
    """

    def __init__(self, port: int = 0) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((HOST, port))
        except OSError as error:
            self._socket.close()
            reason = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
            raise BrokerStartError(f"port {port} {reason}", setting="broker_port") from error
        self.number: int = self._socket.getsockname()[1]
        if sys.platform != "linux":
            self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
