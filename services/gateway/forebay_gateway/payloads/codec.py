"""The JSON of a request into the Avro of a job, and the Avro of a reply into the JSON of a response.

========================  ============================================================================================
Avro                      JSON
========================  ============================================================================================
int, long                 a number without fraction or exponent, in range
float, double             any number in range; a whole one without exponent only if it is held exactly
bytes, fixed              base64 with padding; duration too
enum                      one of the symbols
record                    an object; a field with a default may be left out, an unknown field is refused
union                     the value itself, without the name of its branch: see `unions.UnionNode`
timestamp-…               RFC 3339 with a zone; in a reply it is UTC. More digits than the schema has must be 0
local-timestamp-…         the same without a zone
date, time-…              ``2026-01-31``, ``08:30:00.5``
uuid                      the usual text, of a string and of a fixed of 16
decimal                   a number, or a string that is one, taken exactly; in a reply a string
========================  ============================================================================================

Where an object has the same key twice, the last one counts, as nearly everywhere. A logical type that is not listed,
such as ``timestamp-nanos``, is the type beneath. NaN and the infinities, which no Forebay processor sends, are null.
"""

from __future__ import annotations

import json
import re
from codecs import BOM_UTF8
from typing import Any

import msgspec

from forebay.codec import Schema
from forebay.errors import InvalidSchema, PayloadInvalid, PayloadMalformed, UnreadableBody
from forebay.recursion import TooDeep
from forebay_gateway.payloads.compile import compile_schema
from forebay_gateway.payloads.explain import Mismatch, explain
from forebay_gateway.payloads.nodes import Node, ReadState, exact_number
from forebay_gateway.payloads.parts import JsonText

_HALF_A_PAIR = re.compile(rb"(?<!\\)(?:\\\\)*(\\u[dD][89abAB][0-9a-fA-F]{2})(?!\\u[dD][c-fC-F])")
_PAIR_SIZE = len(r"\ud83e\uddea")
_POSITION = re.compile(r" \(byte (\d+)\)\Z")


class PayloadCodec:
    """One schema of an operation, between JSON and Avro. Built when the catalog changes, used for every request.

    Args:
        schema: the Avro schema, as JSON or parsed from it.

    Attributes:
        fingerprint: CRC-64-AVRO of the schema, 8 bytes, little-endian, as in single-object encoding.

    Raises:
        InvalidSchema: it is not an Avro schema.
    """

    __slots__ = ("_decoder", "_node", "_schema", "fingerprint")

    def __init__(self, schema: str | dict[str, Any]) -> None:
        text = schema if isinstance(schema, str) else json.dumps(schema)
        try:
            self._schema = Schema(text)
            self._node: Node = compile_schema(self._schema.parsed)
        except Exception as error:  # fastavro raises many types of error for what is not a schema
            raise InvalidSchema(f"this is not an Avro schema: {type(error).__name__}: {error}") from error
        self._decoder = msgspec.json.Decoder(self._node.json_type, float_hook=exact_number)
        self.fingerprint = self._schema.fingerprint

    def encode(self, body: bytes) -> bytes:
        """Turn JSON into a bare Avro body; its fingerprint travels beside it.

        Raises:
            PayloadMalformed: ``body`` is not JSON.
            PayloadInvalid: it does not fit the schema.
        """
        return self._schema.encode_body(self._read(body))

    def decode(self, payload: bytes) -> bytes:
        """Turn a bare Avro body that was written with exactly this schema into JSON.

        Raises:
            UnreadableBody: it does not fit the schema.
        """
        return self._write(self._schema.decode_body(payload))

    def _read(self, body: bytes) -> Any:
        try:
            value = self._decoder.decode(body)
            return value if self._node.to_avro is None else self._node.to_avro(value, ReadState())
        except msgspec.ValidationError as error:
            _check_whole(body)
            mismatch = explain(self._node, JsonText(body, exact_number), str(error))
            raise PayloadInvalid(mismatch.field, mismatch.reason) from None
        except Mismatch as mismatch:
            raise PayloadInvalid(mismatch.field, mismatch.reason) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _malformed(body, error) from None
        except (TooDeep, RecursionError):
            raise PayloadInvalid("", str(TooDeep())) from None

    def _write(self, value: Any) -> bytes:
        try:
            return msgspec.json.encode(value)
        except (RecursionError, TypeError, ValueError) as error:
            raise UnreadableBody(f"value of {self._schema.name} cannot be JSON: {error}") from error


def _check_whole(body: bytes) -> None:
    """Look whether it is JSON to the end, which was not read where something before did not fit.

    Raises:
        PayloadMalformed: it is not.
    """
    try:
        _UNTYPED.decode(body)
    except (msgspec.ValidationError, RecursionError):
        return  # a number or a depth beyond any bounds, for which there is no value
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _malformed(body, error) from None


_UNTYPED = msgspec.json.Decoder(float_hook=bool)  # of which nothing is kept


def _malformed(body: bytes, error: Exception) -> PayloadMalformed:
    if not body.strip():
        return PayloadMalformed("it is empty", 0)
    try:
        body.decode()
    except UnicodeDecodeError as fault:
        return PayloadMalformed("it is not UTF-8", fault.start)
    if body.startswith(BOM_UTF8):
        return PayloadMalformed("it begins with a byte order mark, which JSON does not have", 0)
    text = str(error).removeprefix("JSON is malformed: ")
    if position := _POSITION.search(text):
        # what trails is reported one byte late
        return PayloadMalformed(text[: position.start()], int(position[1]) - text.startswith("trailing characters"))
    # a pair that lacks its second half is looked for up to behind the end of the body
    half = _HALF_A_PAIR.search(body, max(0, len(body) - _PAIR_SIZE))
    if half is not None:
        return PayloadMalformed("a surrogate pair has no second half", half.start(1))
    return PayloadMalformed("it ends too early" if "truncated" in text else text, len(body))
