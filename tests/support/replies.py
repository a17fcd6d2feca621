"""Replies for tests."""

from __future__ import annotations

from typing import Any

from forebay.messages import ReplyMessage


def a_reply(**changes: Any) -> ReplyMessage:
    """A reply of which only what is said here matters."""
    message = ReplyMessage(
        request_id="gw-1",
        tenant="default",
        outcome="COMPLETED",
        content_type="",
        payload=b"",
        payload_schema=None,
        problem=None,
        attempt=1,
        processor="p",
        enqueued=0,
        fetched=0,
        started=0,
        finished=0,
    )
    message.update(changes)  # type: ignore[typeddict-item] # any field may be said
    return message
