"""Kafka, for the rest of Forebay: a producer, two kinds of consumer, and what an administrator does.

This is the only place that imports aiokafka. It adds types, the settings that Forebay relies on, a bound on every wait,
and Forebay's own errors; it decides nothing.
"""

from __future__ import annotations

from forebay.kafka.admin import Admin, TopicDescription, probe
from forebay.kafka.arrivals import Arrivals, BoundedEvent
from forebay.kafka.consumers import GroupConsumer, PinnedConsumer
from forebay.kafka.groups import GroupMember, group_members
from forebay.kafka.link import Link
from forebay.kafka.producer import Producer
from forebay.kafka.reader import Start
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
