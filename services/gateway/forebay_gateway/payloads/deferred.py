"""Reads what is deferred: plain JSON that is checked only once it is known which type it should be of."""

from __future__ import annotations

from typing import Any

import msgspec

from forebay_gateway.payloads.explain import explain
from forebay_gateway.payloads.nodes import Node, ReadState
from forebay_gateway.payloads.parts import ReadValue


def read_value(node: Node, value: Any, state: ReadState) -> Any:
    """Make of a plain JSON value what fastavro writes.

    Raises:
        Mismatch: it does not fit.
        TooDeep: a recursive type has too many levels in it.
    """
    try:
        read = msgspec.convert(value, node.json_type)
    except msgspec.ValidationError as error:
        raise explain(node, ReadValue(value), str(error)) from None
    return read if node.to_avro is None else node.to_avro(read, state)
