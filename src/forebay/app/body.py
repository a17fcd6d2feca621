"""One side of an operation: payloads into the values of the handler, and back."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET

from forebay.app.values import ToAvro
from forebay.codec import ABSENT_SYMBOL, Schema

READ_BY_AVRO = (bytes, bytearray, datetime, date, time, Decimal, UUID)
"""Types that fastavro gives as they are."""


@dataclass(frozen=True, slots=True)
class Body:
    """One side of an operation, its request or its result.

    Attributes:
        media_type: of the body over HTTP.
        python_type: what the handler takes or gives: a dataclass, or ``bytes``.
        schema: of the Avro body; None for opaque bytes.
        to_avro: writes a value of the type; None for opaque bytes.
    """

    media_type: str
    python_type: type
    schema: Schema | None
    to_avro: ToAvro | None = field(default=None, compare=False, repr=False)

    def decode(self, payload: bytes, writer: Schema | None = None) -> Any:
        """Make the handler's argument of a payload.

        What the payload does not have, because a caller left it out or a writer did not know it, has the default of the
        type: a ``default_factory`` is called for each request.

        Raises:
            UnreadableBody: the bytes do not fit the writer's schema.
            msgspec.ValidationError: the type refuses a value that fits the schema.
        """
        if self.schema is None:
            return payload
        value = self.schema.decode_body(payload, writer=writer)
        is_own = writer is None or writer.fingerprint == self.schema.fingerprint
        if not is_own or ABSENT_SYMBOL in self.schema.text:
            _remove_absent(value)
        return msgspec.convert(value, self.python_type, builtin_types=READ_BY_AVRO)

    def encode(self, value: Any) -> bytes:
        """Make a payload of the handler's result.

        Raises:
            TypeError, ValueError: it is not of the declared type, or a value in it is not; the message says where.
        """
        if self.schema is None or self.to_avro is None:
            if not isinstance(value, bytes):
                raise TypeError(f"the handler returned {type(value).__name__}, not the declared bytes")
            return value
        if not isinstance(value, self.python_type):
            raise TypeError(
                f"the handler returned {type(value).__name__}, not the declared {self.python_type.__name__}"
            )
        return self.schema.encode_body(self.to_avro(value, 0))


def _remove_absent(value: Any) -> None:
    """Take out, wherever they are, the fields that have no value."""
    if isinstance(value, dict):
        for name in [name for name, entry in value.items() if entry is UNSET]:
            del value[name]
        for entry in value.values():
            _remove_absent(entry)
    elif isinstance(value, list):
        for item in value:
            _remove_absent(item)
