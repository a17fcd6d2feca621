"""The types without parts: what Avro has for each, and how its values are written."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any, Literal
from uuid import UUID

from forebay.app import values
from forebay.app.refusals import Underivable
from forebay.app.values import DecimalMeta, ToAvro

JsonKind = Literal["null", "boolean", "integer", "number", "string", "array", "object"]


@dataclass(frozen=True, slots=True)
class Derived:
    """A type, as Avro has it.

    Attributes:
        schema: in the form of JSON.
        to_avro: writes a value of it.
        kinds: the kinds of JSON values that stand for it; in a union they tell the branches apart.
        shown: what it is called in an error.
        branches: of a union, in the order of the schema.
        is_empty: whether its values take no bytes at all.
    """

    schema: Any
    to_avro: ToAvro
    kinds: frozenset[JsonKind]
    shown: str
    branches: tuple[Derived, ...] = ()
    is_empty: bool = False

    @property
    def branch(self) -> str:
        """The name by which fastavro picks it out of a union."""
        schema = self.schema
        if isinstance(schema, str):
            return schema
        return f"{schema['namespace']}.{schema['name']}" if "name" in schema else str(schema["type"])


SCALARS: dict[Any, tuple[Any, ToAvro, JsonKind]] = {
    type(None): ("null", values.none, "null"),
    bool: ("boolean", values.boolean, "boolean"),
    int: ("long", values.integer, "integer"),
    float: ("double", values.number, "number"),
    str: ("string", values.text, "string"),
    bytes: ("bytes", values.octets, "string"),
    datetime: ({"type": "long", "logicalType": "timestamp-micros"}, values.instant, "string"),
    date: ({"type": "int", "logicalType": "date"}, values.day, "string"),
    time: ({"type": "long", "logicalType": "time-micros"}, values.time_of_day, "string"),
    UUID: ({"type": "string", "logicalType": "uuid"}, values.uuid, "string"),
}
"""Schema, writer and kind of JSON of each."""


def decimal_type(annotations: tuple[Any, ...], where: str) -> Derived:
    """Derive a Decimal from what it is annotated with; raises `Underivable` where its digits are not declared."""
    found = [one for one in annotations if hasattr(one, "precision") and hasattr(one, "scale")]
    if len(found) != 1:
        raise Underivable(
            f"{where}: a Decimal says how many digits it has: Annotated[Decimal, DecimalMeta(precision=9, scale=2)], "
            f"with 'from forebay import DecimalMeta' and 'from typing import Annotated'"
        )
    try:
        digits = DecimalMeta(found[0].precision, found[0].scale or 0)
    except ValueError as error:
        raise Underivable(f"{where}: {error}") from None
    schema = {"type": "bytes", "logicalType": "decimal", "precision": digits.precision, "scale": digits.scale}
    return Derived(schema, values.decimal(digits), frozenset({"integer", "number", "string"}), "Decimal")
