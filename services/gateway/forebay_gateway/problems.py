"""Every answer but the right one, as RFC 9457 ``application/problem+json``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from forebay.errors import ForebayError
from forebay_gateway.response import Response

RawHeaders = list[tuple[bytes, bytes]]

MEDIA_TYPE = b"application/problem+json"
_TYPE_PREFIX = "urn:forebay:problem:"
_SAFE = "!$&'()*+,;=:@/"  # beside letters, digits and -._~, what the name of a URN may have
_LONGEST_ECHO = 200
"""Characters of what the client sent that it is told again."""


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
        kind = quote(self.kind, safe=_SAFE)  # it may be an app's own, and what goes into a URI must be fit for one
        problem: dict[str, Any] = {"type": _TYPE_PREFIX + kind, "title": self.title, "status": self.status}
        if self.detail is not None:
            problem["detail"] = self.detail
        return msgspec.json.encode({**problem, **self.members})

    def response(self, headers: Sequence[tuple[bytes, bytes]] = ()) -> Response:
        """Return the problem as a response, with further header fields before its own."""
        return Response(self.status, MEDIA_TYPE, self.body(), [*headers, *self.headers])


def malformed(reason: str) -> HttpProblem:
    """400: the request is not what its media type says."""
    return HttpProblem(400, "malformed", "The request is malformed", reason)


def incomplete() -> HttpProblem:
    """400: the client sends nothing more, and its request is not complete."""
    return HttpProblem(
        400, "incomplete", "The request is incomplete", "the client stopped sending before the end of it"
    )


def too_slow(part: str, seconds: float) -> HttpProblem:
    """408: the request did not come in time."""
    return HttpProblem(
        408, "too-slow", "The request came too slowly", f"the {part} of the request was not here after {seconds:g} s"
    )


def head_too_large(max_size: int) -> HttpProblem:
    """431: the target and the fields of the request are larger than the gateway takes."""
    return HttpProblem(
        431,
        "head-too-large",
        "The request's head is too large",
        f"the target and the fields of the request have more than the {max_size} bytes allowed",
        max_size=max_size,
    )


def expectation_failed(expected: str) -> HttpProblem:
    """417: the request expects something that nobody here does."""
    return HttpProblem(
        417,
        "expectation-failed",
        "The expectation cannot be met",
        f"100-continue can be expected, not {_shorten(expected)}",
    )


def unsupported_version(version: str) -> HttpProblem:
    """505: another version of HTTP."""
    return HttpProblem(
        505, "unsupported-version", "The version of HTTP is not supported", f"HTTP/1.1 is spoken here, not {version}"
    )


def unknown_method() -> HttpProblem:
    """501: a method that nothing here has."""
    return HttpProblem(
        501,
        "unknown-method",
        "The method is not known",
        "no operation has the request's method; methods are written in capitals, and an operation is called with POST",
    )


def unsupported_transfer_coding(coding: str) -> HttpProblem:
    """501: the body comes in a transfer coding that nobody here reads."""
    return HttpProblem(
        501,
        "unsupported-transfer-coding",
        "The transfer coding is not supported",
        f"a body comes with Content-Length or as chunked, not as {_shorten(coding)}",
    )


def unsupported_content_coding(coding: str) -> HttpProblem:
    """415: the body is compressed."""
    return HttpProblem(
        415,
        "unsupported-content-coding",
        "The content coding is not supported",
        f"the body has to come as it is, not as {_shorten(coding)}",
        headers=[(b"accept-encoding", b"identity")],
    )


def unknown_operation(path: str) -> HttpProblem:
    """404: nothing is served under this path."""
    return HttpProblem(
        404, "unknown-operation", "There is no such operation", f"no operation is served at {_shorten(path)}"
    )


def not_found(path: str) -> HttpProblem:
    """404: there is no page under this path."""
    return HttpProblem(404, "not-found", "There is nothing here", f"nothing is served at {_shorten(path)}")


def wrong_method(method: str, allowed: str) -> HttpProblem:
    """405: the path is right, the method is not."""
    return HttpProblem(
        405,
        "wrong-method",
        "The method is not allowed",
        f"this is called with {allowed}, not {method}",
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


def too_large_as_job(size: int, job_size: int, max_size: int | None) -> HttpProblem:
    """413: the body is as small as it must be, but what becomes of it does not fit into a message."""
    limit = "its topic takes" if max_size is None else f"the {max_size} that a message may have"
    members: dict[str, Any] = {} if max_size is None else {"max_size": max_size}
    detail = f"the body of {size} bytes becomes a job of {job_size} bytes, more than {limit}"
    return HttpProblem(413, "too-large", "The request is too large", detail, **members)


def unsupported_media_type(found: str, accepted: str) -> HttpProblem:
    """415: the operation takes another media type."""
    return HttpProblem(
        415,
        "unsupported-media-type",
        "The media type is not supported",
        f"the operation takes {accepted}, not {_shorten(found) or 'a request without Content-Type'}",
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


def stopping(consequence: str) -> HttpProblem:
    """503: this gateway is leaving; ``consequence`` says what that means for the request."""
    return HttpProblem(503, "stopping", "The gateway is stopping", consequence, headers=[(b"retry-after", b"1")])


def internal_error() -> HttpProblem:
    """500: a mistake in the gateway itself; its log has the cause."""
    return HttpProblem(
        500,
        "internal-error",
        "The gateway made a mistake",
        "the request could not be served; the gateway's log says why, by the request's id",
    )


def deadline_passed(seconds: float, known: str | None = None) -> HttpProblem:
    """504: the deadline came before the answer.

    Args:
        seconds: how long the deadline was away.
        known: what became of the job, where a processor says so.
    """
    outcome = known or "the job may still be run"
    return HttpProblem(504, "deadline-passed", "The deadline passed", f"no answer came within {seconds:g} s; {outcome}")


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST_ECHO else f"{text[:_LONGEST_ECHO]}…"
