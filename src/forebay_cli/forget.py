"""``forebay operations --forget``: withdraw an operation that no processor has any more."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from forebay.catalog import CatalogEntry
    from forebay.settings import Settings

BOUND = 30.0
"""Seconds that each step may take; a processor that was killed is a member of its groups until its session ends."""


async def forget(settings: Settings, name: str) -> str:
    """Withdraw an operation, with its schemas, and return the name of the app whose it was.

    Gateways do not serve it any more, and the name is free: for another app, or with other schemas.

    Raises:
        UnknownOperation: the catalog has none of this name.
        OperationInUse: a processor has it.
        BrokerUnavailable: the cluster does not answer, or its groups are not settled in time.
    """
    from forebay.catalog import Catalog
    from forebay.errors import TopicUnknown, UnknownOperation

    catalog = Catalog(settings, "operations")
    try:
        try:
            await catalog.start()
        except TopicUnknown:
            raise UnknownOperation(name, []) from None
        entry = catalog.entries.get(name)
        if entry is None:
            raise UnknownOperation(name, sorted(catalog.entries))
        await _refuse_if_used(settings, entry)
        await _withdraw(settings, name)
    finally:
        await catalog.stop()
    return entry.message["app"]


async def _refuse_if_used(settings: Settings, entry: CatalogEntry) -> None:
    """Raise an `OperationInUse` where a member of the app's groups has the operation, or does not say what it has."""
    from forebay.errors import OperationInUse
    from forebay.kafka import Link, group_members
    from forebay.settings import TIERS
    from forebay_schemas import topics as topic_names

    name, app = entry.message["name"], entry.message["app"]
    link = Link(settings, "operations")
    try:
        await link.start()
        groups = [topic_names.group(settings.namespace, app, tier) for tier in TIERS]
        found = await asyncio.gather(*(group_members(link, group, BOUND) for group in groups))
    finally:
        await link.stop()
    members = {member for group in found for member in group}
    having = {member.client for member in members if member.operations is None or name in member.operations}
    if having:
        raise OperationInUse(name, app, sorted(having))


async def _withdraw(settings: Settings, name: str) -> None:
    """Produce the tombstone."""
    from forebay.kafka import Producer
    from forebay_schemas import topics as topic_names

    producer = Producer(settings, "operations")
    try:
        await producer.start()
        topic = topic_names.catalog(settings.namespace)
        await producer.send_and_wait(topic, None, key=name.encode(), timeout=BOUND)
    finally:
        await producer.stop()
