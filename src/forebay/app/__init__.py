"""An app: a set of operations with their handlers.

`declare` is what an app's module calls; `derive` makes the Avro schema of a type, so that what is declared is what is
checked; `body` turns payloads into the handler's values and back; `media` knows media types; `load` imports an app.
"""

from __future__ import annotations

from forebay.app.body import Body
from forebay.app.declare import Forebay
from forebay.app.load import load_app
from forebay.app.operation import ExecutionMode, Operation

__all__ = ["Body", "ExecutionMode", "Forebay", "Operation", "load_app"]
