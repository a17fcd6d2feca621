"""The Avro specification's rules for fingerprints, written down once more, independently of any library.

Apache's own Python package keeps logical types in the parsing canonical form, which the specification strips; what a
test compares with is therefore the specification.
"""

from __future__ import annotations

import json
from typing import Any

EMPTY = 0xC15D213AA4D7A795
PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
ORDER = ("name", "type", "fields", "symbols", "items", "values", "size")


def crc_64_avro(data: bytes) -> bytes:
    """Fingerprint as it is written into a single object, little-endian."""
    crc = EMPTY
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (EMPTY if crc & 1 else 0)
    return crc.to_bytes(8, "little")


def canonical(schema: Any, namespace: str = "") -> str:
    """Parsing canonical form of a schema."""
    if isinstance(schema, str):
        return json.dumps(schema if schema in PRIMITIVES or "." in schema or not namespace else f"{namespace}.{schema}")
    if isinstance(schema, list):
        return f"[{','.join(canonical(branch, namespace) for branch in schema)}]"
    kind = schema["type"]
    if kind in PRIMITIVES or isinstance(kind, dict | list):
        return canonical(kind, namespace)
    parts = dict(schema)
    if "name" in schema:
        space, _, name = schema["name"].rpartition(".")
        namespace = space or schema.get("namespace", namespace)
        parts["name"] = f"{namespace}.{name}" if namespace else name
    written: dict[str, str] = {}
    for key in ORDER:
        if key in ("items", "values") and key in parts:
            written[key] = canonical(parts[key], namespace)
        elif key == "fields" and key in parts:
            fields = (
                f'{{"name":{json.dumps(field["name"])},"type":{canonical(field["type"], namespace)}}}'
                for field in parts["fields"]
            )
            written[key] = f"[{','.join(fields)}]"
        elif key in parts:
            written[key] = json.dumps(parts[key], separators=(",", ":"), ensure_ascii=False)
    return "{" + ",".join(f'"{key}":{value}' for key, value in written.items()) + "}"


def number(value: int) -> bytes:
    """An int or a long: zigzag, then seven bits a byte, the lowest first."""
    rest = (value << 1) ^ (value >> 63)
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def text(value: str | bytes) -> bytes:
    """A string or bytes: the length, then what it says."""
    data = value.encode() if isinstance(value, str) else value
    return number(len(data)) + data
