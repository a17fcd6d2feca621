"""What a job costs on the wire's edge: encoding and decoding 1 KiB by Forebay's codec, beside plain JSON."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from benchmarks import payload
from benchmarks.figures import Spread, spread
from forebay.messages import JobMessage, decode_job, encode_job

REPEATS = 15
CALLS = 2000


@dataclass(frozen=True)
class CodecFigures:
    """µs for one job, medians and spreads over the repeats.

    Attributes:
        size: bytes of the encoded job.
        encode, decode, both: by Forebay's codec.
        json: ``json.dumps`` and ``json.loads`` of the same fields together, with the payload as a string.
    """

    size: int
    encode: Spread
    decode: Spread
    both: Spread
    json: Spread


def job() -> JobMessage:
    """Return a job whose payload is the benchmark's body."""
    return {
        "request_id": "gateway-1-0192f0c1-7a3b-7c4d-8e5f-60718293a4b5",
        "operation": "echo",
        "tenant": "default",
        "tier": "interactive",
        "content_type": "application/json",
        "payload": payload.body(0),
        "payload_schema": b"\x01\x23\x45\x67\x89\xab\xcd\xef",
        "reply_topic": "forebay.replies.gateway-1",
        "reply_partition": 0,
        "created_at": 1_750_000_000_000,
        "deadline": 1_750_000_002_000,
        "ordering_key": None,
        "idempotency_key": None,
    }


def measure() -> CodecFigures:
    """Time them all; takes about a second.

    Raises:
        AssertionError: the decoded job is not the one that was encoded.
    """
    message = job()
    encoded = encode_job(message)
    assert decode_job(encoded) == message
    plain = {
        **message,
        "payload": message["payload"].decode(),
        "payload_schema": (message["payload_schema"] or b"").hex(),
    }
    encode = _time(encode_job, message)
    decode = _time(decode_job, encoded)
    text = _time(lambda value: json.loads(json.dumps(value)), plain)
    return CodecFigures(
        size=len(encoded),
        encode=spread(encode),
        decode=spread(decode),
        both=spread(one + other for one, other in zip(encode, decode, strict=True)),
        json=spread(text),
    )


def _time(call: Callable[[Any], object], argument: Any) -> list[float]:
    """Return µs of a call, one value a repeat."""
    found = []
    gc.disable()
    try:
        for _ in range(REPEATS):
            begin = perf_counter()
            for _ in range(CALLS):
                call(argument)
            found.append((perf_counter() - begin) / CALLS * 1e6)
    finally:
        gc.enable()
    return found
