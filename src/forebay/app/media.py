"""Media types of the bodies over HTTP."""

from __future__ import annotations

import re

JSON = "application/json"
OCTETS = "application/octet-stream"

_WORD = r"[a-z0-9!#$&^_.+-]+"
MEDIA_RANGE = re.compile(rf"{_WORD}/(?:{_WORD}|\*)|\*/\*")
MEDIA_TYPE = re.compile(rf"{_WORD}/{_WORD}(?: *;[ -~]+)?", re.IGNORECASE)
