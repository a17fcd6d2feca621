"""Kafka, for the rest of Forebay: a producer, two kinds of consumer, and what an administrator does.

A process has one `Link` to the cluster, which knows where topics are; what produces and reads shares it. To read on:
`producer` → `outboxes`, `capacity` → `sender` → `sequences`; `pinned` and `group` → `reader` → `positions`, `fetching`.
What all of them need of aiokafka and of Kafka's protocol is in `wire`, the only place that imports aiokafka.
"""

from __future__ import annotations

from forebay.kafka.admin import Admin, TopicDescription, probe
from forebay.kafka.arrivals import Arrivals, BoundedEvent
from forebay.kafka.group import GroupConsumer
from forebay.kafka.group_members import GroupMember, group_members
from forebay.kafka.link import Link
from forebay.kafka.pinned import PinnedConsumer
from forebay.kafka.positions import Start
from forebay.kafka.producer import Producer
from forebay.kafka.records import LATEST_TIMESTAMP, Partition, Record, header, header_number
from forebay_schemas.headers import Headers

__all__ = [
    "LATEST_TIMESTAMP",
    "Admin",
    "Arrivals",
    "BoundedEvent",
    "GroupConsumer",
    "GroupMember",
    "Headers",
    "Link",
    "Partition",
    "PinnedConsumer",
    "Producer",
    "Record",
    "Start",
    "TopicDescription",
    "group_members",
    "header",
    "header_number",
    "probe",
]
