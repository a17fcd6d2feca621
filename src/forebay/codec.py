"""Avro single-object encoding: a marker, the fingerprint of the writer's schema, the body.

The rules are those of the Avro specification, "Single-object encoding" and "Parsing Canonical Form for Schemas".
Reading and writing a body is fastavro's; what is added here is the header, and errors that say what was found.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from io import BytesIO
from typing import Any

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from forebay.errors import TruncatedMessage, UnknownFingerprint, UnreadableBody, WrongMarker

MARKER = b"\xc3\x01"
HEADER_SIZE = 10
"""Bytes before the body: the marker and the fingerprint."""


class Schema:
    """An Avro schema, parsed once.

    Args:
        text: the schema as JSON.
        logical: whether logical types are turned into Python's (``datetime``, ``Decimal``, …). Without, an instant
            stays the integer that is on the wire, which spares the hot path a conversion each way.

    Attributes:
        text: the schema as JSON, as it was given.
        name: full name of the record, or the type's name.
        fingerprint: CRC-64-AVRO of the parsing canonical form, 8 bytes, little-endian.
        parsed: what fastavro takes as a schema.

    Raises:
        ValueError: ``text`` is not JSON.
        fastavro.schema.SchemaParseException: it is JSON, but not an Avro schema.
    """

    __slots__ = ("_header", "fingerprint", "name", "parsed", "text")

    def __init__(self, text: str, *, logical: bool = True) -> None:
        source = json.loads(text)
        self.text = text
        self.fingerprint = bytes.fromhex(fingerprint(to_parsing_canonical_form(source), "CRC-64-AVRO"))
        self.parsed = fastavro.parse_schema(source if logical else _without_logical_types(source))
        self.name = self.parsed["name"] if isinstance(self.parsed, dict) and "name" in self.parsed else str(source)
        self._header = MARKER + self.fingerprint

    def encode(self, value: Any) -> bytes:
        """Return ``value`` as a single object.

        Raises:
            ValueError, TypeError: ``value`` does not fit the schema.
        """
        out = BytesIO()
        out.write(self._header)
        fastavro.schemaless_writer(out, self.parsed, value)
        return out.getvalue()

    def encode_body(self, value: Any) -> bytes:
        """Return ``value`` as a bare body, for where the fingerprint travels beside it.

        Raises:
            ValueError, TypeError: ``value`` does not fit the schema.
        """
        out = BytesIO()
        fastavro.schemaless_writer(out, self.parsed, value)
        return out.getvalue()

    def decode_body(self, data: bytes, *, writer: Schema | None = None, offset: int = 0) -> Any:
        """Read the body that starts at ``offset``, resolving from the writer's schema where it is another one.

        Raises:
            UnreadableBody: the bytes do not fit the writer's schema, or go on after the body.
        """
        source = BytesIO(data)
        source.seek(offset)
        try:
            if writer is None or writer.fingerprint == self.fingerprint:
                value = fastavro.schemaless_reader(source, self.parsed, None)
            else:
                value = fastavro.schemaless_reader(source, writer.parsed, self.parsed)
        except (
            Exception
        ) as error:  # fastavro has no error type of its own: any of a dozen built-in ones means the same here
            reason = "it ends too early" if isinstance(error, EOFError) else f"{type(error).__name__}: {error}"
            raise UnreadableBody(
                f"body of {len(data) - offset} bytes does not fit the schema of {self.name}: {reason}"
            ) from error
        if source.tell() != len(data):
            raise UnreadableBody(
                f"body of {len(data) - offset} bytes does not fit the schema of {self.name}: "
                f"{len(data) - source.tell()} bytes are left over"
            )
        return value


class SchemaSet:
    """One schema to read with, and every schema that its messages may have been written with."""

    __slots__ = ("_writers", "reader")

    def __init__(self, reader: Schema, writers: Iterable[Schema] = ()) -> None:
        self.reader = reader
        self._writers = {schema.fingerprint: schema for schema in (*writers, reader)}

    def has_writer(self, fingerprint: bytes) -> bool:
        """Whether one of the schemas has this fingerprint."""
        return fingerprint in self._writers

    def writer(self, fingerprint: bytes) -> Schema:
        """Return the schema with this fingerprint.

        Raises:
            UnknownFingerprint: none of them has it.
        """
        schema = self._writers.get(fingerprint)
        if schema is None:
            raise UnknownFingerprint(fingerprint, self.reader.name)
        return schema

    def decode(self, data: bytes) -> Any:
        """Read a single object, whichever known schema it was written with.

        Raises:
            TruncatedMessage: there are fewer bytes than a header takes.
            WrongMarker: they are not a single object.
            UnknownFingerprint: no known schema wrote them.
            UnreadableBody: the body does not fit the schema that it names.
        """
        if len(data) < HEADER_SIZE:
            raise TruncatedMessage(len(data), HEADER_SIZE)
        if data[:2] != MARKER:
            raise WrongMarker(data[:2])
        return self.reader.decode_body(data, writer=self.writer(data[2:HEADER_SIZE]), offset=HEADER_SIZE)


def _without_logical_types(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {key: _without_logical_types(value) for key, value in schema.items() if key != "logicalType"}
    if isinstance(schema, list):
        return [_without_logical_types(entry) for entry in schema]
    return schema
