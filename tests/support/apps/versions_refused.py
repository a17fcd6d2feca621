"""A version of `versions_old` whose enum gains a symbol, which the version before does not know what to make of."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from enum import Enum

from forebay import Forebay

app = Forebay("versions")
add_operations = importlib.import_module("versions_seen").add_operations  # it is beside this module


class Tint(Enum):
    """Has one symbol more."""

    RED = "red"
    BLUE = "blue"
    GREEN = "green"


@dataclass
class Tinted:
    """Holds the enum."""

    tint: Tint


add_operations(app, "refused", tint=Tinted)
