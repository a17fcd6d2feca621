"""The response to a request, and how it is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


@dataclass(frozen=True, slots=True)
class Response:
    """What goes back to the client.

    Attributes:
        status: HTTP status code.
        content_type: of the body.
        body: all of it.
        headers: further fields, as name and value.
    """

    status: int
    content_type: bytes
    body: bytes
    headers: Sequence[tuple[bytes, bytes]] = ()

    def serialise(self, date: bytes, connection: bytes, *, with_body: bool) -> bytes:
        """Return the bytes of the response.

        Args:
            date: the line of the field ``Date``.
            connection: the line of the field ``Connection``, or nothing.
            with_body: false for the response to HEAD.

        Raises:
            ValueError: a field would break out of its line.
        """
        parts = [
            _STATUS_LINES.get(self.status) or b"HTTP/1.1 %d \r\n" % self.status,
            date,
            b"content-type: ",
            self.content_type,
            b"\r\ncontent-length: %d\r\n" % len(self.body),
        ]
        for name, value in self.headers:
            parts += (name, b": ", value, b"\r\n")
        parts += (connection, b"\r\n")
        head = b"".join(parts)
        lines = 5 + len(self.headers) + bool(connection)
        if head.count(b"\n") != lines or head.count(b"\r") != lines:
            raise ValueError("a field of the response has a line break")
        return head + self.body if with_body else head
