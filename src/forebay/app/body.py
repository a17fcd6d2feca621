"""One side of an operation: payloads into the values of the handler, and back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

import msgspec

from forebay.codec import Schema

LEFT_TO_AVRO = (bytes, bytearray, datetime, date, time, Decimal, UUID)
"""Types that fastavro reads and writes itself."""


@dataclass(frozen=True, slots=True)
class Body:
    """One side of an operation, its request or its result.

    Attributes:
        media_type: of the body over HTTP.
        python_type: what the handler takes or gives: a dataclass, or ``bytes``.
        schema: of the Avro body; None for opaque bytes.
    """

    media_type: str
    python_type: type
    schema: Schema | None

    def decode(self, payload: bytes, writer: Schema | None = None) -> Any:
        """Make the handler's argument of a payload; raises `UnreadableBody` if it does not fit."""
        if self.schema is None:
            return payload
        return msgspec.convert(
            self.schema.decode_body(payload, writer=writer), self.python_type, builtin_types=LEFT_TO_AVRO
        )

    def encode(self, value: Any) -> bytes:
        """Make a payload of the handler's result.

        Raises:
            TypeError, ValueError: it is not of the declared type.
        """
        if not isinstance(value, self.python_type):
            raise TypeError(
                f"the handler returned {type(value).__name__}, not the declared {self.python_type.__name__}"
            )
        if self.schema is None:
            return cast(bytes, value)
        return self.schema.encode_body(msgspec.to_builtins(value, builtin_types=LEFT_TO_AVRO))
