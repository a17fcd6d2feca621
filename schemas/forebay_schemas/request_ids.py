"""The grammar of request ids: ``<instance>-<UUIDv7>``.

An id says which gateway took the request, and so which reply topic holds its answer, and from what instant on.
"""

from __future__ import annotations

import re

INSTANCE_PATTERN = r"[A-Za-z0-9_-]{1,80}"
"""What the name of a gateway instance may be, as a regular expression for the whole of it."""

_UUID_PATTERN = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_REQUEST_ID = re.compile(f"({INSTANCE_PATTERN})-{_UUID_PATTERN}", re.ASCII)


def make(instance: str, uuid: object) -> str:
    """Return the id of a request that ``instance`` took; ``uuid`` is a version 7 UUID in its usual text form."""
    return f"{instance}-{uuid}"


def instance_of(request_id: str) -> str | None:
    """Return the instance that a request id names; None where the text is not a request id."""
    found = _REQUEST_ID.fullmatch(request_id)
    return found[1] if found else None
