"""The parts of a JSON value that does not match its type: of the text as it came, or of a value that was read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

import msgspec

T = TypeVar("T")

MISSING: Any = object()
"""In place of a value that there is none of in Python."""

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What reading raises for a value that is not of its type, beyond any bounds, or behind those that is no JSON."""

_LONGEST_INDENT = 64
_CONTAINERS: dict[bytes, Any] = {b"[": [], b"{": {}}


class JsonValue(Protocol):
    """A JSON value. Each of its parts is None where it has no such part."""

    def field(self, name: str, json_type: Any) -> JsonValue | None:
        """Return what a key has; of one that comes more than once, what is not of the type."""

    def item(self, index: int) -> JsonValue | None:
        """Return an item of an array."""

    def first_mismatch(self, json_type: Any) -> tuple[str, JsonValue] | None:
        """Return the first key and entry of an object that is not of the type."""

    def value(self) -> Any:
        """Return the value itself, or `MISSING`."""


class ReadValue:
    """A value that was read."""

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    def field(self, name: str, json_type: Any) -> ReadValue | None:  # noqa: ARG002
        """Return what a key has."""
        found = self._value.get(name, MISSING) if isinstance(self._value, dict) else MISSING
        return None if found is MISSING else ReadValue(found)

    def item(self, index: int) -> ReadValue | None:
        """Return an item of an array."""
        inside = isinstance(self._value, list) and index < len(self._value)
        return ReadValue(self._value[index]) if inside else None

    def first_mismatch(self, json_type: Any) -> tuple[str, ReadValue] | None:
        """Return the first key and entry of an object that is not of the type."""
        entries = self._value.items() if isinstance(self._value, dict) else ()
        found = _first_mismatch(entries, lambda entry: msgspec.convert(entry, json_type))
        return None if found is None else (found[0], ReadValue(found[1]))

    def value(self) -> Any:
        """Return the value itself."""
        return self._value


class JsonText:
    """A value as text, which still has the keys that come more than once.

    Args:
        text: JSON, at least as far as it has been read.
        float_hook: reads a number where any value may stand.
    """

    __slots__ = ("_float_hook", "_text")

    def __init__(self, text: bytes | msgspec.Raw, float_hook: Callable[[str], Any]) -> None:
        self._text = text
        self._float_hook = float_hook

    def field(self, name: str, json_type: Any) -> JsonText | None:
        """Return what a key has; of one that comes more than once, the first that is not of the type."""
        entries = [(key, entry) for key, entry in self._entries() if key == name]
        found = self._first_mismatch(entries, json_type) or (entries[-1] if entries else None)
        return None if found is None else self._part(found[1])

    def item(self, index: int) -> JsonText | None:
        """Return an item of an array."""
        items = self._read(_ARRAY, [])
        return self._part(items[index]) if index < len(items) else None

    def first_mismatch(self, json_type: Any) -> tuple[str, JsonText] | None:
        """Return the first key and entry of an object that is not of the type."""
        found = self._first_mismatch(self._entries(), json_type)
        return None if found is None else (found[0], self._part(found[1]))

    def value(self) -> Any:
        """Return the value itself, of an array or an object only that it is one.

        `MISSING` stands for a number beyond any bounds.
        """
        begin = bytes(memoryview(self._text)[:_LONGEST_INDENT]).lstrip()[:1]
        if begin in _CONTAINERS:
            return _CONTAINERS[begin]
        try:
            return msgspec.json.Decoder(float_hook=self._float_hook).decode(self._text)
        except _UNREADABLE:
            return MISSING

    def _entries(self) -> Iterator[tuple[str, msgspec.Raw]]:
        return ((key.text, entry) for key, entry in self._read(_OBJECT, {}).items())

    def _read(self, decoder: msgspec.json.Decoder[T], otherwise: T) -> T:
        try:
            return decoder.decode(self._text)
        except _UNREADABLE:
            return otherwise

    def _first_mismatch(
        self, entries: Iterable[tuple[str, msgspec.Raw]], json_type: Any
    ) -> tuple[str, msgspec.Raw] | None:
        return _first_mismatch(entries, msgspec.json.Decoder(json_type, float_hook=self._float_hook).decode)

    def _part(self, text: msgspec.Raw) -> JsonText:
        return JsonText(text, self._float_hook)


class _Key:
    """A key of an object, equal to no other, so that one which comes twice is kept twice."""

    __slots__ = ("text",)

    def __init__(self, _: type, text: str) -> None:
        self.text = text


_OBJECT = msgspec.json.Decoder(dict[_Key, msgspec.Raw], dec_hook=_Key)
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])


def _first_mismatch(entries: Iterable[tuple[str, Any]], read: Callable[[Any], Any]) -> tuple[str, Any] | None:
    for key, entry in entries:
        try:
            read(entry)
        except _UNREADABLE:
            return key, entry
    return None
