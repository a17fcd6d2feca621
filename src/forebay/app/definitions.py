"""Where in a schema its named types are defined."""

from __future__ import annotations

from typing import Any

_PARTS = ("items", "values")


def define_at_first_use(schema: Any) -> Any:
    """Return a schema in which each named type is defined where it comes first, as Avro requires, and named after that.

    Branches of a union that change places for a default may leave a name before its definition.
    """
    return _rewrite(schema, _definitions(schema), set())


def _definitions(schema: Any) -> dict[str, Any]:
    if isinstance(schema, list):
        return {name: found for branch in schema for name, found in _definitions(branch).items()}
    if not isinstance(schema, dict):
        return {}
    own = {_full_name(schema): schema} if "name" in schema else {}
    items = [schema[part] for part in _PARTS if part in schema]
    return own | _definitions([*items, *(field["type"] for field in schema.get("fields", ()))])


def _rewrite(schema: Any, definitions: dict[str, Any], defined: set[str]) -> Any:
    if isinstance(schema, list):
        return [_rewrite(branch, definitions, defined) for branch in schema]
    name = _full_name(schema) if isinstance(schema, dict) and "name" in schema else schema
    if isinstance(name, str):
        if name in defined or name not in definitions:
            return name
        defined.add(name)
        schema = definitions[name]
    rewritten = dict(schema)
    for part in _PARTS:
        if part in schema:
            rewritten[part] = _rewrite(schema[part], definitions, defined)
    if "fields" in schema:
        rewritten["fields"] = [
            {**field, "type": _rewrite(field["type"], definitions, defined)} for field in schema["fields"]
        ]
    return rewritten


def _full_name(schema: dict[str, Any]) -> str:
    return f"{schema['namespace']}.{schema['name']}"
