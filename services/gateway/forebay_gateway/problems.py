"""Every answer but the right one, as RFC 9457 ``application/problem+json``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from forebay.errors import ForebayError

RawHeaders = list[tuple[bytes, bytes]]

MEDIA_TYPE = b"application/problem+json"
_TYPE_PREFIX = "urn:forebay:problem:"


class HttpProblem(ForebayError):
    """What a caller is told in place of a result.

    Args:
        status: HTTP status code.
        kind: stable name of the kind of problem, which ends its ``type``.
        title: the kind of problem in a few words.
        detail: what happened this time.
        headers: further response headers.
        members: extension members of the problem.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        title: str,
        detail: str | None = None,
        *,
        headers: Sequence[tuple[bytes, bytes]] = (),
        **members: Any,
    ) -> None:
        super().__init__(detail or title)
        self.status = status
        self.kind = kind
        self.title = title
        self.detail = detail
        self.headers = headers
        self.members = members
        self.outcome = kind
        """What the metrics call it: the kind, unless a handler may choose that freely."""

    def body(self) -> bytes:
        """Return the problem as JSON."""
        problem: dict[str, Any] = {"type": _TYPE_PREFIX + self.kind, "title": self.title, "status": self.status}
        if self.detail is not None:
            problem["detail"] = self.detail
        return msgspec.json.encode({**problem, **self.members})


def malformed(reason: str) -> HttpProblem:
    """400: the request is not what its media type says."""
    return HttpProblem(400, "malformed", "The request is malformed", reason)


def unknown_operation(path: str) -> HttpProblem:
    """404: nothing is served under this path."""
    return HttpProblem(404, "unknown-operation", "There is no such operation", f"no operation is served at {path}")


def wrong_method(method: str, allowed: str) -> HttpProblem:
    """405: the path is right, the method is not."""
    return HttpProblem(
        405,
        "wrong-method",
        "The method is not allowed",
        f"an operation is called with {allowed}, not {method}",
        headers=[(b"allow", allowed.encode())],
    )


def too_large(max_size: int, size: int | None = None) -> HttpProblem:
    """413: the body is larger than the gateway takes.

    The connection stays open, and what still comes of the body is thrown away: a client that is busy sending would find
    a closed one reset, and never read this.
    """
    return HttpProblem(
        413,
        "too-large",
        "The request is too large",
        f"the body is {'larger' if size is None else f'{size} bytes, more'} than the {max_size} bytes allowed",
        max_size=max_size,
    )


def unsupported_media_type(found: str, accepted: str) -> HttpProblem:
    """415: the operation takes another media type."""
    return HttpProblem(
        415,
        "unsupported-media-type",
        "The media type is not supported",
        f"the operation takes {accepted}, not {found or 'a request without Content-Type'}",
        headers=[(b"accept", accepted.encode())],
    )


def invalid(field: str, reason: str) -> HttpProblem:
    """422: the request does not fit the operation's schema."""
    detail = f"{field}: {reason}" if field else reason
    return HttpProblem(422, "invalid", "The request does not fit the operation's schema", detail, field=field)


def unreadable_reply(reason: str) -> HttpProblem:
    """502: a reply came, and cannot be read."""
    return HttpProblem(502, "unreadable-reply", "The reply cannot be read", reason)


def broker_away(reason: str) -> HttpProblem:
    """503: the queue cannot be reached."""
    return HttpProblem(503, "broker-away", "The queue cannot be reached", reason, headers=[(b"retry-after", b"1")])


def stopping() -> HttpProblem:
    """503: this gateway is leaving."""
    return HttpProblem(
        503,
        "stopping",
        "The gateway is stopping",
        "the gateway stopped before the answer came; the job may still be run",
        headers=[(b"retry-after", b"1")],
    )


def deadline_passed(seconds: float, known: str | None = None) -> HttpProblem:
    """504: the deadline came before the answer.

    Args:
        seconds: how long the deadline was away.
        known: what became of the job, where a processor says so.
    """
    fate = known or "the job may still be run"
    return HttpProblem(504, "deadline-passed", "The deadline passed", f"no answer came within {seconds:g} s; {fate}")
