"""validate: read the body, within bounds, and make the job's payload of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from forebay.errors import PayloadInvalid, PayloadMalformed
from forebay_gateway import problems
from forebay_gateway.route import Route

Receive = Callable[[], Awaitable[Any]]


class ClientGone(Exception):
    """The client went away before its request was complete."""


@dataclass(frozen=True, slots=True)
class ValidRequest:
    """A request that fits its operation.

    Attributes:
        content_type: as the client gave it.
        payload: what goes into the job.
        payload_schema: fingerprint of the schema that wrote it; None for opaque bytes.
    """

    content_type: str
    payload: bytes
    payload_schema: bytes | None


async def validate(route: Route, headers: dict[bytes, bytes], receive: Receive, max_size: int) -> ValidRequest:
    """Check a request against its operation.

    A body that is announced as too large, or is of the wrong media type, is refused before any of it is read.

    Raises:
        HttpProblem: 400, 413, 415 or 422, saying what is wrong where.
        ClientGone: there is nobody left to tell.
    """
    length = headers.get(b"content-length")
    if length is not None and int(length) > max_size:
        raise problems.too_large(max_size, int(length))
    content_type = headers.get(b"content-type", b"").decode("latin-1")
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type != route.accepts and not _accepts(route.accepts, media_type):
        raise problems.unsupported_media_type(media_type, route.accepts)

    body = await _read(receive, max_size)
    if route.request is None:
        return ValidRequest(content_type, body, None)
    try:
        return ValidRequest(content_type, route.request.encode(body), route.request.fingerprint)
    except PayloadInvalid as error:
        raise problems.invalid(error.field, error.reason) from error
    except PayloadMalformed as error:
        raise problems.malformed(str(error)) from error


def _accepts(accepted: str, media_type: str) -> bool:
    """Whether an operation that names a range, such as ``image/*`` or ``*/*``, takes this media type."""
    kind, _, subtype = accepted.partition("/")
    return subtype == "*" and (kind == "*" or media_type.startswith(f"{kind}/"))


async def _read(receive: Receive, max_size: int) -> bytes:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False) and len(body) <= max_size:
        return body
    chunks, size = [body], len(body)
    while message.get("more_body", False) and size <= max_size:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
    if size > max_size:
        raise problems.too_large(max_size)
    return b"".join(chunks)
