"""Names of span attributes: Forebay's own, and those of OpenTelemetry's messaging conventions as Forebay sets them."""

from __future__ import annotations

from opentelemetry.util.types import AttributeValue

from forebay.kafka import Record

OPERATION = "forebay.operation"
TIER = "forebay.tier"
REQUEST_ID = "forebay.request.id"
ATTEMPT = "forebay.attempt"
OUTCOME = "forebay.outcome"
ERROR_TYPE = "error.type"

SYSTEM = "messaging.system"
DESTINATION = "messaging.destination.name"
DESTINATION_TEMPLATE = "messaging.destination.template"
CONSUMER_GROUP = "messaging.consumer.group.name"


def sent_to(topic: str) -> dict[str, AttributeValue]:
    """Return the attributes of a PRODUCER span that sends to a topic."""
    return {
        SYSTEM: "kafka",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        DESTINATION: topic,
    }


def processed(record: Record) -> dict[str, AttributeValue]:
    """Return the attributes of a CONSUMER span that processes a record."""
    return {
        SYSTEM: "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        DESTINATION: record.topic,
        "messaging.destination.partition.id": str(record.partition),
        "messaging.kafka.offset": record.offset,
        "messaging.kafka.message.key": (record.key or b"").decode("utf-8", "replace"),
        "messaging.message.body.size": len(record.value or b""),
    }
