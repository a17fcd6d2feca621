"""The Avro schema of a dataclass."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
import warnings
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import py_avro_schema
from fastavro.read import LOGICAL_READERS

from forebay.codec import Schema

_SCHEMA_OPTIONS = py_avro_schema.Option.MILLISECONDS | py_avro_schema.Option.NO_AUTO_NAMESPACE


def derive_schema(dataclass_type: type, app: str) -> Schema:
    """Derive the schema of a dataclass, in the namespace of its app; raises an error of any type where it cannot."""
    _resolve_annotations(dataclass_type)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it cannot check the default of a recursive field, and says so
        text = py_avro_schema.generate(dataclass_type, namespace=app.replace("-", "_"), options=_SCHEMA_OPTIONS)
    schema = _tidy(json.loads(text))
    for unreadable in _unreadable_types(schema):
        raise TypeError(f"there is no way to read or write {unreadable}")
    return Schema(json.dumps(schema))


def _resolve_annotations(dataclass_type: type, inside: frozenset[type] = frozenset()) -> None:
    """Replace the annotations of a dataclass that are strings, as all are under ``from __future__ import annotations``.

    py-avro-schema takes fields as they are declared. It knows a recursive type by a reference that *is* a string, so
    those to the class itself, or to one that it is a part of, are left as strings.
    """
    inside |= {dataclass_type}
    hints = typing.get_type_hints(dataclass_type, include_extras=True)
    for field in dataclasses.fields(dataclass_type):
        field.type = _refer(hints[field.name], inside)


def _refer(hint: Any, inside: frozenset[type]) -> Any:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        if hint in inside:
            return hint.__name__
        _resolve_annotations(hint, inside)
        return hint
    if typing.get_origin(hint) is Literal:
        return hint
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is tuple and arguments[-1] is not Ellipsis:
        raise TypeError(f"{hint} is several values of a type each, which takes a dataclass")
    if typing.get_origin(hint) is Annotated:
        referred_to = _refer(arguments[0], inside)
        return hint if referred_to is arguments[0] else Annotated[(referred_to, *arguments[1:])]
    referred = tuple(_refer(argument, inside) for argument in arguments)
    if all(new is old for new, old in zip(referred, arguments, strict=True)):
        return hint
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return typing.Union[referred]  # noqa: UP007 - a string cannot stand at either side of |
    return typing.get_origin(hint)[referred]


def _unreadable_types(schema: Any) -> Iterator[str]:
    """Find what Avro can name, but fastavro does not turn into Python and back."""
    if isinstance(schema, list):
        for entry in schema:
            yield from _unreadable_types(entry)
    elif isinstance(schema, dict):
        if "logicalType" in schema and f"{schema['type']}-{schema['logicalType']}" not in LOGICAL_READERS:
            yield f"the logical type '{schema['logicalType']}' of {schema.get('name', schema['type'])}"
        for key in ("type", "items", "values", "fields"):
            yield from _unreadable_types(schema.get(key))


def _tidy(schema: Any) -> Any:
    """Mend what py-avro-schema 3.8 leaves untidy, in a schema or a part of one.

    A ``doc`` that Python made up goes; a null default has ``null`` as its union's first branch, also in recursion;
    and the bytes of a decimal default are Avro's (U+0000 to U+00FF), not a backslash and hexadecimal digits.
    """
    if isinstance(schema, list):
        return [_tidy(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    tidy = {key: _tidy(value) for key, value in schema.items()}
    if tidy.get("doc", "").startswith((f"{tidy.get('name')}(", "Create a collection of name/value pairs")):
        del tidy["doc"]
    kind, default = tidy.get("type"), tidy.get("default")
    if "default" in tidy and default is None and isinstance(kind, list):
        tidy["type"] = ["null", *(branch for branch in kind if branch != "null")]
    branch = kind[0] if isinstance(kind, list) else kind
    if isinstance(branch, dict) and branch.get("logicalType") == "decimal" and isinstance(default, str):
        tidy["default"] = bytes.fromhex(default.removeprefix("\\u")).decode("latin-1")
    return tidy
