"""An Avro schema, compiled once into the JSON types that its requests are checked against."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from msgspec import UNSET

from forebay.codec import ABSENT
from forebay_gateway.payloads.containers import Array, Field, Map, Record, RecordReference
from forebay_gateway.payloads.nodes import Node
from forebay_gateway.payloads.scalars import make_absent, make_enum, make_fixed, make_logical, make_primitive
from forebay_gateway.payloads.unions import UnionNode

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z", re.ASCII)


def compile_schema(schema: Any) -> Node:
    """Compile a schema, as fastavro has parsed it.

    Raises:
        ValueError: it is not valid Avro in a way that fastavro lets pass.
    """
    return _Compiler().compile(schema)


class _Compiler:
    def __init__(self) -> None:
        self._named: dict[str, Node] = {}
        self._optional: list[Field] = []

    def compile(self, schema: Any) -> Node:
        node = self._node(schema)
        # only now are the types complete that a default may be made of
        for field in self._optional:
            field.default = field.node.from_default(field.declared)
        return node

    def _node(self, schema: Any) -> Node:
        if isinstance(schema, list):
            return self._choice(schema)
        attributes = {"type": schema} if isinstance(schema, str) else schema
        base = attributes["type"]
        if not isinstance(base, str):
            raise ValueError(f"{json.dumps(base, default=str)[:80]} is not the name of a type")
        match base:
            case "record" | "error":
                return self._record(attributes)
            case "array":
                return Array(self._node(attributes["items"]))
            case "map":
                return Map(self._node(attributes["values"]))
            case "enum":
                is_absent = attributes.get("logicalType") == ABSENT["logicalType"]
                return self._keep(attributes["name"], make_absent(attributes) if is_absent else make_enum(attributes))
            case "fixed":
                return self._keep(attributes["name"], make_logical(attributes) or make_fixed(attributes))
        if base in self._named:
            return self._named[base]
        return make_logical(attributes) or make_primitive(base)

    def _keep(self, name: str, node: Node) -> Node:
        self._named[name] = node
        return node

    def _record(self, attributes: Mapping[str, Any]) -> Node:
        name = attributes["name"]
        self._named[name] = RecordReference(name, self._named)
        fields: list[Field] = []
        for declared in attributes["fields"]:
            field = Field(declared["name"], self._node(declared["type"]), declared.get("default", UNSET))
            if not _NAME.match(field.name):
                raise ValueError(f"'{field.name}' in {name} is not a name")
            if any(field.name == other.name for other in fields):
                raise ValueError(f"{name} has two fields named '{field.name}'")
            fields.append(field)
            if not field.required and field.node.to_avro is not None:
                self._optional.append(field)
        return self._keep(name, Record(name, fields))

    def _choice(self, schemas: list[Any]) -> Node:
        branches = [self._node(schema) for schema in schemas]
        names = [node.branch for node in branches]
        if not names or "union" in names:
            raise ValueError("a union has no branch, or a union as one")
        if len(set(names)) < len(names):
            raise ValueError(f"a union has two branches of one type: {', '.join(names)}")
        return UnionNode(branches)
