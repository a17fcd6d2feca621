"""Asking a gateway, and keeping everything that it said."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx
import msgspec

STAGES = ("validate", "produce", "queue", "run", "reply")
"""The parts of a request's time that ``Server-Timing`` gives, in the order in which they pass."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one request.

    Attributes:
        status: of HTTP.
        content_type: without its parameters.
        body: as it came.
        request_id: from ``Forebay-Request-Id``; empty where the gateway gave none.
        stages: milliseconds by stage, from ``Server-Timing``; only the stages that the request came to.
        sent_at: when the request was sent, in seconds of `time.perf_counter`.
        wall_ms: milliseconds from there to the last byte of the answer, as the client saw it.
    """

    status: int
    content_type: str
    body: bytes
    request_id: str = ""
    stages: Mapping[str, float] = field(default_factory=dict)
    sent_at: float = 0.0
    wall_ms: float = 0.0

    @property
    def received_at(self) -> float:
        """When the answer was there, in seconds of `time.perf_counter`."""
        return self.sent_at + self.wall_ms / 1000

    @property
    def running_from(self) -> float:
        """When its handler started, in seconds of `time.perf_counter`, as far as the stages before it tell."""
        return self.sent_at + sum(self.stages.get(stage, 0.0) for stage in ("validate", "produce", "queue")) / 1000

    @property
    def problem(self) -> str:
        """Why there is no result, in the gateway's words; empty where there is one, or no problem document."""
        try:
            body = json.loads(self.body)
        except ValueError:
            return ""
        if self.status < 400 or not isinstance(body, dict):
            return ""
        return str(body.get("detail") or body.get("title") or "")


def written(request: object) -> bytes:
    """Write a request as JSON: dataclasses as objects, bytes as base64, enums as their values."""
    return msgspec.json.encode(request)


async def ask(client: httpx.AsyncClient, operation: str, request: bytes) -> Answer:
    """Send one request, written as JSON, and wait for its answer, whatever that is.

    Raises:
        httpx.HTTPError: nothing came back.
    """
    sent_at = time.perf_counter()
    response = await client.post(f"/v1/{operation}", content=request, headers={"Content-Type": "application/json"})
    wall_ms = (time.perf_counter() - sent_at) * 1000
    return Answer(
        status=response.status_code,
        content_type=response.headers.get("Content-Type", "").partition(";")[0].strip(),
        body=response.content,
        request_id=response.headers.get("Forebay-Request-Id", ""),
        stages=server_timing(response.headers.get("Server-Timing", "")),
        sent_at=sent_at,
        wall_ms=wall_ms,
    )


def server_timing(header: str) -> dict[str, float]:
    """Read the durations in a ``Server-Timing`` header: milliseconds by name. A metric without one is left out."""
    durations = {}
    for metric in header.split(","):
        name, *parameters = (part.strip() for part in metric.split(";"))
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip().lower() != "dur":
                continue
            try:
                durations[name] = float(value.strip().strip('"'))
            except ValueError:
                continue
    return durations
