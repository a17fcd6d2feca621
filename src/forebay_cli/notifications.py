"""The receiving end of systemd's notification protocol: how a program says that it is ready, and what it is doing."""

from __future__ import annotations

import asyncio
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

News = Mapping[str, str]
"""What one message says, such as ``{"READY": "1", "STATUS": "serves http://127.0.0.1:8080"}``."""


@asynccontextmanager
async def listening(on_news: Callable[[News], None]) -> AsyncIterator[str]:
    """Take messages for the length of the block, and yield the address for the program's ``NOTIFY_SOCKET``."""
    with ExitStack() as stack:
        receiver = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        if sys.platform == "linux":
            receiver.bind("")  # Linux gives it a name of its own, which is no file and so is never left behind
            address = "@" + receiver.getsockname()[1:].decode()
        else:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="forebay-"))
            address = str(Path(folder) / "notify")
            receiver.bind(address)
        receiver.setblocking(False)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: _Receiver(on_news), sock=receiver)
        try:
            yield address
        finally:
            transport.close()


class _Receiver(asyncio.DatagramProtocol):
    def __init__(self, on_news: Callable[[News], None]) -> None:
        self._on_news = on_news

    def datagram_received(self, data: bytes, _address: Any) -> None:
        pairs = (line.partition("=") for line in data.decode(errors="replace").splitlines())
        self._on_news({name: value for name, separator, value in pairs if separator})
