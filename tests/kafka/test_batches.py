"""What a fetch brings: each record once, whatever it is compressed with and whoever made it; none that is damaged."""

from __future__ import annotations

import gzip
import struct

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from hypothesis import example, given
from hypothesis import strategies as st

import forebay.kafka.wire.compression as compression
from forebay.errors import RecordsUnreadable
from forebay.kafka import Headers, Record
from forebay.kafka.records import LATEST_TIMESTAMP
from forebay.kafka.wire.batches import Fetched

NONE, GZIP, SNAPPY, LZ4, ZSTD = CODECS = range(5)
TRANSACTIONAL = 0x10
CONTROL = 0x20
ABORT, COMMIT = b"\0\0\0\0", b"\0\0\0\1"


def a_batch(
    offset: int,
    values: list[bytes],
    codec: int = NONE,
    *,
    key: bytes = b"key",
    producer: int = -1,
    attributes: int = 0,
    headers: Headers = (("name", b"text"),),
    timestamp: int | None = None,
) -> bytearray:
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=codec,
        is_transactional=bool(attributes & TRANSACTIONAL),
        producer_id=producer,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=100_000_000,
    )
    for number, value in enumerate(values):
        builder.append(number, timestamp=timestamp, key=key, value=value, headers=list(headers))
    batch = bytearray(builder.build())
    batch[:8] = offset.to_bytes(8, "big")  # the broker sets the base offset; it is outside the checksum
    (found,) = struct.unpack_from(">h", batch, 21)
    struct.pack_into(">h", batch, 21, found | attributes)
    return sealed(batch)


def sealed(batch: bytearray) -> bytearray:
    """The batch with the length and checksum that it should have."""
    struct.pack_into(">i", batch, 8, len(batch) - 12)
    struct.pack_into(">I", batch, 17, calc_crc32c(bytes(batch[21:])))
    return batch


def take(
    content: bytes | bytearray, offset: int = 0, aborted: list[tuple[int, int]] | None = None
) -> tuple[list[Record], Fetched]:
    fetched, taken = Fetched("topic", 4, offset, bytes(content), aborted or ()), list[Record]()
    fetched.take(None, taken)
    assert fetched.exhausted
    return taken, fetched


def refusal(content: bytes | bytearray, offset: int = 0) -> tuple[list[Record], RecordsUnreadable]:
    fetched, taken = Fetched("topic", 4, offset, bytes(content)), list[Record]()
    with pytest.raises(RecordsUnreadable) as caught:
        fetched.take(None, taken)
    assert (caught.value.topic, caught.value.partition, caught.value.offset) == ("topic", 4, fetched.position)
    assert str(caught.value).startswith(f"the records of topic/4 from offset {fetched.position} cannot be read: ")
    return taken, caught.value


@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    skipped=st.integers(0, 10),
    limits=st.lists(st.integers(1, 7), min_size=1),
    codec=st.sampled_from(CODECS),
)
def test_each_record_is_taken_once_from_where_it_was_asked_for(
    sizes: list[int], skipped: int, limits: list[int], codec: int
) -> None:
    content, end = b"", 100
    for size in sizes:
        content += a_batch(end, [b"%d" % (end + number) * 50 for number in range(size)], codec)
        end += size
    begin = min(100 + skipped, end)
    fetched, taken = Fetched("topic", 4, begin, content), list[Record]()
    for limit in limits * (end - begin + 1):
        assert fetched.position == begin + len(taken) or fetched.exhausted
        fetched.take(len(taken) + limit, taken)
    assert fetched.exhausted
    assert fetched.position == end
    assert [record.offset for record in taken] == list(range(begin, end))
    assert all(record.value == b"%d" % record.offset * 50 for record in taken)
    assert {(record.topic, record.partition, record.key, record.headers) for record in taken} <= {
        ("topic", 4, b"key", (("name", b"text"),))
    }


@given(place=st.integers(21, 60), bit=st.integers(0, 7))
def test_a_batch_that_was_damaged_is_never_taken(place: int, bit: int) -> None:
    """From byte 21 on, a batch is covered by its checksum."""
    sound, damaged = a_batch(0, [b"sound"]), a_batch(1, [b"damaged"])
    damaged[place] ^= 1 << bit
    taken, error = refusal(sound + damaged)
    assert [record.value for record in taken] == [b"sound"]
    assert "checksum" in error.reason


@given(junk=st.binary(max_size=200), codec=st.sampled_from(CODECS))
@example(junk=bytes([14, 0, 0, 128, 1, 0, 0, 0]), codec=NONE)  # a whole record, 64 offsets further on
def test_a_batch_of_anything_with_a_right_checksum_is_read_or_stepped_over(junk: bytes, codec: int) -> None:
    batch = a_batch(7, [b"value"])
    batch[21:23] = codec.to_bytes(2, "big")
    batch[61:] = junk
    taken, fetched = take(sealed(batch) + a_batch(8, [b"good"]), 7)
    assert [record.value for record in taken if record.offset == 8] == [b"good"]
    assert [record.offset for record in taken] in ([7, 8], [8])
    assert fetched.position == 9


@given(cut=st.integers(1, 80))
def test_a_last_batch_that_is_cut_off_is_left_for_the_next_fetch(cut: int) -> None:
    taken, fetched = take(a_batch(0, [b"whole"]) + a_batch(1, [b"cut off" * 10])[:-cut])
    assert [record.value for record in taken] == [b"whole"]
    assert fetched.position == 1


# headers


NAMES = st.text() | st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape"))


def a_record_with(headers: list[tuple[bytes, bytes | None]], codec: int = NONE) -> bytes:
    """A batch of three records; the second has these headers, whose names may be anything."""

    def varint(value: int) -> bytes:
        value = value << 1 if value >= 0 else ((-value) << 1) - 1
        out = b""
        while value > 0x7F:
            out += bytes([value & 0x7F | 0x80])
            value >>= 7
        return out + bytes([value])

    def content(value: bytes | None) -> bytes:
        return varint(-1) if value is None else varint(len(value)) + value

    batch = a_batch(10, [b"0", b"1", b"2"], timestamp=1000)
    body = b""
    for number in range(3):
        some = headers if number == 1 else []
        record = b"\0" + varint(number) + varint(number) + content(None) + content(b"%d" % number) + varint(len(some))
        record += b"".join(content(name) + content(value) for name, value in some)
        body += varint(len(record)) + record
    if codec == GZIP:
        body = gzip.compress(body)
        batch[21:23] = codec.to_bytes(2, "big")
    return bytes(sealed(batch[:61] + bytearray(body)))


@given(headers=st.lists(st.tuples(st.binary(max_size=8), st.none() | st.binary(max_size=300))))
@pytest.mark.parametrize("codec", [NONE, GZIP])
def test_header_names_and_values_may_be_anything(codec: int, headers: list[tuple[bytes, bytes | None]]) -> None:
    taken, fetched = take(a_record_with(headers, codec), 10)
    assert [(record.offset, record.timestamp, record.key, record.value) for record in taken] == [
        (10, 1000, None, b"0"),
        (11, 1001, None, b"1"),
        (12, 1002, None, b"2"),
    ]
    assert [len(record.headers) for record in taken] == [0, len(headers), 0]
    read = [(name.encode("utf-8", "surrogateescape"), value) for name, value in taken[1].headers]
    assert read == headers
    assert fetched.position == 13


def test_reading_goes_on_in_the_middle_of_a_batch_with_such_names() -> None:
    taken, _ = take(a_record_with([(b"\xff", b"x")]), 12)
    assert [record.offset for record in taken] == [12]


@pytest.mark.parametrize("timestamp", [-(2**62), -1, 0, LATEST_TIMESTAMP, 2**62])
def test_a_timestamp_is_always_a_date(timestamp: int) -> None:
    taken, _ = take(a_batch(0, [b"x"], timestamp=timestamp))
    assert taken[0].timestamp == min(max(timestamp, 0), LATEST_TIMESTAMP)


# compression


@pytest.mark.parametrize("codec", [GZIP, SNAPPY, LZ4, ZSTD])
def test_a_batch_that_decompresses_to_too_much_is_stepped_over(codec: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "MOST_BYTES", 1_000_000)
    taken, _ = take(a_batch(0, [bytes(900_000)], codec))
    assert taken[0].value == bytes(900_000)
    taken, fetched = take(a_batch(0, [b"", bytes(1_100_000), b""], codec) + a_batch(3, [b"good"]), 1)
    [lost, good] = taken
    assert (lost.offset, lost.key, lost.value, lost.headers) == (1, None, None, ())
    assert lost.unreadable is not None
    assert "from offset 1 to 2 " in lost.unreadable
    assert "to more than 1000000 bytes" in lost.unreadable
    assert (good.offset, good.value, good.unreadable) == (3, b"good", None)
    assert fetched.position == 4


def test_a_batch_for_which_there_is_no_memory_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: bytes) -> bytes:
        raise MemoryError

    monkeypatch.setitem(compression._CODECS, ZSTD, ("zstd", fail))
    _, error = refusal(a_batch(0, [b"x"], ZSTD))
    assert "memory" in error.reason


def test_an_aborted_batch_that_cannot_be_read_is_nobodys_loss() -> None:
    batch = a_batch(0, [b"x"], producer=1, attributes=TRANSACTIONAL)
    batch[21:23] = (TRANSACTIONAL | 7).to_bytes(2, "big")
    taken, fetched = take(sealed(batch) + a_batch(1, [b"good"]), aborted=[(1, 0)])
    assert [record.value for record in taken] == [b"good"]
    assert fetched.position == 2


def test_a_batch_that_decompresses_to_a_thousandfold_is_read() -> None:
    for codec in (GZIP, ZSTD, LZ4):
        taken, _ = take(a_batch(0, [bytes(20_000_000)], codec))
        assert taken[0].value == bytes(20_000_000)


@pytest.mark.parametrize("codec", [5, 6, 7])
def test_a_codec_that_does_not_exist_is_named(codec: int) -> None:
    batch = a_batch(0, [b"x"])
    batch[21:23] = codec.to_bytes(2, "big")
    [lost], _ = take(sealed(batch))
    assert lost.unreadable is not None
    assert lost.unreadable.endswith(f": they are compressed with codec {codec}, which is not known here")


def test_records_of_the_old_format_are_read() -> None:
    builder = LegacyRecordBatchBuilder(magic=1, compression_type=NONE, batch_size=10_000)
    for number in range(3):
        builder.append(number, timestamp=number + 5, key=b"key", value=b"%d" % number)
    taken, fetched = take(bytes(builder.build()), 1)
    assert [(record.offset, record.timestamp, record.value, record.headers) for record in taken] == [
        (1, 6, b"1", ()),
        (2, 7, b"2", ()),
    ]
    assert fetched.position == 3


# transactions


def a_marker(offset: int, producer: int, kind: bytes) -> bytearray:
    return a_batch(
        offset, [b"\0\0\0\0\0\0"], key=kind, producer=producer, attributes=TRANSACTIONAL | CONTROL, headers=()
    )


def test_what_was_aborted_is_left_out_and_the_position_steps_over_it_and_over_markers() -> None:
    def of(offset: int, producer: int) -> bytearray:
        return a_batch(offset, [b"%d" % producer], producer=producer, attributes=TRANSACTIONAL)

    content = b"".join(
        [
            of(0, 1),
            of(1, 2),
            a_marker(2, 1, ABORT),
            a_batch(3, [b"plain"], producer=3),
            of(4, 1),
            a_marker(5, 1, COMMIT),
            of(6, 2),
            a_marker(7, 2, ABORT),
        ]
    )
    taken, fetched = take(content, aborted=[(2, 1), (1, 0)])
    assert [(record.offset, record.value) for record in taken] == [(3, b"plain"), (4, b"1")]
    assert fetched.position == 8
