"""What brokers have answered about the topics that are watched, and whether it can be relied on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import NamedTuple

from forebay.errors import AuthorizationFailed, BrokerError, TopicUnknown
from forebay.kafka.wire import codes
from forebay.kafka.wire.metadata import Metadata, Topic

GONE_AFTER = 2.0
"""Seconds for which nodes must have said that there is no such topic: one that was created a moment ago is not known to
all of them at once."""

FRESH_FOR = 1.0
"""Seconds for which it is believed that a topic cannot be used; then it is asked for again."""


class _Error(NamedTuple):
    """Why a topic cannot be used: the error code, and since when and until when nodes have said so."""

    code: int
    since: float
    seen: float


class KnownTopics:
    """Knows the topics that somebody watches; instants are of one clock, in seconds.

    Attributes:
        known: those that exist.
    """

    def __init__(self) -> None:
        self.known: dict[str, Topic] = {}
        self._watched: Counter[str] = Counter()
        self._errors: dict[str, _Error] = {}
        self._former: dict[str, set[bytes]] = {}

    @property
    def watched(self) -> list[str]:
        """The names of those that somebody watches."""
        return list(self._watched)

    @property
    def empty(self) -> bool:
        """Whether nothing is watched, nor known."""
        return not (self._watched or self.known or self._errors or self._former)

    def watch(self, topic: str) -> bool:
        """Keep a topic until `unwatch` has been called as often; return whether it is new."""
        self._watched[topic] += 1
        return self._watched[topic] == 1

    def unwatch(self, topic: str) -> None:
        """Let go of a topic."""
        self._watched[topic] -= 1
        if self._watched[topic] <= 0:
            del self._watched[topic]
            self.known.pop(topic, None)
            self._errors.pop(topic, None)
            self._former.pop(topic, None)

    def is_out_of_date(self, name: str, after: float, now: float) -> bool:
        """Whether what makes a topic unusable was said long ago, or before an instant."""
        error = self._errors.get(name)
        return error is not None and error.seen < max(after, now - FRESH_FOR)

    def trouble_with(self, name: str) -> BrokerError | None:
        """Return why a topic cannot be used, where waiting will not help; None otherwise."""
        error = self._errors.get(name)
        if error is None:
            return None
        if error.code == codes.TOPIC_AUTHORIZATION_FAILED:
            return self.denial(name)
        if error.code == codes.INVALID_TOPIC:
            return TopicUnknown(f"there is no topic '{name}': that is no name of a topic")
        if error.code == codes.UNKNOWN_TOPIC and error.seen - error.since >= GONE_AFTER:
            return TopicUnknown(f"there is no topic {name}")
        return None

    def denial(self, name: str) -> AuthorizationFailed | None:
        """Return how nodes refused to tell of a topic, when they last answered; None if they told of it."""
        error = self._errors.get(name)
        if error is None or error.code != codes.TOPIC_AUTHORIZATION_FAILED:
            return None
        return AuthorizationFailed("topic", name, "Describe")

    def update(self, names: Collection[str], metadata: Metadata, asked: float) -> bool:
        """Keep what an answer says of the topics that it was asked for and that are still watched.

        It is as old as its request: what happened since may not be in it.

        Returns:
            Whether another answer is wanted soon, since this one may be of a node that has not heard of a topic yet.
        """
        again = False
        for name in names:
            if name not in self._watched:
                continue
            topic = metadata.topics.get(name)
            if topic is not None:
                self._errors.pop(name, None)
                again |= not self._know(name, topic)
                continue
            code = metadata.errors.get(name, codes.UNKNOWN_TOPIC)
            before = self._errors.get(name)
            since = asked if before is None or before.code != code else before.since
            self._errors[name] = _Error(code, since, asked)
            if code in (codes.UNKNOWN_TOPIC, codes.INVALID_TOPIC, codes.TOPIC_AUTHORIZATION_FAILED):
                self.known.pop(name, None)
            again |= code == codes.UNKNOWN_TOPIC and asked - since < GONE_AFTER
        return again

    def _know(self, name: str, topic: Topic) -> bool:
        """Keep a topic; return False where it is one that had the name before the one that is known."""
        if topic.id is not None:
            former = self._former.setdefault(name, set())
            if topic.id in former:
                return False
            before = self.known.get(name)
            if before is not None and before.id is not None and before.id != topic.id:
                former.add(before.id)
        self.known[name] = topic
        return True
