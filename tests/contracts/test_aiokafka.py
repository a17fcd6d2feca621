"""What `forebay.kafka.wire` relies on in aiokafka without its saying so: a newer release has to do the same.

What a real broker has to be there for stands in tests/kafka, which belongs to the same contract.
"""

from __future__ import annotations

import asyncio
import inspect
from io import BytesIO
from typing import Any

import aiokafka.errors as kafka_errors
import aiokafka.protocol.fetch as aiokafka_fetch
import aiokafka.protocol.metadata as aiokafka_metadata
import pytest
from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata
from aiokafka.record.default_records import (
    DefaultRecordBatch,
    DefaultRecordBatchBuilder,
    _DefaultRecordBatchBuilderPy,
)

from forebay.kafka.wire import codes
from forebay.kafka.wire.assignor import FairShare
from forebay.kafka.wire.building import BatchBuilder
from forebay.kafka.wire.fetch import FetchRequest, Wanted, answers_of
from forebay.kafka.wire.metadata import MetadataRequest, Topic, metadata_of
from forebay.kafka.wire.requests import (
    configs_request,
    create_topic_request,
    delete_topic_request,
    offsets_request,
    produce_request,
    producer_id_request,
)

pytestmark = pytest.mark.compat

EVERYTHING = dict.fromkeys(range(100), (0, 99))
"""Versions of a broker that has every one."""


def test_a_connection_takes_what_it_is_given() -> None:
    taken = inspect.signature(create_conn).parameters
    assert {
        "client_id",
        "security_protocol",
        "ssl_context",
        "sasl_mechanism",
        "sasl_plain_username",
        "sasl_plain_password",
        "max_idle_ms",
        "on_close",
        "request_timeout_ms",
    } <= taken.keys()
    assert inspect.signature(AIOKafkaConnection.close).parameters.keys() >= {"reason"}


@pytest.mark.parametrize(
    "request_",
    [
        MetadataRequest(["topic"]),
        MetadataRequest(None),
        FetchRequest({"topic": [Wanted(0, 5, 100)]}, {"topic": bytes(16)}, wait=0.5, most_bytes=1000),
        FetchRequest({"topic": [Wanted(0, 5, 100)]}, {}, wait=0.5, most_bytes=1000),
        produce_request({"topic": [(0, b"batch")]}, 1.0),
        producer_id_request(),
        offsets_request("topic", [0, 1], -1),
        create_topic_request("topic", 3, -1, {"a": "b"}, 1.0),
        delete_topic_request("topic", 1.0),
        configs_request(["topic"]),
    ],
    ids=lambda request: type(request).__name__,
)
def test_a_request_is_prepared_for_a_broker_and_encoded(request_: Any) -> None:
    prepared = request_.prepare(EVERYTHING)
    header = prepared.build_request_header(correlation_id=7, client_id="client")
    assert isinstance(header.encode(), bytes)
    assert isinstance(prepared.encode(), bytes)
    assert hasattr(prepared.RESPONSE_TYPE, "decode")


def test_metadata_of_an_older_broker_is_read_and_creates_nothing() -> None:
    prepared = MetadataRequest(["topic"]).prepare({3: (0, 9)})
    assert prepared.API_VERSION in (4, 5)
    assert prepared.allow_auto_topic_creation is False
    response = aiokafka_metadata.MetadataResponse_v5(
        0,
        [(1, "host", 9092, None)],
        "cluster",
        1,
        [
            (0, "topic", False, [(0, 1, 2, [2, 3], [2], []), (0, 0, 1, [1], [1], [])]),
            (3, "missing", False, []),
        ],
    )
    metadata = metadata_of(aiokafka_metadata.MetadataResponse_v5.decode(BytesIO(response.encode())))
    assert metadata.brokers == {1: ("host", 9092)}
    assert metadata.topics == {"topic": Topic(None, (1, 2), (1, 2))}
    assert metadata.errors == {"missing": codes.UNKNOWN_TOPIC}


@pytest.mark.parametrize(("newest", "version", "further"), [(4, 4, ()), (8, 8, (0,)), (12, 11, (0,))])
def test_records_of_an_older_broker_are_asked_for_by_name(newest: int, version: int, further: tuple[int, ...]) -> None:
    request = FetchRequest({"topic": [Wanted(0, 5, 100)]}, {"topic": bytes(16)}, wait=0.5, most_bytes=1000)
    prepared = request.prepare({1: (0, newest)})
    assert version == prepared.API_VERSION
    assert prepared.isolation_level == 1
    kind = getattr(aiokafka_fetch, f"FetchResponse_v{version}")
    partition = (0, 0, 20, 19, *further, [(7, 3)], *((-1,) if version == 11 else ()), b"records")
    session = (0, 0) if version >= 7 else ()
    response = kind.decode(BytesIO(kind(0, *session, [("topic", [partition])]).encode()))
    code, [answer] = answers_of(response)
    assert code == 0
    assert tuple(answer) == ("topic", 0, 0, [(7, 3)], b"records")


def test_both_builders_make_the_same_batch() -> None:
    made = []
    for kind in (DefaultRecordBatchBuilder, _DefaultRecordBatchBuilderPy):
        builder = kind(
            magic=2,
            compression_type=0,
            is_transactional=False,
            producer_id=-1,
            producer_epoch=-1,
            base_sequence=-1,
            batch_size=1000,
        )
        assert builder.append(0, 1000, b"key", b"value", [("name", b"text"), ("none", None)]) is not None
        builder.set_producer_state(5, 1, 7)
        made.append(bytes(builder.build()))
    assert made[0] == made[1]


def test_a_batch_that_is_full_takes_no_more_and_one_that_was_refused_a_name_is_as_before() -> None:
    odd = b"\xff".decode("utf-8", "surrogateescape")
    builder = BatchBuilder(300)
    assert builder.add(b"key", b"first", [])
    assert not builder.add(b"key", b"odd", [("fine", b""), (odd, b"")]), "it goes in a batch of its own"
    assert not builder.add(b"key", b"x" * 300, [])
    assert builder.add(b"key", b"second", [])
    reader = DefaultRecordBatch(builder.build(5, 1, 7))
    assert reader.validate_crc()
    assert (reader.producer_id, reader.producer_epoch, reader.base_sequence) == (5, 1, 7)
    assert [record.value for record in reader] == [b"first", b"second"]
    alone = BatchBuilder(300)
    assert alone.add(None, None, [(odd, b"")])
    batch = alone.build(5, 1, 7)
    assert DefaultRecordBatch(batch).validate_crc()
    assert b"\x02\xff\x00" in batch


async def test_a_membership_finds_what_it_looks_for_in_the_coordinator() -> None:
    taken = inspect.signature(GroupCoordinator).parameters.keys()
    assert taken >= {
        "group_id",
        "assignors",
        "enable_auto_commit",
        "session_timeout_ms",
        "heartbeat_interval_ms",
        "rebalance_timeout_ms",
        "max_poll_interval_ms",
    }
    assert asyncio.iscoroutinefunction(GroupCoordinator.ensure_coordinator_known)
    assert list(inspect.signature(GroupCoordinator._do_commit_offsets).parameters) == ["self", "assignment", "offsets"]
    assert list(inspect.signature(GroupCoordinator.fetch_committed_offsets).parameters) == ["self", "partitions"]
    assert list(inspect.signature(GroupCoordinator._do_heartbeat).parameters) == ["self"]
    assert list(inspect.signature(GroupCoordinator.request_rejoin).parameters) == ["self"]
    source = inspect.getsource(GroupCoordinator)
    for call in ("self.request_rejoin()", "await self._do_heartbeat()", "self._rejoin_needed_fut.done()"):
        assert call in source
    for name in ("_coordination_task", "_heartbeat_task", "_commit_refresh_task"):
        assert f"self.{name} = " in source
    subscription = SubscriptionState()
    subscription.register_fetch_waiters(set())
    assert subscription.reassignment_in_progress
    before = subscription._last_fetch_ended
    with subscription.fetch_context():
        assert subscription.fetcher_idle_time == 0
    assert subscription._last_fetch_ended >= before


def test_what_a_member_says_of_itself_survives_the_protocol() -> None:
    share = FairShare(lambda: [("a", 2), ("a", 1), ("b", 0)], ["op"])
    said = share.metadata(["b", "a"])
    read = ConsumerProtocolMemberMetadata.decode(said.encode())

    class Cluster:
        def partitions_for_topic(self, topic: str) -> set[int]:
            return {"a": {0, 1, 2}, "b": {0}}[topic]

    granted = share.assign(Cluster(), {"one": read, "two": FairShare(lambda: ()).metadata(["a"])})
    assert [(topic, list(numbers)) for topic, numbers in granted["one"].assignment][-1] == ("b", [0])
    assert {2, 1} <= set(dict(granted["one"].assignment)["a"]), "work in hand stays, in the order of its weight"


def test_error_codes_mean_what_they_are_taken_for() -> None:
    assert codes.name_of(codes.UNKNOWN_TOPIC) == "UnknownTopicOrPartition"
    assert codes.name_of(codes.UNKNOWN_TOPIC_ID) == "UnknownTopicId"
    assert codes.name_of(32000) == "error 32000"
    for code, kind in (
        (codes.OFFSET_OUT_OF_RANGE, kafka_errors.OffsetOutOfRangeError),
        (codes.MESSAGE_TOO_LARGE, kafka_errors.MessageSizeTooLargeError),
        (codes.GROUP_AUTHORIZATION_FAILED, kafka_errors.GroupAuthorizationFailedError),
        (codes.INVALID_SESSION_TIMEOUT, kafka_errors.InvalidSessionTimeoutError),
        (codes.OUT_OF_ORDER_SEQUENCE, kafka_errors.OutOfOrderSequenceNumber),
        (codes.UNKNOWN_PRODUCER_ID, kafka_errors.UnknownProducerId),
    ):
        assert kafka_errors.for_code(code) is kind
