"""An example request for an operation, made up from its schema."""

from __future__ import annotations

import json
import shlex
from base64 import b64encode
from typing import Any

_PLAIN: dict[str, Any] = {
    "null": None,
    "boolean": True,
    "int": 1,
    "long": 1,
    "float": 1.0,
    "double": 1.0,
    "string": "text",
    "bytes": "Ynl0ZXM=",
}
_LOGICAL: dict[str, Any] = {
    "date": "2030-01-31",
    "decimal": "1.00",
    "time-millis": "12:00:00",
    "time-micros": "12:00:00",
    "timestamp-millis": "2030-01-31T12:00:00Z",
    "timestamp-micros": "2030-01-31T12:00:00Z",
    "uuid": "018f3c5e-7d8a-7b1c-9c44-2f6f0d6a9b11",
}


def curl(base_url: str, operation: dict[str, Any]) -> str:
    """Return a command that calls an operation.

    Args:
        base_url: of the API, without a slash at the end.
        operation: as ``forebay operations --json`` lists it.
    """
    url = f"{base_url}/v1/{operation['name']}"
    if operation["request"] is None:
        return shlex.join(["curl", "-H", f"Content-Type: {operation['accepts']}", "--data-binary", "@FILE", url])
    body = json.dumps(_Example().value(operation["request"]), ensure_ascii=False)
    return shlex.join(["curl", "--json", body, url])


class _Example:
    """Makes up values, in the JSON that the gateway takes; leaves out what has a default."""

    def __init__(self) -> None:
        self._named: dict[str, Any] = {}
        self._inside: list[str] = []

    def value(self, schema: Any) -> Any:
        if isinstance(schema, list):
            return None if "null" in schema else self.value(schema[0])
        if isinstance(schema, str):
            return self.value(self._named[schema]) if schema in self._named else _PLAIN[schema]
        if schema.get("logicalType") in _LOGICAL:
            return _LOGICAL[schema["logicalType"]]
        if "name" not in schema:
            return self._unnamed(schema)
        names = {schema["name"], f"{schema.get('namespace', '')}.{schema['name']}"}
        self._named |= dict.fromkeys(names, schema)
        self._inside.extend(names)
        try:
            return self._of_named(schema)
        finally:
            del self._inside[-len(names) :]

    def _of_named(self, schema: Any) -> Any:
        match schema["type"]:
            case "record" | "error":
                fields = [field for field in schema["fields"] if "default" not in field]
                return {field["name"]: self.value(field["type"]) for field in fields}
            case "enum":
                return schema["symbols"][0]
            case _:
                return b64encode(bytes(schema["size"])).decode()

    def _unnamed(self, schema: Any) -> Any:
        match schema["type"]:
            case "array":
                return [] if schema["items"] in self._inside else [self.value(schema["items"])]
            case "map":
                return {} if schema["values"] in self._inside else {"key": self.value(schema["values"])}
            case inner:
                return self.value(inner)
