"""Names of the Kafka headers. The value of a message is what was asked; its headers are what has happened to it since.

Every value is UTF-8 text. A header is replaced, never appended.
"""

from __future__ import annotations

from collections.abc import Sequence

Headers = Sequence[tuple[str, bytes | None]]
"""Header names and values in their order; a value may be null."""

TRACEPARENT = "traceparent"
"""W3C Trace Context of the span that sent the message."""
TRACESTATE = "tracestate"
"""W3C Trace Context, the vendors' part; absent where empty."""
ATTEMPT = "fb-attempt"
"""Which run of the job comes next, from 1; absent on the first."""
NOT_BEFORE = "fb-not-before"
"""Milliseconds since the epoch: no run before this instant."""
ERROR_TYPE = "fb-error-type"
"""Name of the kind of error."""
ERROR_DETAIL = "fb-error-detail"
"""What happened, in a sentence."""
ORIGIN = "fb-origin"
"""``topic/partition/offset`` where the message stood first."""
HANDED_ON = "fb-handed-on"
"""How often the job was passed on by a processor that does not know its operation; absent where it never was."""
REPLAY_ID = "fb-replay-id"
"""Names the replay that produced the message; absent on a first life."""
