"""Arrays, maps and records."""

from __future__ import annotations

import keyword
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET

from forebay.recursion import MAX_DEPTH, TooDeep
from forebay_gateway.payloads.deferred import read_value
from forebay_gateway.payloads.explain import MapKey, Mismatch, describe_value
from forebay_gateway.payloads.nodes import Node, ReadState, Step, ToAvro


class Array(Node):
    """An array of one type of items."""

    branch = "array"
    noun = rule = "an array"
    kinds = frozenset({"array"})
    python_type = list

    def __init__(self, items: Node) -> None:
        self._items = items
        self.json_type = list[items.json_type]  # type: ignore[name-defined]
        self.to_avro = None if items.to_avro is None else _each_item(items.to_avro, items.only_for)

    def child(self, step: Step, name: str = "") -> Node | None:  # noqa: ARG002
        """Return the type of the items."""
        return self._items if step == "item" else None

    def from_default(self, value: Any) -> Any:
        """Turn a schema's default into what fastavro writes."""
        if not isinstance(value, list):
            raise ValueError(f"the default {describe_value(value)} is not {self.noun}")
        return [self._items.from_default(item) for item in value]


def _each_item(to_avro: ToAvro, only_for: type | None) -> ToAvro:
    def convert_items(items: list[Any], state: ReadState) -> list[Any]:
        if only_for is not None and only_for not in set(map(type, items)):
            return items
        converted: list[Any] = []
        try:
            for item in items:
                converted.append(to_avro(item, state))
        except Mismatch as mismatch:
            mismatch.steps.append(len(converted))
            raise
        return converted

    return convert_items


class Map(Node):
    """A map from strings to one type of values."""

    branch = "map"
    noun = rule = "an object"
    kinds = frozenset({"object"})
    python_type = dict

    def __init__(self, values: Node) -> None:
        self._values = values
        self.json_type = dict[str, values.json_type]  # type: ignore[name-defined]
        self.to_avro = None if values.to_avro is None else _each_value(values.to_avro)

    def child(self, step: Step, name: str = "") -> Node | None:  # noqa: ARG002
        """Return the type of the values."""
        return self._values if step == "value" else None

    def from_default(self, value: Any) -> Any:
        """Turn a schema's default into what fastavro writes."""
        if not isinstance(value, dict):
            raise ValueError(f"the default {describe_value(value)} is not {self.noun}")
        return {key: self._values.from_default(entry) for key, entry in value.items()}


def _each_value(to_avro: ToAvro) -> ToAvro:
    def convert_values(values: dict[str, Any], state: ReadState) -> dict[str, Any]:
        converted: dict[str, Any] = {}
        key = ""
        try:
            for key, value in values.items():
                converted[key] = to_avro(value, state)
        except Mismatch as mismatch:
            mismatch.steps.append(MapKey(key))
            raise
        return converted

    return convert_values


class Record(Node):
    """A record: a Struct to msgspec, which refuses unknown fields, and then the dictionary that fastavro writes.

    Every field is given to fastavro, defaults included: by itself it would take the schema's text as it stands, which
    it cannot write for bytes, and for a union might write as another branch.
    """

    noun = rule = "an object"
    kinds = frozenset({"object"})

    def __init__(self, name: str, fields: list[Field]) -> None:
        self.branch = name
        self._fields = {field.name: field for field in fields}
        # a Struct's fields are attributes of a class, which cannot have just any name
        ordinary = all(not (field.name.startswith("_") or keyword.iskeyword(field.name)) for field in fields)
        members: list[tuple[str, Any, Any]] = []
        for index, field in enumerate(fields):
            options: dict[str, Any] = {} if ordinary else {"name": field.name}
            if not field.required:
                options |= {"default": UNSET} if field.node.to_avro is not None else _as_is(field)
            members.append((field.name if ordinary else f"f{index}", field.node.json_type, msgspec.field(**options)))
        self.json_type = self.python_type = msgspec.defstruct(
            name.rpartition(".")[2], members, kw_only=True, forbid_unknown_fields=True, gc=False
        )
        self.to_avro = _each_field(
            msgspec.structs.asdict if ordinary else _as_renamed_dict(tuple(self._fields)),
            [field for field in fields if field.node.to_avro is not None],
        )

    def child(self, step: Step, name: str = "") -> Node | None:
        """Return the type of a field."""
        return self._fields[name].node if step == "field" and name in self._fields else None

    def field_names(self) -> list[str]:
        """Return the names of the fields."""
        return list(self._fields)

    def from_default(self, value: Any) -> Any:
        """Turn a schema's default into what fastavro writes."""
        if not isinstance(value, dict) or not value.keys() <= self._fields.keys():
            raise ValueError(f"the default {describe_value(value)} is not a {self.branch}")
        converted = {}
        for field in self._fields.values():
            if field.name in value:
                converted[field.name] = field.node.from_default(value[field.name])
            elif field.required:
                raise ValueError(f"the default of a {self.branch} has no '{field.name}'")
            else:
                converted[field.name] = field.node.from_default(field.declared)
        return converted


class Field:
    """A field of a record.

    Attributes:
        name: in the schema and in JSON.
        node: its type.
        required: whether it has no default.
        declared: the default as the schema has it.
        default: the default as fastavro writes it, where ``node`` has a to_avro; set once all types are complete.
    """

    __slots__ = ("declared", "default", "name", "node", "required")

    def __init__(self, name: str, node: Node, declared: Any = UNSET) -> None:
        self.name = name
        self.node = node
        self.required = declared is UNSET
        self.declared = declared
        self.default: Any = None


def _each_field(as_dict: Callable[[Any], dict[str, Any]], to_convert: list[Field]) -> ToAvro:
    def convert_fields(struct: Any, state: ReadState) -> dict[str, Any]:
        values = as_dict(struct)
        for field in to_convert:
            value = values[field.name]
            if value is UNSET:
                values[field.name] = field.default
                continue
            try:
                values[field.name] = field.node.to_avro(value, state)  # type: ignore[misc]
            except Mismatch as mismatch:
                mismatch.steps.append(field.name)
                raise
        return values

    def to_dict(struct: Any, _: ReadState) -> dict[str, Any]:
        return as_dict(struct)

    return convert_fields if to_convert else to_dict


def _as_is(field: Field) -> dict[str, Any]:
    """Return the default of a field whose value needs no to_avro, as an argument of ``msgspec.field``."""
    default = field.node.from_default(field.declared)
    return {"default_factory": lambda: default} if isinstance(default, list | dict) else {"default": default}


def _as_renamed_dict(names: tuple[str, ...]) -> Callable[[Any], dict[str, Any]]:
    return lambda struct: dict(zip(names, msgspec.structs.astuple(struct), strict=True))


class RecordReference(Node):
    """A record within itself."""

    noun = rule = "an object"
    kinds = frozenset({"object"})
    json_type = Any
    python_type = dict

    def __init__(self, name: str, nodes: dict[str, Node]) -> None:
        self.branch = name
        self.to_avro = self._read
        self._nodes = nodes

    def from_default(self, value: Any) -> Any:
        """Turn a schema's default into what fastavro writes."""
        return self._nodes[self.branch].from_default(value)

    def _read(self, value: Any, state: ReadState) -> Any:
        if state.depth >= MAX_DEPTH:
            raise TooDeep
        state.depth += 1
        try:
            return read_value(self._nodes[self.branch], value, state)
        finally:
            state.depth -= 1
