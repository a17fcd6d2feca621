"""What goes over the wire: the Avro schemas of every message, the names of the topics and of the headers.

``<name>.avsc`` is the version in use. Every version that was ever released stays in ``released/<name>-<n>.avsc``, so
that any reader resolves what any writer wrote.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

NAMES = ("job", "reply", "operation")
"""The messages that have a schema."""


@cache
def current(name: str) -> str:
    """Return the schema in use of the message ``name``, as JSON text."""
    return files(__name__).joinpath(f"{name}.avsc").read_text(encoding="utf-8")


@cache
def released(name: str) -> tuple[str, ...]:
    """Return every released schema of the message ``name``, as JSON texts, the oldest first."""
    versions = [
        (int(entry.name.removesuffix(".avsc").rpartition("-")[2]), entry)
        for entry in files(__name__).joinpath("released").iterdir()
        if entry.name.startswith(f"{name}-") and entry.name.endswith(".avsc")
    ]
    return tuple(entry.read_text(encoding="utf-8") for _, entry in sorted(versions, key=lambda version: version[0]))
