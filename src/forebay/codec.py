"""Avro single-object encoding: a marker, the fingerprint of the writer's schema, the body.

The rules are those of the Avro specification, "Single-object encoding" and "Parsing Canonical Form for Schemas".
Reading and writing a body is fastavro's; what is added here is the header, and errors that say what was found.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from io import BytesIO
from typing import Any

import fastavro
import fastavro.read
from fastavro.schema import fingerprint, to_parsing_canonical_form
from msgspec import UNSET

from forebay.errors import TruncatedMessage, UnknownFingerprint, UnreadableBody, WrongMarker
from forebay.recursion import BoundedReader, TooDeep

MARKER = b"\xc3\x01"
HEADER_SIZE = 10
"""Bytes before the body: the marker and the fingerprint."""

ABSENT_NAME = "Forebay.Absent"
"""Full name of the type that stands in a union for a value that was not given; no app has such a namespace."""
ABSENT_SYMBOL = "__absent__"
ABSENT = {
    "type": "enum",
    "name": "Absent",
    "namespace": "Forebay",
    "symbols": [ABSENT_SYMBOL],
    "logicalType": "absent",
}
"""The type itself. It is read as `msgspec.UNSET`."""


class Schema:
    """An Avro schema, parsed once.

    Args:
        text: the schema as JSON.
        logical: whether logical types are turned into Python's (``datetime``, ``Decimal``, …). Without, an instant
            stays the integer that is on the wire, which spares the hot path a conversion each way.
        fill_defaults: whether a field that a writer did not know is read as its default. Without, it is read as
            `msgspec.UNSET`, for a reader who fills it in himself: fastavro takes a default as the schema's text has it,
            which is wrong for bytes and all logical types.

    Attributes:
        text: the schema as JSON, as it was given.
        name: full name of the record, or the type's name.
        fingerprint: CRC-64-AVRO of the parsing canonical form, 8 bytes, little-endian.
        parsed: what fastavro takes as a schema.

    Raises:
        ValueError: ``text`` is not JSON.
        fastavro.schema.SchemaParseException: it is JSON, but not an Avro schema.
    """

    __slots__ = ("_fill_defaults", "_header", "_reader", "_target", "fingerprint", "name", "parsed", "text")

    def __init__(self, text: str, *, logical: bool = True, fill_defaults: bool = True) -> None:
        source = json.loads(text)
        self.text = text
        self.fingerprint = bytes.fromhex(fingerprint(to_parsing_canonical_form(source), "CRC-64-AVRO"))
        self.parsed = fastavro.parse_schema(source if logical else _without_logical_types(source))
        self.name = self.parsed["name"] if isinstance(self.parsed, dict) and "name" in self.parsed else str(source)
        self._header = MARKER + self.fingerprint
        self._reader = BoundedReader(self.parsed)
        self._fill_defaults = fill_defaults
        self._target: Any = None

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
                value = self._reader.read(source)
            else:
                value = writer._reader.read(source, self._resolution_target())
        except Exception as error:
            # fastavro has no error type of its own: any of a dozen built-in ones means the same here
            if isinstance(error, TooDeep):
                reason = str(error)
            else:
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

    def _resolution_target(self) -> Any:
        """Return this schema as others are resolved to it; made when it is needed first."""
        if self._target is None:
            self._target = _resolution_target(self.parsed, self._fill_defaults)
        return self._target


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


_WIDENING = ("int", "long", "float", "double")
"""Each of these types can be read as any after it, which must not happen where a union has the very one."""


def _resolution_target(parsed: Any, fill_defaults: bool) -> Any:
    """Return a schema as others are to be resolved to it.

    fastavro reads a value as the first branch of a union that can hold it, so narrow types of numbers come first.
    """
    target = BoundedReader(fastavro.parse_schema(copy.deepcopy(parsed)))
    for record in target.records:
        for field in record["fields"]:
            _put_narrow_types_first(field["type"])
            if "default" in field and not fill_defaults:
                field["default"] = UNSET
    return target.parsed


def _put_narrow_types_first(schema: Any) -> None:
    if isinstance(schema, list):
        schema.sort(key=lambda branch: _WIDENING.index(branch) if branch in _WIDENING else -1)
        for branch in schema:
            _put_narrow_types_first(branch)
    elif isinstance(schema, dict) and schema["type"] in ("array", "map"):
        _put_narrow_types_first(schema["items" if schema["type"] == "array" else "values"])


def _without_logical_types(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {
            key: _without_logical_types(value)
            for key, value in schema.items()
            if key != "logicalType" or value == ABSENT["logicalType"]
        }
    if isinstance(schema, list):
        return [_without_logical_types(entry) for entry in schema]
    return schema


def _read_absent(*_: Any) -> Any:
    return UNSET


fastavro.read.LOGICAL_READERS["enum-absent"] = _read_absent
