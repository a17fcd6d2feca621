"""The one request that every contender gets: about 1 KiB of JSON with a few fields of each kind."""

from __future__ import annotations

import json

FIRST_CLIENT = 100_000
"""Numbers of the clients start here, so that all have the same number of digits and all bodies the same size."""

_TEXT = (
    "The forebay is the pool above a turbine: it takes the surge so that the machine downstream runs steadily. "
    "Water arrives as it likes, in floods and in trickles, and leaves through the gate at the rate of the wheel. "
)


def document(client: int) -> dict[str, object]:
    """Return what client number ``client`` asks for; the number makes an answer that went to the wrong client show."""
    return {
        "client": FIRST_CLIENT + client,
        "title": "A photograph of the forebay, seen from the dam",
        "width": 1920,
        "ratio": 0.5625,
        "urgent": False,
        "tags": ["water", "turbine", "spring", "north side", "survey"],
        "text": (_TEXT * 4)[:810],
    }


def body(client: int) -> bytes:
    """Return `document` as the client sends it."""
    return json.dumps(document(client), separators=(",", ":")).encode()
