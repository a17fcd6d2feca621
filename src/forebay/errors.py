"""Everything Forebay raises, in one tree.

::

    ForebayError
    ├── ConfigurationError        a setting, a flag or an app that cannot work: the user's to mend
    │   ├── AppError              an app that cannot be loaded, or an operation declared wrongly
    │   ├── IncompatibleSchema    an operation's schema does not fit the one in the catalog
    │   ├── OperationTaken        an operation's name is another app's
    │   ├── OperationInUse        an operation that is to be forgotten has processors
    │   ├── UnknownOperation      an operation that is to be forgotten does not exist
    │   └── InstanceTaken         another gateway has the instance name
    ├── BrokerError               Kafka, as seen from here
    │   ├── BrokerUnavailable     no answer in time (retriable)
    │   │   └── DeliveryExpired   a partition without a leader for longer than a record may wait
    │   ├── AccessRefused         the credentials are not accepted
    │   ├── AuthorizationFailed   the credentials are accepted, but the cluster's rules do not allow something
    │   ├── GroupRefused          a consumer group that cannot be joined
    │   ├── BrokerStartError      the embedded broker did not start
    │   ├── MessageTooLarge       a record is larger than the topics take
    │   ├── RecordRefused         a topic does not take a record, for a reason of its own
    │   ├── TopicUnknown          the cluster has no such topic
    │   ├── RecordsUnreadable     a batch of records that is corrupt as it came
    │   └── TopicMismatch         a topic exists, but not as Forebay needs it
    ├── CodecError                bytes that are not what they claim to be
    │   ├── TruncatedMessage      the bytes end too early
    │   ├── WrongMarker           not Avro single-object encoding
    │   ├── UnknownFingerprint    written with a schema nobody here knows
    │   ├── UnreadableBody        the body does not fit its schema
    │   ├── UnusableJob           a job that decodes, but says what no job can
    │   └── UnusableRecord        a record of the catalog names what cannot be served
    ├── SlotsHeld                 handlers that do not end leave no slot to a tier
    ├── InvalidSchema             a schema that is not Avro
    ├── PayloadMalformed          a request's body that is not JSON
    ├── PayloadInvalid            a request's body that does not fit the operation's schema
    └── HandlerOutcome            raised by a handler, to say how its run ended
        ├── Reject                final: asking again will not help
        └── RetryAfter            not now: worth another run after some seconds (retriable)

``retriable`` says whether the same call may succeed later without anything being changed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from forebay import failures


class ForebayError(Exception):
    """Base of every error that Forebay raises on purpose; its text is one sentence for a person.

    Attributes:
        retriable: whether the same call may succeed later without anything being changed.
        setting: the setting of which another value helps, where there is one; a command knows its flag and variable.
    """

    retriable: ClassVar[bool] = False

    def __init__(self, *args: object, setting: str | None = None) -> None:
        super().__init__(*args)
        self.setting = setting


class ConfigurationError(ForebayError):
    """A setting, a flag or an app that cannot work; the message names it, its value and what is allowed."""


class AppError(ConfigurationError):
    """An app that cannot be loaded, or an operation that is declared wrongly."""


class BrokerError(ForebayError):
    """Base of what can go wrong with Kafka."""


class BrokerUnavailable(BrokerError):
    """The broker did not answer in time.

    What was sent may or may not have arrived: treat it as unknown, never as undone.
    """

    retriable = True


class DeliveryExpired(BrokerUnavailable):
    """A record is given up: when its time was over, no node led its partition, or too few replicas were in sync.

    Attributes:
        topic: where it was to go.
        partition: of the topic.
    """

    def __init__(self, topic: str, partition: int) -> None:
        super().__init__(f"{topic}/{partition} takes no records: it has no leader, or too few replicas in sync")
        self.topic = topic
        self.partition = partition


class AccessRefused(BrokerError):
    """A broker does not accept the credentials, or its certificate is refused here; the message names the settings."""


class AuthorizationFailed(BrokerError):
    """The cluster lets this client in, but does not allow it something that it needs; waiting does not help.

    Attributes:
        resource: ``topic``, ``group`` or ``cluster``.
        name: of the resource.
        operations: what must be allowed, as Kafka calls it.
    """

    def __init__(self, resource: str, name: str, operations: str) -> None:
        super().__init__(
            f"the cluster does not allow this client to use {f'{resource} {name}'.rstrip()}: "
            f"it needs an access rule (ACL) that allows {operations}"
        )
        self.resource = resource
        self.name = name
        self.operations = operations


class GroupRefused(BrokerError):
    """The broker does not take this client into its consumer group, for a reason that waiting does not mend."""


class BrokerStartError(BrokerError):
    """The embedded broker did not start; the message says why and what to do about it."""


class MessageTooLarge(BrokerError):
    """A record is larger than the topics take.

    Attributes:
        size: bytes of the record's value.
        max_size: bytes that a record may have in all; None where a topic's own setting is lower than Forebay's.
    """

    def __init__(self, size: int, max_size: int | None, topic: str = "its topic") -> None:
        limit = f"{topic} takes (max.message.bytes)" if max_size is None else f"the {max_size} that the topics take"
        super().__init__(f"a message of {size} bytes is larger than {limit}")
        self.size = size
        self.max_size = max_size


class RecordRefused(BrokerError):
    """A topic does not take a record because of a setting of it or a policy of the cluster, other than size and access.

    Attributes:
        topic: where it was to go.
        reason: what Kafka calls the refusal.
    """

    def __init__(self, topic: str, reason: str) -> None:
        super().__init__(
            f"topic {topic} does not take the record: {reason} (see the topic's settings and the cluster's policies)"
        )
        self.topic = topic
        self.reason = reason


class TopicUnknown(BrokerError):
    """The cluster has no such topic, or does not say so in time: a reply topic whose gateway is gone, for one."""


class RecordsUnreadable(BrokerError):
    """A batch of records is corrupt as it came; it is asked for again, and what comes after it is not read meanwhile.

    Attributes:
        topic: where it is.
        partition: of the topic.
        offset: of the first record that cannot be read.
        reason: what is wrong with it.
    """

    def __init__(self, topic: str, partition: int, offset: int, reason: str) -> None:
        super().__init__(f"the records of {topic}/{partition} from offset {offset} cannot be read: {reason}")
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.reason = reason


class TopicMismatch(BrokerError):
    """A topic exists with fewer partitions or another policy than Forebay needs."""


class CodecError(ForebayError):
    """Bytes that are not what they claim to be."""


class TruncatedMessage(CodecError):
    """The bytes end before the header does.

    Attributes:
        size: how many bytes there were.
        needed: how many the header of a single object takes.
    """

    def __init__(self, size: int, needed: int) -> None:
        super().__init__(f"message of {size} bytes is truncated: the single-object header alone takes {needed}")
        self.size = size
        self.needed = needed


class WrongMarker(CodecError):
    """The bytes do not start with the marker of Avro's single-object encoding, ``C3 01``.

    Attributes:
        found: the two bytes found in its place.
    """

    def __init__(self, found: bytes) -> None:
        super().__init__(f"message starts with {found.hex(' ').upper()}, not with the single-object marker C3 01")
        self.found = found


class UnknownFingerprint(CodecError):
    """The bytes were written with a schema that is not known here.

    Attributes:
        fingerprint: the CRC-64-AVRO fingerprint found, 8 bytes.
    """

    def __init__(self, fingerprint: bytes, expected: str) -> None:
        super().__init__(f"no known schema of {expected} has the fingerprint {fingerprint.hex()}")
        self.fingerprint = fingerprint


class UnreadableBody(CodecError):
    """The header is right, but the body does not fit the schema that it names."""


class UnusableJob(CodecError):
    """A job that decodes, but says what no job can; the message says what."""


class UnusableRecord(CodecError):
    """A record of the catalog is an operation, but one that cannot be served; the message names the field."""


class SlotsHeld(ForebayError):
    """Handlers that do not end, although their jobs' deadlines have passed, leave no slot to a tier.

    Attributes:
        held: how many slots they hold.
        tiers: to which none is left.
    """

    def __init__(self, reason: str, held: int, tiers: list[str], seconds: float) -> None:
        super().__init__(f"{reason} since {seconds:g} s: let handlers return soon after their deadline (job.cancelled)")
        self.held = held
        self.tiers = tiers


class InvalidSchema(ForebayError):
    """A schema that is not Avro, as far as the text itself shows; the message says what is wrong with it."""


class PayloadMalformed(ForebayError):
    """The body of a request is not JSON.

    Attributes:
        position: the byte at which it stops being JSON, from 0; None if that is not known.
    """

    def __init__(self, reason: str, position: int | None = None) -> None:
        super().__init__(f"the body is not JSON: {reason}" + ("" if position is None else f" (at byte {position})"))
        self.position = position


class PayloadInvalid(ForebayError):
    """The body of a request is JSON, but does not fit the operation's schema.

    Attributes:
        field: dotted path of the field, such as ``crop.points[2].x``; empty for the whole body.
        reason: what was expected and what was found.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field or 'the body'}: {reason}")
        self.field = field
        self.reason = reason


class IncompatibleSchema(ConfigurationError):
    """An operation's schema cannot read, or be read by, the one in the catalog.

    Attributes:
        operation: the operation's name.
        field: dotted path of the field that does not fit.
        reason: what does not fit there.
    """

    def __init__(self, operation: str, field: str, reason: str) -> None:
        super().__init__(
            f"operation '{operation}' does not fit the catalog at field '{field}': {reason}; give what is new a "
            f"default, or declare it under a new operation name; if no caller and no job needs the old version any "
            f"more, stop its processors and run 'forebay operations --forget {operation}'"
        )
        self.operation = operation
        self.field = field
        self.reason = reason


class OperationTaken(ConfigurationError):
    """An operation's name is another app's, in this namespace.

    Attributes:
        operation: the operation's name.
        owner: the app whose it is.
        app: the app that declares it, too.
    """

    def __init__(self, operation: str, owner: str, app: str) -> None:
        super().__init__(
            f"operation '{operation}' of app '{app}' belongs to app '{owner}', which announced it first: give it "
            f"another name, or run the app in another namespace; if app '{owner}' is gone for good, run "
            f"'forebay operations --forget {operation}'"
        )
        self.operation = operation
        self.owner = owner
        self.app = app


class OperationInUse(ConfigurationError):
    """An operation that is to be forgotten has processors.

    Attributes:
        operation: the operation's name.
        app: the app whose it is.
        processors: the ids of those that have it, or do not say what they have.
    """

    def __init__(self, operation: str, app: str, processors: list[str]) -> None:
        super().__init__(
            f"operation '{operation}' of app '{app}' is not forgotten, it has processors: {', '.join(processors)}; "
            "stop them first, or replace them by a version without it"
        )
        self.operation = operation
        self.app = app
        self.processors = processors


class UnknownOperation(ConfigurationError):
    """The catalog has no operation of the name that is to be forgotten.

    Attributes:
        operation: that name.
        known: the names that the catalog has.
    """

    def __init__(self, operation: str, known: list[str]) -> None:
        has = f"it has {', '.join(known)}" if known else "it is empty"
        super().__init__(f"there is no operation '{operation}' in the catalog to forget: {has}")
        self.operation = operation
        self.known = known


class InstanceTaken(ConfigurationError):
    """Another gateway that is alive has the instance name.

    Attributes:
        instance: the name.
        holder: who has it, for a person.
    """

    def __init__(self, instance: str, holder: str) -> None:
        super().__init__(f"the instance name '{instance}' is another gateway's: {holder}", setting="instance")
        self.instance = instance
        self.holder = holder


@dataclass(frozen=True, slots=True)
class Problem:
    """What went wrong with a job, as the caller is told: the members of RFC 9457 that do not depend on HTTP.

    Attributes:
        type: a stable name of the kind of problem; ``urn:forebay:problem:<type>`` on the wire.
        title: the kind of problem in a few words, the same each time.
        detail: what happened this time.
    """

    type: str
    title: str
    detail: str | None = None


class HandlerOutcome(ForebayError):
    """Base of the two exceptions with which a handler says how its run ended."""


class Reject(HandlerOutcome):
    """The job can never succeed as it was asked; the caller gets 422 with this problem, and nothing is tried again.

    Args:
        reason: a sentence, or a whole `Problem`, whose type is none of Forebay's own (`forebay.failures`).

    Raises:
        ValueError: it is one of those.
    """

    def __init__(self, reason: str | Problem) -> None:
        self.problem = (
            reason
            if isinstance(reason, Problem)
            else Problem("rejected", "The handler rejected the request", str(reason))
        )
        if self.problem.type in failures.OWN:
            raise ValueError(f"a problem of type '{self.problem.type}' is Forebay's own to report")
        super().__init__(self.problem.detail or self.problem.title)


class RetryAfter(HandlerOutcome):
    """The job could not be done now and is worth another run after a delay.

    Args:
        seconds: how long to wait before the next run, more than 0.
        reason: what is in the way, for the caller and the log.
    """

    retriable = True

    def __init__(self, seconds: float, reason: str = "the handler asked for a later run") -> None:
        if not 0 < seconds < math.inf:
            raise ValueError(f"RetryAfter takes more than 0 seconds, and an end to them, not {seconds}")
        super().__init__(reason)
        self.seconds = seconds
        self.reason = str(reason)

    def __reduce__(self) -> tuple[type[RetryAfter], tuple[float, str]]:
        """Come out of an app's own process pool as it went in."""
        return RetryAfter, (self.seconds, self.reason)
