"""Decompressing what records are compressed with: gzip, snappy, lz4 and zstd, each up to a bound.

A few kilobytes can be made to decompress to gigabytes, by anybody who may produce to a topic.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any

import cramjam

MOST_BYTES = 256 * 1024 * 1024
"""Bytes at most that a batch may have when it is decompressed."""

_USUAL_RATIO = 16
_BUFFER_IS_FULL = "failed to write whole buffer"
_XERIAL = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES = 16


class CannotDecompress(Exception):
    """The bytes are not what their codec makes, or too many; the text says which."""


def decompress(codec: int, data: bytes) -> bytes:
    """Return what was compressed.

    Args:
        codec: its number in the attributes of a batch.
        data: the compressed records.

    Raises:
        CannotDecompress: there is no such codec, the data are not its own, or they are too many: that never changes.
        MemoryError: there is no memory for it at present.
    """
    if codec not in _CODECS:
        raise CannotDecompress(f"they are compressed with codec {codec}, which is not known here")
    name, function = _CODECS[codec]
    try:
        return function(data)
    except _TooMuch:
        raise CannotDecompress(f"they decompress with {name} to more than {MOST_BYTES} bytes") from None
    except MemoryError:
        raise
    except Exception as error:  # each library has errors of its own, cramjam one that derives from Exception alone
        raise CannotDecompress(f"they cannot be decompressed with {name}: {error}") from error


class _TooMuch(Exception):
    pass


def _gzip(data: bytes) -> bytes:
    parts: list[bytes] = []
    room = MOST_BYTES
    while data:
        member = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        part = member.decompress(data, room + 1)
        room -= len(part)
        if room < 0:
            raise _TooMuch
        if not member.eof:
            raise EOFError("the data end too early")
        parts.append(part)
        data = member.unused_data
    return b"".join(parts)


def _snappy(data: bytes) -> bytes:
    """Decompress one block, or the framing of blocks that Java's library makes."""
    if not data.startswith(_XERIAL):
        return _snappy_block(data, MOST_BYTES)
    parts: list[bytes] = []
    position, room = _XERIAL_HEADER_BYTES, MOST_BYTES
    while position < len(data):
        (size,) = struct.unpack_from(">i", data, position)
        position += 4
        if not 0 < size <= len(data) - position:
            raise EOFError("the data end too early")
        parts.append(_snappy_block(data[position : position + size], room))
        room -= len(parts[-1])
        position += size
    return b"".join(parts)


def _snappy_block(block: bytes, room: int) -> bytes:
    if cramjam.snappy.decompress_raw_len(block) > room:
        raise _TooMuch
    return bytes(cramjam.snappy.decompress_raw(block))


def _into_buffer(module: Any) -> Callable[[bytes], bytes]:
    def decompress_into_buffer(data: bytes) -> bytes:
        """Decompress into a buffer some times as large as the data, or else one as large as may be."""
        for size in (min(_USUAL_RATIO * len(data) + 4096, MOST_BYTES), MOST_BYTES):
            buffer = bytearray(size)
            try:
                written = module.decompress_into(data, buffer)
            except cramjam.DecompressionError as error:
                if str(error) != _BUFFER_IS_FULL:
                    raise
                continue
            return bytes(memoryview(buffer)[:written])
        raise _TooMuch

    return decompress_into_buffer


_CODECS: dict[int, tuple[str, Callable[[bytes], bytes]]] = {
    1: ("gzip", _gzip),
    2: ("snappy", _snappy),
    3: ("lz4", _into_buffer(cramjam.lz4)),
    4: ("zstd", _into_buffer(cramjam.zstd)),
}
