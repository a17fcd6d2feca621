"""announce: say in the catalog what operations this processor has, and see to it that the catalog goes on saying so."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping

from forebay import topics
from forebay.app import Forebay, Operation
from forebay.catalog import Catalog, Ledger, conflict, lacking
from forebay.codec import Schema
from forebay.errors import BrokerError, BrokerUnavailable, ConfigurationError
from forebay.kafka import Producer
from forebay.messages import OperationMessage, encode_operation
from forebay.settings import Settings
from forebay_processor.trouble import Trouble
from forebay_schemas import topics as topic_names

log = logging.getLogger(__name__)

ANNOUNCE_BOUND = 15.0
"""Seconds that an announcement may take."""
KEEP_INTERVAL = 5.0
"""Seconds at most between two looks at whether the catalog still says what was announced."""
RESTATE_DELAY = 0.25
"""Seconds at most that a processor lets others be the first to announce again what the catalog lost."""

WorkOut = Callable[[Ledger, Operation, str, int], OperationMessage | None]
OnRefusal = Callable[[str, ConfigurationError], None]


class Announcer:
    """Announces the operations of an app, and announces again what the catalog loses.

    Args:
        settings: the namespace.
        producer: where the records go.
        catalog: started, and followed by a task.
        app: whose operations they are.
        processor: id of this processor.
    """

    def __init__(self, settings: Settings, producer: Producer, catalog: Catalog, app: Forebay, processor: str) -> None:
        self._settings = settings
        self._topic = topic_names.catalog(settings.namespace)
        self._producer = producer
        self._catalog = catalog
        self._app = app
        self._operations = app.operations
        self._processor = processor
        self._complaints: dict[str, str] = {}
        self._trouble = Trouble("announcing what the catalog lost")

    async def check(self) -> None:
        """See whether the operations can be announced, and announce nothing; raises as `announce`."""
        await self._catch_up()
        self._records(wanted_record)

    async def announce(self) -> None:
        """Announce the operations, all of them or none: every one is checked before the first is produced.

        Others may announce at the same instant. So everything is read again afterwards, and what did not take effect
        is announced again or refused; what had been announced of an app that is refused then is taken back.

        Raises:
            OperationTaken: an operation is another app's.
            IncompatibleSchema: one cannot live beside the catalog's.
            BrokerUnavailable: an announcement was not acknowledged, or not seen to come back, within `ANNOUNCE_BOUND`.
        """
        begun: dict[str, bool] = {}
        work_out: WorkOut = wanted_record
        try:
            async with asyncio.timeout(ANNOUNCE_BOUND):
                await self._catch_up()
                while records := self._records(work_out):
                    begun |= {name: self._catalog.ledger.entry(name) is None for name in records if name not in begun}
                    await self._produce(records)
                    work_out = lost_record
        except TimeoutError:
            raise BrokerUnavailable(
                f"the announcement of {', '.join(self._operations)} did not come back within {ANNOUNCE_BOUND:g} s"
            ) from None
        except ConfigurationError:
            await self._take_back(begun)
            raise

    async def keep(self) -> None:
        """Announce again whatever the catalog loses, until cancelled; run it as a task.

        An operation is lost where its last record is not the whole truth: it cannot be read, contradicts it or lacks a
        schema, so that compaction would leave nothing better; where it was withdrawn although it has a processor; and
        where the topic was deleted, which is then created again.
        """
        while True:
            await self._catalog.changed(KEEP_INTERVAL)
            try:
                if self._catalog.lost:
                    await topics.ensure(self._settings, topics.of_processor(self._settings, self._app.name))
                if self._records(kept_record, self._complain):
                    await asyncio.sleep(random.uniform(0, RESTATE_DELAY))  # one of them will do
                    await self._repair()
                self._trouble.note(None)
            except BrokerError as error:
                self._trouble.note(error)
            except TimeoutError:
                self._trouble.note(TimeoutError("no answer in time"))

    async def _repair(self) -> None:
        async with asyncio.timeout(ANNOUNCE_BOUND):
            await self._catch_up()
            while records := self._records(kept_record, self._complain):
                log.warning("catalog: announces %s again", ", ".join(records), extra={"over": True})
                await self._produce(records)

    def _records(self, work_out: WorkOut, on_refusal: OnRefusal | None = None) -> dict[str, OperationMessage]:
        """Work out what is to be produced; raises why an operation is refused, unless ``on_refusal`` is to be told."""
        ledger, now_ms = self._catalog.ledger, time.time_ns() // 1_000_000
        records = {}
        for name, operation in self._operations.items():
            try:
                record = work_out(ledger, operation, self._processor, now_ms)
            except ConfigurationError as error:
                if on_refusal is None:
                    raise
                on_refusal(name, error)
                continue
            if record is not None:
                records[name] = record
        return records

    def _complain(self, name: str, error: ConfigurationError) -> None:
        """Say once that an operation was taken over, which leaves this processor its other ones."""
        if self._complaints.get(name) != str(error):
            log.error("catalog: '%s' is not what this processor announced any more: %s", name, error)
            self._complaints[name] = str(error)

    async def _catch_up(self) -> None:
        """Read the catalog up to its end as it is now."""
        await self._catalog.until(await self._catalog.end(ANNOUNCE_BOUND))

    async def _produce(self, records: Mapping[str, OperationMessage | None]) -> None:
        """Produce records, None for one that is to go, and read them back."""
        sending = []
        for name, record in records.items():
            value = None if record is None else encode_operation(record)
            sending.append(self._producer.send_and_wait(self._topic, value, key=name.encode(), timeout=ANNOUNCE_BOUND))
        await self._catalog.until(max(await asyncio.gather(*sending)) + 1)

    async def _take_back(self, begun: Mapping[str, bool]) -> None:
        """Withdraw what only this processor brought, and restate what its records contradicted."""
        records = taken_back(self._catalog.ledger, begun, self._processor)
        if records:
            try:
                async with asyncio.timeout(ANNOUNCE_BOUND):
                    await self._produce(records)
            except (BrokerError, TimeoutError) as error:
                log.warning("catalog: what was announced could not be taken back: %s", error or "no answer in time")


def described(operation: Operation, processor: str, now_ms: int) -> OperationMessage:
    """Return an operation as a record of its own."""
    return OperationMessage(
        name=operation.name,
        app=operation.app,
        description=operation.description,
        tier=operation.tier,
        deadline_ms=round(operation.deadline * 1000),
        accepts=operation.request.media_type,
        returns=operation.result.media_type,
        request_schemas=[operation.request.schema.text] if operation.request.schema else [],
        result_schemas=[operation.result.schema.text] if operation.result.schema else [],
        announced_at=now_ms,
        announced_by=processor,
        term=0,
    )


def merge(operation: Operation, known: OperationMessage | None, processor: str, now_ms: int) -> OperationMessage | None:
    """Work out what a processor announces of an operation; None when the catalog says it already.

    Raises:
        OperationTaken: it is another app's.
        IncompatibleSchema: its schemas cannot live beside the catalog's; the error names the field.
    """
    announced = described(operation, processor, now_ms)
    if known is None:
        return announced
    if (contradiction := conflict(known, announced)) is not None:
        raise contradiction
    for schemas in ("request_schemas", "result_schemas"):
        announced[schemas] = _merge_schemas(announced[schemas], known[schemas])
    silent = {name: known[name] for name in ("announced_at", "announced_by", "term")}
    return None if {**announced, **silent} == known else announced


def wanted_record(ledger: Ledger, operation: Operation, processor: str, now_ms: int) -> OperationMessage | None:
    """Return the record by which the catalog comes to say what an app declares; None where it does. Raises as `merge`.

    Of tier, deadline and the like the processor that starts last has its way.
    """
    entry = ledger.entry(operation.name)
    record = merge(operation, entry.message if entry else None, processor, now_ms)
    return lost_record(ledger, operation, processor, now_ms) if record is None else restated(ledger, record)


def lost_record(ledger: Ledger, operation: Operation, processor: str, now_ms: int) -> OperationMessage | None:
    """Return the record by which the catalog comes to say again what was announced; None where it does.

    What processors of other versions have announced since stays, and stays first. Raises as `merge`.
    """
    own, entry = described(operation, processor, now_ms), ledger.entry(operation.name)
    if entry is None:
        return restated(ledger, own)
    if (contradiction := conflict(entry.message, own)) is not None:
        raise contradiction
    requests = [*entry.message["request_schemas"], *lacking(entry.requests, own["request_schemas"])]
    results = [*entry.message["result_schemas"], *lacking(entry.results, own["result_schemas"])]
    complete = OperationMessage(**{**entry.message, "request_schemas": requests, "result_schemas": results})
    if complete == entry.message and not ledger.to_restate(operation.name):
        return None
    return restated(ledger, complete)


def kept_record(ledger: Ledger, operation: Operation, processor: str, now_ms: int) -> OperationMessage | None:
    """Return the record that a processor which has started produces when the catalog loses an operation of this name.

    What overruled its own announcement it announces again as well: whoever said that may be gone. Raises as `merge`.
    """
    try:
        return lost_record(ledger, operation, processor, now_ms)
    except ConfigurationError:
        entry = ledger.entry(operation.name)
        if entry is None or not ledger.to_restate(operation.name):
            raise
        return restated(ledger, entry.message)


def taken_back(ledger: Ledger, begun: Mapping[str, bool], processor: str) -> dict[str, OperationMessage | None]:
    """Return the records, None for a tombstone, after which nothing is left of a processor that is refused.

    Args:
        ledger: what the catalog says.
        begun: the operations that it announced, and whether they were new.
        processor: its id.
    """
    records: dict[str, OperationMessage | None] = {}
    for name, was_new in begun.items():
        entry = ledger.entry(name)
        if entry is not None and was_new and entry.message["announced_by"] == processor:
            records[name] = None
        elif entry is not None and ledger.to_restate(name):
            records[name] = restated(ledger, entry.message)
    return records


def restated(ledger: Ledger, message: OperationMessage) -> OperationMessage:
    """Return a record with the term by which it holds for everybody who reads it."""
    return OperationMessage(**{**message, "term": ledger.term(message["name"])})


def _merge_schemas(announced: list[str], known: list[str]) -> list[str]:
    if not announced or announced[0] in known:
        return known  # an older processor, started again: what newer ones announced stays the one to write with
    mine = Schema(announced[0])
    return [mine.text, *(text for text in known if Schema(text).fingerprint != mine.fingerprint)]
