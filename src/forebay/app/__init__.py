"""An app: a set of operations with their handlers.

`declare` is what an app's module calls, and `signature` looks at its handlers. `derive` makes the Avro schema of a
type, so that what is declared is what is checked, and `values` and `structures` write values of it; `refusals` says
what to declare in place of a type that has no Avro. `body` turns payloads into the handler's values and back, `media`
knows media types, and `load` imports an app.
"""

from __future__ import annotations

from forebay.app.body import Body
from forebay.app.declare import Forebay
from forebay.app.load import load_app
from forebay.app.operation import ExecutionMode, Operation
from forebay.app.values import DecimalMeta

__all__ = ["Body", "DecimalMeta", "ExecutionMode", "Forebay", "Operation", "load_app"]
