"""What is wrong with the head of a request, and where it is addressed to: decided before any of its body is read."""

from __future__ import annotations

import re
from collections.abc import Mapping

from forebay_gateway import problems
from forebay_gateway.problems import HttpProblem

VERSIONS = ("1.1", "1.0")
"""Versions of HTTP that are spoken here."""

SINGLETONS = frozenset(
    {
        b"authorization",
        b"content-length",
        b"content-type",
        b"forebay-ordering-key",
        b"host",
        b"idempotency-key",
        b"proxy-authorization",
    }
)
"""Fields with one value, which must not come twice: whoever reads the other one than a proxy did is fooled."""

_HOST = re.compile(rb"[A-Za-z0-9\-._~%!$&'()*+,;=:\[\]]*")


def path_of(target: bytes) -> str | None:
    """Return the path of a request's target as it was sent, without the query; None where a target has none.

    Nothing is decoded: ``%2F`` is no ``/``.
    """
    if b"#" in target:
        return None
    path, _, _ = target.partition(b"?")
    if not path.startswith(b"/") and path != b"*":
        scheme, separator, rest = path.partition(b"://")
        if not separator or scheme.lower() not in (b"http", b"https"):
            return None
        authority, _, path = rest.partition(b"/")
        if not authority:
            return None
        path = b"/" + path
    return path.decode("latin-1")


def find_fault(
    version: str, path: str | None, fields: Mapping[bytes, bytes], repeated: bytes | None
) -> HttpProblem | None:
    """Return what is wrong with a head; None where nothing is.

    Args:
        version: of HTTP, such as ``1.1``.
        path: of the target; None where that is no path.
        fields: by name in lower case.
        repeated: a field of `SINGLETONS` that came more than once.
    """
    if version not in VERSIONS:
        return problems.unsupported_version(version)
    if path is None:
        return problems.malformed("the target is no path: an operation is called at /v1/<operation>")
    if repeated is not None:
        return problems.malformed(f"there is more than one field {repeated.decode('latin-1')}")
    host = fields.get(b"host")
    if host is None:
        if version == "1.1":
            return problems.malformed("there is no field host, which HTTP/1.1 requires")
    elif _HOST.fullmatch(host.strip()) is None:
        return problems.malformed("the field host is no host")
    coding = fields.get(b"transfer-encoding")
    if coding is not None:
        if version == "1.0":
            return problems.malformed("HTTP/1.0 has no transfer-encoding")
        if coding.strip().lower() != b"chunked":
            return problems.unsupported_transfer_coding(coding.decode("latin-1"))
    expectation = fields.get(b"expect")
    if expectation is not None and version == "1.1" and not is_list_of(expectation, b"100-continue"):
        return problems.expectation_failed(expectation.decode("latin-1"))
    return None


def is_list_of(field: bytes, *values: bytes) -> bool:
    """Whether a field has only these values, in any case: as a list it may have one more than once, and empty ones."""
    return all(value in (b"", *values) for value in field.lower().replace(b" ", b"").replace(b"\t", b"").split(b","))


def without_upgrade(
    method: bytes, target: bytes, version: str, fields: Mapping[bytes, bytes], repeated: bytes | None
) -> bytes:
    """Write a head anew without the offer to upgrade."""
    connection = [token.strip() for token in fields.get(b"connection", b"").split(b",")]
    kept = b", ".join(token for token in connection if token.lower() not in (b"upgrade", b"http2-settings"))
    lines = [b"%b %b HTTP/%b" % (method, target, version.encode())]
    lines += [b"%b: %b" % field for field in fields.items() if field[0] not in (b"connection", b"upgrade")]
    if kept:
        lines.append(b"connection: " + kept)
    if repeated is not None:
        lines.append(b"%b: %b" % (repeated, fields[repeated]))
    return b"\r\n".join([*lines, b"", b""])
