"""validate: read the body, within bounds, and make the job's payload of it."""

from __future__ import annotations

from dataclasses import dataclass

from forebay.errors import PayloadInvalid, PayloadMalformed
from forebay_gateway import problems
from forebay_gateway.http import Request
from forebay_gateway.http.head import is_list_of
from forebay_gateway.route import Route


@dataclass(frozen=True, slots=True)
class ValidRequest:
    """A request that fits its operation.

    Attributes:
        content_type: as the client gave it.
        payload: what goes into the job.
        payload_schema: fingerprint of the schema that wrote it; None for opaque bytes.
        body_size: bytes that the client sent.
    """

    content_type: str
    payload: bytes
    payload_schema: bytes | None
    body_size: int


async def validate(route: Route, request: Request) -> ValidRequest:
    """Check a request against its operation.

    What its head shows to be wrong is refused before any of the body is read.

    Raises:
        HttpProblem: 400, 408, 413, 415 or 422, saying what is wrong where.
    """
    fields = request.fields
    coding = fields.get(b"content-encoding")
    if coding is not None and not is_list_of(coding, b"identity"):
        raise problems.unsupported_content_coding(coding.decode("latin-1"))
    content_type = fields.get(b"content-type", b"").decode("latin-1")
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type != route.accepts and not _accepts(route.accepts, media_type):
        raise problems.unsupported_media_type(media_type, route.accepts)

    body = await request.body()
    if route.request is None:
        return ValidRequest(content_type, body, None, len(body))
    try:
        return ValidRequest(content_type, route.request.encode(body), route.request.fingerprint, len(body))
    except PayloadInvalid as error:
        raise problems.invalid(error.field, error.reason) from error
    except PayloadMalformed as error:
        raise problems.malformed(str(error)) from error


def _accepts(accepted: str, media_type: str) -> bool:
    """Whether an operation that names a range, such as ``image/*`` or ``*/*``, takes this media type."""
    kind, _, subtype = accepted.partition("/")
    return subtype == "*" and (kind == "*" or media_type.startswith(f"{kind}/"))
