"""The other requests that are made, each with a reader of its response: the order of their fields stands only here."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from aiokafka.protocol.admin import CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import InitProducerIdRequest

EARLIEST, LATEST = -2, -1
_CONSUMER = -1
_READ_COMMITTED = 1
_ALL_IN_SYNC = -1
_TOPIC = 2


# where partitions begin and end


def offsets_request(topic: str, partitions: Collection[int], instant: int) -> Any:
    """Ask the leader of some partitions where they begin (`EARLIEST`), or where what may be read ends (`LATEST`)."""
    return OffsetRequest(_CONSUMER, _READ_COMMITTED, [(topic, [(partition, instant) for partition in partitions])])


def offsets_of(response: Any) -> list[tuple[int, int, int]]:
    """Return partition, error code and offset of each that was asked for."""
    return [(answer[0], answer[1], answer[3]) for _, answers in response.topics for answer in answers]


# producing


class Produced(NamedTuple):
    """What became of a batch: an error code, or 0 and the offset of its first record."""

    topic: str
    partition: int
    code: int
    offset: int


def producer_id_request() -> Any:
    """Ask for the identity under which a producer numbers its batches."""
    return InitProducerIdRequest(None, 2**31 - 1)  # the transactional id, and its time-out


def producer_id_of(response: Any) -> tuple[int, int, int]:
    """Return the error code, the producer's id and its epoch."""
    return response.error_code, response.producer_id, response.producer_epoch


def produce_request(batches: Mapping[str, Sequence[tuple[int, bytes]]], timeout: float) -> Any:
    """Produce batches, by topic, with their partitions; the broker waits so long for the replicas in sync."""
    return ProduceRequest(None, _ALL_IN_SYNC, int(timeout * 1000), [(topic, list(of)) for topic, of in batches.items()])


def produced(response: Any) -> list[Produced]:
    """Return what became of each batch."""
    return [
        Produced(topic, answer[0], answer[1], answer[2]) for topic, answers in response.topics for answer in answers
    ]


# topics


def create_topic_request(
    name: str, partitions: int, replication: int, config: Mapping[str, str], timeout: float
) -> Any:
    """Create a topic; the broker waits so long for it to be there."""
    placement: list[tuple[int, list[int]]] = []
    topic = (name, partitions, replication, placement, list(config.items()))
    return CreateTopicsRequest([topic], int(timeout * 1000), False)


def delete_topic_request(name: str, timeout: float) -> Any:
    """Delete a topic."""
    return DeleteTopicsRequest([name], int(timeout * 1000))


def topic_errors(response: Any) -> list[tuple[int, str | None]]:
    """Return error code and message, where there is one, of each topic that was to be created or deleted."""
    answers: list[tuple[Any, ...]] = getattr(response, "topic_errors", None) or response.topic_error_codes
    return [(answer[1], answer[2] if len(answer) > 2 else None) for answer in answers]


def configs_request(topics: Collection[str]) -> Any:
    """Ask for the configuration of topics."""
    return DescribeConfigsRequest([(_TOPIC, name, None) for name in topics])


def configs_of(response: Any) -> list[tuple[str, int, str | None, dict[str, str]]]:
    """Return name, error code, its message and the configuration of each topic."""
    return [
        (name, code, message, {entry[0]: entry[1] for entry in entries})
        for code, message, _kind, name, entries in response.resources
    ]
