"""Reading and writing the compact forms of Kafka's protocol, as those requests have them that aiokafka lacks."""

from __future__ import annotations

import struct
from typing import Any

_SHORT, _INT, _LONG = struct.Struct(">h"), struct.Struct(">i"), struct.Struct(">q")


def unsigned_varint(value: int) -> bytes:
    """Return an unsigned number in variable length."""
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def compact_string(text: str) -> bytes:
    """Return a string with its length before it."""
    encoded = text.encode()
    return unsigned_varint(len(encoded) + 1) + encoded


class Cursor:
    """Reads a response from its beginning to its end; whatever is read beyond it raises `ValueError`."""

    __slots__ = ("_data", "position")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    def raw(self, size: int) -> bytes:
        """Read so many bytes."""
        end = self.position + size
        if size < 0 or end > len(self._data):
            raise ValueError(f"a response of {len(self._data)} bytes ends before byte {end}")
        taken = self._data[self.position : end]
        self.position = end
        return taken

    def unpack(self, form: struct.Struct) -> tuple[Any, ...]:
        """Read numbers of a fixed form."""
        try:
            numbers = form.unpack_from(self._data, self.position)
        except struct.error as error:
            raise ValueError(f"a response of {len(self._data)} bytes ends too early") from error
        self.position += form.size
        return numbers

    def int16(self) -> int:
        """Read an INT16."""
        return int(self.unpack(_SHORT)[0])

    def int32(self) -> int:
        """Read an INT32."""
        return int(self.unpack(_INT)[0])

    def int64(self) -> int:
        """Read an INT64."""
        return int(self.unpack(_LONG)[0])

    def boolean(self) -> bool:
        """Read a BOOLEAN."""
        return self.raw(1) != b"\0"

    def varint(self) -> int:
        """Read an UNSIGNED_VARINT."""
        value = shift = 0
        try:
            while True:
                byte = self._data[self.position]
                self.position += 1
                value |= (byte & 0x7F) << shift
                if byte < 0x80:
                    return value
                shift += 7
        except IndexError as error:
            raise ValueError(f"a response of {len(self._data)} bytes ends too early") from error

    def compact_bytes(self) -> bytes:
        """Read COMPACT_NULLABLE_BYTES; null reads as empty."""
        return self.raw(max(self.varint() - 1, 0))

    def compact_string(self) -> str:
        """Read a COMPACT_NULLABLE_STRING; null reads as empty."""
        return self.compact_bytes().decode()

    def count(self) -> range:
        """Read the length of a COMPACT_NULLABLE_ARRAY, to go over it; null has none."""
        return range(self.varint() - 1)

    def skip_tags(self) -> None:
        """Read over the tagged fields, none of which is of use here."""
        for _ in range(self.varint()):
            self.varint()
            self.raw(self.varint())
