"""The next version of the app `roundtrip`: all that it had, and an operation more."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass

from forebay import Forebay

app: Forebay = importlib.import_module("roundtrip").app  # it is beside this module, where a processor looks first


@dataclass
class Novelty:
    """What only this version knows."""

    tag: str
    pid: int = 0


@app.operation(tier="interactive", deadline=20.0)
async def brand_new(request: Novelty) -> Novelty:
    """Say which process ran it."""
    return Novelty(request.tag, os.getpid())
